"""The control protocol's Noise: handshake IK, both roles, and the records after it.

    client                                             server
    initiation (101 B): version u16, 01, 0060 | e | s sealed | tag   ->
                            <-   response (51 B): 02, 0030 | f | tag      or error: 03, length | text
    record: 04, length | sealed bytes              <->              record: 04, length | sealed bytes

Numbers are big-endian, also the counter in a record's nonce: there this differs from the Noise standard, so a generic
Noise library serves for the handshake only. Headers are not authenticated.
Source: protocol reference, control.md section 3; the Noise Protocol Framework, revision 34.
"""

import struct
from collections import namedtuple

from ..port import const
from ..port.crypto import CryptoError, aead_open, aead_seal, blake2s, x25519, x25519_public
from .errors import BadWire, shown

# Fixed by the protocol
INITIATION = const(0x01)  # 32 B ephemeral key, 48 B sealed static key, 16 B tag
RESPONSE = const(0x02)  # 32 B ephemeral key, 16 B tag
ERROR = const(0x03)  # UTF-8 text, not authenticated
RECORD = const(0x04)  # ciphertext and 16 B tag
INITIATION_HEADER = ">HBH"  # version, type, payload length
HEADER = ">BH"  # type, payload length
HEADER_BYTES = const(3)
INITIATION_BYTES = const(101)
RESPONSE_BYTES = const(51)
TAG_BYTES = const(16)
MAX_FRAME_BYTES = const(4096)  # with its header
MAX_PLAINTEXT_BYTES = const(4077)
_INITIATION_PAYLOAD_BYTES = const(96)
_RESPONSE_PAYLOAD_BYTES = const(48)
_NAME = b"Noise_IK_25519_ChaChaPoly_BLAKE2s"
_PROLOGUE = "Tailscale Control Protocol v"
_HANDSHAKE_NONCE = bytes(12)
_INVALID_COUNTER = 0xFFFFFFFFFFFFFFFF
# Chosen by us: of an error's text, which anyone on the way may have written, this much is shown.
_SHOWN_ERROR_BYTES = const(200)

Responded = namedtuple("Responded", ("version", "machine_public", "message", "session"))


class Initiator:
    """The client's half of a handshake. `message` is the initiation, to be sent first."""

    def __init__(self, machine_private: bytes, server_public: bytes, version: int, ephemeral_private: bytes):
        """version is the client's capability version; ephemeral_private a fresh private key, used once.

        Raises BadWire if the server's public key is not one.
        """
        self._machine_private = machine_private
        self._ephemeral_private = ephemeral_private
        ephemeral_public = x25519_public(ephemeral_private)
        self._state = state = _Handshake(version, server_public)
        state.mix_hash(ephemeral_public)
        sealed_static = state.seal(state.mix_dh(ephemeral_private, server_public), x25519_public(machine_private))
        tag = state.seal(state.mix_dh(machine_private, server_public), b"")
        header = struct.pack(INITIATION_HEADER, version, INITIATION, _INITIATION_PAYLOAD_BYTES)
        self.message = header + ephemeral_public + sealed_static + tag

    def response_received(self, frame: bytes) -> "Session":
        """Return the session that the server's answer opens; `frame` is whole (see frame_length).

        Raises BadWire for an answer by anyone else, and for the server's refusal, with its text.
        """
        if not frame or frame_length(frame) != len(frame):
            raise BadWire("a handshake frame of the wrong length")
        if frame[0] == ERROR:
            text = frame[HEADER_BYTES : HEADER_BYTES + _SHOWN_ERROR_BYTES]
            raise BadWire("the server refused the handshake: " + shown(text))
        if frame[0] != RESPONSE:
            raise BadWire("not a handshake response")
        state = self._state
        ephemeral_public = bytes(frame[3:35])
        state.mix_hash(ephemeral_public)
        state.mix_dh(self._ephemeral_private, ephemeral_public)
        state.open(state.mix_dh(self._machine_private, ephemeral_public), bytes(frame[35:]))
        to_server, to_client = _hkdf(state.chaining_key, b"")
        return Session(to_server, to_client, state.hash)


def respond(message1: bytes, server_private: bytes, ephemeral_private: bytes) -> Responded:
    """Answer a client's initiation: the server's half of a handshake.

    Returns (version, machine_public, message, session): the client's capability version and its machine key, now
    proven; the response to send; the session for what follows.
    Raises BadWire for an initiation that was not made for this server.
    """
    if len(message1) != INITIATION_BYTES:
        raise BadWire("a Noise initiation of the wrong length")
    version, kind, length = struct.unpack_from(INITIATION_HEADER, message1, 0)
    if kind != INITIATION or length != _INITIATION_PAYLOAD_BYTES:
        raise BadWire("not a Noise initiation")
    client_ephemeral = bytes(message1[5:37])
    state = _Handshake(version, x25519_public(server_private))
    state.mix_hash(client_ephemeral)
    machine_public = state.open(state.mix_dh(server_private, client_ephemeral), bytes(message1[37:85]))
    state.open(state.mix_dh(server_private, machine_public), bytes(message1[85:]))

    ephemeral_public = x25519_public(ephemeral_private)
    state.mix_hash(ephemeral_public)
    state.mix_dh(ephemeral_private, client_ephemeral)
    tag = state.seal(state.mix_dh(ephemeral_private, machine_public), b"")
    message = struct.pack(HEADER, RESPONSE, _RESPONSE_PAYLOAD_BYTES) + ephemeral_public + tag
    to_server, to_client = _hkdf(state.chaining_key, b"")
    return Responded(version, machine_public, message, Session(to_client, to_server, state.hash))


