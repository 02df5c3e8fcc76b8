"""The loopback proxy: one raw socket stands in for every relayed peer.

WireGuard thinks that each relayed peer lives at a loopback address of its own:

    WireGuard 127.0.0.1:41641  --UDP-->  127.64.x.y:P      received here, x.y tells the peer; goes to the relay
    WireGuard 127.0.0.1:41641  <--UDP--  127.64.x.y:P      what the relay brought, injected here as from that peer

x.y is the peer's index. A raw socket sees from the IP header which address a packet was sent to, so one socket serves
all, where otherwise each peer would need a bound UDP socket (1,024 descriptors, and MicroPython has no recvmsg). Only
root can make packets that come from WireGuard's own port, so nobody else on the machine can speak for a peer.
"""

import asyncio
import struct

from wayhomed.port import const, packets
from wayhomed.wire import wireguard

from .shared_port import encode_ip4, encode_udp

# Chosen by us
FIRST_PROXY_PORT = const(41642)
_PORTS_TRIED = const(64)
MAX_INDEX = const(0xFFFE)
MAX_DATAGRAM_BYTES = const(2048)  # MTU 1280 makes 1,328 at most; wider tunnels up to 1,960 fit
_RECEIVE_BUFFER_BYTES = const(4_194_304)  # 3,000 full packets: what comes in 25 ms at 1 Gbit/s
_PACKETS_A_TURN = const(32)  # then the daemon's other tasks run

_NETWORK = const(0x7F40)  # 127.64
_LOCALHOST = b"\x7f\x00\x00\x01"
_PROTOCOL_UDP = const(17)
_PROTOCOL_RAW = const(255)
_EADDRINUSE = const(98)
_FULL = (packets.EAGAIN, 105, 12)  # ENOBUFS, ENOMEM: as lost as on any network
_REJECT_ALL = [(0x06, 0, 0, 0)]


def address_of(index: int) -> bytes:
    """Return the loopback address of the peer with this index, 1..MAX_INDEX."""
    return struct.pack(">HH", _NETWORK, index)


def proxy_filter(wireguard_port: int, proxy_port: int) -> list:
    """Return the BPF program that accepts UDP from 127.0.0.1:wireguard_port to 127.64.0.0/16:proxy_port alone.

    A raw IPv4 socket's filter sees the packet from its IP header on; fragments have been put together before.
    """
    return [
        (0x20, 0, 0, 12),  # ld [12], the source address
        (0x15, 0, 8, 0x7F000001),
        (0x28, 0, 0, 16),  # ldh [16], the upper half of the destination
        (0x15, 0, 6, _NETWORK),
        (0xB1, 0, 0, 0),  # ldx the IP header's length
        (0x48, 0, 0, 0),  # ldh [x + 0], the source port
        (0x15, 0, 3, wireguard_port),
        (0x48, 0, 0, 2),  # ldh [x + 2], the destination port
        (0x15, 0, 1, proxy_port),
        (0x06, 0, 0, 0xFFFFFFFF),  # accept
        (0x06, 0, 0, 0),  # reject
    ]


