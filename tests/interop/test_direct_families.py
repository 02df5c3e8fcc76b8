"""Direct paths over whatever network there is: a carrier's 100.64.0.0/10, IPv6 alone, both families, one LAN.

In most of them two boards and a real client talk at once; the routers' connection tracking tells by which addresses.
"""

import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from shared.direct import Mesh, Pulse, Watched, Way, growing_flows
from shared.side_by_side import side_by_side
from wayhome.lab.lab import Host, Lab
from wayhome.lab.waiting import NotInTime, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.interop]

CARRIERS = ip_network("100.64.18.0/24")


class Talk:
    """The first of each pair, a board, sends packets to the other and gets them back; all pairs at the same time."""

    def __init__(self, mesh: Mesh, *pairs: tuple[str, str]) -> None:
        self._mesh, self._pairs, self._begun_s = mesh, pairs, time.monotonic()
        self._watched = [
            Watched(Pulse(mesh.lab.host(one), mesh.address_of(two)), mesh.relayed_bytes) for one, two in pairs
        ]

    def is_direct(self) -> bool:
        # the relay's counters are of all of them together
        return all(one.is_direct() for one in self._watched)

    def wait_direct(self) -> None:
        self._wait(self.is_direct, f"{self._pairs} to go direct")
        print(
            f"{self._mesh.lab.plan.name}: direct after {self._watched[0].meter.still_since_s() - self._begun_s:.1f} s"
        )

    def wait_direct_by(self, family: int, router: Host) -> None:
        """Wait until the router carries each pair's packets by this family alone."""

        def by_family() -> bool:
            ways = growing_flows(router)
            return len(ways) == len(self._pairs) and {way.family for way in ways} == {family} and self.is_direct()

        self._wait(by_family, f"{self._pairs} to go direct by IPv{family}")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        try:
            wait_until(condition, 60, what)
        except NotInTime as error:
            report = [f"{pair}: {one.report()}" for pair, one in zip(self._pairs, self._watched, strict=True)]
            raise NotInTime("\n".join([str(error), *report, *self._mesh.report()])) from None


def only_way(mesh: Mesh, router: str) -> Way:
    """Return the one flow that a router carries both ways."""
    (way,) = growing_flows(mesh.lab.host(router))
    return way


def start_all(mesh: Mesh, *boards: str, client: str) -> None:
    mesh.start_client(client)
    mesh.together(*(lambda name=name: mesh.start_board(name) for name in boards))
    mesh.wait_online(client, *boards)


@side_by_side
def test_ipv4_alone_behind_a_carriers_nat(folder: Path):
    with Lab.up("story") as lab:
        mesh = Mesh(lab, folder)
        start_all(mesh, "board", "board2", client="traveller")
        Talk(mesh, ("board", "board2"), ("board", "traveller")).wait_direct()
        ways = growing_flows(lab.host("carrier"))
        assert len(ways) == 2
        # to the carrier its customer is one of 100.64.0.0/10, the range of the mesh
        assert {ip_address(way.source[0]) in CARRIERS or way.outside[0] == "203.0.113.20" for way in ways} == {True}
        assert only_way(mesh, "friend-router").destination[0] == "203.0.113.20"
        assert only_way(mesh, "cafe-router").destination[0] == "203.0.113.20"


@side_by_side
def test_a_board_with_an_uplink_in_the_carriers_range_and_its_neighbour_there(folder: Path):
    with Lab.up("board-on-carrier") as lab:
        mesh = Mesh(lab, folder)
        start_all(mesh, "board", "customer", client="traveller")
        Talk(mesh, ("board", "traveller"), ("board", "customer")).wait_direct()
        assert only_way(mesh, "cafe-router").destination[0] == "203.0.113.20"
        # the two neighbours meet by their carrier's addresses; its NAT has the traveller's flow alone
        assert len(growing_flows(lab.host("carrier"))) == 1


@side_by_side
def test_ipv6_alone(folder: Path):
    with Lab.up("story-ipv6-only") as lab:
        mesh = Mesh(lab, folder, families=(6,))
        start_all(mesh, "board", "board2", client="traveller")
        Talk(mesh, ("board", "board2"), ("board", "traveller")).wait_direct()
        board = lab.host("board").address(family=6)
        for router, other in (("friend-router", "board2"), ("cafe-router", "traveller")):
            way = only_way(mesh, router)
            assert {way.source[0], way.destination[0]} == {board, lab.host(other).address(family=6)}


@side_by_side
def test_of_two_families_either_is_enough(folder: Path):
    with Lab.up("story-ipv6") as lab:
        # Stock clients ask nobody by IPv6 until a STUN server has answered them by it.
        mesh = Mesh(lab, folder, families=(4, 6))
        start_all(mesh, "board", "board2", client="traveller")
        talk = Talk(mesh, ("board", "board2"), ("board", "traveller"))
        talk.wait_direct()
        far = lab.host("friend-router"), lab.host("cafe-router")
        # The carrier sees packets of both families: it translates the one and routes the other.
        for family, blocked in ((6, "203.0.113.20"), (4, lab.host("board").address(family=6))):
            for router in far:
                router.block_udp(to=blocked)
            talk.wait_direct_by(family, lab.host("carrier"))


@side_by_side
def test_ipv6_on_one_side_only(folder: Path):
    with Lab.up("story-ipv6-home") as lab:
        mesh = Mesh(lab, folder, families=(4, 6))
        start_all(mesh, "board", "board2", client="traveller")
        Talk(mesh, ("board", "board2"), ("board", "traveller")).wait_direct()
        assert only_way(mesh, "cafe-router").family == 4


@side_by_side
def test_one_lan(folder: Path):
    with Lab.up("same-lan") as lab:
        mesh = Mesh(lab, folder)
        start_all(mesh, "one", client="two")
        Talk(mesh, ("one", "two")).wait_direct()
        assert growing_flows(lab.host("home-router")) == {}
