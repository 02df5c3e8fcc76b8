"""Which pairs of NATs let two devices talk directly, and which never do: with a real client on one side, or on none.

What is expected follows from the NATs' mapping and filtering alone (RFC 4787). Both sides ask all the addresses that
the other has told, at about the same time. An address is told truly if the mapping is endpoint-independent; a packet to
it comes through if the filtering lets it, that is: anybody's, or that of an address (or endpoint) asked before.
"""

import itertools
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from shared.direct import Mesh, Pulse, Watched, growing_flows
from shared.side_by_side import side_by_side
from wayhome.lab import nat
from wayhome.lab.lab import Lab
from wayhome.lab.nat import Behaviour
from wayhome.lab.pairs import two_homes

pytestmark = [pytest.mark.lab, pytest.mark.interop]

OURS, REAL = "wayhomed", "tsnet"
# Far longer than going direct takes where it can be; the search is then at its steady pace, a round in 5 s.
RELAYED_FOR_S = 16


class Case(NamedTuple):
    """Who is at home on the left (always wayhomed) and on the right, and behind what."""

    left: str
    right: str
    right_client: str
    direct: bool
    why: str


_BOTH_TRUE = "both told addresses are true, and each side opens its own filter by asking"
_ANYBODY = "the symmetric side asks an address that lets anybody in, and is answered where it asked from"
_ADDRESS = (
    "the other side has asked the symmetric NAT's address, if at a wrong port: its filter looks at addresses only"
)
_WRONG_PORT = "the symmetric side's packets come from a port that nobody knew to ask, so the other's filter drops them"

CASES = [
    Case("linux", "linux", OURS, True, _BOTH_TRUE),
    Case("linux", "carrier", OURS, True, _BOTH_TRUE),
    Case("carrier", "carrier", OURS, True, _BOTH_TRUE),
    Case("address-restricted", "port-restricted", OURS, True, _BOTH_TRUE),
    Case("full-cone", "symmetric", OURS, True, _ANYBODY),
    Case("symmetric", "carrier-open", OURS, True, _ANYBODY),
    Case("address-restricted", "symmetric", OURS, True, _ADDRESS),
    Case("port-restricted", "symmetric", OURS, False, _WRONG_PORT),
    Case("linux", "symmetric", OURS, False, _WRONG_PORT),
    Case("carrier", "symmetric", OURS, False, _WRONG_PORT),
    Case("symmetric", "symmetric", OURS, False, _WRONG_PORT),
    Case("linux", "linux", REAL, True, _BOTH_TRUE),
    Case("carrier", "port-restricted", REAL, True, _BOTH_TRUE),
    Case("port-restricted", "carrier", REAL, True, _BOTH_TRUE),
    Case("full-cone", "symmetric", REAL, True, _ANYBODY),
    Case("symmetric", "full-cone", REAL, True, _ANYBODY),
    Case("address-restricted", "symmetric", REAL, True, _ADDRESS),
    Case("symmetric", "address-restricted", REAL, True, _ADDRESS),
    Case("symmetric", "port-restricted", REAL, False, _WRONG_PORT),
    Case("symmetric", "symmetric", REAL, False, _WRONG_PORT),
]


def name_of(case: Case) -> str:
    return f"{OURS} behind {case.left}, {case.right_client} behind {case.right}"


class Pair:
    """Both at home, having joined, and the left one talking to the right one."""

    def __init__(self, lab: Lab, case: Case, folder: Path) -> None:
        self.mesh = Mesh(lab, folder)
        if case.right_client == REAL:
            self.mesh.start_client("right")
            self.left = self.mesh.start_board("left")
        else:
            self.left, _ = self.mesh.together(
                lambda: self.mesh.start_board("left"), lambda: self.mesh.start_board("right")
            )
        self.mesh.wait_online("left", "right")
        self.begun_s = time.monotonic()
        self.watched = Watched(Pulse(lab.host("left"), self.mesh.address_of("right")), self.mesh.relayed_bytes)
        self._routers = lab.host("left-router"), lab.host("right-router")

    def flows(self) -> list[int]:
        """Return how many live flows the left and the right router hold."""
        return [len(growing_flows(router)) for router in self._routers]

    def right_as_seen(self) -> dict[str, Any]:
        """Return what the left board says of the right one."""
        return next(peer for peer in self.left.ctl("status")["peers"] if peer["name"] == "right")


@pytest.mark.parametrize("case", [case for case in CASES if case.direct], ids=name_of)
@side_by_side
def test_these_go_direct(folder: Path, case: Case):
    with Lab.up(two_homes(case.left, case.right)) as lab:
        pair = Pair(lab, case, folder)
        after_s = pair.watched.wait_direct(pair.begun_s)
        print(f"{name_of(case)}: direct after {after_s:.1f} s")
        assert pair.flows() == [1, 1], case.why
        peer = pair.right_as_seen()
        assert peer["path"].startswith("direct ") and peer["reason"] == "direct" and not peer["why"], peer
        assert pair.watched.is_direct()


@pytest.mark.parametrize("case", [case for case in CASES if not case.direct], ids=name_of)
@side_by_side
def test_these_stay_relayed_for_ever_and_say_why(folder: Path, case: Case):
    with Lab.up(two_homes(case.left, case.right)) as lab:
        pair = Pair(lab, case, folder)
        pair.watched.wait_relayed()
        until_s = time.monotonic() + RELAYED_FOR_S
        while time.monotonic() < until_s:
            time.sleep(0.5)
            assert pair.watched.is_relayed(), case.why
        assert pair.flows() == [0, 0], case.why
        peer = pair.right_as_seen()
        assert peer["path"].startswith("relay ") and peer["reason"] == "no answer", peer
        # Behind a hard NAT of its own the board says so; behind an easy one it can't know, and says what it tried.
        assert ("hard NAT" in peer["why"]) == (case.left == "symmetric"), peer


def test_what_is_expected_follows_from_mapping_and_filtering():
    def gets_in(asker: str, door: str) -> bool:
        """Tell whether packets of the asker come through the other's filter, once both ask where they think."""
        if nat.KINDS[door].filtering is not Behaviour.ADDRESS_AND_PORT_DEPENDENT:
            return True
        return nat.KINDS[asker].mapping is Behaviour.ENDPOINT_INDEPENDENT

    for case in CASES:
        # a door whose own address is not true is found only by those who were asked by it
        ways = [
            (asker, door)
            for asker, door in itertools.permutations((case.left, case.right))
            if nat.KINDS[door].mapping is Behaviour.ENDPOINT_INDEPENDENT and gets_in(asker, door)
        ]
        assert bool(ways) is case.direct, name_of(case)
