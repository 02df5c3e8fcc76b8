"""Measures what a router costs, in instructions: all of it within one guest whose clock counts these.

    peer (a traveller) --- uplink --- router --- LAN --- host          and a cable from the peer straight to the host

Peer, router and LAN are network namespaces of one guest with one emulated processor. By the guest's clocks every
instruction takes 4 ns (`Guest(counts_instructions=True)`) and nothing from outside comes in, so the figures depend
little on what else this machine does: TCP's by some 7 %, since when its timers fire is not the same in every run.
Source: QEMU's manual, "TCG Instruction Counting".

The processor does the ends' work too. It is measured by the straight cable, without WireGuard and with it, and taken
off (own_cost): sealing and opening are taken to cost the same.

A benchmark gives `measure` its variants of the router. One is a name and a function of the scene that gives a context
in which the router routes so (a `shell` or a `process` in the router's namespace, mostly). Each is measured with each
Traffic, as many rounds as there are, every other one in the opposite order.
"""

import base64
import contextlib
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wayhomed.wire import keys

from ..errors import HostError
from ..lab.guest import Guest
from ..lab.waiting import wait_until

ROOT = Path(__file__).parents[3]
PEER, ROUTER, LAN = "peer", "router", "lan"
HOST = "192.168.50.10"
GIB = 1 << 30
_TRAFFIC = Path(__file__).with_name("_router_traffic.py")
_SECONDS = 240

_WORLD = """
set -eu
for space in peer router lan; do ip netns add $space; ip -n $space link set lo up; done
ip link add uplink netns router type veth peer name uplink netns peer
ip link add lan netns router type veth peer name lan netns lan
ip link add straight netns peer type veth peer name straight netns lan
ip -n router address add 203.0.113.1/24 dev uplink
ip -n peer address add 203.0.113.2/24 dev uplink
ip -n router address add 192.168.50.1/24 dev lan
ip -n lan address add 192.168.50.10/24 dev lan
ip -n peer address add 198.51.100.1/24 dev straight
ip -n lan address add 198.51.100.2/24 dev straight
for space in router peer; do ip -n $space link set uplink up; done
for space in router lan; do ip -n $space link set lan up; done
for space in peer lan; do ip -n $space link set straight up; done
ip -n router route add default via 203.0.113.2
ip netns exec router sysctl -qw net.ipv4.ip_forward=1
ip -n lan route add 100.64.0.0/10 via 192.168.50.1
printf %s "$PEER_PRIVATE" > /run/peer.key
printf %s "$ROUTER_PRIVATE" > /run/router.key
ip -n peer link add wgp type wireguard
ip netns exec peer wg set wgp listen-port 51820 private-key /run/peer.key
ip -n peer address add 100.64.0.2/32 dev wgp
ip -n peer link set wgp mtu 1280 up
"""
_PEER_BY_TUNNEL = """
set -eu
ip netns exec peer wg set wgp peer "$ROUTER_PUBLIC" endpoint "$1" allowed-ips 100.64.0.1/32,192.168.50.0/24
ip -n peer route replace 192.168.50.0/24 dev wgp
"""
_END_OF_TUNNEL = 'ip netns exec peer wg set wgp peer "$ROUTER_PUBLIC" remove; ip -n peer route del 192.168.50.0/24'
_STRAIGHT_PLAIN = """
set -eu
ip -n peer route add 192.168.50.0/24 via 198.51.100.2 src 100.64.0.2
ip -n lan route add 100.64.0.2 via 198.51.100.1
"""
_END_OF_STRAIGHT_PLAIN = "ip -n peer route del 192.168.50.0/24; ip -n lan route del 100.64.0.2"
_WIREGUARD = """
set -eu
if [ "$KIND" = kernel ]; then ip link add wg0 type wireguard; else wireguard-go wg0; fi
wg set wg0 listen-port 41641 private-key /run/router.key peer "$PEER_PUBLIC" allowed-ips 100.64.0.2/32
ip address add 100.64.0.1/32 dev wg0
ip link set wg0 mtu 1280 up
ip route replace 100.64.0.2 dev wg0
"""
_END_OF_WIREGUARD = "ip link delete wg0"


