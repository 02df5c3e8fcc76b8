"""Disco and STUN on WireGuard's own UDP port, which WireGuard holds alone: raw sockets beside it.

A raw socket gets a copy of each UDP packet of this machine; a BPF program lets through what is disco or STUN for our
port. WireGuard gets the same packets and drops them as none of its types. What is sent bears our port as its source, so
that to every NAT on the way it is one flow with WireGuard's own packets.

    IPv4: a raw socket reads and (with IP_HDRINCL) writes from the IP header on; the UDP checksum is ours to make, and
          for that we must know the source address, which the kernel chooses
    IPv6: it reads and writes from the UDP header on; the kernel chooses the source and makes the checksum

Source: wireguard.md sections 2 and 3, disco.md section 1.
"""

import asyncio
import struct

from wayhomed.port import const, packets
from wayhomed.port.tasks import run_all

# Fixed by the protocol
_PROTOCOL_UDP = const(17)
_UDP_BYTES = const(8)
_DISCO_MAGIC_1 = const(0x5453F09F)
_DISCO_MAGIC_2 = const(0x92AC)
_DISCO_BYTES = const(62)
_STUN_COOKIE = const(0x2112A442)
_STUN_BYTES = const(20)
_MORE_OR_LATER_FRAGMENT = const(0x3FFF)
_ARRIVED_BY = 0xFFFFF008  # where a BPF program reads the interface's index: SKF_AD_OFF + SKF_AD_IFINDEX
# Chosen by us
MAX_DATAGRAM_BYTES = const(2048)  # a disco ping that probes the path's MTU is 1,500 at most
_RECEIVE_BUFFER_BYTES = const(1_048_576)
_PACKETS_A_TURN = const(32)  # then the daemon's other tasks run
_TTL = const(64)
_EAFNOSUPPORT = const(97)
_IP_HEADER = ">BBHHHBBH4s4s"
_KERNELS_CHOICE = bytes(4)  # of a source address


def shared_filter(port: int, with_ip_header: bool, tunnel_index: int) -> list:
    """Return the BPF program that accepts disco and STUN answers to this UDP port alone.

    with_ip_header: what it sees begins with an IPv4 header (whose length it reads), otherwise with the UDP header.
    tunnel_index: the interface whose packets never pass: what comes through the mesh says nothing about the ways to it.
    A load from beyond the packet's end rejects it: that is how lengths are checked.
    """
    match = [
        (0x48, 0, 0, 2),  # ldh [x + 2], the destination port
        (0x15, 0, 13, port),
        (0x40, 0, 0, 8),  # ld [x + 8], the first word of the datagram
        (0x15, 0, 4, _DISCO_MAGIC_1),
        (0x48, 0, 0, 12),
        (0x15, 0, 9, _DISCO_MAGIC_2),
        (0x50, 0, 0, _UDP_BYTES + _DISCO_BYTES - 1),  # ldb [x + ...], the last byte of the shortest
        (0x06, 0, 0, 0xFFFFFFFF),  # accept
        (0x48, 0, 0, 8),  # the message type: WireGuard's second byte is 0, a STUN answer's 1
        (0x54, 0, 0, 0xC0FF),  # and
        (0x15, 0, 4, 0x0001),
        (0x40, 0, 0, 12),
        (0x15, 0, 2, _STUN_COOKIE),
        (0x50, 0, 0, _UDP_BYTES + _STUN_BYTES - 1),
        (0x06, 0, 0, 0xFFFFFFFF),  # accept
        (0x06, 0, 0, 0),  # reject
    ]
    if with_ip_header:
        match = [
            (0x28, 0, 0, 6),  # ldh [6], flags and fragment offset
            (0x45, len(match), 0, _MORE_OR_LATER_FRAGMENT),  # to the last instruction of all
            (0xB1, 0, 0, 0),  # ldx the IP header's length
        ] + match
    else:
        match = [(0x01, 0, 0, 0)] + match  # ldx 0
    return [(0x20, 0, 0, _ARRIVED_BY), (0x15, len(match) - 1, 0, tunnel_index)] + match


def checksum(data: bytes) -> int:
    """Return the internet checksum of these bytes, never 0, which in UDP would say "none". Source: RFC 1071, RFC 768.

    A one's complement sum of 16-bit words is the whole number modulo 65,535; one division in C instead of a loop.
    """
    if len(data) & 1:
        data = data + b"\0"
    return 0xFFFF - int.from_bytes(data, "big") % 0xFFFF


