"""`wayhome route`: the networks that devices offer to reach, and which of them are let."""

from typing import Annotated

import typer

from .admin_options import AsJson, Socket, State, connect, examples
from .answers import Route, read
from .terminal import print_json, print_table, say

app = typer.Typer(no_args_is_help=True, help="Routes: a LAN that a device offers is reachable once it is approved.")

Which = Annotated[str, typer.Argument(metavar="NODE", help="The device: its name, one of its addresses or its id.")]
Prefix = Annotated[str, typer.Argument(help="The network, such as 192.168.1.0/24.")]


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="route")


@app.command("list", epilog=examples("wayhome route list", "wayhome route list --json"))
def list_routes(state: State = None, socket: Socket = None, as_json: AsJson = False) -> None:
    """Show every route that is offered or approved."""
    answer = connect(state, socket).get("routes")
    if as_json:
        print_json(answer)
        return
    print_table(
        ("NODE", "PREFIX", "STATE"),
        ((route.node, route.prefix, _state(route)) for route in read(answer, list[Route])),
        "no device offers a route; on a board: `wayhomectl up --advertise-routes 192.168.1.0/24`",
    )


@app.command(epilog=examples("wayhome route approve board 192.168.1.0/24"))
def approve(which: Which, prefix: Prefix, state: State = None, socket: Socket = None, as_json: AsJson = False) -> None:
    """Let a device's route be used."""
    answer = connect(state, socket).post("routes", body={"node": which, "prefix": prefix})
    if as_json:
        print_json(answer)
        return
    route = read(answer, Route)
    if route.advertised:
        say(f"{route.prefix} is reachable by way of {route.node} now")
    else:
        say(f"{route.prefix} is approved; it works once {route.node} offers it")


@app.command(epilog=examples("wayhome route unapprove board 192.168.1.0/24"))
def unapprove(
    which: Which, prefix: Prefix, state: State = None, socket: Socket = None, as_json: AsJson = False
) -> None:
    """Take a route's approval back. Nobody reaches that network by this device any more."""
    answer = connect(state, socket).delete("routes", node=which, prefix=prefix)
    if as_json:
        print_json(answer)
        return
    route = read(answer, Route)
    say(f"{route.prefix} is no longer reachable by way of {route.node}")


def _state(route: Route) -> str:
    if route.approved:
        return "approved" if route.advertised else "approved, not offered by the device now"
    return "waits for `wayhome route approve`" if route.approvable else "cannot be approved; trying it says why"
