"""Echo requests through the tunnel: how long an address of the mesh, or of a LAN behind it, takes to answer."""

import struct

from wayhomed.port import const, monotonic_us, packets, random_bytes
from wayhomed.port.tasks import within

_ICMP = const(1)
_ECHO_REPLY = const(0)
_ECHO_REQUEST = const(8)
_PAYLOAD = b"wayhomectl ping."


def _checksum(data: bytes) -> int:
    """RFC 1071; data is of even length."""
    total = sum(struct.unpack(">%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_request(identifier: int, sequence: int) -> bytes:
    """Return an ICMP echo request. Source: RFC 792."""
    head = struct.pack(">BBHHH", _ECHO_REQUEST, 0, 0, identifier, sequence)
    checksum = _checksum(head + _PAYLOAD)
    return struct.pack(">BBHHH", _ECHO_REQUEST, 0, checksum, identifier, sequence) + _PAYLOAD


def is_reply(packet: bytes, ip: bytes, identifier: int) -> bool:
    """Tell whether an IPv4 packet is the answer of `ip` to our request."""
    if len(packet) < 28:
        return False
    at = (packet[0] & 15) * 4
    if packet[12:16] != ip or len(packet) < at + 8:
        return False
    kind, _code, _checksum, answered = struct.unpack_from(">BBHH", packet, at)
    return kind == _ECHO_REPLY and answered == identifier


async def ping(ip: bytes, timeout_ms: int, what: str) -> int:
    """Return the round trip in microseconds. Raises OSError: no answer in time (naming `what` was asked), no way, no
    right to ask. IPv4 alone.
    """
    raw = packets.raw_socket(_ICMP)
    try:
        identifier = struct.unpack(">H", random_bytes(2))[0]
        started_us = monotonic_us()
        raw.sendto(echo_request(identifier, 1), packets.inet_address(ip, 0))
        await within(timeout_ms, _reply(raw, ip, identifier), what)
        return monotonic_us() - started_us
    finally:
        raw.close()


async def _reply(raw, ip: bytes, identifier: int) -> None:
    while True:
        try:
            packet = raw.recv(2048)
        except OSError as error:
            if error.errno != packets.EAGAIN:
                raise
            await packets.wait_readable(raw)
            continue
        if is_reply(packet, ip, identifier):
            return
