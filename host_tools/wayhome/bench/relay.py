"""What a relayed packet costs: our relay against coturn, the relay of WebRTC, written in C.

Both get the same packets from the same generator in turn: pairs of clients over TCP or TLS, one sends full-size
WireGuard packets, the other receives them, and so many packets are on their way at a time that none is dropped.
coturn's clients have a UDP allocation each, so that a packet crosses one more loopback socket inside it than in ours.
The server's CPU time is read from the kernel, generator and server share the machine's cores.
"""

import asyncio
import contextlib
import json
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvloop

from wayhomed.wire import derp
from wayhomed.wire.keys import new_private, public_of

from ..errors import HostError
from ..relay import certificate
from . import _turn as turn
from .metric import Metric

SUMMARY = "CPU microseconds and packets a second of the relay, TLS and plain, against coturn"

_PACKET = b"\x04\0\0\0" + bytes(1308)  # a WireGuard data packet out of a tunnel with an MTU of 1280
_PAIRS = 4
_WINDOW = 24  # packets of a pair on their way at once: below the 32 that the relay keeps for a slow reader
_WARM_UP_SECONDS = 0.3
_SECONDS = 1.5
_RUNS = 5
_START_SECONDS = 10.0
_NONCE = bytes(24)
_PORTS = (47301, 47302, 47303)


@dataclass(frozen=True)
class _Figures:
    cpu_us_per_packet: float
    packets_per_s: float


def run() -> list[Metric]:
    if shutil.which("turnserver") is None:
        raise HostError("this benchmark measures coturn beside the relay; install it: sudo apt-get install coturn")
    metrics = []
    for tls in (False, True):
        for window, name in ((_WINDOW, "tls" if tls else "plain"), (1, "tls_alone" if tls else "plain_alone")):
            ours, theirs = [], []
            for _ in range(_RUNS):
                ours.append(uvloop.run(_measure_ours(tls, window)))
                theirs.append(uvloop.run(_measure_coturn(tls, window)))
            for field, unit in (("cpu_us_per_packet", "us"), ("packets_per_s", "packets/s")):
                values = [[getattr(one, field) for one in figures] for figures in (ours, theirs)]
                mine, other = (statistics.median(one) for one in values)
                metrics.append(Metric(f"{name}_{field}", round(mine, 2), round(other, 2), "coturn", unit, _RUNS))
    return metrics


# --- the generator ---


class _Pipe(asyncio.Protocol):
    """A client's connection: first read piecewise, then only counted."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._came = asyncio.Event()
        self.count: Callable[[int], None] | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.count is not None:
            self.count(len(data))
            return
        self._buffer += data
        self._came.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._buffer.clear()
        self._came.set()

    async def read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._came.clear()
            await self._came.wait()
            if not self._buffer:
                raise HostError("the server under test closed a connection")
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def read_until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._came.clear()
            await self._came.wait()
        return await self.read(self._buffer.index(mark) + len(mark))


class _Flow:
    """Keeps a window of packets on their way from one pipe to another."""

    def __init__(self, sender: _Pipe, receiver: _Pipe, sent: bytes, received_bytes: int, window: int) -> None:
        self._sender = sender
        self._sent = sent
        self._received_bytes = received_bytes
        self._pending_bytes = 0
        self.packets = 0
        receiver.count = self._count
        sender.count = lambda size: None
        sender.transport.write(sent * window)

    def _count(self, size: int) -> None:
        whole, self._pending_bytes = divmod(self._pending_bytes + size, self._received_bytes)
        if whole:
            self.packets += whole
            self._sender.transport.write(self._sent * whole)


async def _figures(flows: list[_Flow], pid: int) -> _Figures:
    await asyncio.sleep(_WARM_UP_SECONDS)
    packets, cpu, start = sum(flow.packets for flow in flows), _cpu_ns(pid), time.monotonic_ns()
    await asyncio.sleep(_SECONDS)
    packets = sum(flow.packets for flow in flows) - packets
    cpu, wall = _cpu_ns(pid) - cpu, time.monotonic_ns() - start
    if not packets:
        raise HostError("no packet came through the server under test")
    return _Figures(cpu / 1000 / packets, packets * 1e9 / wall)


def _cpu_ns(pid: int) -> int:
    """Return the CPU time that all threads of a process have had, in ns. Source: proc(5), /proc/PID/schedstat."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


