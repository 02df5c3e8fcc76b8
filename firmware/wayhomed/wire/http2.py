"""A small HTTP/2 client without I/O: requests in, bytes out; bytes in, events out.

    client = Http2Client()                        # the preface is the first data_to_send()
    stream = client.request("POST", "h", "/machine/map", [], body)
    send(client.data_to_send())
    for event in client.feed(received): ...       # then send data_to_send() again: acknowledgements, windows, bodies

Every fault of the server ends the connection, also those that RFC 9113 would let end one stream alone: a connection is
cheap to make again. Not here: server push, priorities, upgrade from HTTP/1.1.
Source: RFC 9113.
"""

import struct

from ..port import const
from . import hpack
from .errors import BadWire

# Events: tuples that begin with one of these.
HEADERS = const(1)  # (HEADERS, stream, status, [(name, value), ...])
DATA = const(2)  # (DATA, stream, bytes)
ENDED = const(3)  # (ENDED, stream): the answer is whole
RESET = const(4)  # (RESET, stream, error code): there will be no more of the answer
GOAWAY = const(5)  # (GOAWAY, last stream the server takes, error code): no new requests here

# Error codes, section 7
NO_ERROR = const(0x0)
PROTOCOL_ERROR = const(0x1)
REFUSED_STREAM = const(0x7)  # not begun: may be asked again elsewhere
CANCEL = const(0x8)

# Fixed by the protocol: frame types and their payloads, section 6
FRAME_HEADER_BYTES = const(9)  # length u24, type u8, flags u8, stream u32
_DATA = const(0x0)  # [pad length], data, [padding]
_HEADERS = const(0x1)  # [pad length], [dependency u32, weight u8], header block, [padding]
_PRIORITY = const(0x2)  # dependency u32, weight u8
_RST_STREAM = const(0x3)  # error code u32
_SETTINGS = const(0x4)  # any number of: identifier u16, value u32
_PUSH_PROMISE = const(0x5)
_PING = const(0x6)  # 8 opaque bytes
_GOAWAY = const(0x7)  # last stream u32, error code u32, debug data
_WINDOW_UPDATE = const(0x8)  # increment u32
_CONTINUATION = const(0x9)  # more header block
_ACK = const(0x1)
_END_STREAM = const(0x1)
_END_HEADERS = const(0x4)
_PADDED = const(0x8)
_WITH_PRIORITY = const(0x20)
_ENABLE_PUSH = const(0x2)
_MAX_CONCURRENT_STREAMS = const(0x3)
_INITIAL_WINDOW_SIZE = const(0x4)
_MAX_FRAME_SIZE = const(0x5)
_MAX_HEADER_LIST_SIZE = const(0x6)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DEFAULT_WINDOW_BYTES = const(65_535)
_MAX_WINDOW_BYTES = 0x7FFFFFFF
_STREAM_MASK = 0x7FFFFFFF
_DEFAULT_FRAME_BYTES = const(16_384)
_MAX_FRAME_BYTES = const(16_777_215)
# Headers about a connection have no place in HTTP/2: section 8.2.2
_NO_BODY_STATUSES = (204, 304)  # their content-length, like that of HEAD, is another answer's: RFC 9110 section 8.6
_FORBIDDEN_HEADERS = ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")

# Chosen by us
# What the server may send ahead of its being read: a small board holds that much, and a line of 100 ms still carries
# 2.5 MB/s.
WINDOW_BYTES = const(262_144)
MAX_HEADER_BLOCK_BYTES = const(16_384)
# Empty CONTINUATION frames cost a server nothing and us a loop each ("CONTINUATION flood").
MAX_CONTINUATIONS = const(8)
MAX_HEADER_LIST_BYTES = const(32_768)


class NoNewStreams(Exception):
    """The server takes no further request on this connection: it said so, or the stream numbers are used up."""


