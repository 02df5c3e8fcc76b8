"""The board's protocol code, on both Pythons, beside a library or the least that has to be done."""

import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

from h2.config import H2Configuration
from h2.connection import H2Connection

from wayhomed.wire.http2 import Http2Client

from ..images import micropython
from ..images.apt_root import NoDebianMirror
from .metric import Metric

SUMMARY = "Noise records, DERP frames and HTTP/2 requests: microseconds each, on CPython and MicroPython"

ROUNDS = 7
REQUESTS = 50
REPEATS = 20
_ROOT = Path(__file__).parents[3]
_TIMED = Path(__file__).with_name("_wire_timed.py")
_FIELDS = [(":status", "200"), ("content-type", "application/json"), ("server", "wayhome")]
_BODY = b'{"KeepAlive":true}'
_ALTERNATIVES = {
    "noise_seal": "the bare AEAD call of 1000 B (lower bound)",
    "noise_open": "the bare AEAD call of 1000 B (lower bound)",
    "derp_decode": "cutting 1332 B frames without any check (lower bound)",
    "http2_request": "h2 as the client, on CPython",
}


class _Server:
    """The h2 library as a server that answers every request alike."""

    def __init__(self) -> None:
        self._connection = H2Connection(H2Configuration(client_side=False))
        self._connection.initiate_connection()

    def answer(self, request: bytes, stream: int) -> bytes:
        self._connection.receive_data(request)
        self._connection.send_headers(stream, _FIELDS)
        self._connection.send_data(stream, _BODY, end_stream=True)
        return self._connection.data_to_send()


def run() -> list[Metric]:
    """Measure each Python in a process of its own; h2 in this one, in turn with them."""
    figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    pythons = {"cpython": [sys.executable]}
    try:
        pythons["micropython"] = micropython.command(micropython.fetch(_ROOT / "build"))
    except NoDebianMirror as error:
        print(error, file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "answers"
        answers.write_bytes(b"".join(struct.pack(">I", len(piece)) + piece for piece in _answers_to_ours()))
        to_h2 = _answers_to_h2()
        for _ in range(ROUNDS):
            for name, words in pythons.items():
                for figure, side, microseconds in _timed(words, answers):
                    figures[f"{figure}_{name}_us"][side].append(microseconds)
                figures[f"http2_request_{name}_us"]["against"].append(_h2_microseconds(to_h2))
    return [
        Metric(name, median(sides["ours"]), median(sides["against"]), _alternative(name), "us", ROUNDS)
        for name, sides in figures.items()
    ]


def _alternative(name: str) -> str:
    return next(text for start, text in _ALTERNATIVES.items() if name.startswith(start))


def _timed(words: list[str], answers: Path) -> list[tuple[str, str, float]]:
    """Run one round under one Python; return (figure, side, microseconds)."""
    command = [*words, str(_TIMED), str(_ROOT / "firmware"), str(answers), "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    return [(figure, side, float(microseconds)) for figure, side, microseconds in lines]


def _answers_to_ours() -> list[bytes]:
    server, client = _Server(), Http2Client()
    answers = []
    for _ in range(REQUESTS):
        stream = client.request("POST", "wayhome.example", "/machine/map", [("ts-lb", "nodekey:0")], b"{}")
        answers.append(server.answer(client.data_to_send(), stream))
        client.feed(answers[-1])
    return answers


def _h2_request(client: H2Connection) -> int:
    stream = client.get_next_available_stream_id()
    fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "wayhome.example"),
        (":path", "/machine/map"),
        ("ts-lb", "nodekey:0"),
        ("content-length", "2"),
    ]
    client.send_headers(stream, fields)
    client.send_data(stream, b"{}", end_stream=True)
    return stream


def _answers_to_h2() -> list[bytes]:
    server, client = _Server(), H2Connection(H2Configuration(header_encoding="utf-8"))
    client.initiate_connection()
    answers = []
    for _ in range(REQUESTS):
        stream = _h2_request(client)
        answers.append(server.answer(client.data_to_send(), stream))
        client.receive_data(answers[-1])
    return answers


def _h2_microseconds(answers: list[bytes]) -> float:
    start = time.perf_counter_ns()
    for _ in range(REPEATS):
        client = H2Connection(H2Configuration(header_encoding="utf-8"))
        client.initiate_connection()
        for answer in answers:
            _h2_request(client)
            client.data_to_send()
            client.receive_data(answer)
    return (time.perf_counter_ns() - start) / 1000 / len(answers) / REPEATS
