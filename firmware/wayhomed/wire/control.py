"""The control connection's own framing: HTTP upgrade, early payload, frames of the map stream.

Layers, outermost first: TCP, TLS or not, the upgrade, Noise records (noise), the early payload, HTTP/2 (http2), and in
the body of a map answer, frames of JSON. Source: protocol reference, control.md sections 2.2, 3.4 and 7.1.
"""

import json
import struct
from binascii import a2b_base64, b2a_base64

from ..port import const
from . import http1, json_text, keys
from .errors import BadWire
from .noise import INITIATION_BYTES

# Fixed by the protocol
PATH = "/ts2021"
UPGRADE = "tailscale-control-protocol"
HANDSHAKE_HEADER = "X-Tailscale-Handshake"
UPGRADE_RESPONSE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: tailscale-control-protocol\r\nConnection: upgrade\r\n\r\n"
)
EARLY_PAYLOAD_MAGIC = b"\xff\xff\xffTS"
EARLY_PAYLOAD_HEADER_BYTES = const(9)  # magic, then the length of the JSON, u32 BE: as long as an HTTP/2 frame's header
MAP_FRAME_HEADER = "<I"  # length, little-endian
_MAP_FRAME_HEADER_BYTES = const(4)
# Chosen by us. The protocol lets an early payload have 10 MiB; a real one has 95 bytes, and a board little memory.
MAX_EARLY_PAYLOAD_BYTES = const(65_536)
MAX_MAP_FRAME_BYTES = const(4_194_304)
_HANDSHAKE_TEXT_CHARACTERS = const(136)  # 101 bytes in base64, padded


def encode_upgrade_request(authority: str, message1: bytes) -> bytes:
    """Return the HTTP request that carries a Noise initiation; authority is host[:port] of the server's URL."""
    headers = [
        ("Host", authority),
        ("Upgrade", UPGRADE),
        ("Connection", "upgrade"),
        (HANDSHAKE_HEADER, b2a_base64(message1)[:-1].decode()),
    ]
    return http1.encode_request("POST", PATH, headers)


def decode_handshake_header(text: str) -> bytes:
    """Return the Noise initiation out of the request's handshake header. Raises BadWire."""
    if len(text) != _HANDSHAKE_TEXT_CHARACTERS:
        raise BadWire("a Noise initiation of the wrong length")
    try:
        # Skips what is no base64; then there is less than a whole initiation in a text of this length.
        message1 = a2b_base64(text)
    except ValueError:
        raise BadWire("a handshake header that is not base64")
    if len(message1) != INITIATION_BYTES:
        raise BadWire("a Noise initiation of the wrong length")
    return message1


class NotUpgraded(BadWire):
    """What answered does not change to our protocol: no coordinator, one just starting, or a proxy before it."""


class UpgradeResponseReader:
    """Read the server's answer to the upgrade request; behind it the server's Noise frames begin."""

    def __init__(self):
        self._head = http1.HeadReader()

    def feed(self, data: bytes) -> "bytes | None":
        """Add bytes as they came; return those behind the answer's head, or None while the head is not whole.

        Not to be called again once it returned bytes. Raises NotUpgraded for any answer but a change to our
        protocol, BadWire for none.
        """
        head = self._head
        if not head.feed(data):
            return None
        if head.status != http1.SWITCHING_PROTOCOLS:
            raise NotUpgraded("the server answered status " + str(head.status) + " to the upgrade, not 101")
        if head.headers.get("upgrade", "").lower() != UPGRADE:
            raise NotUpgraded("the server changed to another protocol")
        return head.rest


def encode_early_payload(challenge: bytes) -> bytes:
    """Return what a server may send first: a fresh public key, which clients read and leave alone."""
    payload = json.dumps({"nodeKeyChallenge": keys.key_text(keys.CHALLENGE, challenge)}).encode()
    return EARLY_PAYLOAD_MAGIC + struct.pack(">I", len(payload)) + payload


