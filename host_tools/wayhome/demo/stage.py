"""The demo's picture: who is where, by which address, and which way the packets take just now."""

from dataclasses import dataclass, replace
from enum import Enum

from ..lab.plan import Host, Plan
from .shapes import HEAVY, Box, Drawing, Line, Place, Words

# The relay has a leg to each side; a straight way passes below it. On the left the carrier, the home router, the home;
# on the right the cafe.
_HOME, _CAFE = 15, 62
_LEGS = (30, 47)
_SERVER_BOTTOM, _RELAY_ROW, _STRAIGHT_ROW = 4, 5, 6
_NAT_TOP, _NAT_BOTTOM = 7, 11
_INNER_TOP, _ROUTER_BOTTOM, _LAPTOP_BOTTOM = 13, 17, 18
_LAN_ROW, _DEVICES_TOP, _DEVICES_BOTTOM = 18, 19, 23
_NAS = 36
ROWS, COLUMNS = 24, 78
# Cells between two packets on their way.
_PACKET_EVERY = 9


class Way(Enum):
    """How packets go between the board and the laptop. The value is the style that they are drawn in."""

    NONE = "none"
    RELAY = "relay"
    DIRECT = "direct"


@dataclass(frozen=True)
class Scene:
    """What the picture shows beside the wires. An empty text: not yet."""

    server: str = ""  # what runs there
    carrier_nat: str = ""  # what was measured of it, in a few words
    home_nat: str = ""
    cafe_nat: str = ""
    laptop: str = ""  # its client
    laptop_mesh: str = ""
    board: str = ""
    board_mesh: str = ""
    nas_mesh: str = ""
    way: Way = Way.NONE


def mesh_line(way: Way) -> Line | None:
    """Return the line that packets take between the board and the laptop; None if they have no way."""
    if way is Way.NONE:
        return None
    over: tuple[Place, ...] = ((_STRAIGHT_ROW, _HOME), (_STRAIGHT_ROW, _CAFE))
    if way is Way.RELAY:
        left, right = _LEGS
        over = (
            (_RELAY_ROW, _HOME),
            (_RELAY_ROW, left),
            (2, left),
            (2, right),
            (_RELAY_ROW, right),
            (_RELAY_ROW, _CAFE),
        )
    return Line(((_DEVICES_TOP, _HOME), *over, (_INNER_TOP, _CAFE)), way.value, HEAVY)


def lan_line(scene: Scene) -> Line | None:
    """Return the line of the packets between the NAS and the board; None while there are none."""
    if scene.way is Way.NONE or not scene.nas_mesh:
        return None
    return Line(((_DEVICES_TOP, _NAS), (_LAN_ROW, _NAS), (_LAN_ROW, _HOME), (_DEVICES_TOP, _HOME)), "lan")


def with_packets(drawing: Drawing, scene: Scene, step: int) -> Drawing:
    """Return the drawing with packets under way: at each next step they are a cell further."""
    packets: list[tuple[Place, str]] = []
    for line in (lan_line(scene), mesh_line(scene.way)):
        if line is not None:
            cells = list(line.cells())
            packets += [(cell, line.style) for cell in cells[step % _PACKET_EVERY :: _PACKET_EVERY]]
    return replace(drawing, packets=tuple(packets))


def draw(plan: Plan, scene: Scene) -> Drawing:
    """Return the picture of the demo's network. Raises plan.PlanError for a plan without its hosts."""
    left, right = _LEGS
    wires = [
        ((_SERVER_BOTTOM, left), (_RELAY_ROW, left), (_RELAY_ROW, _HOME), (_NAT_TOP, _HOME)),
        ((_SERVER_BOTTOM, right), (_RELAY_ROW, right), (_RELAY_ROW, _CAFE), (_NAT_TOP, _CAFE)),
        ((_NAT_BOTTOM, _HOME), (_INNER_TOP, _HOME)),
        ((_NAT_BOTTOM, _CAFE), (_INNER_TOP, _CAFE)),
        ((_ROUTER_BOTTOM, _HOME), (_DEVICES_TOP, _HOME)),
        ((_LAN_ROW, _HOME), (_LAN_ROW, _NAS), (_DEVICES_TOP, _NAS)),
    ]
    lines = [Line(places, "wire") for places in wires]
    lines += [line for line in (lan_line(scene), mesh_line(scene.way)) if line is not None]
    words = [
        Words(1, 1, "the Internet", "place"),
        Words(2, 1, str(plan.lans["internet"].ipv4), "address"),
        Words(12, 17, f"{plan.lans['carrier-net'].ipv4}", "address"),
        Words(12, 64, f"{plan.lans['cafe'].ipv4}", "address"),
        Words(_LAN_ROW, 0, f"{plan.lans['home'].ipv4}", "address"),
    ]
    if scene.way is Way.RELAY:
        words.append(Words(_RELAY_ROW, 33, "by the relay", "relay"))
    elif scene.way is Way.DIRECT:
        words.append(Words(_STRAIGHT_ROW, 30, " straight through ", "direct"))
    boxes: list[Box] = []

    def box(top: int, left: int, bottom: int, right: int, *texts: tuple[str, str], there: bool = True) -> None:
        boxes.append(Box(top, left, bottom, right, "box" if there else "absent"))
        words.extend(Words(top + 1 + row, left + 2, text, style) for row, (text, style) in enumerate(texts))

    def name(text: str, there: bool = True) -> tuple[str, str]:
        return text, "name" if there else "absent"

    def mesh(address: str) -> tuple[str, str]:
        return (f"mesh {address}", "mesh") if address else ("", "mesh")

    box(
        *(0, 24, _SERVER_BOTTOM, 53),
        name("a small rented server"),
        (_address(plan.host("server")), "address"),
        (scene.server, "client"),
    )
    box(
        *(_NAT_TOP, 0, _NAT_BOTTOM, 30),
        name("the carrier's NAT"),
        (_both(plan.host("carrier")), "address"),
        (scene.carrier_nat, "nat"),
    )
    box(
        *(_NAT_TOP, 47, _NAT_BOTTOM, 77),
        name("the café's NAT"),
        (_both(plan.host("cafe-router")), "address"),
        (scene.cafe_nat, "nat"),
    )
    box(
        *(_INNER_TOP, 0, _ROUTER_BOTTOM, 30),
        name("the home router's NAT"),
        (_both(plan.host("home-router")), "address"),
        (scene.home_nat, "nat"),
    )
    box(
        *(_INNER_TOP, 47, _LAPTOP_BOTTOM, 77),
        name("Anna's laptop"),
        (_address(plan.host("laptop")), "address"),
        (scene.laptop, "client"),
        mesh(scene.laptop_mesh),
    )
    box(
        *(_DEVICES_TOP, 5, _DEVICES_BOTTOM, 24),
        name("the board"),
        (_address(plan.host("board")), "address"),
        mesh(scene.board_mesh) if scene.board_mesh else (scene.board, "client"),
    )
    box(
        *(_DEVICES_TOP, 27, _DEVICES_BOTTOM, 45),
        name("the NAS"),
        (_address(plan.host("nas")), "address"),
        mesh(scene.nas_mesh),
    )
    return Drawing(ROWS, COLUMNS, tuple(lines), (), tuple(boxes), tuple(one for one in words if one.text))


def _address(host: Host) -> str:
    return str(host.links[0].ipv4[0])


def _both(router: Host) -> str:
    """Return a router's address outside, then the one inside."""
    return f"{router.link('wan').ipv4[0]}, {router.link('lan').ipv4[0]}"
