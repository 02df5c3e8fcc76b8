"""The little HTTP/1.1 a client of ours speaks: one request a connection, read its answer or take the connection over.

Source: RFC 9112 sections 2 to 7.
"""

from ..port import const
from .errors import BadWire

SWITCHING_PROTOCOLS = const(101)
# Chosen by us
MAX_HEAD_BYTES = const(16_384)
MAX_HEADERS = const(100)
_MAX_CHUNK_LINE_BYTES = const(256)
_MAX_INTERIM = const(8)
_END_OF_HEAD = b"\r\n\r\n"
_NO_BODY_STATUSES = (204, 304)


def encode_request(method: str, target: str, headers: list, body: bytes = b"") -> bytes:
    """Return the request; headers is a list of (name, value), complete but for Content-Length with a body.

    Raises ValueError for a line break in any part: it would begin a header of somebody else's choice.
    """
    lines = [method + " " + target + " HTTP/1.1"]
    lines += [name + ": " + value for name, value in headers]
    if body or method == "POST":
        lines.append("Content-Length: " + str(len(body)))
    for line in lines:
        if "\r" in line or "\n" in line:
            raise ValueError("a line break in an HTTP header")
    return "\r\n".join(lines).encode() + _END_OF_HEAD + body


class HeadReader:
    """Read an answer's head: `status`, `headers` (lower-case names) and `rest`, the bytes that came behind it."""

    def __init__(self, max_bytes: int = MAX_HEAD_BYTES):
        self.status = 0
        self.headers: dict = {}
        self.rest = b""
        self._buffer = bytearray()
        self._max_bytes = max_bytes
        self._interim = 0

    def feed(self, data: bytes) -> bool:
        """Add bytes as they came; tell whether the head is whole. Raises BadWire if it is none or too long."""
        if self.status:
            self.rest += data
            return True
        buffer = self._buffer
        buffer += data
        while True:
            end = bytes(buffer).find(_END_OF_HEAD)
            if end < 0:
                if len(buffer) >= self._max_bytes:
                    raise BadWire("an HTTP head longer than " + str(self._max_bytes) + " bytes")
                return False
            if end + len(_END_OF_HEAD) > self._max_bytes:
                raise BadWire("an HTTP head longer than " + str(self._max_bytes) + " bytes")
            self._parse(bytes(buffer[:end]))
            buffer[: end + len(_END_OF_HEAD)] = b""
            if self.status >= 200 or self.status == SWITCHING_PROTOCOLS:
                self.rest = bytes(buffer)
                self._buffer = bytearray()
                return True
            # Only "wait" or "here are hints": the answer itself follows (RFC 9110 section 15.2).
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise BadWire("an HTTP answer that never comes")
            self.status = 0
            self.headers = {}

    def _parse(self, head: bytes) -> None:
        try:
            lines = head.decode().split("\r\n")
        except UnicodeError:
            raise BadWire("an HTTP head that is no text")
        if len(lines) - 1 > MAX_HEADERS:
            raise BadWire("more HTTP headers than " + str(MAX_HEADERS))
        headers = self.headers
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            # A name with a blank in it covers folded lines, which RFC 9112 section 5.2 lets us refuse.
            if not colon or not name or " " in name or "\t" in name or "\n" in line or "\r" in line or "\0" in line:
                raise BadWire("a broken HTTP header line")
            name = name.lower()
            value = value.strip(" \t")
            headers[name] = headers[name] + ", " + value if name in headers else value
        self.status = _status(lines[0])


