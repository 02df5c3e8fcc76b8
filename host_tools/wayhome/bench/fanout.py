"""How a coordinator bears many clients: `wayhome serve` in one process, simulated clients in another.

All clients belong to one person, so that each sees each: a change of one is told to all the others. The clients speak
the real protocol (Noise, HTTP/2, zstd); once a client has its first map it only notes when bytes arrive, which keeps
the clients' own work out of the times.
"""

import asyncio
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from wayhomed.wire.keys import MACHINE, key_from_text

from ..cli.admin_client import AdminClient
from ..errors import HostError
from .control_client import ConnectionEnded, ControlClient, Identity, MapStream
from .metric import Metric

SUMMARY = "coordinator with 100 and 1,000 polling clients, one change a second: CPU, latency, memory, restart"

_SIZES = (100, 1000)
_CHANGES = 20
_CHANGE_EVERY_S = 1.0
_AT_ONCE = 8  # clients that join or begin to poll at the same time
# Figures that Headscale's users published; the project itself publishes none.
_PUBLISHED_CPU = {
    100: (60.0, "published: Headscale 0.27, 80 nodes (headscale#3108)"),
    1000: (3000.0, "published: Headscale 0.22.3, 550 nodes on 30 cores (headscale#1656)"),
}
_NOTHING_PUBLISHED = "no alternative measures or publishes this"


