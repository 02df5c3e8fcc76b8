"""What the commands to a running coordinator have in common: where it is, how to answer, whether to ask first."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import HostError
from ..state_directory import ENVIRONMENT
from ..visible_text import visible
from .admin_client import AdminClient, find_socket

# Whether it may be read is not asked here: it is its owner's alone, and the socket's error says whom to ask as.
State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        envvar=ENVIRONMENT,
        help="The coordinator's state directory.",
        show_default="serve's",
        readable=False,
    ),
]
Socket = Annotated[
    Path | None, typer.Option("--socket", help="Its admin socket, if that is not in there.", readable=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer with JSON, for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask, do it.")]


def connect(state: Path | None, socket: Path | None) -> AdminClient:
    """Return a client for the coordinator that the options name."""
    return AdminClient(find_socket(socket, state, os.environ, os.getuid()))


def make_sure(question: str, yes: bool) -> None:
    """Ask before something that can't be undone, unless told not to.

    Raises HostError if the answer is no, and if there is nobody to ask: a script has to say --yes.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise HostError(f"{visible(question)} Nobody is here to say yes: repeat the command with --yes")
    if not typer.confirm(visible(question)):
        raise HostError("nothing was changed")


def examples(*lines: str) -> str:
    """Return a command's closing help: how it is typed."""
    return "Examples:\n\n" + "\n\n".join(f"  {line}" for line in lines)
