"""Coordinator and relay are killed while packets go direct: what is established goes on, and finds its way about."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.direct import NAS, RATE, TCP_SILENCE_S, TRUST_S, Mesh, Watched
from shared.side_by_side import side_by_side
from wayhome.lab.lab import Lab
from wayhome.lab.transfer import Transfer
from wayhome.relay.standalone import ask_status

pytestmark = [pytest.mark.lab, pytest.mark.interop]

WAYHOME = Path(sys.executable).with_name("wayhome")
URL = "http://203.0.113.10:8080"


@side_by_side
def test_direct_transfers_outlive_coordinator_and_relay_together(folder: Path):
    with Lab.up("story") as lab:
        mesh = Mesh(lab, folder)
        films = two_films(mesh)
        watched = [Watched(film, mesh.relayed_bytes) for film in films]
        for one in watched:
            one.wait_direct(0)
            one.stop()
        killed_s = time.monotonic()
        mesh.kill_coordinator()
        # far longer than any trust without new pongs
        time.sleep(3 * TRUST_S)
        for film in films:
            assert film.received_between(killed_s, time.monotonic()) > film.rate * 2 * TRUST_S
            assert film.longest_silence_s(killed_s - 1) < TRUST_S
        mesh.restart_coordinator()
        mesh.wait_online("board", "board2", "traveller")
        for film in films:
            film.stop()


@side_by_side
def test_without_a_coordinator_paths_still_go_by_the_relay_and_direct_again(folder: Path):
    with Lab.up("story") as lab:
        place, state = lab.host("laptop"), folder / "relay"
        words = [WAYHOME, "relay", "--state", state, "--listen", "203.0.113.60:8443", "--verify-url", f"{URL}/verify"]
        words += ["--stun-listen", "203.0.113.60:3478", "--json"]
        relay = place.popen(words, stdout=subprocess.PIPE, text=True)
        assert relay.stdout is not None
        facts = json.loads(relay.stdout.readline())
        mesh = Mesh(lab, folder, start=("--no-relay", "--other-relay", facts["other_relay"]))
        films = two_films(mesh)
        watched = [Watched(film, lambda: int(ask_status(state)["relay"]["bytes_out"])) for film in films]
        for one in watched:
            one.wait_direct(0)
        mesh.kill_coordinator()
        killed_s = time.monotonic()
        routers = lab.host("cafe-router"), lab.host("friend-router")
        for router in routers:
            router.block_udp()
        for one in watched:
            one.wait_relayed()
        for router in routers:
            router.unblock_udp()
        unblocked_s = time.monotonic()
        for one in watched:
            print(f"direct again without a coordinator after {one.wait_direct(unblocked_s):.1f} s")
            one.stop()
        for film in films:
            assert film.longest_silence_s(killed_s) <= TCP_SILENCE_S
            film.stop()


def two_films(mesh: Mesh) -> list[Transfer]:
    """Have everybody join; start a transfer from the NAS to a real client and one to another board."""
    lab = mesh.lab
    traveller = mesh.start_client("traveller")
    mesh.together(lambda: mesh.start_board("board"), lambda: mesh.start_board("board2", "--accept-routes"))
    address = mesh.publish("nas", "board", NAS)
    mesh.wait_online("traveller", "board", "board2")
    traveller.wait_for_page("nas:80")
    lab.wait_until(lambda: lab.host("board2").reaches(address), 60, "the NAS to answer")
    url, headers = traveller.proxied("nas:80")
    nas, rate = lab.host("nas"), RATE // 4
    return [
        Transfer.start(nas, lab.host("traveller"), url, name="to-traveller", rate=rate, headers=headers),
        Transfer.start(nas, lab.host("board2"), f"http://{address}", name="to-board2", rate=rate),
    ]
