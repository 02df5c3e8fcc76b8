"""WireGuard's datagrams as far as one who only carries them must know: kind, lengths, the plain part of the header.

    initiation   01 000000 | sender 4 LE | ephemeral 32 | static 48 | timestamp 28 | mac1 16 | mac2 16     = 148
    response     02 000000 | sender 4 LE | receiver 4 LE | ephemeral 32 | empty 16 | mac1 16 | mac2 16     =  92
    cookie       03 000000 | receiver 4 LE | nonce 24 | cookie 32                                          =  64
    data         04 000000 | receiver 4 LE | counter 8 LE | ciphertext | tag 16                            >=  32

Source: WireGuard whitepaper section 5.4.
"""

import struct

from ..port import const
from .errors import BadWire

# Fixed by the protocol
NOT_WIREGUARD = const(0)
INITIATION = const(1)
RESPONSE = const(2)
COOKIE = const(3)
DATA = const(4)
INITIATION_BYTES = const(148)
RESPONSE_BYTES = const(92)
COOKIE_BYTES = const(64)
KEEPALIVE_BYTES = const(32)  # a data message with nothing in it, the shortest there is


class Header:
    """The plain part of a datagram. sender and receiver are session indices, None where the kind has none."""

    def __init__(self, kind: int, sender=None, receiver=None, counter=None):
        self.kind = kind
        self.sender = sender
        self.receiver = receiver
        self.counter = counter


def classify(datagram: "bytes | memoryview") -> int:
    """Return the kind of a datagram, NOT_WIREGUARD if its type or length is none of WireGuard's."""
    length = len(datagram)
    if length < KEEPALIVE_BYTES or datagram[1] or datagram[2] or datagram[3]:
        return NOT_WIREGUARD
    kind = datagram[0]
    if kind == DATA:
        # No check for multiples of 16: senders pad to 16 only up to their MTU, and 1420 is not a multiple of it.
        return DATA
    if kind == INITIATION:
        return INITIATION if length == INITIATION_BYTES else NOT_WIREGUARD
    if kind == RESPONSE:
        return RESPONSE if length == RESPONSE_BYTES else NOT_WIREGUARD
    if kind == COOKIE:
        return COOKIE if length == COOKIE_BYTES else NOT_WIREGUARD
    return NOT_WIREGUARD


def decode_header(datagram: bytes) -> Header:
    """Return the plain part of a WireGuard datagram. Raises BadWire if it is none."""
    kind = classify(datagram)
    if kind == DATA:
        receiver, counter = struct.unpack_from("<IQ", datagram, 4)
        return Header(DATA, receiver=receiver, counter=counter)
    if kind == INITIATION:
        return Header(INITIATION, sender=struct.unpack_from("<I", datagram, 4)[0])
    if kind == RESPONSE:
        sender, receiver = struct.unpack_from("<II", datagram, 4)
        return Header(RESPONSE, sender=sender, receiver=receiver)
    if kind == COOKIE:
        return Header(COOKIE, receiver=struct.unpack_from("<I", datagram, 4)[0])
    raise BadWire("not a WireGuard datagram")
