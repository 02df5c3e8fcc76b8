"""Addresses change under a direct transfer: the connection lives, and goes direct again from the new place."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.direct import NAS, NOISE_S, RATE, TRUST_S, Mesh, Watched, growing_flows
from shared.side_by_side import side_by_side
from wayhome.lab.lab import Host, Lab
from wayhome.lab.transfer import Transfer

pytestmark = [pytest.mark.lab, pytest.mark.interop]

# A client notices in its own time that its relay connection is dead too, and TCP in its.
SILENCE_S = 4 * TRUST_S + NOISE_S


def moves(film: Transfer, mesh: Mesh, move: Callable[[], None], router: Host) -> None:
    """Have a transfer go direct, change something, and have it go direct again.

    The router is one that sees the difference: another flow lives in its connection tracking.
    """
    watched = Watched(film, mesh.relayed_bytes)
    watched.wait_direct(0)
    before = set(growing_flows(router))
    assert len(before) == 1
    moved_s = time.monotonic()
    move()

    def goes_another_way() -> bool:
        after = set(growing_flows(router))
        return len(after) == 1 and after != before and watched.is_direct()

    mesh.lab.wait_until(goes_another_way, 90, "the transfer to go direct again, from the new place")
    again_s = max(0.0, watched.meter.still_since_s() - moved_s)
    print(f"silent for {film.longest_silence_s(moved_s - 1):.1f} s, direct from the new place after {again_s:.1f} s")
    assert film.longest_silence_s() <= SILENCE_S
    watched.stop()
    film.stop()


def to_traveller(mesh: Mesh) -> Transfer:
    """Have a real client and a board join; return a transfer from the NAS to the client."""
    traveller = mesh.start_client("traveller")
    mesh.start_board("board")
    mesh.publish("nas", "board", NAS)
    mesh.wait_online("traveller", "board")
    traveller.wait_for_page("nas:80")
    url, headers = traveller.proxied("nas:80")
    return Transfer.start(
        mesh.lab.host("nas"), mesh.lab.host("traveller"), url, name="film", rate=RATE // 4, headers=headers
    )


def to_board2(mesh: Mesh) -> Transfer:
    """Have two boards join; return a transfer from the NAS behind one to the other."""
    mesh.together(lambda: mesh.start_board("board"), lambda: mesh.start_board("board2", "--accept-routes"))
    address = mesh.publish("nas", "board", NAS)
    mesh.lab.wait_until(lambda: mesh.lab.host("board2").reaches(address), 60, "the NAS to answer")
    return Transfer.start(
        mesh.lab.host("nas"), mesh.lab.host("board2"), f"http://{address}", name="film", rate=RATE // 4
    )


@side_by_side
def test_the_homes_outside_address_changes_under_a_real_client(folder: Path):
    with Lab.up("board-on-carrier") as lab:
        mesh = Mesh(lab, folder)
        router = lab.host("carrier")
        moves(to_traveller(mesh), mesh, lambda: router.change_address("wan", "203.0.113.99"), lab.host("cafe-router"))


@side_by_side
def test_the_homes_routers_address_changes_under_a_board(folder: Path):
    with Lab.up("story") as lab:
        mesh = Mesh(lab, folder)
        router = lab.host("home-router")
        moves(to_board2(mesh), mesh, lambda: router.change_address("wan", "100.64.18.77"), lab.host("friend-router"))


@side_by_side
def test_the_boards_own_uplink_gets_another_address(folder: Path):
    with Lab.up("board-on-carrier") as lab:
        mesh = Mesh(lab, folder)
        board = lab.host("board")
        film = to_traveller(mesh)
        moves(film, mesh, lambda: board.change_address("wan", "100.64.18.21", keep_flows=True), lab.host("carrier"))


@side_by_side
def test_a_real_client_gets_another_address(folder: Path):
    with Lab.up("story") as lab:
        mesh = Mesh(lab, folder)
        traveller = lab.host("traveller")
        film = to_traveller(mesh)
        moves(film, mesh, lambda: traveller.change_address("eth0", "192.168.1.60"), lab.host("cafe-router"))


@side_by_side
def test_a_board_that_reads_gets_another_address(folder: Path):
    with Lab.up("story") as lab:
        mesh = Mesh(lab, folder)
        board2 = lab.host("board2")
        film = to_board2(mesh)
        moves(film, mesh, lambda: board2.change_address("eth0", "192.168.2.77"), lab.host("friend-router"))


@side_by_side
def test_an_ipv6_uplink_moves(folder: Path):
    with Lab.up("story-ipv6") as lab:
        mesh = Mesh(lab, folder, families=(4, 6))
        # By IPv4 they don't meet.
        lab.host("friend-router").block_udp(to="203.0.113.20")
        board, new = lab.host("board"), "2001:db8:18:1001::77"
        film = to_board2(mesh)
        moves(film, mesh, lambda: board.change_address("eth0", new), lab.host("friend-router"))
