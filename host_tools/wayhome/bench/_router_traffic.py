"""Runs in the guest of _router.py: sends through the router, and tells what the processor did meanwhile.

    python _router_traffic.py PEER-NAMESPACE LAN-NAMESPACE '{"kind": "packets", "flows": 16, "units": 4800, ...}'

One thread holds both ends' sockets, so that nothing but the kernel decides what runs when. Needs no package.
Writes one line of JSON: {"units": packets or bytes that arrived, "busy_ns": ..., "idle_ns": ...}.
"""

import ctypes
import json
import os
import select
import socket
import sys
import time

_CLONE_NEWNET = 0x40000000
_MSG_TRUNC = 0x20  # on a TCP socket: throw away what was read, tcp(7)
_BURST = 48  # packets under way at once: less than any queue on their way holds
_PACKET_BYTES = 64
_PIECE = bytes(65536)
_WARM_BURSTS = 4
_WARM_SHARE = 2  # of TCP's bytes one in so many goes before the clock starts: windows are wide by then
_UNDER_WAY = 512 << 10  # bytes of all flows together: less than WireGuard's queues hold, so that nothing is lost
_SO_RCVBUFFORCE = 33  # above the system's limit too, socket(7); it also ends the kernel's own choice
_PATIENCE_S = 60
_PORT = 9000
_libc = ctypes.CDLL(None, use_errno=True)


class _Clock:
    """The processor's time since it was made. Source: proc_stat(5); idle time is counted in hundredths of a second."""

    def __init__(self) -> None:
        self._begun = self._now()

    def _now(self) -> tuple[int, int]:
        with open("/proc/stat", "rb") as stat:
            fields = stat.readline().split()
        return time.monotonic_ns(), (int(fields[4]) + int(fields[5])) * 10_000_000

    def read(self) -> dict[str, int]:
        wall, idle = (now - before for now, before in zip(self._now(), self._begun, strict=True))
        return {"busy_ns": wall - idle, "idle_ns": idle}


def _socket(space: str, kind: int) -> socket.socket:
    """Return a new socket that belongs to a named network namespace."""
    with open(f"/run/netns/{space}") as descriptor:
        if _libc.setns(descriptor.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {space}")
    return socket.socket(socket.AF_INET, kind)


def _packets(spaces: list[str], target: str, flows: int, units: int) -> dict[str, int]:
    """Send UDP packets in bursts; each burst starts when all of the last one has come."""
    receiver = _socket(spaces[1], socket.SOCK_DGRAM)
    receiver.bind((target, _PORT))
    receiver.settimeout(_PATIENCE_S)
    senders = [_socket(spaces[0], socket.SOCK_DGRAM) for _ in range(flows)]
    payload = bytes(_PACKET_BYTES)
    for sender in senders:
        sender.connect((target, _PORT))
        sender.settimeout(_PATIENCE_S)
        for _ in range(2):  # answered, and once more: a known connection from now on
            sender.send(payload)
            _content, source = receiver.recvfrom(2048)
            receiver.sendto(payload, source)
            sender.recv(2048)
    turns = senders * (_BURST // flows)
    bursts = units // _BURST
    clock = _Clock()
    for number in range(bursts + _WARM_BURSTS):
        if number == _WARM_BURSTS:
            clock = _Clock()
        for sender in turns:
            sender.send(payload)
        for _ in turns:
            receiver.recv(2048)
    return {"units": bursts * _BURST, **clock.read()}


def _tcp(spaces: list[str], target: str, flows: int, units: int, reverse: bool) -> dict[str, int]:
    """Send so many bytes by TCP from the peer to the LAN, or back, as fast as it goes."""
    listener = _socket(spaces[1], socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _UNDER_WAY // flows)
    listener.bind((target, _PORT))
    listener.listen(flows)
    pairs = []
    for _ in range(flows):
        client = _socket(spaces[0], socket.SOCK_STREAM)
        client.settimeout(_PATIENCE_S)
        client.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _UNDER_WAY // flows)
        client.connect((target, _PORT))
        pairs.append((client, listener.accept()[0]))
    poller = select.poll()
    senders: dict[int, socket.socket] = {}
    receivers: dict[int, socket.socket] = {}
    for pair in pairs:
        sender, receiver = reversed(pair) if reverse else pair
        for one, known, event in ((sender, senders, select.POLLOUT), (receiver, receivers, select.POLLIN)):
            one.setblocking(False)
            known[one.fileno()] = one
            poller.register(one, event)
    clock, begun, arrived = None, 0, 0
    room = bytearray(1 << 18)
    while clock is None or arrived - begun < units:
        ready = poller.poll(_PATIENCE_S * 1000)
        if not ready:
            raise OSError(110, "nothing moves any more")
        for number, _event in ready:
            if number in senders:
                senders[number].send(_PIECE)
            else:
                arrived += receivers[number].recv_into(room, len(room), _MSG_TRUNC)
        if clock is None and arrived >= units // _WARM_SHARE:
            clock, begun = _Clock(), arrived
    return {"units": arrived - begun, **clock.read()}


def main(spaces: list[str], given: dict[str, object]) -> None:
    kind = given.pop("kind")
    print(json.dumps({"packets": _packets, "tcp": _tcp}[str(kind)](spaces, **given)))  # type: ignore[operator]
    sys.stdout.flush()
    os._exit(0)  # not a byte more of what is under way


if __name__ == "__main__":
    main(sys.argv[1:3], json.loads(sys.argv[3]))
