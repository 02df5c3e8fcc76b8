"""DERP: the relay's frames, both roles.

    0        1                     5
    +--------+---------------------+---------- - -
    | type   | payload length, BE  | payload
    +--------+---------------------+---------- - -

A connection begins with an HTTP upgrade; then the server says ServerKey, the client ClientInfo, the server ServerInfo,
and from then on both send what they like. encode_* return whole frames, decode_* take the payload that DerpDecoder
cut out. Types that a reader does not know it skips.

Source: protocol reference, DERP sections 1 to 5.
"""

import json
import struct
from binascii import hexlify
from collections import namedtuple

from ..port import const
from ..port.crypto import CryptoError, box_beforenm, box_open, box_seal
from . import json_text
from .errors import BadWire, shown
from .keys import KEY_BYTES, public_of
from .mapped_address import mapped, unmapped

# --- Fixed by the protocol ---
SERVER_KEY = const(0x01)  # 8 B magic, 32 B key of the server; more may follow
CLIENT_INFO = const(0x02)  # 32 B node key of the client, 24 B nonce, box of JSON
SERVER_INFO = const(0x03)  # 24 B nonce, box of JSON
SEND_PACKET = const(0x04)  # 32 B destination key, then the packet
RECV_PACKET = const(0x05)  # 32 B source key, then the packet
KEEP_ALIVE = const(0x06)  # empty
NOTE_PREFERRED = const(0x07)  # 1 B: 1 = this relay is my home
PEER_GONE = const(0x08)  # 32 B key, 1 B reason (absent: 0)
PEER_PRESENT = const(0x09)  # 32 B key, then perhaps 16 B address + 2 B port, then perhaps 1 B flags
FORWARD_PACKET = const(0x0A)  # 32 B source, 32 B destination, then the packet; between relays
WATCH_CONNS = const(0x10)  # empty; between relays
CLOSE_PEER = const(0x11)  # 32 B key; between relays
PING = const(0x12)  # 8 B, up to 1000 accepted
PONG = const(0x13)  # the first 8 B of the ping
HEALTH = const(0x14)  # UTF-8 text; empty = healthy again
RESTARTING = const(0x15)  # u32 BE reconnect in ms, u32 BE try for ms

GONE_DISCONNECTED = const(0)
GONE_NOT_HERE = const(1)

PRESENT_REGULAR = const(1)
PRESENT_MESH_PEER = const(2)
PRESENT_PROBER = const(4)
PRESENT_NOT_IDEAL = const(8)

HEADER = ">BI"
HEADER_BYTES = const(5)
PROTOCOL_VERSION = const(2)
MAGIC = b"DERP\xf0\x9f\x94\x91"
PING_BYTES = const(8)
PING_MOST_BYTES = const(1000)
PACKET_MOST_BYTES = const(65536)
CLIENT_INFO_MOST_BYTES = const(262144)
FRAME_MOST_BYTES = const(1048576)  # what a client takes from a server
RATE_BURST_LEAST_BYTES = const(65568)
_NONCE_BYTES = const(24)
_BOX_TAG_BYTES = const(16)

# --- Chosen by us ---
# What a relay's answer to the upgrade may come to before we stop listening; real ones have some 130 bytes.
HTTP_HEAD_MOST_BYTES = const(8192)
_APP_NAME_MOST = const(200)
_NUMBER_MOST = const(1 << 53)

ClientInfo = namedtuple("ClientInfo", ("version", "can_ack_pings", "mesh_key", "is_prober", "app_name"))
ServerInfo = namedtuple("ServerInfo", ("version", "bytes_per_second", "burst_bytes"))
PeerPresent = namedtuple("PeerPresent", ("key", "address", "port", "flags"))


