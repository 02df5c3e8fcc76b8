"""python -m wayhome.demo [--json FILE] [--keep]: what ./inv demo runs."""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..errors import HostError
from ..lab import drawing, plan
from .story import Figures, Story

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
    begun = time.monotonic()
    console.print("[bold]The way home[/]: networks of namespaces on this machine, with no way out\n")
    console.print(drawing.picture(plan.load("story")))
    console.print()

    def tell(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - begun:5.1f} s[/]  {line}")

    story = Story(tell)
    kept = False
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
        console.print(f"\n[bold red]The story broke off:[/] {error}", soft_wrap=True)
        console.print(f"Logs are in {story.folder}; run it again, or `wayhome lab up story` to look for yourself.")
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped; taking the lab down.")
        return 130
    finally:
        if not kept:
            story.clean_up()


def _table(figures: Figures) -> Table:
    table = Table(box=None, show_header=False)
    table.add_row("up to joined", f"{figures.joined_s:.2f} s")
    table.add_row("up to the NAS's first reply in the café", f"{figures.first_reply_s:.2f} s")
    table.add_row("the NAS's page, by name", f"{figures.lan_url} -> {figures.lan_http_status}")
    table.add_row("round trip by the relay", f"{figures.relayed_rtt_ms:.1f} ms")
    table.add_row("client", figures.client)
    table.add_row("router", f"wayhomed on {figures.router_runtime}")
    return table


def _hint(console: Console, story: Story) -> None:
    assert story.lab is not None
    name = story.lab.name
    console.print(f"\nThe lab [bold]{name}[/] is still up (as root):")
    console.print(f"  a shell on the board:  .venv/bin/wayhome lab run {name} board bash")
    console.print(
        f"  the board's view:      .venv/bin/wayhome lab run {name} board .venv/bin/wayhomectl "
        f"--socket {story.folder}/wayhomed-board.sock status",
        soft_wrap=True,
    )
    console.print(f"  take it down:          .venv/bin/wayhome lab down {name}; rm -r {story.folder}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
