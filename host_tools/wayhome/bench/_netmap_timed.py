"""What the `netmap` benchmark times, in the subset that both Pythons run: _netmap_timed.py FIRMWARE STREAM ours|whole

STREAM holds what a coordinator sends behind its handshake, Noise records and all: a full netmap, then one difference.
Prints one line: "taken MS HEAP_KB RSS_KB DELTA_US PEERS", what it took at most over the time before, or "failed WHY".
"""

import gc
import json
import sys
import time

try:
    from collections.abc import Callable
    from typing import BinaryIO
except ImportError:
    pass  # MicroPython reads no annotations

sys.path.insert(0, sys.argv[1])

from wayhomed.core.map_response import MAX_MESSAGE_BYTES, ResponseReader
from wayhomed.core.netmap import Netmap
from wayhomed.wire.control import MapFrameCutter
from wayhomed.wire.http2 import DATA, Http2Client
from wayhomed.wire.noise import Session

READ_BYTES = 16_384  # as control_connection.py
THRESHOLD_BYTES = 128 * 1024  # as the daemon
now_ns = getattr(time, "perf_counter_ns", None) or time.time_ns
heap_bytes = getattr(gc, "mem_alloc", None)  # MicroPython


def rss_kb(field: str) -> int:
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field):
                return int(line.split()[1])
    return 0


class Stream:
    """The layers below the map: bytes of the file -> pieces of messages."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._session = Session(bytes([1]) * 32, bytes([2]) * 32, b"")
        self._http = Http2Client(paced=True)
        self._number = self._http.request("POST", "wayhome.example", "/machine/map", [], b"{}")
        self._cutter = MapFrameCutter(MAX_MESSAGE_BYTES)
        self._pieces: list[tuple[bytes, bool]] = []

    def next_message(self, take: Callable[[bytes], None]) -> None:
        """Hand the next message's pieces to take(piece) as they come."""
        while True:
            while self._pieces:
                piece, is_last = self._pieces.pop(0)
                take(piece)
                if is_last:
                    return
            data = self._file.read(READ_BYTES)
            if not data:
                raise ValueError("the stream ended within a message")
            for event in self._http.feed(self._session.feed(data)):
                if event[0] == DATA:
                    self._http.consumed(self._number, len(event[2]))
                    self._pieces.extend(self._cutter.feed(event[2]))
            self._http.data_to_send()


class Ours:
    def __init__(self) -> None:
        self.netmap = Netmap()

    def take(self, stream: Stream, watch: Callable[[], None]) -> int:
        reader = ResponseReader(self.netmap.peers)

        def feed(piece: bytes) -> None:
            reader.feed(piece)
            watch()

        stream.next_message(feed)
        self.netmap.apply(reader.close())
        return len(self.netmap.peers)


class Whole:
    """The least that has to be done without: all text, then all dicts."""

    def __init__(self) -> None:
        self.response: dict[str, list[object]] = {}

    def take(self, stream: Stream, watch: Callable[[], None]) -> int:
        text = bytearray()

        def feed(piece: bytes) -> None:
            text.extend(piece)
            watch()

        stream.next_message(feed)
        read = json.loads(str(text, "utf-8"))
        watch()
        if "Peers" in read:
            self.response = read
        return len(self.response["Peers"])


def main() -> None:
    if hasattr(gc, "threshold") and heap_bytes:
        gc.threshold(THRESHOLD_BYTES)
    side: Ours | Whole = Ours() if sys.argv[3] == "ours" else Whole()
    with open(sys.argv[2], "rb") as file:
        stream = Stream(file)
        gc.collect()
        before, before_rss = heap_bytes() if heap_bytes else 0, rss_kb("VmRSS")
        highest = [before]

        def watch() -> None:
            if heap_bytes:
                highest[0] = max(highest[0], heap_bytes())

        start = now_ns()
        try:
            peers = side.take(stream, watch)
        except MemoryError as error:
            print("failed", error)
            return
        taken = now_ns() - start
        watch()
        rss = rss_kb("VmHWM") - before_rss
        start = now_ns()
        side.take(stream, watch)
        delta = now_ns() - start
    print("taken", taken / 1_000_000, (highest[0] - before) / 1024, rss, delta / 1000, peers)


main()