class EarlyPayloadReader:
    """Take the early payload, if there is one, off the front of the server's plaintext."""

    def __init__(self):
        self.challenge: bytes | None = None  # the raw key, once an early payload that has one was read
        self._buffer = bytearray()
        self._passed = False

    def feed(self, data: bytes) -> bytes:
        """Add plaintext as it came; return the HTTP/2 bytes in it. Raises BadWire for a broken payload."""
        if self._passed:
            return data
        buffer = self._buffer
        buffer += data
        if len(buffer) < EARLY_PAYLOAD_HEADER_BYTES:
            return b""
        if buffer[: len(EARLY_PAYLOAD_MAGIC)] != EARLY_PAYLOAD_MAGIC:
            return self._pass_on(0)
        length = struct.unpack_from(">I", buffer, len(EARLY_PAYLOAD_MAGIC))[0]
        if length > MAX_EARLY_PAYLOAD_BYTES:
            raise BadWire("an early payload of " + str(length) + " bytes")
        end = EARLY_PAYLOAD_HEADER_BYTES + length
        if len(buffer) < end:
            return b""
        self.challenge = _challenge(bytes(buffer[EARLY_PAYLOAD_HEADER_BYTES:end]))
        return self._pass_on(end)

    def _pass_on(self, start: int) -> bytes:
        rest = bytes(self._buffer[start:])
        self._passed = True
        self._buffer = bytearray()
        return rest


def _challenge(payload: bytes) -> "bytes | None":
    try:
        message = json_text.parse(payload)
    except ValueError:
        raise BadWire("an early payload that is not JSON")
    if not isinstance(message, dict):
        raise BadWire("an early payload that is no JSON object")
    text = message.get("nodeKeyChallenge")
    return None if text is None else keys.key_from_text(keys.CHALLENGE, text)


def encode_map_frame(payload: bytes) -> bytes:
    """Return one message of the map stream: JSON, or one zstd frame of it."""
    if not payload:
        raise ValueError("an empty map frame is invalid")
    return struct.pack(MAP_FRAME_HEADER, len(payload)) + payload


class MapFrameDecoder:
    """Cut the body of a map answer into its messages, however the bytes were chunked."""

    def __init__(self, limit: int = MAX_MAP_FRAME_BYTES):
        """limit is the most bytes one message may have."""
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list:
        """Add bytes as they came; return the payloads now whole, oldest first. Raises BadWire."""
        buffer = self._buffer
        buffer += data
        payloads = []
        while len(buffer) >= _MAP_FRAME_HEADER_BYTES:
            length = struct.unpack_from(MAP_FRAME_HEADER, buffer, 0)[0]
            if length == 0:
                raise BadWire("an empty map frame")
            if length > self._limit:
                raise BadWire("a map frame of " + str(length) + " bytes; the limit is " + str(self._limit))
            end = _MAP_FRAME_HEADER_BYTES + length
            if len(buffer) < end:
                break
            payloads.append(bytes(buffer[_MAP_FRAME_HEADER_BYTES:end]))
            buffer[:end] = b""
        return payloads


class MapFrameCutter:
    """The same for a reader that takes a message as its bytes come: none is held here."""

    def __init__(self, limit: int = MAX_MAP_FRAME_BYTES):
        """limit is the most bytes one message may have."""
        self._limit = limit
        self._header = b""
        self._left = 0  # bytes of the present message that have not come

    def feed(self, data: bytes) -> list:
        """Add bytes as they came; return [(bytes of a message, whether they are its last)], oldest first.

        Raises BadWire for a message without bytes or with too many.
        """
        pieces = []
        at, end = 0, len(data)
        while at < end:
            if not self._left:
                missing = _MAP_FRAME_HEADER_BYTES - len(self._header)
                self._header += data[at : at + missing]
                at += missing
                if len(self._header) < _MAP_FRAME_HEADER_BYTES:
                    break
                self._left = struct.unpack(MAP_FRAME_HEADER, self._header)[0]
                self._header = b""
                if not self._left:
                    raise BadWire("an empty map frame")
                if self._left > self._limit:
                    raise BadWire("a map frame of " + str(self._left) + " bytes; the limit is " + str(self._limit))
                continue
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            pieces.append((piece, not self._left))
        return pieces
