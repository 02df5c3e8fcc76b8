"""What a router costs per byte and per packet: bare WireGuard with static configuration, and ours, in one run.

    peer (here, wireguard-go) --- uplink --- router (a guest with Debian's kernel) --- LAN --- host (here)

The guest does nothing but route, on one emulated processor, so the emulator's own CPU time is what routing costs: it is
the same for whatever else this machine does meanwhile, and it is counted in the processor's time, not in seconds of
anybody's clock. As emulated instructions are slow, only the ratios mean something for a real board.

Bare is the kernel's WireGuard (or wireguard-go, for the figures that end in `_userspace`) with forwarding switched on:
no packet filter, no source NAT, no connection tracking. `masquerade` is the same with the one rule of source NAT that
any subnet router has whose LAN knows no way back to the mesh. Ours is the daemon's own data plane: default deny, a
filter of 10 or 1,000 rules of which the last one lets the traffic in, source NAT.
"""

import base64
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wayhomed.wire import keys

from ..errors import HostError
from ..lab.guest import Guest, Network
from ..lab.waiting import wait_until
from . import _process
from .metric import Metric

SUMMARY = "CPU a byte and packets a second through a router in a guest: bare WireGuard, ours with filter and SNAT"

ROUNDS = 3
SECONDS = 4
_ROOT = Path(__file__).parents[3]
_PACKET_BYTES = 64
_OFFERED = 0.5  # of what bare WireGuard can bear: nothing is lost, so that each packet is worth its cost
_UPLINK, _LAN = ("203.0.113.1", "203.0.113.2"), ("192.168.50.1", "192.168.50.10")
_ROUTER, _PEER = "100.64.0.1", "100.64.0.2"
_PORT, _PEER_PORT = 41641, 51820
_GIB = 1 << 30

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

_BARE = """
set -eu
cd /tmp
printf %s "$PRIVATE" > private
if [ "$KIND" = kernel ]; then ip link add wg0 type wireguard; else wireguard-go wg0; fi
wg set wg0 listen-port 41641 private-key private peer "$PEER" allowed-ips 100.64.0.2/32 endpoint 203.0.113.2:51820
ip address add 100.64.0.1/32 dev wg0
ip link set wg0 mtu 1280 up
ip route add 100.64.0.2 dev wg0
if [ "$NAT" = yes ]; then
    nft 'add table ip bare; add chain ip bare nat { type nat hook postrouting priority 100; }
        add rule ip bare nat iifname "wg0" masquerade'
fi
"""
_NOT_BARE = "ip link delete wg0; nft delete table ip bare 2>/dev/null; true"


@dataclass(frozen=True)
class _Setup:
    """A configuration of the router. rules: of our filter, 0 for none of ours."""

    name: str
    kind: str  # kernel or userspace
    rules: int = 0
    masquerade: bool = False


_SETUPS = (
    _Setup("bare", "kernel"),
    _Setup("masquerade", "kernel", masquerade=True),
    _Setup("ours", "kernel", 10),
    _Setup("ours_1000_rules", "kernel", 1000),
    _Setup("bare_userspace", "userspace"),
    _Setup("ours_userspace", "userspace", 10),
)


@dataclass
class _Costs:
    """What was measured with one setup, a figure a round: CPU seconds a GiB, and packets a CPU second."""

    tcp: list[float] = field(default_factory=list)
    tcp_16: list[float] = field(default_factory=list)
    packets: list[float] = field(default_factory=list)
    packets_16: list[float] = field(default_factory=list)


