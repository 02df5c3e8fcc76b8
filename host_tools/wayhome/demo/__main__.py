"""python -m wayhome.demo [--json FILE] [--keep] [--record FOLDER]: what ./inv demo runs."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import HostError
from . import recording, teller
from .story import NETWORK, Figures, Happening, Story

_INTRODUCTION = """[name]The way home[/]
A NAS at home can't be reached from outside: its provider has one public address
for many homes. A small board beside it shall change that, with no other firm's
help. All programs here are real, also the Tailscale client in the café. Only
the wires are not: networks of namespaces on this machine, with no way out, and
22 ms long to the server, 6 to the home, 8 to the café.
"""
_EPILOG = "example: ./inv demo --json demo.json --keep"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="./inv demo", description=__doc__, epilog=_EPILOG)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured to this file")
    parser.add_argument("--keep", action="store_true", help="leave the lab up, with a hint how to look around")
    parser.add_argument(
        "--record", type=Path, metavar="FOLDER", help="draw this run: picture.svg, and demo.svg that moves"
    )
    options = parser.parse_args(arguments)
    # Ctrl-C and a closed terminal both end the story in order: the lab goes down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    if options.json is not None and not options.json.parent.is_dir():
        parser.error(f"--json {options.json}: there is no folder {options.json.parent}")
    if options.json is not None and options.json.is_dir():
        parser.error(f"--json {options.json}: that is a folder")
    if options.record is not None and not options.record.is_dir():
        parser.error(f"--record {options.record}: there is no such folder")

    console = teller.console()
    console.print(_INTRODUCTION)
    told: list[Happening] = []

    def tell(happening: Happening) -> None:
        told.append(happening)
        telling.tell(happening)

    story = Story(tell)
    telling = teller.Teller(console, story.plan)
    telling.start()
    kept = broke_off = False
    try:
        figures = story.run()
        telling.finish()
        console.print()
        console.print(_table(figures))
        if options.json is not None:
            _write(options.json, json.dumps(figures.as_json(), indent=2) + "\n")
        if options.record is not None:
            for name, text in recording.of(story.plan, told, _rows(figures)).items():
                _write(options.record / name, text)
        if options.keep and story.lab is not None:
            story.lab.leave_running()
            kept = True
            _hint(console, story)
        return 0
    except HostError as error:
        telling.hurry()
        console.print(f"\n[bold red]The story broke off:[/] {escape(str(error))}", soft_wrap=True)
        if story.lab is not None:
            broke_off = True
            console.print(f"Logs are in {story.folder}. To look for yourself: wayhome lab up {NETWORK}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        telling.fall_silent()
        console.print("\nStopped; taking the lab down.")
        return 130
    finally:
        # A second Ctrl-C would leave half of it behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        telling.fall_silent()
        if not kept:
            story.clean_up(keep_folder=broke_off)


def _write(path: Path, text: str) -> None:
    """Write a file that belongs to who asked for it, also where sudo had to be asked. Raises HostError."""
    try:
        path.write_text(text)
    except OSError as error:
        raise HostError(f"{path} can't be written: {error.strerror}") from error
    if "SUDO_UID" in os.environ and "SUDO_GID" in os.environ:
        os.chown(path, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))


def _rows(figures: Figures) -> list[tuple[str, str]]:
    """Return what was measured, as (what, how much)."""

    def milliseconds(value: float | None) -> str:
        return "not measured" if value is None else f"{value:.1f} ms"

    straight = "no" if figures.went_direct_s is None else f"after {figures.went_direct_s:.2f} s"
    return [
        ("joined after", f"{figures.joined_s:.2f} s"),
        ("first reply from the NAS after", f"{figures.first_reply_s:.2f} s"),
        ("straight through", straight),
        ("round trip by the relay", milliseconds(figures.relayed_rtt_ms)),
        ("round trip straight through", milliseconds(figures.direct_rtt_ms)),
        (figures.lan_url, str(figures.lan_http_status)),
        ("client", figures.client),
        ("router", f"wayhomed on {figures.router_runtime}"),
    ]


def _table(figures: Figures) -> Table:
    table = Table(box=None, show_header=False)
    for what, how_much in _rows(figures):
        table.add_row(what, escape(how_much))
    return table


def _hint(console: Console, story: Story) -> None:
    """Print what can be typed now; each command on a line of its own, however long, so that it can be copied."""
    assert story.lab is not None
    assert story.coordinator is not None
    assert story.board is not None
    sudo = "" if "SUDO_UID" not in os.environ else "sudo "
    wayhome = f"{sudo}{Path(sys.executable).with_name('wayhome')}"
    run = f"{wayhome} lab run {story.lab.name}"
    console.print(f"\nThe lab [bold]{story.lab.name}[/] is still up. To look around in it:")
    for what, command in (
        ("the NAS's page, from the café", f"{run} laptop curl -s --header X-Peer:nas:80 http://127.0.0.1:8081/"),
        ("the board's view", f"{run} board wayhomectl status --socket {story.board.socket}"),
        ("who is in the mesh", f"{wayhome} node list --state {story.coordinator.state}"),
        ("a shell on the board", f"{run} board bash"),
        ("take it all down", f"{wayhome} lab down {story.lab.name}; {sudo}rm -r {story.folder}"),
    ):
        console.print(f"  [dim]{what}[/]\n    {command}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
