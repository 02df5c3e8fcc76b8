"""What a router costs per byte and per packet: bare WireGuard with static configuration, and ours, in one run.

Counted in instructions, within one guest; see _router.py. A second of the figures is that of a processor with 250
million instructions a second, all of which count the same; so only the ratios mean something for a real board.

Bare is the kernel's WireGuard (or wireguard-go, for the figures that end in `_userspace`) with forwarding switched on:
no packet filter, no source NAT, no connection tracking. `masquerade` is the same with the one rule of source NAT that
any subnet router has whose LAN knows no way back to the mesh. Ours is the daemon's own data plane: default deny, a
filter of 10 or 1,000 rules of which the last one lets the traffic in, source NAT. Ours without the fast path shows what
nftables' flowtable is worth.
"""

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping

from . import _router
from .metric import Metric

SUMMARY = "CPU a byte and packets a second through a router in a guest: bare WireGuard, ours with filter and SNAT"

ROUNDS = 2

# Runs in the guest. It is no module of this package, whose code may not ask the daemon's for more than formats.
_OURS = """
import asyncio, json, sys
from wayhomed.core import dataplane as planning, map_response, netmap
from wayhomed.linux.dataplane import DataPlane, Settings
from wayhomed.wire import address, keys

def every_port(first, last):
    return {"First": first, "Last": last}

def rules(count):
    for number in range(1, count):
        source = "100.80.%d.%d/32" % (number >> 8, number & 255)
        target = "192.168.50.%d/32" % (20 + number % 200)
        yield {"SrcIPs": [source], "DstPorts": [{"IP": target, "Ports": every_port(1000 + number, 1000 + number)}]}
    yield {"SrcIPs": ["100.64.0.2/32"], "DstPorts": [{"IP": "192.168.50.0/24", "Ports": every_port(0, 65535)}]}

async def main(private, peer, count, wireguard):
    made = netmap.Netmap()
    public = keys.key_text(keys.NODE, keys.public_of(private))
    fields = {
        "Node": {"ID": 1, "Key": public, "Addresses": ["100.64.0.1/32"]},
        "Peers": [{"ID": 2, "Name": "peer.", "Key": keys.key_text(keys.NODE, peer), "Addresses": ["100.64.0.2/32"]}],
        "PacketFilter": list(rules(count)),
    }
    made.apply(map_response.read_response(json.dumps(fields).encode(), made.peers), 0)
    plane = DataPlane(Settings("/tmp/undo", wireguard=wireguard))
    await plane.start(private)
    try:
        wishes = planning.Preferences([address.prefix_from_text("192.168.50.0/24")])
        plan = planning.plan(made, wishes, plane.facts([]))
        await plane.apply(plan)
        await plane.set_paths([(peer, (address.ip_from_text("203.0.113.2"), 51820), False)])
        print("ready", plan.problems, flush=True)
        await asyncio.to_thread(sys.stdin.read)
    finally:
        await plane.stop()

given = json.loads(sys.argv[1])
asyncio.run(main(bytes.fromhex(given["private"]), bytes.fromhex(given["peer"]), given["rules"], given["wireguard"]))
"""

_MASQUERADE = """
nft 'add table ip bare; add chain ip bare nat { type nat hook postrouting priority 100; }
    add rule ip bare nat iifname "wg0" masquerade'
"""
_NO_FAST_PATH = "nft 'flush chain inet wayhome fast; delete flowtable inet wayhome fast'"


def bare(kind: str) -> Callable[[_router.Scene], _router.Context]:
    """Return how to stand WireGuard alone. kind: kernel or userspace."""
    return lambda scene: scene.wireguard(kind)


@contextlib.contextmanager
def _masquerade(scene: _router.Scene) -> Iterator[None]:
    with scene.wireguard(), scene.shell(_MASQUERADE, "nft delete table ip bare"):
        yield


def ours(kind: str, rules: int, fast: bool = True) -> Callable[[_router.Scene], _router.Context]:
    """Return how to stand the daemon's data plane with a filter of so many rules."""

    @contextlib.contextmanager
    def stand(scene: _router.Scene) -> Iterator[None]:
        given = {"private": scene.router_key.hex(), "peer": scene.peer_public.hex(), "rules": rules, "wireguard": kind}
        without = contextlib.nullcontext() if fast else scene.shell(_NO_FAST_PATH, "true")
        with scene.python(_OURS, given), scene.peer_tunnel(), without:
            yield

    return stand


VARIANTS = (
    _router.Variant("bare", bare("kernel")),
    _router.Variant("masquerade", _masquerade),
    _router.Variant("ours", ours("kernel", 10)),
    _router.Variant("ours_1000_rules", ours("kernel", 1000)),
    _router.Variant("ours_without_fast_path", ours("kernel", 10, fast=False)),
    _router.Variant("bare_userspace", bare("userspace")),
    _router.Variant("ours_userspace", ours("userspace", 10)),
)


def run() -> list[Metric]:
    """Measure all."""
    costs = _router.own_costs(_router.measure(VARIANTS, ROUNDS))
    return [
        *pair(costs, "ours", "bare", "", "bare kernel WireGuard, neither filter nor source NAT"),
        *pair(costs, "ours", "masquerade", "_against_masquerade", "bare kernel WireGuard with source NAT"),
        *pair(costs, "ours_1000_rules", "bare", "_1000_rules", "bare kernel WireGuard, no filter"),
        *pair(costs, "ours", "ours_without_fast_path", "_against_no_fast_path", "ours without nftables' flowtable"),
        *pair(costs, "ours_userspace", "bare_userspace", "_userspace", "wireguard-go"),
    ]


_FIGURES: dict[str, tuple[str, str, Callable[[float], float]]] = {
    "tcp_cpu_per_gib": ("tcp", "CPU s/GiB", lambda ns: ns * _router.GIB / 1e9),
    "tcp_16_flows_cpu_per_gib": ("tcp_16_flows", "CPU s/GiB", lambda ns: ns * _router.GIB / 1e9),
    "small_packets_per_s": ("packets", "1/CPU s", lambda ns: 1e9 / ns),
    "small_packets_16_flows_per_s": ("packets_16_flows", "1/CPU s", lambda ns: 1e9 / ns),
}


def pair(
    costs: Mapping[str, _router.Costs], ours: str, against: str, ending: str, alternative: str
) -> Iterator[Metric]:
    """Give the medians of two variants, figure by figure."""
    for name, (traffic, unit, shown) in _FIGURES.items():
        rounds = costs[ours][traffic]
        first, second = (round(shown(statistics.median(costs[who][traffic])), 3) for who in (ours, against))
        yield Metric(name + ending, first, second, alternative, unit, len(rounds))