class _Scene:
    """The guest, and the two namespaces beside it."""

    def __init__(self, guest: Guest, peer: str, lan: str, folder: Path) -> None:
        self.guest = guest
        self._peer = peer
        self._lan = lan
        self._router_key, self._peer_key = keys.new_private(os.urandom(32)), keys.new_private(os.urandom(32))
        self._offered: dict[str, float] = {}
        self._emulator = _emulator()
        self._folder = folder
        guest.run(["ip", "address", "add", f"{_UPLINK[0]}/24", "dev", "eth0"])
        guest.run(["ip", "address", "add", f"{_LAN[0]}/24", "dev", "eth1"])
        for interface in ("eth0", "eth1"):
            guest.run(["ip", "link", "set", interface, "up"])
        guest.run(["ip", "route", "add", "default", "via", _UPLINK[1]])
        guest.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        self._connect_outside()

    def _connect_outside(self) -> None:
        _ip("-n", self._peer, "address", "add", f"{_UPLINK[1]}/24", "dev", "fwd0")
        _ip("-n", self._lan, "address", "add", f"{_LAN[1]}/24", "dev", "fwd1")
        for space, interface in ((self._peer, "fwd0"), (self._lan, "fwd1"), (self._peer, "lo"), (self._lan, "lo")):
            _ip("-n", space, "link", "set", interface, "up")
        _ip("-n", self._lan, "route", "add", "100.64.0.0/10", "via", _LAN[0])
        secret = self._folder / "peer.key"
        secret.write_text(_base64(self._peer_key))
        _inside(self._peer, "wireguard-go", "wgp")
        router = _base64(keys.public_of(self._router_key))
        words = ["wg", "set", "wgp", "listen-port", str(_PEER_PORT), "private-key", str(secret), "peer", router]
        words += ["endpoint", f"{_UPLINK[0]}:{_PORT}", "allowed-ips", f"{_ROUTER}/32,192.168.50.0/24"]
        _inside(self._peer, *words)
        _ip("-n", self._peer, "address", "add", f"{_PEER}/32", "dev", "wgp")
        _ip("-n", self._peer, "link", "set", "wgp", "mtu", "1280", "up")
        _ip("-n", self._peer, "route", "add", "192.168.50.0/24", "dev", "wgp")

    def stop(self) -> None:
        _inside(self._peer, "ip", "link", "delete", "wgp")

    @contextlib.contextmanager
    def router(self, setup: _Setup) -> Iterator[None]:
        """Have the guest route as the setup says."""
        peer = keys.public_of(self._peer_key)
        if setup.rules == 0:
            environment = {"PRIVATE": _base64(self._router_key), "PEER": _base64(peer), "KIND": setup.kind}
            environment["NAT"] = "yes" if setup.masquerade else "no"
            self.guest.run(["sh", "-c", _BARE], env=environment)
            try:
                self._wait_for_way(setup)
                yield
            finally:
                self.guest.run(["sh", "-c", _NOT_BARE])
            return
        given = {"private": self._router_key.hex(), "peer": peer.hex(), "rules": setup.rules, "wireguard": setup.kind}
        environment = {"PYTHONPATH": str(_ROOT / "firmware")}
        process = self.guest.popen([sys.executable, "-c", _OURS, json.dumps(given)], env=environment)
        try:
            line = next(process.lines(240), "")
            if not line.startswith("ready"):
                raise HostError(f"our data plane did not start in the guest: {process.stderr[-2000:]}")
            self._wait_for_way(setup)
            yield
        finally:
            process.close_input()
            process.wait(60)

    def _wait_for_way(self, setup: _Setup) -> None:
        def answered() -> bool:
            words = ["ip", "netns", "exec", self._peer, "ping", "-c", "1", "-W", "1", _LAN[1]]
            return subprocess.run(words, capture_output=True, check=False).returncode == 0

        wait_until(answered, 60, f"the first reply through the router, {setup.name}")

    def measure(self, setup: _Setup, costs: _Costs) -> None:
        for flows, figures in ((1, costs.tcp), (16, costs.tcp_16)):
            spent = [self._spent_by_tcp(flows, *more) for more in ((), ("-R",))]
            figures.append(statistics.mean(spent))
        if setup.kind not in self._offered:
            sent, _cpu = self._packets(0, 1)
            self._offered[setup.kind] = sent / SECONDS * _OFFERED
        for flows, figures in ((1, costs.packets), (16, costs.packets_16)):
            passed, cpu_s = self._packets(self._offered[setup.kind], flows)
            figures.append(passed / cpu_s)

    def _spent_by_tcp(self, flows: int, *more: str) -> float:
        """Return CPU seconds a GiB."""
        answer, cpu_s = self._iperf("-P", str(flows), *more)
        return cpu_s / (answer["end"]["sum_received"]["bytes"] / _GIB)

    def _packets(self, rate: float, flows: int) -> tuple[float, float]:
        """Send small packets from the peer, so many a second, 0 for all it can; return how many passed, and the CPU."""
        bits = int(rate * _PACKET_BYTES * 8 / flows)
        answer, cpu_s = self._iperf("-u", "-l", str(_PACKET_BYTES), "-b", str(bits), "-P", str(flows))
        total = answer["end"]["sum"]
        return float(total["packets"] - total["lost_packets"]), cpu_s

    def _iperf(self, *words: str) -> "tuple[dict[str, dict[str, dict[str, float]]], float]":
        # A server for each test: one that a flood has confused must not answer for the next.
        serve = ["ip", "netns", "exec", self._lan, "iperf3", "-s", "-1", "-B", _LAN[1]]
        with subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                wait_until(self._is_served, 20, "iperf3's server")
                before = _process.cpu_s(self._emulator)
                command = ["iperf3", "-J", "-c", _LAN[1], "-t", str(SECONDS), "--connect-timeout", "10000", *words]
                answer = json.loads(_inside(self._peer, *command))
                cpu_s = _process.cpu_s(self._emulator) - before
            finally:
                server.terminate()
        if "error" in answer:
            raise HostError(f"iperf3: {answer['error']}")
        return answer, cpu_s

    def _is_served(self) -> bool:
        return bool(_inside(self._lan, "ss", "-Hltn", "sport = 5201").strip())