class DerpDecoder:
    """Cut a byte stream into DERP frames, however the bytes were chunked.

    `max_payload` may be changed between frames: a relay wants less of a stranger than of an admitted client.
    """

    def __init__(self, max_payload: int = FRAME_MOST_BYTES) -> None:
        self.max_payload = max_payload
        self._buffer: bytes | bytearray = b""

    def feed(self, data: bytes) -> list:
        """Add bytes as they came; return the (type, payload) frames now whole, oldest first.

        Raises BadWire on an announced length over the limit, before anything of that size is held. The frames before
        it are lost with the connection.
        """
        self.append(data)
        frames = []
        # The frames are cut by position and the buffer is shortened once: shortening it for each frame would make a
        # chunk of many small frames cost the square of its length.
        buffer = self._buffer
        end = len(buffer)
        start = 0
        while end - start >= HEADER_BYTES:
            frame_type, length = struct.unpack_from(HEADER, buffer, start)
            self._check(length)
            after = start + HEADER_BYTES + length
            if after > end:
                break
            frames.append((frame_type, bytes(buffer[start + HEADER_BYTES : after])))
            start = after
        self._cut(start)
        return frames

    def append(self, data: bytes) -> None:
        """Add bytes and look at none of them yet; next_frame() does."""
        if not self._buffer:
            self._buffer = data if isinstance(data, bytes) else bytes(data)
        else:
            if not isinstance(self._buffer, bytearray):
                # From here on the rest of one frame arrives in pieces: grow in place.
                self._buffer = bytearray(self._buffer)
            self._buffer += data

    def next_frame(self) -> tuple | None:
        """Return (type, payload) and forget them, or None while the next frame is not whole. Raises as feed().

        For the handshake, where each frame changes what may follow; many frames come cheaper out of feed().
        """
        buffer = self._buffer
        if len(buffer) < HEADER_BYTES:
            return None
        frame_type, length = struct.unpack_from(HEADER, buffer, 0)
        self._check(length)
        after = HEADER_BYTES + length
        if len(buffer) < after:
            return None
        payload = bytes(buffer[HEADER_BYTES:after])
        self._cut(after)
        return frame_type, payload

    def buffered_bytes(self) -> int:
        """Return how many bytes wait for the rest of their frame."""
        return len(self._buffer)

    def _check(self, length: int) -> None:
        if length > self.max_payload:
            raise BadWire("a frame of " + str(length) + " bytes, at most " + str(self.max_payload) + " are allowed")

    def _cut(self, start: int) -> None:
        if start:
            self._buffer = self._buffer[start:]


def encode_frame(frame_type: int, payload: bytes = b"") -> bytes:
    return struct.pack(HEADER, frame_type, len(payload)) + payload


# --- Handshake ---


def encode_server_key(server_public: bytes) -> bytes:
    return encode_frame(SERVER_KEY, MAGIC + server_public)


def decode_server_key(payload: bytes) -> bytes:
    """Return the server's public key."""
    if len(payload) < len(MAGIC) + KEY_BYTES:
        raise BadWire("ServerKey is cut short")
    if payload[: len(MAGIC)] != MAGIC:
        raise BadWire("ServerKey without DERP's magic: this is no relay")
    return payload[len(MAGIC) : len(MAGIC) + KEY_BYTES]


def encode_client_info(
    client_private: bytes, server_public: bytes, nonce: bytes, can_ack_pings: bool = True, app_name: str = ""
) -> bytes:
    """Return the ClientInfo frame; `nonce` is 24 fresh random bytes. Raises BadWire if the server's key is weak."""
    # Written by hand: MicroPython's dicts are unordered, and this order is the one of the test vectors.
    text = '{"version":' + str(PROTOCOL_VERSION) + ',"CanAckPings":' + ("true" if can_ack_pings else "false")
    if app_name:
        text += ',"AppName":' + json.dumps(app_name)
    box = _seal(server_public, client_private, nonce, (text + "}").encode())
    return encode_frame(CLIENT_INFO, public_of(client_private) + nonce + box)


def decode_client_info(payload: bytes, server_private: bytes) -> tuple:
    """Return (the client's node key, ClientInfo). That the box opens proves that the client holds that key."""
    if len(payload) < KEY_BYTES + _NONCE_BYTES + _BOX_TAG_BYTES:
        raise BadWire("ClientInfo is cut short")
    if len(payload) > CLIENT_INFO_MOST_BYTES:
        raise BadWire("ClientInfo is too long")
    key = payload[:KEY_BYTES]
    fields = _json_object(_open(key, server_private, payload[KEY_BYTES:]))
    return key, ClientInfo(
        _number(fields, "version"),
        _flag(fields, "canackpings"),
        _text(fields, "meshkey", 2 * KEY_BYTES),
        _flag(fields, "isprober"),
        _text(fields, "appname", _APP_NAME_MOST),
    )


def encode_server_info(
    server_private: bytes, client_public: bytes, nonce: bytes, bytes_per_second: int = 0, burst_bytes: int = 0
) -> bytes:
    """Return the ServerInfo frame; a rate of 0 announces none. Raises BadWire if the client's key is weak."""
    text = '{"version":' + str(PROTOCOL_VERSION)
    if bytes_per_second:
        text += ',"TokenBucketBytesPerSecond":' + str(bytes_per_second)
        text += ',"TokenBucketBytesBurst":' + str(burst_bytes)
    return encode_frame(SERVER_INFO, nonce + _seal(client_public, server_private, nonce, (text + "}").encode()))