async def _connect(port: int, tls: bool) -> _Pipe:
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    _, pipe = await asyncio.get_running_loop().create_connection(_Pipe, "127.0.0.1", port, ssl=context)
    return pipe


# --- ours ---


async def _measure_ours(tls: bool, window: int) -> _Figures:
    with tempfile.TemporaryDirectory(prefix="wayhome-bench-") as folder:
        words = [sys.executable, "-c", "from wayhome.cli.main import main; main()", "relay", "--state", folder]
        words += [
            "--listen",
            "127.0.0.1:0",
            "--stun-listen",
            "127.0.0.1:0",
            "--admit-everybody",
            "--rate",
            "0",
            "--json",
        ]
        words += [] if tls else ["--plain-http"]
        with _process(words) as process:
            assert process.stdout is not None
            port = json.loads(process.stdout.readline())["listen"][0][1]
            flows = []
            for pair in range(_PAIRS):
                sender = await _join_derp(port, tls, new_private(bytes((1, pair)) * 16))
                receiver_key = new_private(bytes((2, pair)) * 16)
                receiver = await _join_derp(port, tls, receiver_key)
                sent = derp.encode_send_packet(public_of(receiver_key), _PACKET)
                flows.append(_Flow(sender, receiver, sent, len(sent), window))
            return await _figures(flows, process.pid)


async def _join_derp(port: int, tls: bool, private: bytes) -> _Pipe:
    pipe = await _connect(port, tls)
    pipe.transport.write(derp.encode_upgrade_request("127.0.0.1"))
    await pipe.read_until(b"\r\n\r\n")
    server_key = derp.decode_server_key((await _derp_frame(pipe))[1])
    pipe.transport.write(derp.encode_client_info(private, server_key, _NONCE))
    await _derp_frame(pipe)
    return pipe


async def _derp_frame(pipe: _Pipe) -> tuple[int, bytes]:
    header = await pipe.read(derp.HEADER_BYTES)
    return header[0], await pipe.read(int.from_bytes(header[1:], "big"))


# --- coturn ---


async def _measure_coturn(tls: bool, window: int) -> _Figures:
    with tempfile.TemporaryDirectory(prefix="wayhome-bench-") as folder:
        own = certificate.load_or_make(Path(folder))
        plain, secure, other = _PORTS
        words = ["turnserver", "-n", "--no-auth", "--no-cli", "--no-udp", "--no-dtls", "--allow-loopback-peers"]
        words += ["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "--relay-threads", "1"]
        words += ["--listening-port", str(plain), "--tls-listening-port", str(secure)]
        words += ["--alt-listening-port", str(other), "--cert", str(own.certificate), "--pkey", str(own.key)]
        words += ["--pidfile", f"{folder}/pid", "--userdb", f"{folder}/db", "--realm", "bench"]
        words += ["--no-stdout-log", "--log-file", "/dev/null"]
        with _process(words) as process:
            port = secure if tls else plain
            flows = []
            async for sender, receiver in _turn_pairs(port, tls):
                sent = turn.encode_channel_data(_PACKET)
                flows.append(_Flow(sender, receiver, sent, len(sent), window))
            return await _figures(flows, process.pid)


async def _turn_pairs(port: int, tls: bool) -> AsyncIterator[tuple[_Pipe, _Pipe]]:
    for _ in range(_PAIRS):
        pipes = [await _connect_when_up(port, tls) for _ in range(2)]
        addresses = [turn.relayed_address(await _ask(pipe, turn.encode_allocate())) for pipe in pipes]
        for pipe, address in zip(pipes, reversed(addresses), strict=True):
            if not turn.is_success(await _ask(pipe, turn.encode_channel_bind(address))):
                raise HostError("coturn refused a channel")
        yield pipes[0], pipes[1]


async def _ask(pipe: _Pipe, request: bytes) -> bytes:
    pipe.transport.write(request)
    header = await pipe.read(turn.HEADER_BYTES)
    return header + await pipe.read(turn.rest_of(header))


async def _connect_when_up(port: int, tls: bool) -> _Pipe:
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            return await _connect(port, tls)
        except OSError as error:
            if time.monotonic() > end:
                raise HostError(f"coturn does not listen on port {port}: {error}") from error
            await asyncio.sleep(0.05)


@contextlib.contextmanager
def _process(words: list[str]) -> "Iterator[subprocess.Popen[str]]":
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
