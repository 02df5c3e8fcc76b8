"""Disco: the sealed messages by which two nodes find direct paths.

    0       6                       38             62
    +-------+-----------------------+--------------+------ - -
    | magic | sender's disco key    | nonce        | NaCl box
    +-------+-----------------------+--------------+------ - -

They come over UDP, beside WireGuard and STUN, or inside DERP packets. The box holds `type u8, version u8, body`.
Endpoints are (address of 4 or 16 bytes, port); on the wire IPv4 stands mapped into 16 bytes.

Source: protocol reference, disco section 1. Types 4 to 9 (peer relays) are for others: a kernel WireGuard cannot do
what they ask.
"""

import struct
from collections import namedtuple

from ..port import const
from ..port.crypto import CryptoError, box_beforenm, box_open, box_seal
from .errors import BadWire
from .keys import KEY_BYTES, ZERO
from .mapped_address import mapped, unmapped

# --- Fixed by the protocol ---
MAGIC = b"TS\xf0\x9f\x92\xac"
PING = const(1)  # 12 B txid, 32 B node key of the sender, padding
PONG = const(2)  # 12 B txid, 16 B address, u16 BE port
CALL_ME_MAYBE = const(3)  # n times 16 B address, u16 BE port
TXID_BYTES = const(12)
ENDPOINT_BYTES = const(18)
_VERSION = const(0)
_SENDER_AT = const(6)
_NONCE_AT = const(38)
_BOX_AT = const(62)
_NONCE_BYTES = const(24)

# --- Chosen by us ---
# Of a CallMeMaybe more are not looked at: each would get pings, and a peer could make us flood others.
ENDPOINTS_MOST = const(64)

Ping = namedtuple("Ping", ("txid", "node_key", "padding"))
Pong = namedtuple("Pong", ("txid", "address", "port"))
CallMeMaybe = namedtuple("CallMeMaybe", ("endpoints",))


def looks_like_disco(datagram: bytes) -> bool:
    return len(datagram) >= _BOX_AT and datagram[: len(MAGIC)] == MAGIC


def sender_of(datagram: bytes) -> bytes:
    """Return the sender's disco key; nothing is proven before open_message() succeeds. Raises BadWire if not disco."""
    if not looks_like_disco(datagram):
        raise BadWire("not a disco message")
    return bytes(datagram[_SENDER_AT:_NONCE_AT])


def shared_key(peer_public: bytes, own_private: bytes) -> bytes:
    """Return the key of both directions between two disco keys; keep it for each peer, it costs a curve operation.

    Raises BadWire for a weak public key.
    """
    try:
        return box_beforenm(peer_public, own_private)
    except CryptoError:
        raise BadWire("a disco key that gives no secret")


def seal_message(shared: bytes, own_public: bytes, nonce: bytes, plaintext: bytes) -> bytes:
    """Return the datagram; nonce is 24 fresh random bytes."""
    return MAGIC + own_public + nonce + box_seal(shared, nonce, plaintext)


def open_message(shared: bytes, datagram: bytes) -> bytes:
    """Return the plaintext. Raises BadWire if the box does not open: usual after either side's restart."""
    if not looks_like_disco(datagram):
        raise BadWire("not a disco message")
    try:
        return box_open(shared, bytes(datagram[_NONCE_AT:_BOX_AT]), bytes(datagram[_BOX_AT:]))
    except CryptoError:
        raise BadWire("a disco message's box does not open")


def encode_ping(txid: bytes, node_key: bytes, padding: int = 0) -> bytes:
    """Return the plaintext of a ping; node_key is the sender's own, padding bytes probe the path's MTU."""
    return bytes((PING, _VERSION)) + txid + node_key + b"\0" * padding


def encode_pong(txid: bytes, address: bytes, port: int) -> bytes:
    """Return the plaintext of the answer to a ping that came from (address, port)."""
    return bytes((PONG, _VERSION)) + txid + mapped(address) + struct.pack(">H", port)


def encode_call_me_maybe(endpoints: list) -> bytes:
    """Return the plaintext that names all own endpoints, a list of (address, port)."""
    return bytes((CALL_ME_MAYBE, _VERSION)) + b"".join(
        [mapped(address) + struct.pack(">H", port) for address, port in endpoints]
    )


def decode_message(plaintext: bytes) -> tuple | None:
    """Return Ping, Pong or CallMeMaybe; None for a type that we do not know, which is to be ignored.

    A ping's node_key is zero where a very old client left it out. Raises BadWire if the body is cut short.
    """
    if len(plaintext) < 2:
        raise BadWire("a disco message without type and version")
    message_type = plaintext[0]
    version = plaintext[1]
    body = plaintext[2:]
    if message_type == PING:
        return _decode_ping(body)
    if message_type == PONG:
        return _decode_pong(body)
    if message_type == CALL_ME_MAYBE:
        return _decode_call_me_maybe(version, body)
    return None


def _decode_ping(body: bytes) -> tuple:
    if len(body) < TXID_BYTES:
        raise BadWire("a disco ping is cut short")
    end = TXID_BYTES + KEY_BYTES
    if len(body) < end:
        return Ping(body[:TXID_BYTES], ZERO, 0)
    return Ping(body[:TXID_BYTES], body[TXID_BYTES:end], len(body) - end)


def _decode_pong(body: bytes) -> tuple:
    if len(body) < TXID_BYTES + ENDPOINT_BYTES:
        raise BadWire("a disco pong is cut short")
    address, port = _endpoint(body, TXID_BYTES)
    return Pong(body[:TXID_BYTES], address, port)


def _decode_call_me_maybe(version: int, body: bytes) -> tuple:
    # An odd size or a version of tomorrow count as an empty list: the sender still asks for our pings.
    if version != _VERSION or len(body) % ENDPOINT_BYTES:
        return CallMeMaybe([])
    count = min(len(body) // ENDPOINT_BYTES, ENDPOINTS_MOST)
    return CallMeMaybe([_endpoint(body, i * ENDPOINT_BYTES) for i in range(count)])


def _endpoint(body: bytes, at: int) -> tuple:
    return unmapped(body[at : at + 16]), struct.unpack_from(">H", body, at + 16)[0]
