"""STUN on UDP: tells clients where they are seen from.

A client compares what several of our addresses tell it, so each answer must leave from the address that was asked, on a
socket bound to a wildcard too: the kernel tells it with each datagram and takes it back with each answer.

Source: protocol reference, DERP section 8; ip(7) IP_PKTINFO; RFC 3542 section 6.1.
"""

import asyncio
import ipaddress
import socket
import struct
from collections import Counter
from collections.abc import Iterable

from wayhomed.wire import stun
from wayhomed.wire.address import ip_from_text
from wayhomed.wire.errors import BadWire

from ..errors import HostError

PORT = 3478
_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)  # <linux/in.h>; the module has the name from Python 3.12 on
_IN_PKTINFO = struct.Struct("=i4s4s")  # interface, our address, destination in the header
_IN6_PKTINFO = struct.Struct("=16sI")  # our address, interface
_LINK_LOCAL = ipaddress.ip_network("fe80::/10")
# A request has 40 bytes; of anything longer the rest is cut off, and so its FINGERPRINT fails.
_DATAGRAM_BYTES = 256
_ANCILLARY_BYTES = 64
# So many are answered before other work gets its turn.
_DATAGRAMS_AT_ONCE = 64


class StunService:
    """STUN on some sockets of a running event loop."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter(answered=0, dropped=0, failed=0)
        self._sockets: list[socket.socket] = []
        self._loop = asyncio.get_running_loop()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Return where it listens, with the real ports."""
        return [one.getsockname()[:2] for one in self._sockets]

    def listen(self, host: str, port: int) -> None:
        """Answer on one more address; a wildcard answers from whichever address was asked. Raises HostError."""
        try:
            ip = ipaddress.ip_address(host)
            family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
            carrier = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        except (ValueError, OSError) as error:
            raise HostError(f"cannot listen for STUN on {host}: {error}; name an address of this machine") from error
        try:
            if family == socket.AF_INET:
                carrier.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            else:
                carrier.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                carrier.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            carrier.bind((host, port))
        except OSError as error:
            carrier.close()
            raise HostError(
                f"cannot listen for STUN on UDP {host} port {port}: {error.strerror}; is another program there? "
                "--stun-listen names another address"
            ) from error
        self._sockets.append(carrier)
        self._loop.add_reader(carrier, self._readable, carrier)

    def close(self) -> None:
        for one in self._sockets:
            self._loop.remove_reader(one)
            one.close()
        self._sockets.clear()

    def _readable(self, carrier: socket.socket) -> None:
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                datagram, ancillary, _, peer = carrier.recvmsg(_DATAGRAM_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                # An ICMP error about an answer of ours is reported here; it is nobody's fault but that asker's.
                self.counters["failed"] += 1
                continue
            answer = answer_to(datagram, peer)
            if answer is None:
                self.counters["dropped"] += 1
                continue
            try:
                carrier.sendmsg([answer], _from_where_it_came(ancillary), 0, peer)
                self.counters["answered"] += 1
            except OSError:
                # No way back to the asker, or our buffer is full: it asks again.
                self.counters["failed"] += 1


async def serve_stun(addresses: Iterable[tuple[str, int]]) -> StunService:
    """Answer STUN on these (address, port) until close(). Raises HostError."""
    service = StunService()
    try:
        for host, port in addresses:
            service.listen(host, port)
    except HostError:
        service.close()
        raise
    return service


def answer_to(datagram: bytes, peer: tuple[str, int] | tuple[str, int, int, int]) -> bytes | None:
    """Return the answer to a datagram from `peer`, or None: what is not a client's request gets none."""
    try:
        txid = stun.decode_binding_request(datagram)
    except BadWire:
        return None
    return stun.encode_binding_response(txid, ip_from_text(peer[0].partition("%")[0]), peer[1])


def _from_where_it_came(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Return what makes the answer leave from the address that was asked."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO and len(data) >= _IN_PKTINFO.size:
            _, ours, _ = _IN_PKTINFO.unpack_from(data)
            # Interface 0: the routing table chooses, as the way back need not be the way in.
            return [(level, kind, _IN_PKTINFO.pack(0, ours, bytes(4)))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO and len(data) >= _IN6_PKTINFO.size:
            ours, interface = _IN6_PKTINFO.unpack_from(data)
            if ipaddress.IPv6Address(ours) not in _LINK_LOCAL:
                interface = 0
            return [(level, kind, _IN6_PKTINFO.pack(ours, interface))]
    return []