class ResponseReader:
    """Read one whole answer: `status`, `headers`, `body`; `done` once the body is whole."""

    def __init__(self, max_body_bytes: int, has_body: bool = True):
        """has_body: False for the answer to a HEAD, whose Content-Length is another answer's."""
        self.done = False
        self._has_body = has_body
        self.body = b""
        self._head = HeadReader()
        self._max_body_bytes = max_body_bytes
        self._in_body = False
        self._buffer = bytearray()
        self._length: int | None = None
        self._chunks: _ChunkReader | None = None

    @property
    def status(self) -> int:
        return self._head.status

    @property
    def headers(self) -> dict:
        return self._head.headers

    def feed(self, data: bytes) -> bool:
        """Add bytes as they came; return `done`. Bytes behind the answer are dropped. Raises BadWire."""
        if self.done:
            return True
        if not self._in_body:
            if not self._head.feed(data):
                return False
            self._begin_body()
            data = self._head.rest
        if self._chunks is not None:
            if self._chunks.feed(data):
                self._finish(self._chunks.body)
            return self.done
        self._buffer += data
        if self._length is None:
            if len(self._buffer) > self._max_body_bytes:
                raise BadWire("an HTTP body longer than " + str(self._max_body_bytes) + " bytes")
        elif len(self._buffer) >= self._length:
            self._finish(self._buffer[: self._length])
        return self.done

    def closed(self) -> None:
        """The connection ended: the end of a body without a length. Raises BadWire if the answer is not whole."""
        if self.done:
            return
        if not self._in_body or self._length is not None or self._chunks is not None:
            raise BadWire("the connection ended within an HTTP answer")
        self._finish(self._buffer)

    def _begin_body(self) -> None:
        self._in_body = True
        headers = self._head.headers
        coding = headers.get("transfer-encoding")
        length = headers.get("content-length")
        if not self._has_body or self.status < 200 or self.status in _NO_BODY_STATUSES:
            self._length = 0
        elif coding is not None:
            # Both at once is how answers are smuggled past a proxy: RFC 9112 section 6.3.
            if coding.lower() != "chunked" or length is not None:
                raise BadWire("an HTTP answer whose length cannot be told")
            self._chunks = _ChunkReader(self._max_body_bytes)
        elif length is not None:
            self._length = _number(length, 10)
            if self._length > self._max_body_bytes:
                raise BadWire("an HTTP body longer than " + str(self._max_body_bytes) + " bytes")

    def _finish(self, body: "bytes | bytearray") -> None:
        self.body = bytes(body)
        self.done = True


class _ChunkReader:
    """The chunked coding. Source: RFC 9112 section 7.1."""

    def __init__(self, max_bytes: int):
        self.body = bytearray()
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._wanted = 0  # bytes of the current chunk, its CRLF included; 0 before a chunk's line
        self._in_trailer = False

    def feed(self, data: bytes) -> bool:
        """Add bytes; tell whether the last chunk and its trailer are whole."""
        self._buffer += data
        while True:
            if self._wanted:
                if len(self._buffer) < self._wanted:
                    return False
                if self._buffer[self._wanted - 2 : self._wanted] != b"\r\n":
                    raise BadWire("a chunk of an HTTP body without its end")
                self.body += self._buffer[: self._wanted - 2]
                self._buffer[: self._wanted] = b""
                self._wanted = 0
            line = self._take_line()
            if line is None:
                return False
            if self._in_trailer:
                if not line:
                    return True
                continue
            size = _number(line.partition(";")[0].strip(" \t"), 16)
            if len(self.body) + size > self._max_bytes:
                raise BadWire("an HTTP body longer than " + str(self._max_bytes) + " bytes")
            if size:
                self._wanted = size + 2
            else:
                self._in_trailer = True

    def _take_line(self) -> "str | None":
        """Return the next line without its end, or None while it is not whole."""
        end = bytes(self._buffer[:_MAX_CHUNK_LINE_BYTES]).find(b"\r\n")
        if end < 0:
            if len(self._buffer) >= _MAX_CHUNK_LINE_BYTES:
                raise BadWire("a chunk line of an HTTP body that has no end")
            return None
        try:
            line = bytes(self._buffer[:end]).decode()
        except UnicodeError:
            raise BadWire("a chunk line of an HTTP body that is no text")
        self._buffer[: end + 2] = b""
        return line


def _status(line: str) -> int:
    """Return the status of "HTTP/1.1 200 OK"."""
    version, _, rest = line.partition(" ")
    digits, _, _ = rest.partition(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0") or len(digits) != 3:
        raise BadWire("not an HTTP/1.1 answer")
    status = _number(digits, 10)
    if not 100 <= status <= 599:
        raise BadWire("an HTTP status that is none: " + digits)
    return status


def _number(text: str, base: int) -> int:
    """Return the number that only digits of the base write; at most 9 of them, so that it stays a small one."""
    if not 1 <= len(text) <= 9:
        raise BadWire("an HTTP length that is none")
    for digit in text.lower():
        if digit not in "0123456789abcdef"[:base]:
            raise BadWire("an HTTP length that is none")
    return int(text, base)
