"""`wayhome dns`: who is asked for which names."""

from typing import Annotated

import typer

from .admin_options import AsJson, Socket, State, connect, examples
from .answers import SplitDns, read
from .terminal import print_json, print_table, say

app = typer.Typer(no_args_is_help=True, help="Names: which resolver is asked for which.")
split = typer.Typer(no_args_is_help=True, help="Resolvers of their own for the names below a suffix.")
app.add_typer(split, name="split")

Suffix = Annotated[str, typer.Argument(help="What the names end in, such as home.example.")]


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="dns")


@split.command("list", epilog=examples("wayhome dns split list"))
def list_split(state: State = None, socket: Socket = None, as_json: AsJson = False) -> None:
    """Show the suffixes that have resolvers of their own."""
    answer = connect(state, socket).get("dns", "split")
    if as_json:
        print_json(answer)
        return
    print_table(
        ("SUFFIX", "RESOLVERS"),
        ((entry.suffix, entry.resolvers) for entry in read(answer, list[SplitDns])),
        "no suffix has a resolver of its own; `wayhome dns split add home.example 192.168.1.1` gives it one",
    )


@split.command(epilog=examples("wayhome dns split add home.example 192.168.1.1"))
def add(
    suffix: Suffix,
    resolvers: Annotated[list[str], typer.Argument(help="Addresses; with a port as 192.168.1.1:5353.")],
    state: State = None,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Have everybody ask these resolvers for names below a suffix, in place of those that it had."""
    answer = connect(state, socket).post("dns", "split", body={"suffix": suffix, "resolvers": resolvers})
    if as_json:
        print_json(answer)
        return
    entry = read(answer, SplitDns)
    say(f"names below {entry.suffix} are asked of {', '.join(entry.resolvers)} now")


@split.command(epilog=examples("wayhome dns split remove home.example"))
def remove(suffix: Suffix, state: State = None, socket: Socket = None, as_json: AsJson = False) -> None:
    """Let the suffix's names be asked of everybody's usual resolver again."""
    answer = connect(state, socket).delete("dns", "split", suffix)
    if as_json:
        print_json(answer)
        return
    say(f"{read(answer, SplitDns).suffix} has no resolver of its own any more")
