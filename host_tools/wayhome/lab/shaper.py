"""The process that carries frames through the shaped links of one lab (see layout.py for where it stands).

`python -m wayhome.lab.shaper CONTROL`, run in the switch, with the links as JSON on its standard input:

    {"links": [{"name": "traveller eth0", "host_side": "p7", "shaper_side": "q7", "bridge_side": "b7",
                "interface": "eth0", "host_namespace": "/proc/1/fd/9",
                "up": {"delay_ms": 10, ...} or null, "down": null, "seed": 7}, ...]}

It prints "ready" once it carries. CONTROL is the number of an inherited listening SOCK_SEQPACKET socket; a record
there either changes a link, {"name": ..., "up": {...} or null, "down": ...}, or asks, {"name": ...}. The answer is the
link's counters, {"up": {"delivered": 1, "lost": 0, "dropped": 0}, "down": {...}}, or {"error": "..."}.
"""

import ctypes
import fcntl
import json
import os
import random
import select
import socket
import struct
import sys
import time
from dataclasses import asdict
from typing import Any

from . import namespaces
from .plan import Shape
from .shaping import Line

# linux/if_packet.h, linux/if_ether.h, linux/sockios.h, linux/ethtool.h
_SOL_PACKET = 263
_PACKET_IGNORE_OUTGOING = 23
_ETH_P_ALL = 0x0003
_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17
_ETHTOOL_STSO = 0x1F
_ETHTOOL_SGSO = 0x24

_MAX_FRAME = 65_536
# Frames taken from one interface before the others and the clock have their turn.
_BATCH = 64
_MAX_RECORD = 4096


def shape_from(data: dict[str, Any] | None) -> Shape:
    return Shape(**data) if data else Shape()


def shape_data(shape: Shape | None) -> dict[str, Any] | None:
    return asdict(shape) if shape else None


class _Direction:
    """Frames from one interface to another, through a Line."""

    def __init__(self, source: socket.socket, target: socket.socket, line: Line) -> None:
        self.source = source
        self.target = target
        self.line = line

    def take(self) -> None:
        for _ in range(_BATCH):
            try:
                frame = self.source.recv(_MAX_FRAME)
            except BlockingIOError:
                return
            except OSError:
                return  # the interface is down for the moment
            self.line.frame_received(frame, time.monotonic())

    def deliver(self) -> None:
        for frame in self.line.frames_due(time.monotonic()):
            try:
                self.target.send(frame)
            except OSError:
                self.line.dropped += 1  # unplugged, or its queue is full


class _Shaper:
    def __init__(self, links: list[dict[str, Any]], control: socket.socket) -> None:
        self._control = control
        self._links: dict[str, tuple[_Direction, _Direction]] = {}
        for link in links:
            host_side, bridge_side = _packet_socket(link["host_side"]), _packet_socket(link["shaper_side"])
            up = Line(shape_from(link["up"]), random.Random(link["seed"]))
            down = Line(shape_from(link["down"]), random.Random(link["seed"] + 1))
            self._links[link["name"]] = (
                _Direction(host_side, bridge_side, up),
                _Direction(bridge_side, host_side, down),
            )
        self._by_source = {d.source: d for pair in self._links.values() for d in pair}

    def run(self) -> None:
        """Carry until killed."""
        directions = list(self._by_source.values())
        while True:
            timers = [timer for d in directions if (timer := d.line.next_timer()) is not None]
            wait = max(0.0, min(timers) - time.monotonic()) if timers else None
            # select waits to the microsecond; poll and epoll would round a delay to whole milliseconds
            readable, _, _ = select.select([self._control, *self._by_source], [], [], wait)
            for one in readable:
                if one is self._control:
                    self._serve()
                else:
                    self._by_source[one].take()
            for direction in directions:
                direction.deliver()

    def _serve(self) -> None:
        connection, _ = self._control.accept()
        with connection:
            connection.settimeout(1)
            try:
                connection.send(json.dumps(self._obey(json.loads(connection.recv(_MAX_RECORD)))).encode())
            except OSError:
                pass  # the asker has gone

    def _obey(self, order: dict[str, Any]) -> dict[str, Any]:
        if order.get("name") not in self._links:
            return {"error": f"no shaped link {order.get('name')}"}
        answer: dict[str, Any] = {}
        for key, direction in zip(("up", "down"), self._links[order["name"]], strict=True):
            line = direction.line
            if key in order:
                line.shape = shape_from(order[key])
            answer[key] = {"delivered": line.delivered, "lost": line.lost, "dropped": line.dropped}
        return answer


def _packet_socket(interface: str) -> socket.socket:
    one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    one.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    one.setblocking(False)
    one.bind((interface, _ETH_P_ALL))
    return one


def turn_off_offloads(interface: str) -> None:
    """Have the kernel finish checksums and cut packets to the MTU before they enter an interface.

    Between veths it leaves both undone, and passes 64 KiB at once; a wire's loss, rate and delay need real frames.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for command in (_ETHTOOL_STXCSUM, _ETHTOOL_STSO, _ETHTOOL_SGSO):
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sP", interface.encode(), ctypes.addressof(value))
            fcntl.ioctl(any_socket, _SIOCETHTOOL, request)


def main(arguments: list[str]) -> None:
    links = json.load(sys.stdin)["links"]
    switch = os.open("/proc/self/ns/net", os.O_RDONLY)
    for link in links:
        turn_off_offloads(link["bridge_side"])
        host = os.open(link["host_namespace"], os.O_RDONLY)
        namespaces.setns(host, namespaces.CLONE_NEWNET)
        turn_off_offloads(link["interface"])
        namespaces.setns(switch, namespaces.CLONE_NEWNET)
        os.close(host)
    shaper = _Shaper(links, socket.socket(fileno=int(arguments[0])))
    print("ready", flush=True)
    shaper.run()


if __name__ == "__main__":
    main(sys.argv[1:])
