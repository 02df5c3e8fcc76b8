"""What `forwarding` computes from its measurements; and its traffic, once, through namespaces of this machine."""

import json
import os
import subprocess
import sys

import pytest

from wayhome.bench import _router, forwarding

TRAFFICS = [traffic.name for traffic in _router.TRAFFIC]


def costs_of(**figures: list[float]) -> dict[str, _router.Costs]:
    return {name: {traffic: list(rounds) for traffic in TRAFFICS} for name, rounds in figures.items()}


def test_a_router_is_charged_neither_the_ends_nor_the_peers_half_of_wireguard():
    # ends 10, WireGuard 20 a side, forwarding 5: seen are 10 straight, 50 sealed, 55 through the router
    assert _router.own_cost(55.0, plain=10.0, sealed=50.0) == 25.0


def test_own_costs_are_taken_round_by_round_and_leave_out_the_straight_cable():
    seen = costs_of(straight_plain=[10.0, 20.0], straight_wireguard=[50.0, 60.0], bare=[55.0, 66.0])
    assert _router.own_costs(seen) == costs_of(bare=[25.0, 26.0])


def test_every_other_round_goes_backwards():
    assert [_router.in_order("abc", number) for number in range(3)] == ["abc", "cba", "abc"]


def test_the_medians_of_two_variants_are_compared():
    costs = costs_of(ours=[4000.0, 90_000.0, 2000.0], bare=[2000.0, 1000.0, 2000.0])
    metrics = {metric.name: metric for metric in forwarding.pair(costs, "ours", "bare", "_x", "bare")}
    assert metrics["tcp_cpu_per_gib_x"].ratio == pytest.approx(2.0, rel=1e-3)
    assert metrics["small_packets_per_s_x"].ours == 250_000
    assert metrics["small_packets_16_flows_per_s_x"].ratio == 0.5
    assert metrics["tcp_16_flows_cpu_per_gib_x"].runs == 3


def test_variants_have_names_of_their_own_and_none_of_the_straight_cables():
    names = [variant.name for variant in (*_router.STRAIGHT, *forwarding.VARIANTS)]
    assert len(names) == len(set(names))


def test_a_burst_is_shared_evenly_by_the_flows():
    assert all(48 % traffic.flows == 0 and traffic.units % 48 == 0 for traffic in _router.TRAFFIC[2:])


@pytest.mark.lab
@pytest.mark.parametrize(
    "turn",
    [
        {"kind": "packets", "flows": 16, "units": 96},
        {"kind": "tcp", "flows": 2, "units": 1 << 20, "reverse": False},
        {"kind": "tcp", "flows": 2, "units": 1 << 20, "reverse": True},
    ],
)
def test_the_traffic_arrives_and_its_time_is_told(turn):
    spaces = [f"whb{os.getpid()}{end}" for end in "pl"]
    try:
        for space in spaces:
            subprocess.run(["ip", "netns", "add", space], check=True)
        cable = ["ip", "link", "add", "c0", "netns", spaces[0], "type", "veth", "peer", "name", "c0", "netns"]
        subprocess.run([*cable, spaces[1]], check=True)
        for number, space in enumerate(spaces, 1):
            subprocess.run(["ip", "-n", space, "address", "add", f"192.0.2.{number}/24", "dev", "c0"], check=True)
            subprocess.run(["ip", "-n", space, "link", "set", "c0", "up"], check=True)
        given = json.dumps({**turn, "target": "192.0.2.2"})
        words = [sys.executable, "-I", str(_router._TRAFFIC), *spaces, given]
        said = json.loads(subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout)
        assert said["units"] >= turn["units"]
        assert said["busy_ns"] + said["idle_ns"] > 0
    finally:
        for space in spaces:
            subprocess.run(["ip", "netns", "delete", space], check=False)