class Proxy:
    """The open sockets. received, injected, refused: counts of datagrams since the start."""

    def __init__(self, wireguard_port: int, sources, port: int = 0):
        """Open the sockets. Raises OSError without CAP_NET_RAW and CAP_NET_ADMIN, or with no free port.

        sources: routes.SourceAddresses; port: the one to try first, 0 = any.
        """
        self.wireguard_port = wireguard_port
        self._sources = sources
        self.received = self.injected = self.refused = 0
        self._turn = 0
        # Kept, and lent out as a view: copies for each packet would have MicroPython collect garbage twice as often.
        self._packet = bytearray(MAX_DATAGRAM_BYTES + 64)
        self._view = memoryview(self._packet)
        self._holder = packets.udp_socket()
        self.port = self._hold_a_port(port)
        self._reader = packets.raw_socket(_PROTOCOL_UDP)
        packets.attach_filter(self._reader, proxy_filter(wireguard_port, self.port))
        packets.bind_to_device(self._reader, "lo")
        packets.set_receive_buffer(self._reader, _RECEIVE_BUFFER_BYTES)
        self._drain()
        self._writer = packets.raw_socket(_PROTOCOL_RAW)
        packets.set_header_included(self._writer)
        packets.bind_to_device(self._writer, "lo")
        self._target = packets.inet_address(_LOCALHOST, 0)
        self._writer6 = None  # opened when it is needed first

    def _hold_a_port(self, first: int) -> int:
        """Take a UDP port that nobody reads, so that the kernel answers nobody with "port unreachable"."""
        packets.attach_filter(self._holder, _REJECT_ALL)
        packets.bind_to_device(self._holder, "lo")
        ports = [first] if first else []
        ports.extend(range(FIRST_PROXY_PORT, FIRST_PROXY_PORT + _PORTS_TRIED))
        for port in ports:
            if port == self.wireguard_port:
                continue
            try:
                self._holder.bind(packets.inet_address(bytes(4), port))
            except OSError as error:
                if error.errno != _EADDRINUSE:
                    raise
            else:
                return port
        raise OSError(_EADDRINUSE, "no UDP port from %d on is free" % FIRST_PROXY_PORT)

    def _drain(self) -> None:
        """Throw away what the reader caught before its filter and its device were set."""
        while True:
            try:
                self._reader.recv(1)
            except OSError:
                return

    async def receive(self) -> tuple:
        """Return (index, datagram), the next datagram that WireGuard sends to a relayed peer: a view, good until the
        next call.
        """
        packet = self._packet
        while True:
            self._turn += 1
            if self._turn >= _PACKETS_A_TURN:
                self._turn = 0
                await asyncio.sleep(0)
            try:
                size = packets.receive_into(self._reader, packet)
            except OSError as error:
                if error.errno != packets.EAGAIN:
                    raise
                self._turn = 0
                await packets.wait_readable(self._reader)
                continue
            datagram = self._view[(packet[0] & 15) * 4 + 8 : size]
            if len(datagram) <= MAX_DATAGRAM_BYTES and wireguard.classify(datagram):
                self.received += 1
                return packet[18] << 8 | packet[19], datagram
            self.refused += 1

    def inject(self, index: int, datagram: bytes) -> bool:
        """Hand a relayed datagram to WireGuard as its peer's; return False if it is refused or the kernel is full.

        What is neither of WireGuard's types and lengths goes no further: a relay is not trusted.
        """
        if not self._is_carried(datagram):
            return False
        # The kernel fills in total length, id and checksum; a UDP checksum of 0 says "none", which IPv4 allows.
        packet = struct.pack(
            ">BBHHHBBHHH4sHHHH",
            0x45,
            0,
            0,
            0,
            0,
            64,
            _PROTOCOL_UDP,
            0,
            _NETWORK,
            index,
            _LOCALHOST,
            self.port,
            self.wireguard_port,
            8 + len(datagram),
            0,
        )
        return self._send(self._writer, packet + datagram, self._target)

    def inject_from(self, endpoint: tuple, datagram: bytes) -> bool:
        """Hand WireGuard a datagram as if it had come from this (ip, port); return False as inject() does.

        The kernel's WireGuard then goes on sending to that endpoint, from its real uplink (wireguard.md section 3).
        IPv6 goes to the address of ours that the way to the endpoint begins at: after a packet to ::1 WireGuard would
        send from ::1. For that it must not be bound to lo, and there is no doing without a checksum. Raises OSError
        where no way leads to the endpoint.
        """
        if not self._is_carried(datagram):
            return False
        ip = endpoint[0]
        if len(ip) == 4:
            udp = encode_udp(endpoint, (_LOCALHOST, self.wireguard_port), datagram)
            return self._send(self._writer, encode_ip4(ip, _LOCALHOST, udp), self._target)
        here = self._sources.towards(ip)
        udp = encode_udp(endpoint, (here, self.wireguard_port), datagram)
        header = struct.pack(">IHBB16s16s", 0x60000000, len(udp), _PROTOCOL_UDP, 64, ip, here)
        if self._writer6 is None:
            self._writer6 = packets.raw_socket6(_PROTOCOL_RAW)
            packets.set_header_included6(self._writer6)
        return self._send(self._writer6, header + udp, packets.inet_address(here, 0))

    def _is_carried(self, datagram: bytes) -> bool:
        if len(datagram) > MAX_DATAGRAM_BYTES or not wireguard.classify(datagram):
            self.refused += 1
            return False
        return True

    def _send(self, writer, packet: bytes, target) -> bool:
        try:
            writer.sendto(packet, target)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self.refused += 1
            return False
        self.injected += 1
        return True

    def close(self) -> None:
        for each in (self._reader, self._writer, self._holder, self._writer6):
            if each is not None:
                each.close()
