"""`wayhome status`: whether the coordinator runs, where, and how many are there."""

import typer

from .admin_options import AsJson, Socket, State, connect, examples
from .answers import Status, read
from .terminal import print_fields, print_json


def register(app: typer.Typer) -> None:
    app.command(epilog=examples("wayhome status", "wayhome status --json"))(status)


def status(state: State = None, socket: Socket = None, as_json: AsJson = False) -> None:
    """Show whether the coordinator runs, and how many users and devices it has."""
    answer = connect(state, socket).get("status")
    if as_json:
        print_json(answer)
        return
    known = read(answer, Status)
    print_fields(
        (
            ("Running", f"Wayhome {known.version}"),
            ("URL", known.url),
            ("Names end in", known.suffix),
            ("Users", str(known.users)),
            ("Devices", f"{known.nodes}, {known.online} online"),
            ("Waiting", f"{known.waiting}" + (" (see `wayhome node waiting`)" if known.waiting else "")),
            ("Warnings", f"for {known.warned} (see `wayhome node list`)" if known.warned else "none"),
        )
    )
