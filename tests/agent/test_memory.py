"""Memory runs out while something is handled: that one thing ends and is told, and the daemon goes on."""

import asyncio
import json

from wayhomed.agent import log as logging
from wayhomed.agent.local_api import LocalApi
from wayhomed.agent.relay_links import RelayLinks
from wayhomed.port import random_bytes, tasks
from wayhomed.port.tasks import sleep_ms
from wayhomed.wire import derp

FAR_TOO_MUCH = 1 << 46


def run(coroutine):
    result = asyncio.run(coroutine)
    asyncio.new_event_loop()  # under MicroPython the loop outlives run()
    return result


class Progress:
    def due(self, name, when_ms):
        pass

    def rests(self, name):
        pass


class FakeBoard:
    def __init__(self):
        self.lines = []
        self.log = logging.Log(lambda severity, text: self.lines.append(text), lambda: 0)
        self.progress = Progress()
        self.packets = 0
        self.parts = []
        tasks.tell_shortage[0] = self.log.warning

    def relays_changed(self):
        pass

    def relay_is_back(self):
        pass

    def packet_received(self, node_key, packet, region_id):
        self.packets += 1
        if self.packets == 1:
            bytearray(FAR_TOO_MUCH)


class Stream:
    """A stream of which everything has been read; keeps what is written."""

    def __init__(self, pieces=()):
        self.pieces = list(pieces)
        self.written = b""
        self.closed = False

    async def read(self):
        if self.pieces:
            return self.pieces.pop(0)
        await asyncio.Event().wait()

    async def write(self, data):
        self.written += data

    def close(self):
        self.closed = True


class Relay:
    host_name = "relay.example"


def test_a_relays_packet_for_which_there_is_no_memory_ends_its_link_and_the_link_comes_back():
    board = FakeBoard()
    links = RelayLinks(board, 0, False, True)
    links.relays.servers = lambda region_id: [Relay()]
    links.relays.wanted = lambda: [1]
    links.relays.wait_before_retry = lambda region_id, now_ms: 1
    streams = []

    async def enter(server, region_id):
        streams.append(Stream())
        return streams[-1], derp.DerpDecoder(), [(derp.RECV_PACKET, bytes(40))]

    links._enter = enter

    async def main():
        running = asyncio.create_task(links.run())
        while board.packets < 2:
            await sleep_ms(1)
        running.cancel()
        try:
            await running
        except asyncio.CancelledError:
            pass

    run(main())
    assert len(streams) == 2 and streams[0].closed
    assert [line for line in board.lines if line.startswith("out of memory (")] == board.lines[1:2], board.lines
    assert "relay : out of memory" in board.lines  # no map has told the region's code


def test_a_local_request_for_which_there_is_no_memory_is_answered_in_words():
    board = FakeBoard()
    board.log.lines = lambda: bytearray(FAR_TOO_MUCH)
    api = LocalApi(board, "/tmp/wayhome-test-" + random_bytes(8).hex())
    stream = Stream([b'{"command": "log"}\n'])
    run(api._serve(stream, 0))
    api._listener.close()
    assert json.loads(stream.written)["error"] == "wayhomed is out of memory"
    assert stream.closed
    assert len(board.lines) == 1 and board.lines[0].startswith("out of memory")
