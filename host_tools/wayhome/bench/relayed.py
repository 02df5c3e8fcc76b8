"""How fast the relayed way is, and what it costs the board: WireGuard, the proxy, the link to the relay, and back.

The scene is that of `footprint`: a board behind a carrier's NAT, no UDP between the two, and a real client that loads a
file from the board's LAN by the relay. The board is in turn our wayhomed under MicroPython, under CPython, and tsnet.
Ours is counted without its WireGuard, which on a board is the kernel's; tsnet's is inside it. Both ends, the relay and
the coordinator share this machine's processors, so the throughput is that of all of them together.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from ..lab.daemon_command import RUNTIMES
from ..lab.lab import Lab
from . import _process
from .footprint import TSNET, Measured, Scene
from .metric import Metric

SUMMARY = "a file through proxy and relay: throughput, and the daemon's CPU, on both runtimes, against tsnet"

ROUNDS = 3
_BYTES = 32 << 20
_GIB = 1 << 30


@dataclass
class _Rates:
    """A figure a load: Mbit/s, and CPU seconds of the board's process for each GiB."""

    mbit_s: list[float] = field(default_factory=list)
    cpu_per_gib: list[float] = field(default_factory=list)


def run() -> list[Metric]:
    """Measure all; takes about two minutes."""
    rates = {who: _Rates() for who in (*RUNTIMES, "tsnet")}
    with tempfile.TemporaryDirectory(prefix="wayhome-bench-") as folder, Lab.up("story") as lab:
        scene = Scene(lab, Path(folder))
        for runtime in RUNTIMES:
            with scene.ours(runtime) as measured:
                _load(scene, measured, rates[runtime])
        with scene.theirs() as measured:
            _load(scene, measured, rates["tsnet"])
    return list(as_metrics(rates))


def as_metrics(rates: dict[str, _Rates]) -> list[Metric]:
    """Return the medians, ours beside tsnet's."""
    metrics = []
    for runtime in RUNTIMES:
        ours, theirs = rates[runtime], rates["tsnet"]
        speed = [round(statistics.median(one.mbit_s), 1) for one in (ours, theirs)]
        cost = [round(statistics.median(one.cpu_per_gib), 2) for one in (ours, theirs)]
        runs = len(ours.mbit_s)
        metrics.append(Metric(f"relayed_mbit_s_{runtime}", speed[0], speed[1], TSNET, "Mbit/s", runs))
        metrics.append(Metric(f"relayed_cpu_per_gib_{runtime}", cost[0], cost[1], TSNET, "CPU s/GiB", runs))
    return metrics


def _load(scene: Scene, measured: Measured, rates: _Rates) -> None:
    scene.peer.wait_for_page(measured.target, what="the first page through the measured one")
    for _ in range(ROUNDS):
        cpu_s, begun = _process.cpu_s(measured.pid), time.monotonic()
        scene.load(measured.target, _BYTES)
        seconds = time.monotonic() - begun
        rates.mbit_s.append(_BYTES * 8 / seconds / 1e6)
        rates.cpu_per_gib.append((_process.cpu_s(measured.pid) - cpu_s) / (_BYTES / _GIB))