class Http2Client:
    """One connection's client side."""

    def __init__(
        self,
        window_bytes: int = WINDOW_BYTES,
        max_header_list_bytes: int = MAX_HEADER_LIST_BYTES,
        first_stream: int = 1,
        paced: bool = False,
    ):
        """window_bytes, at least 65,535, bounds what the server may send ahead, on a stream and in all.

        first_stream is the first request's, an odd number. paced: a stream's window opens again by consumed() alone, so
        that an answer is sent no faster than it is read; otherwise at once.
        """
        self._paced = paced
        self._window_bytes = window_bytes
        self._headers = hpack.Decoder(max_header_list_bytes)
        self._buffer = bytearray()
        self._streams: dict = {}  # by number: those whose answer is not whole
        self._waiting: list = []  # (stream, header block) of requests that the server's limit on streams holds back
        self._last_stream = first_stream - 2
        self._going_away = False
        self._settings_received = False
        self._block_stream = 0  # whose header block is being received; 0: none
        self._block_ends_stream = False
        self._block = bytearray()
        self._continuations = 0
        # what the server allows us
        self._send_window = _DEFAULT_WINDOW_BYTES
        self._initial_send_window = _DEFAULT_WINDOW_BYTES
        self._max_send_frame = _DEFAULT_FRAME_BYTES
        self._max_streams = _MAX_WINDOW_BYTES
        # what we allow the server
        self._receive_window = window_bytes
        settings = (_ENABLE_PUSH, 0, _INITIAL_WINDOW_SIZE, window_bytes, _MAX_HEADER_LIST_SIZE, max_header_list_bytes)
        self._out = bytearray(_PREFACE)
        self._send(_SETTINGS, 0, 0, struct.pack(">HIHIHI", *settings))
        if window_bytes > _DEFAULT_WINDOW_BYTES:
            self._send_window_update(0, window_bytes - _DEFAULT_WINDOW_BYTES)

    def request(self, method: str, authority: str, path: str, headers: list, body: bytes = b"") -> int:
        """Begin a request and return its stream; headers are (lower-case name, value). Raises NoNewStreams."""
        if self._going_away or self._last_stream + 2 > _MAX_WINDOW_BYTES:
            raise NoNewStreams("the server takes no further request on this connection")
        self._last_stream += 2
        number = self._last_stream
        pseudo = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)]
        if body:
            headers = headers + [("content-length", str(len(body)))]
        stream = self._streams[number] = _Stream(body, self._initial_send_window, self._window_bytes)
        stream.has_body = method != "HEAD"
        self._waiting.append((number, hpack.encode(pseudo + headers)))
        self._begin_waiting()
        return number

    def reset(self, stream: int) -> None:
        """Give up a request; events of it that are still on the way are dropped."""
        if self._forget(stream):
            self._send(_RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
        self._begin_waiting()

    def consumed(self, number: int, length: int) -> None:
        """Say that so many bytes of an answer are read and forgotten: the server may send as many more (see paced)."""
        stream = self._streams.get(number)
        if stream is not None:
            stream.unread -= length
            self._open_window(number, stream)

    def _open_window(self, number: int, stream: "_Stream") -> None:
        """Open a stream's window as far as it may be, once that is worth a frame."""
        increment = self._window_bytes - stream.unread - stream.receive_window
        if 2 * increment >= self._window_bytes:
            self._send_window_update(number, increment)
            stream.receive_window += increment

    def data_to_send(self) -> bytes:
        """Return the bytes to send now, once."""
        data = bytes(self._out)
        self._out = bytearray()
        return data

    def feed(self, data: bytes) -> list:
        """Add bytes as they came; return what happened, oldest first.

        Raises BadWire for what no HTTP/2 server may send; the last data_to_send() then tells it so.
        """
        events: list = []
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= FRAME_HEADER_BYTES:
                high, low, kind, flags, stream = struct.unpack_from(">BHBBI", buffer, start)
                length = high << 16 | low
                if length > _DEFAULT_FRAME_BYTES:
                    raise BadWire("an HTTP/2 frame of " + str(length) + " bytes")
                end = start + FRAME_HEADER_BYTES + length
                if end > len(buffer):
                    break
                payload = bytes(memoryview(buffer)[start + FRAME_HEADER_BYTES : end])
                self._frame_received(kind, flags, stream & _STREAM_MASK, payload, events)
                start = end
        except BadWire:
            self._send(_GOAWAY, 0, 0, struct.pack(">II", 0, PROTOCOL_ERROR))
            raise
        if start:
            self._buffer = buffer[start:]
        return events

    def _frame_received(self, kind: int, flags: int, stream: int, payload: bytes, events: list) -> None:
        if not self._settings_received:
            if kind != _SETTINGS or flags & _ACK:
                raise BadWire("an HTTP/2 connection that does not begin with SETTINGS")
            self._settings_received = True
        if self._block_stream and (kind != _CONTINUATION or stream != self._block_stream):
            raise BadWire("an HTTP/2 frame amid a header block")
        if kind == _DATA:
            self._data_received(flags, stream, payload, events)
        elif kind == _HEADERS:
            self._headers_received(flags, stream, payload, events)
        elif kind == _CONTINUATION:
            self._continuation_received(flags, payload, events)
        elif kind == _RST_STREAM:
            self._rst_stream_received(stream, payload, events)
        elif kind == _WINDOW_UPDATE:
            self._window_update_received(stream, payload)
        elif kind == _SETTINGS:
            self._settings_frame_received(flags, stream, payload)
        elif kind == _PING:
            self._ping_received(flags, stream, payload)
        elif kind == _GOAWAY:
            self._goaway_received(stream, payload, events)
        elif kind == _PRIORITY:
            if stream == 0 or len(payload) != 5:
                raise BadWire("a broken HTTP/2 PRIORITY frame")
        elif kind == _PUSH_PROMISE:
            raise BadWire("an HTTP/2 push, which we do not allow")
        # Frames of unknown types are ignored: section 4.1.

    def _data_received(self, flags: int, number: int, payload: bytes, events: list) -> None:
        self._check_begun(number)
        length = len(payload)  # flow control counts padding too
        self._receive_window -= length
        if self._receive_window < 0:
            raise BadWire("more HTTP/2 data than our window allows")
        data = _without_padding(payload, flags)
        stream = self._streams.get(number)
        if stream is not None:
            if not stream.is_answered:
                raise BadWire("HTTP/2 data before its headers")
            stream.receive_window -= length
            if stream.receive_window < 0:
                raise BadWire("more HTTP/2 data than our stream's window allows")
            if self._paced:
                stream.unread += len(data)
            stream.received += len(data)
            if stream.content_length is not None and stream.received > stream.content_length:
                raise BadWire("an HTTP/2 body longer than its content-length")
            if data:
                events.append((DATA, number, data))
            if flags & _END_STREAM:
                self._end(number, events)
            else:
                self._open_window(number, stream)
        if self._receive_window <= self._window_bytes // 2:
            self._send_window_update(0, self._window_bytes - self._receive_window)
            self._receive_window = self._window_bytes

    def _headers_received(self, flags: int, number: int, payload: bytes, events: list) -> None:
        self._check_begun(number)
        block = _without_padding(payload, flags)
        if flags & _WITH_PRIORITY:
            if len(block) < 5:
                raise BadWire("an HTTP/2 HEADERS frame without its priority")
            block = block[5:]
        self._block_stream = number
        self._block_ends_stream = bool(flags & _END_STREAM)
        self._block = bytearray(block)
        self._continuations = 0
        if flags & _END_HEADERS:
            self._block_received(events)

    def _continuation_received(self, flags: int, payload: bytes, events: list) -> None:
        if not self._block_stream:
            raise BadWire("an HTTP/2 CONTINUATION of nothing")
        self._continuations += 1
        if self._continuations > MAX_CONTINUATIONS:
            raise BadWire("an HTTP/2 header block in too many frames")
        if len(self._block) + len(payload) > MAX_HEADER_BLOCK_BYTES:
            raise BadWire("an HTTP/2 header block over " + str(MAX_HEADER_BLOCK_BYTES) + " bytes")
        self._block += payload
        if flags & _END_HEADERS:
            self._block_received(events)

    def _block_received(self, events: list) -> None:
        number = self._block_stream
        self._block_stream = 0
        # Decoded also for a stream that is gone: the next block builds on this one's table.
        headers = self._headers.decode(bytes(self._block))
        self._block = bytearray()
        stream = self._streams.get(number)
        if stream is None:
            return
        if stream.is_answered:
            if not self._block_ends_stream:
                raise BadWire("HTTP/2 trailers that do not end their stream")
            _check_headers(headers)
            self._end(number, events)
            return
        if not headers or headers[0][0] != ":status":
            raise BadWire("an HTTP/2 answer without a status")
        status = _status(headers[0][1])
        _check_headers(headers[1:])
        if status < 200:
            if self._block_ends_stream:
                raise BadWire("an HTTP/2 answer that ends before its final status")
            return
        stream.is_answered = True
        length = _content_length(headers)
        if stream.has_body and status not in _NO_BODY_STATUSES:
            stream.content_length = length
        events.append((HEADERS, number, status, headers[1:]))
        if self._block_ends_stream:
            self._end(number, events)

    def _rst_stream_received(self, number: int, payload: bytes, events: list) -> None:
        self._check_begun(number)
        if len(payload) != 4:
            raise BadWire("an HTTP/2 RST_STREAM frame of the wrong length")
        if self._streams.pop(number, None) is not None:
            events.append((RESET, number, struct.unpack(">I", payload)[0]))
            self._begin_waiting()

    def _window_update_received(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise BadWire("an HTTP/2 WINDOW_UPDATE frame of the wrong length")
        increment = struct.unpack(">I", payload)[0] & _STREAM_MASK
        if increment == 0:
            raise BadWire("an HTTP/2 window update of nothing")
        if number == 0:
            self._send_window += increment
            if self._send_window > _MAX_WINDOW_BYTES:
                raise BadWire("an HTTP/2 window that overflows")
            self._send_bodies()
            return
        self._check_begun(number)
        stream = self._streams.get(number)
        if stream is not None:
            stream.send_window += increment
            if stream.send_window > _MAX_WINDOW_BYTES:
                raise BadWire("an HTTP/2 window that overflows")
            self._send_body(number, stream)

    def _settings_frame_received(self, flags: int, number: int, payload: bytes) -> None:
        if number != 0 or len(payload) % 6 != 0:
            raise BadWire("a broken HTTP/2 SETTINGS frame")
        if flags & _ACK:
            if payload:
                raise BadWire("an HTTP/2 acknowledgement with settings in it")
            return
        for at in range(0, len(payload), 6):
            identifier, value = struct.unpack_from(">HI", payload, at)
            if identifier == _ENABLE_PUSH:
                if value != 0:
                    raise BadWire("an HTTP/2 server that asks for push")
            elif identifier == _MAX_CONCURRENT_STREAMS:
                self._max_streams = value
            elif identifier == _INITIAL_WINDOW_SIZE:
                self._initial_window_changed(value)
            elif identifier == _MAX_FRAME_SIZE:
                if not _DEFAULT_FRAME_BYTES <= value <= _MAX_FRAME_BYTES:
                    raise BadWire("an HTTP/2 frame size that the protocol does not allow")
                self._max_send_frame = value
            # HEADER_TABLE_SIZE bounds a table that our encoder does not use; unknown settings are ignored.
        self._send(_SETTINGS, _ACK, 0, b"")
        self._begin_waiting()
        self._send_bodies()

    def _initial_window_changed(self, value: int) -> None:
        if value > _MAX_WINDOW_BYTES:
            raise BadWire("an HTTP/2 window that overflows")
        change = value - self._initial_send_window
        self._initial_send_window = value
        for stream in self._streams.values():
            stream.send_window += change  # may go below zero: section 6.9.2
            if stream.send_window > _MAX_WINDOW_BYTES:
                raise BadWire("an HTTP/2 window that overflows")

    def _ping_received(self, flags: int, number: int, payload: bytes) -> None:
        if number != 0 or len(payload) != 8:
            raise BadWire("a broken HTTP/2 PING frame")
        if not flags & _ACK:
            self._send(_PING, _ACK, 0, payload)

    def _goaway_received(self, number: int, payload: bytes, events: list) -> None:
        if number != 0 or len(payload) < 8:
            raise BadWire("a broken HTTP/2 GOAWAY frame")
        last, code = struct.unpack_from(">II", payload, 0)
        last &= _STREAM_MASK
        self._going_away = True
        waiting = [stream for stream, _ in self._waiting]
        events.append((GOAWAY, last, code))
        for stream in sorted(self._streams):
            if stream > last or stream in waiting:
                self._forget(stream)
                events.append((RESET, stream, REFUSED_STREAM))

    def _check_begun(self, number: int) -> None:
        """Refuse frames on streams that no request of ours began. Streams that have ended may still get some."""
        first_waiting = self._waiting[0][0] if self._waiting else self._last_stream + 2
        if number % 2 == 0 or number >= first_waiting:
            raise BadWire("an HTTP/2 frame on stream " + str(number) + ", which nobody began")

    def _begin_waiting(self) -> None:
        """Begin held-back requests, in their order, as far as the server's limit on streams goes."""
        while self._waiting and len(self._streams) - len(self._waiting) < self._max_streams:
            number, block = self._waiting.pop(0)
            stream = self._streams[number]
            flags = 0 if stream.body else _END_STREAM
            kind = _HEADERS
            start = 0
            while True:
                end = start + self._max_send_frame
                is_last = end >= len(block)
                self._send(kind, flags | (_END_HEADERS if is_last else 0), number, block[start:end])
                if is_last:
                    break
                kind = _CONTINUATION
                flags = 0
                start = end
            stream.is_begun = True
            self._send_body(number, stream)

    def _send_bodies(self) -> None:
        for number in sorted(self._streams):
            self._send_body(number, self._streams[number])

    def _send_body(self, number: int, stream: "_Stream") -> None:
        """Send of a request's body what both windows allow."""
        while stream.is_begun and stream.sent < len(stream.body):
            length = min(len(stream.body) - stream.sent, self._max_send_frame, stream.send_window, self._send_window)
            if length <= 0:
                return
            end = stream.sent + length
            flags = _END_STREAM if end == len(stream.body) else 0
            self._send(_DATA, flags, number, memoryview(stream.body)[stream.sent : end])
            stream.sent = end
            stream.send_window -= length
            self._send_window -= length

    def _end(self, number: int, events: list) -> None:
        """The answer is whole."""
        stream = self._streams.pop(number)
        if stream.content_length is not None and stream.received != stream.content_length:
            raise BadWire("an HTTP/2 body shorter than its content-length")
        if stream.sent < len(stream.body):
            # The server wants no more of the request; without a word it would wait for the rest.
            self._send(_RST_STREAM, 0, number, struct.pack(">I", NO_ERROR))
        events.append((ENDED, number))
        self._begin_waiting()

    def _forget(self, number: int) -> bool:
        """Drop a request; tell whether the server knows of it and is not done with it."""
        stream = self._streams.pop(number, None)
        self._waiting = [waiting for waiting in self._waiting if waiting[0] != number]
        return stream is not None and stream.is_begun

    def _send_window_update(self, stream: int, increment: int) -> None:
        self._send(_WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))

    def _send(self, kind: int, flags: int, stream: int, payload: "bytes | memoryview") -> None:
        length = len(payload)
        self._out += struct.pack(">BHBBI", length >> 16, length & 0xFFFF, kind, flags, stream)
        self._out += payload


class _Stream:
    """One request and its answer."""

    def __init__(self, body: bytes, send_window: int, receive_window: int):
        self.body = body
        self.sent = 0
        self.send_window = send_window
        self.receive_window = receive_window
        self.is_begun = False  # its HEADERS are sent
        self.is_answered = False  # the final status has come
        self.has_body = True  # the answer's
        self.content_length: int | None = None
        self.received = 0
        self.unread = 0  # of a paced connection: what was handed out and not yet consumed


def _without_padding(payload: bytes, flags: int) -> bytes:
    """Return a DATA or HEADERS payload without its padding. Section 6.1."""
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise BadWire("an HTTP/2 frame with more padding than payload")
    return payload[1 : len(payload) - payload[0]]


def _check_headers(headers: list) -> None:
    """Refuse what makes an answer malformed. Sections 8.2.1, 8.2.2 and 8.3."""
    for name, value in headers:
        if not name or name in _FORBIDDEN_HEADERS:
            raise BadWire("a header that HTTP/2 does not allow: " + name)
        for character in name:
            # No controls, blanks, upper case, colon (a misplaced pseudo-header), nor anything beyond ASCII.
            if not "!" <= character <= "~" or "A" <= character <= "Z" or character == ":":
                raise BadWire("an HTTP/2 header's name with a forbidden character")
        if "\r" in value or "\n" in value or "\0" in value or value[:1] in (" ", "\t") or value[-1:] in (" ", "\t"):
            if value:
                raise BadWire("an HTTP/2 header's value with a forbidden character")


def _status(text: str) -> int:
    if len(text) != 3:
        raise BadWire("an HTTP/2 status that is none")
    for digit in text:
        if digit not in "0123456789":
            raise BadWire("an HTTP/2 status that is none")
    return int(text)


def _content_length(headers: list) -> "int | None":
    """Return the length that the answer announces, or None."""
    length = None
    for name, value in headers:
        if name == "content-length":
            if not 1 <= len(value) <= 15 or length is not None:
                raise BadWire("an HTTP/2 content-length that is none")
            for digit in value:
                if digit not in "0123456789":
                    raise BadWire("an HTTP/2 content-length that is none")
            length = int(value)
    return length