def encode_udp(source: tuple, target: tuple, datagram: bytes) -> bytes:
    """Return a UDP header with its checksum, and the datagram. source, target: (ip, port), of one family."""
    length = _UDP_BYTES + len(datagram)
    ports = struct.pack(">HH", source[1], target[1])
    pseudo = source[0] + target[0] + struct.pack(">II", length, _PROTOCOL_UDP)
    summed = checksum(pseudo + ports + struct.pack(">HH", length, 0) + datagram)
    return ports + struct.pack(">HH", length, summed) + datagram


def encode_ip4(source: bytes, target: bytes, payload: bytes) -> bytes:
    """Return a UDP packet as IP_HDRINCL takes it: the kernel fills in total length, id and header checksum."""
    return struct.pack(_IP_HEADER, 0x45, 0, 0, 0, 0, _TTL, _PROTOCOL_UDP, 0, source, target) + payload


class SharedPort:
    """The open sockets. Every packet that is sent bears the mark. received: count of datagrams since the start."""

    def __init__(self, port: int, mark: int, sources, tunnel_index: int):
        """Open the sockets. sources: routes.SourceAddresses; tunnel_index: the tunnel's interface.

        Raises OSError without CAP_NET_RAW and CAP_NET_ADMIN.
        """
        self.port = port
        self._tunnel_index = tunnel_index
        self.received = 0
        self._sources = sources
        self._turn = 0
        self._raw4 = packets.raw_socket(_PROTOCOL_UDP)
        packets.set_header_included(self._raw4)
        self._prepare(self._raw4, mark, True)
        self._sockets = [self._raw4]
        self._raw6 = None  # stays so on a machine without IPv6
        try:
            self._raw6 = packets.raw_socket6(_PROTOCOL_UDP)
        except OSError as error:
            if error.errno != _EAFNOSUPPORT:
                raise
        else:
            packets.set_udp_checksum6(self._raw6)
            self._prepare(self._raw6, mark, False)
            self._sockets.append(self._raw6)

    def _prepare(self, raw, mark: int, with_ip_header: bool) -> None:
        packets.attach_filter(raw, shared_filter(self.port, with_ip_header, self._tunnel_index))
        packets.set_mark(raw, mark)
        packets.set_receive_buffer(raw, _RECEIVE_BUFFER_BYTES)
        while True:  # throw away what came before the filter
            try:
                raw.recv(1)
            except OSError:
                return

    async def receive(self) -> tuple:
        """Return ((ip, port) of the sender, datagram): the next disco message or STUN answer."""
        while True:
            self._turn += 1
            if self._turn >= _PACKETS_A_TURN:
                self._turn = 0
                await asyncio.sleep(0)
            # In turns, so that a flood on one family leaves the other alive.
            for raw in self._sockets if self._turn & 1 else reversed(self._sockets):
                found = self._read(raw)
                if found is not None:
                    self.received += 1
                    return found
            self._turn = 0
            await run_all(*[packets.wait_readable(raw) for raw in self._sockets])

    def _read(self, raw):
        """Return what one socket has, or None."""
        try:
            packet, (ip, _protocol) = packets.receive_from(raw, MAX_DATAGRAM_BYTES)
        except OSError as error:
            if error.errno != packets.EAGAIN:
                raise
            return None
        at = (packet[0] & 15) * 4 if raw is self._raw4 else 0
        port, _own, length = struct.unpack_from(">HHH", packet, at)
        return (ip, port), packet[at + _UDP_BYTES : at + length]

    def send(self, endpoint: tuple, datagram: bytes) -> None:
        """Send a datagram from our port. Raises OSError: no route, no such family, forbidden by a firewall, full."""
        ip, port = endpoint
        if len(ip) == 4:
            udp = encode_udp((self._sources.towards(ip), self.port), endpoint, datagram)
            # The kernel fills in the source too. If ours is one that this machine has no more, only this datagram is
            # lost, by its checksum. One sent from there would have a NAT on this machine keep the flow from the new
            # address for it, as long as the peer sends.
            packet = encode_ip4(_KERNELS_CHOICE, ip, udp)
            self._raw4.sendto(packet, packets.inet_address(ip, 0))
        elif self._raw6 is None:
            raise OSError(_EAFNOSUPPORT, "this machine has no IPv6")
        else:
            header = struct.pack(">HHHH", self.port, port, _UDP_BYTES + len(datagram), 0)
            self._raw6.sendto(header + datagram, packets.inet_address(ip, 0))

    def routes_changed(self) -> None:
        """Ask anew from which address packets leave."""
        self._sources.forget()

    def close(self) -> None:
        for raw in self._sockets:
            raw.close()