def decode_server_info(payload: bytes, client_private: bytes, server_public: bytes) -> tuple:
    """Return ServerInfo; bytes_per_second 0 means that the relay announced no limit."""
    if len(payload) < _NONCE_BYTES + _BOX_TAG_BYTES:
        raise BadWire("ServerInfo is cut short")
    fields = _json_object(_open(server_public, client_private, payload))
    return ServerInfo(
        _number(fields, "version"),
        _number(fields, "tokenbucketbytespersecond"),
        _number(fields, "tokenbucketbytesburst"),
    )


# --- Packets ---


def encode_send_packet(destination: bytes, packet: bytes) -> bytes:
    return struct.pack(HEADER, SEND_PACKET, KEY_BYTES + len(packet)) + destination + packet


def encode_recv_packet(source: bytes, packet: bytes) -> bytes:
    return struct.pack(HEADER, RECV_PACKET, KEY_BYTES + len(packet)) + source + packet


def decode_packet(payload: bytes) -> tuple:
    """Return (key, packet) of SendPacket (key: destination) or RecvPacket (key: source)."""
    if len(payload) < KEY_BYTES:
        raise BadWire("a packet without its key")
    if len(payload) > KEY_BYTES + PACKET_MOST_BYTES:
        raise BadWire("a packet over 64 KiB")
    return payload[:KEY_BYTES], payload[KEY_BYTES:]


def encode_forward_packet(source: bytes, destination: bytes, packet: bytes) -> bytes:
    return encode_frame(FORWARD_PACKET, source + destination + packet)


def decode_forward_packet(payload: bytes) -> tuple:
    """Return (source, destination, packet)."""
    if len(payload) < 2 * KEY_BYTES:
        raise BadWire("a forwarded packet without its keys")
    if len(payload) > 2 * KEY_BYTES + PACKET_MOST_BYTES:
        raise BadWire("a packet over 64 KiB")
    return payload[:KEY_BYTES], payload[KEY_BYTES : 2 * KEY_BYTES], payload[2 * KEY_BYTES :]


# --- Everything else ---


def encode_keep_alive() -> bytes:
    return encode_frame(KEEP_ALIVE)


def encode_note_preferred(is_home: bool) -> bytes:
    return encode_frame(NOTE_PREFERRED, b"\x01" if is_home else b"\0")


def decode_note_preferred(payload: bytes) -> bool:
    if len(payload) != 1:
        raise BadWire("NotePreferred of " + str(len(payload)) + " bytes, not 1")
    return payload[0] == 1


def encode_peer_gone(key: bytes, reason: int) -> bytes:
    return encode_frame(PEER_GONE, key + bytes((reason,)))


def decode_peer_gone(payload: bytes) -> tuple:
    """Return (key, reason); reasons that are new to us are the caller's to ignore."""
    if len(payload) < KEY_BYTES:
        raise BadWire("PeerGone is cut short")
    return payload[:KEY_BYTES], payload[KEY_BYTES] if len(payload) > KEY_BYTES else GONE_DISCONNECTED


def encode_peer_present(key: bytes, address: bytes, port: int, flags: int) -> bytes:
    """address is 4 or 16 bytes."""
    return encode_frame(PEER_PRESENT, key + mapped(address) + struct.pack(">HB", port, flags))


def decode_peer_present(payload: bytes) -> tuple:
    """Return PeerPresent; address is b"" and port and flags 0 where an older relay left them out."""
    if len(payload) < KEY_BYTES:
        raise BadWire("PeerPresent is cut short")
    address = b""
    port = flags = 0
    if len(payload) >= KEY_BYTES + 18:
        address = unmapped(payload[KEY_BYTES : KEY_BYTES + 16])
        port = struct.unpack_from(">H", payload, KEY_BYTES + 16)[0]
    if len(payload) > KEY_BYTES + 18:
        flags = payload[KEY_BYTES + 18]
    return PeerPresent(payload[:KEY_BYTES], address, port, flags)


def encode_watch_conns() -> bytes:
    return encode_frame(WATCH_CONNS)


def encode_close_peer(key: bytes) -> bytes:
    return encode_frame(CLOSE_PEER, key)


def decode_close_peer(payload: bytes) -> bytes:
    """Return the key whose connections shall be closed."""
    if len(payload) != KEY_BYTES:
        raise BadWire("ClosePeer of " + str(len(payload)) + " bytes, not 32")
    return payload


def encode_ping(data: bytes) -> bytes:
    """data is 8 bytes."""
    return encode_frame(PING, data)


def encode_pong(data: bytes) -> bytes:
    """data is the 8 bytes of the ping."""
    return encode_frame(PONG, data)