@dataclass(frozen=True)
class Traffic:
    """One kind of traffic. kind: packets (UDP of 64 bytes from the peer) or tcp; units: packets or bytes a turn.

    both_ways: as much again the other way, and the mean of both counts (TCP alone).
    """

    name: str
    kind: str
    flows: int
    units: int
    both_ways: bool = False


TRAFFIC = (
    Traffic("tcp", "tcp", 1, 4 << 20, both_ways=True),
    Traffic("tcp_16_flows", "tcp", 16, 4 << 20, both_ways=True),
    Traffic("packets", "packets", 1, 2400),
    Traffic("packets_16_flows", "packets", 16, 2400),
)

# {traffic: nanoseconds of the guest's clock a unit, one a round}
Costs = dict[str, list[float]]
Context = contextlib.AbstractContextManager[None]


class Scene:
    """The guest with its three namespaces."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.router_key, peer_key = keys.new_private(os.urandom(32)), keys.new_private(os.urandom(32))
        self.peer_public = keys.public_of(peer_key)
        self._environment = {
            "PEER_PRIVATE": _base64(peer_key),
            "ROUTER_PRIVATE": _base64(self.router_key),
            "PEER_PUBLIC": _base64(self.peer_public),
            "ROUTER_PUBLIC": _base64(keys.public_of(self.router_key)),
        }
        self._run(_WORLD)

    def _run(self, script: str, *words: str, space: str | None = None, **environment: str) -> None:
        inside = ["ip", "netns", "exec", space] if space else []
        self.guest.run([*inside, "sh", "-c", script, "sh", *words], env={**self._environment, **environment})

    @contextlib.contextmanager
    def shell(self, script: str, undo: str, *, space: str = ROUTER, **environment: str) -> Iterator[None]:
        """Have a shell in a namespace run a script, and in the end another. Raises GuestError."""
        self._run(script, space=space, **environment)
        try:
            yield
        finally:
            self._run(undo, space=space, **environment)

    @contextlib.contextmanager
    def process(self, words: Sequence[str], *, space: str = ROUTER, **environment: str) -> Iterator[None]:
        """Have a program run in a namespace that says `ready` and ends when its input does. Raises HostError."""
        process = self.guest.popen(["ip", "netns", "exec", space, *words], env=environment)
        try:
            line = next(process.lines(_SECONDS), "")
            if not line.startswith("ready"):
                raise HostError(f"{words[0]} did not get ready in the guest: {line} {process.stderr[-2000:]}")
            yield
        finally:
            process.close_input()
            process.wait(_SECONDS)

    def python(self, source: str, given: object) -> Context:
        """Run a program of the daemon's own modules in the router; its first argument is `given` as JSON."""
        words = [sys.executable, "-c", source, json.dumps(given)]
        return self.process(words, PYTHONPATH=str(ROOT / "firmware"))

    @contextlib.contextmanager
    def wireguard(self, kind: str = "kernel", *, space: str = ROUTER) -> Iterator[None]:
        """Put up WireGuard with static configuration, by the kernel or by `userspace`, and the peer's way to it."""
        endpoint = "203.0.113.1:41641" if space == ROUTER else "198.51.100.2:41641"
        with self.shell(_WIREGUARD, _END_OF_WIREGUARD, space=space, KIND=kind), self.peer_tunnel(endpoint):
            yield

    @contextlib.contextmanager
    def peer_tunnel(self, endpoint: str = "203.0.113.1:41641") -> Iterator[None]:
        """Have the peer reach the LAN by its tunnel."""
        self._run(_PEER_BY_TUNNEL, endpoint)
        try:
            yield
        finally:
            self._run(_END_OF_TUNNEL)

    def wait_for_way(self, name: str) -> None:
        words = ["ip", "netns", "exec", PEER, "ping", "-c", "1", "-W", "1", "-I", "100.64.0.2", HOST]
        wait_until(lambda: self.guest.run(words, check=False).returncode == 0, 60, f"the first reply, {name}")

    def cost(self, traffic: Traffic) -> float:
        """Return the processor's nanoseconds a unit of one turn."""
        turns: list[dict[str, object]] = [{"kind": traffic.kind, "flows": traffic.flows, "units": traffic.units}]
        if traffic.kind == "tcp":
            turns = [{**turns[0], "reverse": reverse} for reverse in (False, True)[: 1 + traffic.both_ways]]
        return statistics.mean(self._turn(turn) for turn in turns)

    def _turn(self, turn: dict[str, object]) -> float:
        words = [sys.executable, "-I", str(_TRAFFIC), PEER, LAN, json.dumps({**turn, "target": HOST})]
        said = json.loads(self.guest.run(words, timeout=_SECONDS).stdout)
        return float(said["busy_ns"] / said["units"])


