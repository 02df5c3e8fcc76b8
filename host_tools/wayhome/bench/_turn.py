"""As much of a TURN client as it takes to send packets through coturn over TCP.

Source: RFC 8656 sections 6, 7, 11 and 12; RFC 6062 is not used: the allocations are UDP, the client's leg is TCP.
"""

import secrets
import struct

from wayhomed.wire import stun

_ALLOCATE = 0x0003
_CHANNEL_BIND = 0x0009
_SUCCESS = 0x0100
_CHANNEL_NUMBER = 0x000C
_XOR_PEER_ADDRESS = 0x0012
_XOR_RELAYED_ADDRESS = 0x0016
_REQUESTED_TRANSPORT = 0x0019
_UDP = 17
CHANNEL = 0x4001
HEADER_BYTES = 20


def encode_allocate() -> bytes:
    return _request(_ALLOCATE, _attribute(_REQUESTED_TRANSPORT, bytes((_UDP, 0, 0, 0))))


def encode_channel_bind(peer: bytes) -> bytes:
    """`peer` is the value of the other side's XOR-RELAYED-ADDRESS: it needs no decoding to be passed on."""
    number = _attribute(_CHANNEL_NUMBER, struct.pack(">HH", CHANNEL, 0))
    return _request(_CHANNEL_BIND, number + _attribute(_XOR_PEER_ADDRESS, peer))


def encode_channel_data(packet: bytes) -> bytes:
    """Return a packet as it goes over TCP, padded to 4 bytes."""
    return struct.pack(">HH", CHANNEL, len(packet)) + packet + bytes(-len(packet) % 4)


def rest_of(header: bytes) -> int:
    """Return how many bytes follow a message's header."""
    return int(struct.unpack_from(">H", header, 2)[0])


def relayed_address(message: bytes) -> bytes:
    """Return the value of XOR-RELAYED-ADDRESS of an Allocate success (IPv4: it does not depend on the txid)."""
    for attribute, value in _attributes(message):
        if attribute == _XOR_RELAYED_ADDRESS:
            return value
    raise ValueError(f"no relayed address: message type {message[:2].hex()}")


def is_success(message: bytes) -> bool:
    return bool(struct.unpack_from(">H", message, 0)[0] & 0x0110 == _SUCCESS)


def _request(kind: int, attributes: bytes) -> bytes:
    return struct.pack(stun.HEADER, kind, len(attributes), stun.MAGIC, secrets.token_bytes(12)) + attributes


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack(">HH", kind, len(value)) + value + bytes(-len(value) % 4)


def _attributes(message: bytes) -> list[tuple[int, bytes]]:
    found, at = [], HEADER_BYTES
    while at + 4 <= len(message):
        kind, length = struct.unpack_from(">HH", message, at)
        found.append((kind, message[at + 4 : at + 4 + length]))
        at += 4 + length + -length % 4
    return found
