"""The `wayhome` command: declares the commands and turns errors into one sentence and exit status 1."""

import sys

import typer

from ..errors import HostError
from . import admin, lab, relay, serve

app = typer.Typer(
    name="wayhome",
    help="Your own mesh VPN: coordinator, relay, and the tools for subnet-router boards.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for commands in (serve, relay, admin, lab):
    commands.register(app)


def main() -> None:
    try:
        app()
    except HostError as error:
        print(f"wayhome: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # the reader of our output (head, less) has gone; there is nobody left to tell
        sys.exit(1)