@dataclass(frozen=True)
class Variant:
    """A way to route. stand: gives the context in which the router routes so."""

    name: str
    stand: Callable[[Scene], Context]


def _straight_wireguard(scene: Scene) -> Context:
    return scene.wireguard(space=LAN)


def _straight_plain(scene: Scene) -> Context:
    return scene.shell(_STRAIGHT_PLAIN, _END_OF_STRAIGHT_PLAIN)


_STRAIGHT_WIREGUARD = Variant("straight_wireguard", _straight_wireguard)
_STRAIGHT_PLAIN_VARIANT = Variant("straight_plain", _straight_plain)
STRAIGHT = (_STRAIGHT_PLAIN_VARIANT, _STRAIGHT_WIREGUARD)


def measure(
    variants: Sequence[Variant],
    rounds: int,
    traffics: Sequence[Traffic] = TRAFFIC,
    tell: Callable[[str], None] = lambda _line: None,
) -> dict[str, Costs]:
    """Return each variant's costs, the ends' among them, and those of the straight cable; see own_costs.

    tell: called with a line after each measurement.
    """
    costs: dict[str, Costs] = {}
    with Guest(ROOT / "build", counts_instructions=True) as guest:
        scene = Scene(guest)
        for number in range(rounds):
            for variant in in_order((*STRAIGHT, *variants), number):
                with variant.stand(scene):
                    scene.wait_for_way(variant.name)
                    for traffic in traffics:
                        cost = scene.cost(traffic)
                        tell(f"{variant.name} {traffic.name} {cost:.1f}")
                        costs.setdefault(variant.name, {}).setdefault(traffic.name, []).append(cost)
    return costs


def in_order(variants: Sequence[Variant], number: int) -> Sequence[Variant]:
    """Return the order of a round: every other one runs backwards, so that whatever drifts meets all alike."""
    return variants if number % 2 == 0 else variants[::-1]


def own_costs(costs: Mapping[str, Costs]) -> dict[str, Costs]:
    """Return what the router alone costs, round by round: without the ends' work and the peer's half of WireGuard."""
    plain, sealed = (costs[variant.name] for variant in STRAIGHT)
    return {
        name: {
            traffic: [own_cost(*each) for each in zip(figures, plain[traffic], sealed[traffic], strict=True)]
            for traffic, figures in of_variant.items()
        }
        for name, of_variant in costs.items()
        if of_variant not in (plain, sealed)
    }


def own_cost(through_router: float, plain: float, sealed: float) -> float:
    """Return the router's own cost of a unit: sealed is both ends and both halves of WireGuard, of which one is its."""
    return through_router - (plain + sealed) / 2


def _base64(key: bytes) -> str:
    return base64.b64encode(key).decode()
