"""`wayhome key`: auth keys, with which a device joins without anyone approving it."""

from typing import Annotated

import typer

from ..errors import HostError
from .admin_options import AsJson, Socket, State, connect, examples
from .answers import Key, read
from .duration import parse_duration
from .terminal import ago, now, print_json, print_table, say

app = typer.Typer(no_args_is_help=True, help="Auth keys: a device that brings one is in without being approved.")


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="key")


@app.command(
    epilog=examples(
        "wayhome key create --user anna",
        "wayhome key create --tag tag:router --reusable --expires 30d",
        "wayhome key create --user anna --ephemeral --json",
    )
)
def create(
    user: Annotated[str | None, typer.Option(help="Whose devices it lets in.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="Let in devices that belong to nobody, with this tag (may be repeated).")
    ] = None,
    reusable: Annotated[bool, typer.Option("--reusable", help="For any number of devices instead of one.")] = False,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="Its devices are removed some time after they leave.")
    ] = False,
    expires: Annotated[str, typer.Option(help="How long it can be used: 90m, 24h, 7d.")] = "24h",
    state: State = None,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Make an auth key. It is shown once, now: the coordinator keeps only a hash."""
    if (user is None) == (not tag):
        raise HostError("a key is either someone's or tagged: give --user NAME or --tag tag:NAME, not both")
    lifetime = parse_duration(expires)
    body = {
        "user": user,
        "tags": tag or [],
        "reusable": reusable,
        "ephemeral": ephemeral,
        "expires_seconds": int(lifetime.total_seconds()),
    }
    answer = connect(state, socket).post("keys", body=body)
    if as_json:
        print_json(answer)
        return
    key = read(answer, Key)
    say(key.key or "")
    say("")
    uses = "any number of devices" if key.reusable else "one device"
    until = f", until {key.expires.astimezone():%Y-%m-%d %H:%M}" if key.expires else ""
    say(f"This key {key.id} lets in {uses}{until}. It is not shown again; `wayhome key revoke {key.id}` ends it.")


@app.command("list", epilog=examples("wayhome key list", "wayhome key list --json"))
def list_keys(state: State = None, socket: Socket = None, as_json: AsJson = False) -> None:
    """Show the auth keys, without their secrets."""
    answer = connect(state, socket).get("keys")
    if as_json:
        print_json(answer)
        return
    moment = now()
    print_table(
        ("ID", "FOR", "KIND", "STATE", "EXPIRES"),
        (
            (
                str(key.id),
                key.user or ", ".join(key.tags),
                ("reusable" if key.reusable else "one-off") + (", ephemeral" if key.ephemeral else ""),
                key.state,
                ago(key.expires, moment) if key.expires else "never",
            )
            for key in read(answer, list[Key])
        ),
        "there are no auth keys; `wayhome key create --user NAME` makes one",
    )


@app.command(epilog=examples("wayhome key revoke 3"))
def revoke(
    key_id: Annotated[int, typer.Argument(metavar="ID", help="As `wayhome key list` shows it.")],
    state: State = None,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """End an auth key. Devices that came in by it stay."""
    answer = connect(state, socket).delete("keys", str(key_id))
    if as_json:
        print_json(answer)
        return
    say(f"key {key_id} lets nobody in any more; devices that used it stay")