def encode_error(text: str) -> bytes:
    """Return the frame by which a server refuses a handshake; a long text is cut."""
    payload = text.encode()[: MAX_FRAME_BYTES - HEADER_BYTES]
    return struct.pack(HEADER, ERROR, len(payload)) + payload


def frame_length(buffer: bytes) -> int:
    """Return how many bytes the server's frame at the start of the buffer has, with its header.

    0 while the header is not whole. Raises BadWire for a length that the type of frame cannot have.
    """
    if len(buffer) < HEADER_BYTES:
        return 0
    kind, length = struct.unpack_from(HEADER, buffer, 0)
    if kind == RESPONSE:
        if length != _RESPONSE_PAYLOAD_BYTES:
            raise BadWire("a handshake response of the wrong length")
    elif kind not in (ERROR, RECORD):
        raise BadWire("a Noise frame of unknown type " + str(kind))
    if length > MAX_FRAME_BYTES - HEADER_BYTES:
        raise BadWire("a Noise frame longer than 4096 bytes")
    return HEADER_BYTES + length


class Session:
    """Records both ways, once the handshake is done; the plaintext is a byte stream, its cuts mean nothing."""

    def __init__(self, seal_key: bytes, open_key: bytes, handshake_hash: bytes, sealed: int = 0, opened: int = 0):
        """sealed and opened are the records already counted each way."""
        self.handshake_hash = handshake_hash
        self._seal_key = seal_key
        self._open_key = open_key
        self._sealed = sealed
        self._opened = opened
        self._buffer = bytearray()

    def seal(self, data: bytes) -> bytes:
        """Return the records that carry these bytes; none for no bytes."""
        view = memoryview(data)
        out = bytearray()
        for start in range(0, len(view), MAX_PLAINTEXT_BYTES):
            plaintext = view[start : start + MAX_PLAINTEXT_BYTES]
            out += struct.pack(HEADER, RECORD, len(plaintext) + TAG_BYTES)
            out += aead_seal(self._seal_key, _record_nonce(self._sealed), plaintext, b"")
            self._sealed += 1
        return bytes(out)

    def feed(self, data: bytes) -> bytes:
        """Add bytes as they came; return the plaintext of the records now whole.

        Raises BadWire for anything but records that the other side sealed, in their order; then the connection is over.
        """
        buffer: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            buffer = self._buffer
        view = memoryview(buffer)
        plaintexts = []
        start = 0
        while len(buffer) - start >= HEADER_BYTES:
            kind, length = struct.unpack_from(HEADER, buffer, start)
            if kind != RECORD:
                raise BadWire("not a Noise record, but a frame of type " + str(kind))
            if length > MAX_FRAME_BYTES - HEADER_BYTES:
                raise BadWire("a Noise record longer than 4096 bytes")
            end = start + HEADER_BYTES + length
            if end > len(buffer):
                break
            try:
                sealed = view[start + HEADER_BYTES : end]
                plaintexts.append(aead_open(self._open_key, _record_nonce(self._opened), sealed, b""))
            except CryptoError:
                raise BadWire("a Noise record that the other side did not seal")
            self._opened += 1
            start = end
        # Whole records leave nothing to copy, and what is left is less than one. It goes into a new bytearray, as one
        # that a memoryview looks into cannot change its size.
        if start or not self._buffer:
            self._buffer = bytearray(view[start:])
        return plaintexts[0] if len(plaintexts) == 1 else b"".join(plaintexts)


class _Handshake:
    """What both roles do alike: the running hash `hash` and the chaining key."""

    def __init__(self, version: int, server_public: bytes):
        self.hash = self.chaining_key = blake2s(_NAME)
        self.mix_hash((_PROLOGUE + str(version)).encode())
        self.mix_hash(server_public)

    def mix_hash(self, data: bytes) -> None:
        self.hash = blake2s(self.hash + data)

    def mix_dh(self, private: bytes, public: bytes) -> bytes:
        """Mix a shared secret into the chaining key; return the key for at most one seal or open."""
        try:
            secret = x25519(private, public)
        except CryptoError:
            raise BadWire("a public key that gives no secret")
        self.chaining_key, key = _hkdf(self.chaining_key, secret)
        return key

    def seal(self, key: bytes, plaintext: bytes) -> bytes:
        sealed = aead_seal(key, _HANDSHAKE_NONCE, plaintext, self.hash)
        self.mix_hash(sealed)
        return sealed

    def open(self, key: bytes, sealed: bytes) -> bytes:
        try:
            plaintext = aead_open(key, _HANDSHAKE_NONCE, sealed, self.hash)
        except CryptoError:
            raise BadWire("a handshake with another key than ours")
        self.mix_hash(sealed)
        return plaintext


def _hkdf(salt: bytes, secret: bytes) -> tuple:
    """Return two keys of 32 bytes: RFC 5869 with HMAC-BLAKE2s, info empty, 64 bytes of output."""
    key = _hmac(salt, secret)
    first = _hmac(key, b"\x01")
    return first, _hmac(key, first + b"\x02")


def _hmac(key: bytes, data: bytes) -> bytes:
    """HMAC-BLAKE2s of a 32-byte key. Source: RFC 2104 section 2."""
    inner = bytes([byte ^ 0x36 for byte in key]) + b"\x36" * 32
    outer = bytes([byte ^ 0x5C for byte in key]) + b"\x5c" * 32
    return blake2s(outer + blake2s(inner + data))


def _record_nonce(counter: int) -> bytes:
    if counter >= _INVALID_COUNTER:
        raise BadWire("a Noise session is used up after 2^64 - 1 records")
    return b"\0\0\0\0" + counter.to_bytes(8, "big")
