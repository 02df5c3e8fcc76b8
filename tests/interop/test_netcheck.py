"""`wayhomectl netcheck` on boards in networks of known kinds: what it says is what the lab built."""

from pathlib import Path
from typing import Any

import pytest

from wayhome.demo.cast import Board, Coordinator
from wayhome.lab.daemon_command import RUNTIMES
from wayhome.lab.lab import Lab
from wayhome.lab.pairs import two_homes
from wayhome.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.interop]

FOUR, FOUR_TOO = "203.0.113.10", "203.0.113.11"
SIX, SIX_TOO = "2001:db8:0:1::10", "2001:db8:0:1::11"


def start(lab: Lab, folder: Path, *stun: str) -> Coordinator:
    coordinator = Coordinator(lab.host("coordinator"), folder, f"http://{FOUR}:8080", f"{FOUR}:8080", f"{FOUR}:8443")
    coordinator.start(*(word for place in stun for word in ("--stun-listen", place)))
    coordinator.ask("user", "create", "anna")
    return coordinator


def joined(lab: Lab, coordinator: Coordinator, folder: Path, *names: str) -> list[Board]:
    key = coordinator.ask("key", "create", "--user", "anna", "--reusable")["key"]
    boards = [Board(lab.host(name), folder, runtime) for name, runtime in zip(names, RUNTIMES, strict=True)]
    for board in boards:
        board.start()
        up = board.join(coordinator.url, key, name=board.host.name)
        assert up.wait(60) == 0, up.communicate()
    return boards


def measured(board: Board) -> dict[str, Any]:
    answer = board.ctl("netcheck")
    assert isinstance(answer, dict)
    return answer


def words(answer: dict[str, Any]) -> str:
    return " ".join(answer["words"])


def test_easy_and_hard_nats_and_no_udp_are_told_apart(tmp_path: Path):
    with Lab.up(two_homes("linux", "symmetric", ipv6=True)) as lab:
        places = [f"{FOUR}:3478", f"{FOUR_TOO}:3478", f"[{SIX}]:3478", f"[{SIX_TOO}]:3478"]
        coordinator = start(lab, tmp_path, *places)
        easy, hard = joined(lab, coordinator, tmp_path, "left", "right")
        one, two = measured(easy), measured(hard)
        assert "behind an easy NAT" in words(one) and "IPv6: works, no NAT" in words(one)
        assert "behind a hard NAT" in words(two) and "IPv6: works, no NAT" in words(two)
        for answer in (one, two):
            assert answer["udp"]["ipv4"] == answer["udp"]["ipv6"] == {"asked": 2, "answered": 2, "unreachable": 0}
        assert [text.rpartition(":")[0] for text in one["outside"]] == ["203.0.113.30", "[2001:db8:30:1::10]"]
        lab.host("left-router").block_udp()
        assert "UDP is blocked: no answer from any of 4 STUN servers" in words(measured(easy))
        lab.host("left").unplug("eth0")
        wait_until(lambda: "There is no network" in words(measured(easy)), 60, "the board to notice the pulled cable")


def test_with_one_stun_address_the_kind_of_nat_is_said_to_be_unknown(tmp_path: Path):
    with Lab.up(two_homes("linux", "symmetric")) as lab:
        coordinator = start(lab, tmp_path, f"{FOUR}:3478", f"{FOUR}:3479")
        easy, hard = joined(lab, coordinator, tmp_path, "left", "right")
        assert "cannot be told: the relay map has one STUN address only" in words(measured(easy))
        # a second port shows a NAT that draws a new one for each
        assert "behind a hard NAT" in words(measured(hard))
