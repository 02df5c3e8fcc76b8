"""`wayhome publish` and `wayhome unpublish`: LAN devices without a client, each with a mesh address of its own."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import HostError
from .admin_options import AsJson, Socket, State, connect, examples
from .answers import Published, read
from .terminal import print_json, print_table, say

# `wayhome publish list` and `wayhome publish NAME ...` are one command, so no published device can have this name.
_LIST = "list"


def register(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "wayhome publish nas --via board 192.168.1.10",
            "wayhome publish printer --via board 192.168.1.20 --port tcp:631",
            "wayhome publish list",
        )
    )(publish)
    app.command(epilog=examples("wayhome unpublish nas"))(unpublish)


def publish(
    name: Annotated[str, typer.Argument(help="What the device is called in the mesh; `list` shows those published.")],
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[IPV4] [IPV6]", help="Its addresses in the board's LAN.", show_default=False),
    ] = None,
    via: Annotated[str | None, typer.Option(metavar="BOARD", help="The board in whose LAN it is.")] = None,
    port: Annotated[
        list[str] | None,
        typer.Option(metavar="PROTOCOL:PORT", help="Only this, as tcp:80 or udp:5000-5010 (may be repeated)."),
    ] = None,
    state: State = None,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Give a device in a board's LAN its own address and name in the mesh, though it runs no client."""
    if name == _LIST and not targets and via is None and not port:
        _list(state, socket, as_json)
        return
    if name == _LIST:
        raise HostError("no device can be called `list`: `wayhome publish list` shows what is published")
    if via is None or not targets:
        raise HostError(
            f"say by which board {name} is reached and its address there: "
            f"`wayhome publish {name} --via BOARD 192.168.1.10`"
        )
    ipv4, ipv6 = _by_family(targets)
    body = {"name": name, "via": via, "ipv4": ipv4, "ipv6": ipv6, "ports": port or []}
    answer = connect(state, socket).post("published", body=body)
    if as_json:
        print_json(answer)
        return
    published = read(answer, Published)
    say(f"{published.name} is {published.dns_name} ({', '.join(published.addresses)}), by way of {published.via}")
    if not published.via_online:
        say(f"{published.via} is away now; {published.name} can be reached once it is back")


def unpublish(
    name: Annotated[str, typer.Argument(help="What `wayhome publish` called it.")],
    state: State = None,
    socket: Socket = None,
    as_json: AsJson = False,
) -> None:
    """Take a published device out of the mesh. Its address is not given to another."""
    answer = connect(state, socket).delete("published", name)
    if as_json:
        print_json(answer)
        return
    say(f"{read(answer, Published).name} is no longer in the mesh")


def _by_family(targets: list[str]) -> tuple[str, str | None]:
    """Return the IPv4 address and the IPv6 address, if there is one; whether they are addresses the server says."""
    ipv4 = [target for target in targets if ":" not in target]
    ipv6 = [target for target in targets if ":" in target]
    if len(ipv4) != 1 or len(ipv6) > 1:
        raise HostError("a published device has one IPv4 address in its LAN, and one IPv6 address if it likes")
    return ipv4[0], ipv6[0] if ipv6 else None


def _list(state: Path | None, socket: Path | None, as_json: bool) -> None:
    answer = connect(state, socket).get("published")
    if as_json:
        print_json(answer)
        return
    print_table(
        ("NAME", "VIA", "ADDRESSES", "IN THE LAN", "PORTS"),
        (
            (
                entry.name,
                entry.via,
                entry.addresses,
                entry.targets,
                entry.ports or "all",
            )
            for entry in read(answer, list[Published])
        ),
        "nothing is published; `wayhome publish NAME --via BOARD 192.168.1.10` gives a LAN device a mesh address",
    )