def run() -> list[Metric]:
    """Measure all; takes about ten minutes."""
    costs = measure(_SETUPS)
    return [*_kernel(costs), *_pair(costs, "ours_userspace", "bare_userspace", "_userspace", "wireguard-go")]


def measure(setups: tuple[_Setup, ...]) -> dict[str, _Costs]:
    """Measure these setups in turn, as many rounds as there are."""
    costs = {setup.name: _Costs() for setup in setups}
    with _namespaces() as (peer, lan), tempfile.TemporaryDirectory(prefix="wayhome-bench-") as folder:
        networks = [Network("fwd0", f"/run/netns/{peer}"), Network("fwd1", f"/run/netns/{lan}")]
        with Guest(_ROOT / "build", networks=networks) as guest:
            scene = _Scene(guest, peer, lan, Path(folder))
            try:
                for _ in range(ROUNDS):
                    for setup in setups:
                        with scene.router(setup):
                            scene.measure(setup, costs[setup.name])
            finally:
                scene.stop()
    return costs


def _kernel(costs: dict[str, _Costs]) -> Iterator[Metric]:
    yield from _pair(costs, "ours", "bare", "", "bare kernel WireGuard, neither filter nor source NAT")
    yield from _pair(costs, "ours", "masquerade", "_against_masquerade", "bare kernel WireGuard with source NAT")
    yield from _pair(costs, "ours_1000_rules", "bare", "_1000_rules", "bare kernel WireGuard, no filter")


def _pair(costs: dict[str, _Costs], ours: str, bare: str, ending: str, alternative: str) -> Iterator[Metric]:
    figures: dict[str, tuple[str, Callable[[_Costs], list[float]]]] = {
        "tcp_cpu_per_gib": ("CPU s/GiB", lambda one: one.tcp),
        "tcp_16_flows_cpu_per_gib": ("CPU s/GiB", lambda one: one.tcp_16),
        "small_packets_per_s": ("1/CPU s", lambda one: one.packets),
        "small_packets_16_flows_per_s": ("1/CPU s", lambda one: one.packets_16),
    }
    for name, (unit, of) in figures.items():
        first, second = (round(statistics.median(of(costs[who])), 3) for who in (ours, bare))
        yield Metric(name + ending, first, second, alternative, unit, len(of(costs[ours])))


@contextlib.contextmanager
def _namespaces() -> Iterator[tuple[str, str]]:
    names = f"whf{os.getpid()}p", f"whf{os.getpid()}l"
    for name in names:
        _ip("netns", "add", name)
    try:
        yield names
    finally:
        for name in names:
            _ip("netns", "delete", name)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _inside(space: str, *words: str) -> str:
    command = ["ip", "netns", "exec", space, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + 60, check=False)
    if done.returncode and not done.stdout:
        raise HostError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _emulator() -> int:
    """Return the guest's emulator, a descendant of this process."""
    waiting = [os.getpid()]
    while waiting:
        pid = waiting.pop()
        if Path(f"/proc/{pid}/comm").read_text().startswith("qemu-system"):
            return pid
        for task in Path(f"/proc/{pid}/task").iterdir():
            waiting += [int(word) for word in (task / "children").read_text().split()]
    raise HostError("the guest's emulator is not there")


def _base64(key: bytes) -> str:
    return base64.b64encode(key).decode()