def run() -> list[Metric]:
    """Measure both sizes; takes about two minutes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    metrics: list[Metric] = []
    for size in _SIZES:
        with tempfile.TemporaryDirectory(prefix="wayhome-fanout-") as folder:
            measured = asyncio.run(_measure(Path(folder), size))
        cpu, source = _PUBLISHED_CPU[size]
        prefix = f"nodes_{size}"
        metrics += [
            Metric(f"{prefix}_cpu_percent", measured.cpu_percent, cpu, source, "% of one core", _CHANGES),
            Metric(f"{prefix}_p99_ms", measured.p99_ms, None, _NOTHING_PUBLISHED, "ms", _CHANGES),
            Metric(f"{prefix}_kb_per_node", measured.kb_per_node, None, _NOTHING_PUBLISHED, "KB", 1),
            Metric(f"{prefix}_reconnect_s", measured.reconnect_s, None, _NOTHING_PUBLISHED, "s", 1),
        ]
    return metrics


@dataclass
class _Measured:
    cpu_percent: float = 0.0
    p99_ms: float = 0.0
    kb_per_node: float = 0.0
    reconnect_s: float = 0.0


class _Server:
    """`wayhome serve` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._log = folder / "log"
        self.admin = AdminClient(self.state / "wayhome.sock")
        self.key = b""
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        """Start it and return once it answers."""
        url = f"http://127.0.0.1:{self.port}"
        words: list[str | Path] = [
            "serve",
            "--state",
            self.state,
            "--url",
            url,
            "--listen",
            f"127.0.0.1:{self.port}",
            "--no-relay",
        ]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from wayhome.cli.main import main; main()", *words],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                self.admin.get("status")
                return
            except HostError:
                time.sleep(0.02)
        raise HostError(f"wayhome serve did not start:\n{self._log.read_text()[-2000:]}")

    async def fetch_key(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /key?v=130 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        answer = (await reader.read()).decode()
        writer.close()
        start = answer.index('"publicKey":"') + len('"publicKey":"')
        self.key = key_from_text(MACHINE, answer[start : start + 69])

    def cpu_s(self) -> float:
        """CPU time so far. Source: proc(5), fields 14 and 15 of /proc/PID/stat."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_kb(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1024

    def end(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(30)


@dataclass
class _Device:
    """One simulated client: keeps its identity, polls, comes back with the stock client's back-off."""

    server: _Server
    number: int
    identity: Identity = field(default_factory=Identity)
    client: ControlClient | None = None
    stream: MapStream | None = None
    heard_at: float = 0.0

    async def connect(self) -> ControlClient:
        self.client = await ControlClient.connect("127.0.0.1", self.server.port, self.server.key, self.identity)
        self.client.hostinfo |= {"Hostname": f"device-{self.number}", "GoVersion": "go1.25"}
        return self.client

    async def join(self, key: str) -> None:
        client = await self.connect()
        answer = await client.register(auth_key=key)
        if not answer["MachineAuthorized"]:
            raise HostError(f"device {self.number} was refused: {answer['Error']}")

    async def poll(self) -> None:
        """Return once the first map has come; from then on only the times of what arrives are kept."""
        assert self.client is not None
        self.stream = self.client.poll()
        self.stream.on_message = _dropped
        while not self.stream.frames:
            if self.stream.ended:
                raise ConnectionEnded("the poll ended at once")
            await asyncio.sleep(0.005)

    def note_arrivals(self) -> None:
        """From now on bytes are not even decrypted."""
        assert self.client is not None
        self.client.tap = self._heard

    def _heard(self, data: bytes) -> None:
        del data
        self.heard_at = time.perf_counter()

    async def come_back(self) -> None:
        """Connect and poll again; back-off after the n-th failure as the stock client has it (control.md 13)."""
        failures = 0
        while True:
            try:
                await self.connect()
                assert self.client is not None
                await self.client.register()
                await self.poll()
                return
            except (OSError, ConnectionEnded, TimeoutError):
                failures += 1
                await asyncio.sleep(min(30.0, failures**2 * 0.01) * random.uniform(0.5, 1.5))


def _dropped(text: bytes) -> None:
    del text


async def _measure(folder: Path, size: int) -> _Measured:
    server = _Server(folder)
    server.start()
    await server.fetch_key()
    measured = _Measured()
    try:
        server.admin.post("users", body={"name": "anna", "display_name": ""})
        made: Any = server.admin.post("keys", body={"user": "anna", "tags": [], "reusable": True, "ephemeral": False})
        devices = [_Device(server, number) for number in range(size)]
        before_kb = server.rss_kb()
        await _at_once(devices, lambda device: device.join(made["key"]))
        await _at_once(devices, lambda device: device.poll())
        await _quiet(server)
        measured.kb_per_node = (server.rss_kb() - before_kb) / size
        measured.cpu_percent, measured.p99_ms = await _one_change_a_second(server, devices)
        measured.reconnect_s = await _restart(server, devices)
    finally:
        server.end()
    return measured


async def _at_once(devices: list[_Device], work: Callable[[_Device], Awaitable[None]]) -> None:
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(device: _Device) -> None:
        async with room:
            await work(device)

    await asyncio.gather(*(one(device) for device in devices))


async def _quiet(server: _Server) -> None:
    """Wait until the server has said all it has to say: its CPU rests."""
    while True:
        before = server.cpu_s()
        await asyncio.sleep(1.0)
        if server.cpu_s() - before < 0.02:
            return


async def _one_change_a_second(server: _Server, devices: list[_Device]) -> tuple[float, float]:
    """Return the server's CPU in percent of a core, and the 99th percentile of the time until a viewer has heard."""
    mover, viewers = devices[0], devices[1:]
    assert mover.client is not None
    for viewer in viewers:
        viewer.note_arrivals()
    latencies: list[float] = []
    percents: list[float] = []
    for turn in range(_CHANGES):
        began, cpu = time.perf_counter(), server.cpu_s()
        for viewer in viewers:
            viewer.heard_at = 0.0
        await mover.client.update(Endpoints=[f"192.0.2.{turn + 1}:41641", "192.168.1.2:41641"])
        await asyncio.sleep(_CHANGE_EVERY_S - (time.perf_counter() - began))
        latencies += [(viewer.heard_at - began) * 1000 for viewer in viewers]
        percents.append((server.cpu_s() - cpu) / (time.perf_counter() - began) * 100)
    if min(latencies) < 0:
        raise HostError(f"{sum(1 for one in latencies if one < 0)} times a viewer was not told within a second")
    return median(percents), quantiles(latencies, n=100)[98]


async def _restart(server: _Server, devices: list[_Device]) -> float:
    """Kill the server, start it again; return how long it then takes until every client has its map again."""
    server.end(signal.SIGKILL)
    for device in devices:
        assert device.client is not None
        device.client.close()
    coming = [asyncio.create_task(device.come_back()) for device in devices]
    await asyncio.to_thread(server.start)
    began = time.perf_counter()
    await asyncio.gather(*coming)
    return time.perf_counter() - began