def decode_ping(payload: bytes) -> bytes:
    """Return the 8 bytes that the pong must carry; more may follow them, for what is not invented yet."""
    if not PING_BYTES <= len(payload) <= PING_MOST_BYTES:
        raise BadWire("a ping of " + str(len(payload)) + " bytes")
    return payload[:PING_BYTES]


def decode_pong(payload: bytes) -> bytes:
    """Return the 8 bytes of our ping."""
    if len(payload) < PING_BYTES:
        raise BadWire("a pong of " + str(len(payload)) + " bytes")
    return payload[:PING_BYTES]


def encode_health(problem: str) -> bytes:
    return encode_frame(HEALTH, problem.encode())


def decode_health(payload: bytes) -> str:
    """Return the problem's text; "" means healthy again."""
    try:
        return payload.decode()
    except ValueError:
        raise BadWire("Health is not UTF-8")


def encode_restarting(reconnect_in_ms: int, try_for_ms: int) -> bytes:
    return encode_frame(RESTARTING, struct.pack(">II", reconnect_in_ms, try_for_ms))


def decode_restarting(payload: bytes) -> tuple:
    """Return (reconnect in ms, try for ms)."""
    if len(payload) < 8:
        raise BadWire("Restarting is cut short")
    return struct.unpack_from(">II", payload, 0)


# --- The HTTP side ---


def encode_upgrade_request(host: str, ideal_node: str = "", fast_start: bool = False) -> bytes:
    """Return the request that enters DERP; `ideal_node` only when connected to another than the region's first node.

    With `fast_start` (only to a relay whose key is known beforehand) no HTTP answer comes; frames may follow at once.
    """
    text = "GET /derp HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n"
    if ideal_node:
        text += "Ideal-Node: " + ideal_node + "\r\n"
    if fast_start:
        text += "Derp-Fast-Start: 1\r\n"
    return (text + "\r\n").encode()


def encode_upgrade_response(server_public: bytes) -> bytes:
    """Return the server's answer; frames follow its blank line."""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\nDerp-Version: "
        + str(PROTOCOL_VERSION)
        + "\r\nDerp-Public-Key: "
        + hexlify(server_public).decode()
        + "\r\n\r\n"
    ).encode()


def split_upgrade_response(received: bytes) -> bytes | None:
    """Return the bytes behind the server's 101 answer, or None while it is not whole.

    Raises BadWire if the server answered something else; its status line is in the text.
    """
    end = bytes(received[:HTTP_HEAD_MOST_BYTES]).find(b"\r\n\r\n")
    # Judged as soon as the status line is there: an error page need not end, and need not be small.
    line_end = bytes(received[:HTTP_HEAD_MOST_BYTES]).find(b"\r\n")
    line = bytes(received[: line_end if line_end >= 0 else HTTP_HEAD_MOST_BYTES])
    start = b"HTTP/1.1 101"
    if line[: len(start)] != start[: len(line)] or line[len(start) : len(start) + 1] not in (b"", b" "):
        raise BadWire("the relay did not take the upgrade: " + shown(line[:80]))
    if end < 0:
        if len(received) >= HTTP_HEAD_MOST_BYTES:
            raise BadWire("the relay's answer to the upgrade has no end")
        return None
    if line_end < len(start):
        raise BadWire("the relay's answer to the upgrade has no status")
    return bytes(received[end + 4 :])


# --- Boxes and the JSON in them ---


def _seal(public: bytes, private: bytes, nonce: bytes, plaintext: bytes) -> bytes:
    try:
        return box_seal(box_beforenm(public, private), nonce, plaintext)
    except CryptoError:
        raise BadWire("the other side's key gives no secret")


def _open(public: bytes, private: bytes, sealed: bytes) -> bytes:
    try:
        return box_open(box_beforenm(public, private), sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:])
    except CryptoError:
        raise BadWire("the handshake's box does not open")


def _json_object(text: bytes) -> dict:
    """Return the object with its names in lower case: readers do not tell cases apart."""
    try:
        fields = json_text.parse(text)
    except ValueError:
        raise BadWire("the handshake's box holds no JSON")
    if not isinstance(fields, dict):
        raise BadWire("the handshake's box holds no JSON object")
    return {name.lower(): value for name, value in fields.items()}


def _number(fields: dict, name: str) -> int:
    value = fields.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _NUMBER_MOST:
        raise BadWire(name + " is not a number that belongs there")
    return value


def _flag(fields: dict, name: str) -> bool:
    value = fields.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise BadWire(name + " is neither true nor false")
    return value


def _text(fields: dict, name: str, most: int) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > most:
        raise BadWire(name + " is not a text of up to " + str(most) + " characters")
    return value
