"""`wayhome node`: the devices of the mesh, and those that wait to be let in."""

from typing import Annotated

import typer

from .admin_options import AsJson, Socket, State, Yes, connect, examples, make_sure
from .answers import Login, Node, read
from .terminal import ago, now, print_fields, print_json, print_table, say, width

app = typer.Typer(no_args_is_help=True, help="Devices: who is in the mesh, who waits to be let in.")

Which = Annotated[str, typer.Argument(metavar="NODE", help="Its name, one of its addresses or its id.")]
Code = Annotated[str, typer.Argument(help="As the device's login page shows it.")]

# Columns in which a node with both addresses and a route fits on one line.
_WIDE = 110


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="node")


@app.command("list", epilog=examples("wayhome node list", "wayhome node list --json"))
def list_nodes(state: State = None, socket: Socket = None, as_json: AsJson = False) -> None:
    """Show every device: whose it is, its addresses, whether it is online, the routes it offers; then the warnings."""
    answer = connect(state, socket).get("nodes")
    if as_json:
        print_json(answer)
        return
    # IPv6 addresses, cut in pieces, would be of no use to anybody: on a narrow terminal the IPv4 address stands alone
    addresses = 1 if width() < _WIDE else None
    nodes = read(answer, list[Node])
    print_table(
        ("ID", "NAME", "OWNER", "ADDRESSES", "SEEN", "ROUTES", "VERSION"),
        (
            (
                str(node.id),
                node.name,
                owner(node),
                node.addresses[:addresses],
                seen(node),
                routes(node),
                # behind the number stand a commit's letters, which only `show` has room for
                node.version.split("-")[0],
            )
            for node in nodes
        ),
        "no device is in yet; `wayhome key create --user NAME` makes a key to bring one in",
    )
    for node in nodes:
        for warning in node.warnings:
            say(f"warning: {node.name}: {warning}")


@app.command(epilog=examples("wayhome node show board", "wayhome node show 100.64.0.3 --json"))
def show(which: Which, state: State = None, socket: Socket = None, as_json: AsJson = False) -> None:
    """Show all that is known about one device."""
    answer = connect(state, socket).get("nodes", which)
    if as_json:
        print_json(answer)
        return
    node = read(answer, Node)
    print_fields(
        (
            ("Name", node.name),
            ("In full", node.dns_name),
            ("Id", str(node.id)),
            ("Owner", owner(node)),
            ("Addresses", node.addresses),
            ("Seen", seen(node)),
            ("Joined", f"{node.created.astimezone():%Y-%m-%d %H:%M}" + (", ephemeral" if node.ephemeral else "")),
            ("Key expires", expiry(node)),
            ("Warnings", node.warnings or "none"),
            ("Routes", routes(node) or "none"),
            ("Publishes", node.published or "nothing"),
            ("Calls itself", node.hostname),
            ("System", node.system),
            ("Version", node.version),
            ("Node key", node.key),
            ("Machine key", node.machine_key),
            ("Endpoints", node.endpoints or "none known"),
        )
    )


@app.command(epilog=examples("wayhome node waiting"))
def waiting(state: State = None, socket: Socket = None, as_json: AsJson = False) -> None:
    """Show the devices that wait to be let in, each with its code."""
    answer = connect(state, socket).get("logins")
    if as_json:
        print_json(answer)
        return
    moment = now()
    print_table(
        ("CODE", "DEVICE", "SYSTEM", "KEY", "SINCE", "GIVES UP"),
        (
            (
                login.code,
                login.device,
                login.system,
                login.fingerprint,
                ago(login.created, moment),
                ago(login.expires, moment),
            )
            for login in read(answer, list[Login])
        ),
        "nothing waits to be let in",
    )


@app.command(epilog=examples("wayhome node approve K7QM-4XTD --user anna"))
def approve(
    code: Code,
    user: Annotated[str, typer.Option(help="The person it belongs to.")],
    state: State = None,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Let a waiting device in. It goes on by itself."""
    answer = connect(state, socket).post("logins", code, "approve", body={"user": user})
    if as_json:
        print_json(answer)
        return
    login = read(answer, Login)
    say(f"{login.device} (key {login.fingerprint}) is in, as a device of {user}")


@app.command(epilog=examples("wayhome node refuse K7QM-4XTD"))
def refuse(code: Code, state: State = None, socket: Socket = None, as_json: AsJson = False) -> None:
    """Turn a waiting device away."""
    answer = connect(state, socket).post("logins", code, "refuse", body={})
    if as_json:
        print_json(answer)
        return
    login = read(answer, Login)
    say(f"{login.device} (key {login.fingerprint}) was turned away")


@app.command(epilog=examples("wayhome node rename board shed"))
def rename(
    which: Which,
    name: Annotated[str, typer.Argument(help="The new name: letters, digits and dashes.")],
    state: State = None,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Give a device another name in the mesh. The device can't change it back."""
    answer = connect(state, socket).post("nodes", which, "rename", body={"name": name})
    if as_json:
        print_json(answer)
        return
    node = read(answer, Node)
    say(f"{which} is {node.dns_name} now")


@app.command(epilog=examples("wayhome node expire annas-phone"))
def expire(which: Which, state: State = None, socket: Socket = None, as_json: AsJson = False) -> None:
    """Log a device out: it keeps its name and addresses, and is out until someone logs in on it again."""
    answer = connect(state, socket).post("nodes", which, "expire", body={})
    if as_json:
        print_json(answer)
        return
    node = read(answer, Node)
    say(f"{node.name} is logged out; it needs a new login to come back")


@app.command(epilog=examples("wayhome node delete annas-phone", "wayhome node delete annas-phone --yes"))
def delete(which: Which, yes: Yes = False, state: State = None, socket: Socket = None, as_json: AsJson = False) -> None:
    """Remove a device from the mesh, with its name, its addresses and what it publishes."""
    client = connect(state, socket)
    node = read(client.get("nodes", which), Node)
    make_sure(f"Delete {node.name} ({', '.join(node.addresses)}, {owner(node)})?", yes)
    # by id: between question and answer another device may have come to that name
    answer = client.delete("nodes", str(node.id))
    if as_json:
        print_json(answer)
        return
    say(f"{node.name} is gone")


def owner(node: Node) -> str:
    """Return whose a node is: a person's name, or the tags of one that belongs to nobody."""
    return node.user or ", ".join(node.tags) or "nobody"


def seen(node: Node) -> str:
    """Return when a node was last there, and whether it is locked out."""
    if node.expired:
        return "logged out"
    if node.online:
        return "online"
    return ago(node.last_seen, now()) if node.last_seen else "never"


def expiry(node: Node) -> str:
    """Return when a node's key ends."""
    if node.expires is None:
        return "never"
    return f"{node.expires.astimezone():%Y-%m-%d %H:%M} ({ago(node.expires, now())})"


def routes(node: Node) -> list[str]:
    """Return a node's routes with the word that matters: which of them still wait for approval."""
    lines = [prefix if prefix in node.approved_routes else f"{prefix} (waiting)" for prefix in node.advertised_routes]
    return lines + [f"{p} (approved, not offered)" for p in node.approved_routes if p not in node.advertised_routes]
