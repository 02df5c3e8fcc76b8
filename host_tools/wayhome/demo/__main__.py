"""python -m wayhome.demo [--json FILE] [--keep]: what ./inv demo runs."""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import HostError
from ..lab import drawing, plan
from .story import Figures, Story

_INTRODUCTION = """[bold]The way home[/]
A NAS at home can't be reached from outside: its provider has one public address
for many homes. A small board beside it shall change that, with no other firm's
help. All programs here are real, also the Tailscale client in the café. Only
the wires are not: networks of namespaces on this machine, with no way out.
"""
_EPILOG = "example: ./inv demo --json demo.json --keep"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="./inv demo", description=__doc__, epilog=_EPILOG)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured to this file")
    parser.add_argument("--keep", action="store_true", help="leave the lab up, with a hint how to look around")
    options = parser.parse_args(arguments)
    # Ctrl-C and a closed terminal both end the story in order: the lab goes down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))

    console = Console(highlight=False)
    if options.json is not None and not options.json.parent.is_dir():
        parser.error(f"--json {options.json}: there is no folder {options.json.parent}")
    begun = time.monotonic()
    console.print(_INTRODUCTION)
    console.print(drawing.picture(plan.load("story")))
    console.print()

    def tell(text: str) -> None:
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_row(f"[dim]{time.monotonic() - begun:4.1f} s[/]", text)
        console.print(line)

    story = Story(tell)
    kept = broke_off = False
    try:
        figures = story.run()
        console.print()
        console.print(_table(figures))
        if options.json is not None:
            options.json.write_text(json.dumps(figures.as_json(), indent=2) + "\n")
        if options.keep and story.lab is not None:
            story.lab.leave_running()
            kept = True
            _hint(console, story)
        return 0
    except HostError as error:
        console.print(f"\n[bold red]The story broke off:[/] {escape(str(error))}", soft_wrap=True)
        if story.lab is not None:
            broke_off = True
            console.print(f"Logs are in {story.folder}. To look for yourself: wayhome lab up story", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped; taking the lab down.")
        return 130
    finally:
        # A second Ctrl-C would leave half of it behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if not kept:
            story.clean_up(keep_folder=broke_off)


def _table(figures: Figures) -> Table:
    table = Table(box=None, show_header=False)
    table.add_row("joined after", f"{figures.joined_s:.2f} s")
    table.add_row("the NAS's first reply in the café after", f"{figures.first_reply_s:.2f} s")
    table.add_row("the NAS's page, by name", f"{figures.lan_url} -> {figures.lan_http_status}")
    table.add_row("round trip by the relay", f"{figures.relayed_rtt_ms:.1f} ms")
    table.add_row("client", figures.client)
    table.add_row("router", f"wayhomed on {figures.router_runtime}")
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
        ("the NAS's page, from the café", f"{run} traveller curl -s --header X-Peer:nas:80 http://127.0.0.1:8081/"),
        ("the board's view", f"{run} board wayhomectl status --socket {story.board.socket}"),
        ("who is in the mesh", f"{wayhome} node list --state {story.coordinator.state}"),
        ("a shell on the board", f"{run} board bash"),
        ("take it all down", f"{wayhome} lab down {story.lab.name}; {sudo}rm -r {story.folder}"),
    ):
        console.print(f"  [dim]{what}[/]\n    {command}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
