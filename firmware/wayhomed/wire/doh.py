"""DNS over HTTP as an exit node offers it to those who use it: one request a connection, read and answered.

    GET /dns-query?dns=BASE64URL HTTP/1.1            POST /dns-query, Content-Type: application/dns-message
    -> 200, Content-Type: application/dns-message, the answer's message

Source: RFC 8484 section 4, RFC 9112; protocol reference, wireguard.md section 7.1.
"""

from binascii import a2b_base64

from ..port import const
from .dns import MAX_QUERY_BYTES
from .errors import BadWire

PATH = "/dns-query"
TYPE = "application/dns-message"
# Chosen by us
MAX_HEAD_BYTES = const(8192)
_END_OF_HEAD = b"\r\n\r\n"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
OK = const(200)
BAD_REQUEST = const(400)
FORBIDDEN = const(403)
NOT_FOUND = const(404)
_REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found"}


class NotHere(BadWire):
    """A request for something else than names."""


class RequestReader:
    """Reads one request however it was cut; message: the DNS message in it, once feed() has said that it is whole."""

    def __init__(self):
        self.message = b""
        self._buffer = bytearray()
        self._length: int | None = None  # of a POST's body, once the head is read

    def feed(self, data: bytes) -> bool:
        """Add bytes as they came; tell whether the request is whole. Raises BadWire, NotHere for other paths."""
        self._buffer += data
        if self._length is None:
            end = bytes(self._buffer).find(_END_OF_HEAD)
            if (len(self._buffer) if end == -1 else end) > MAX_HEAD_BYTES:
                raise BadWire("an HTTP head longer than %d bytes" % MAX_HEAD_BYTES)
            if end == -1:
                return False
            head = bytes(self._buffer[:end])
            self._buffer[: end + len(_END_OF_HEAD)] = b""
            if self._read_head(head):
                return True
        length = self._length or 0
        if len(self._buffer) < length:
            return False
        self.message = bytes(self._buffer[:length])
        return True

    def _read_head(self, head: bytes) -> bool:
        """Take the head; tell whether that was all."""
        try:
            lines = head.decode().split("\r\n")
        except UnicodeError:
            raise BadWire("an HTTP head that is no text")
        words = lines[0].split(" ")
        if len(words) != 3:
            raise BadWire("not an HTTP request")
        path, _, given = words[1].partition("?")
        if path != PATH:
            raise NotHere("nothing is at this path")
        if words[0] == "GET":
            self.message = _from_query(given)
            return True
        if words[0] != "POST":
            raise BadWire("neither GET nor POST")
        self._length = _content_length(lines[1:])
        return False


def _from_query(given: str) -> bytes:
    for pair in given.split("&"):
        name, _, value = pair.partition("=")
        if name == "dns":
            return _from_base64(value)
    raise BadWire("no DNS message in the request")


def _from_base64(text: str) -> bytes:
    """Return the bytes of base64url without padding (RFC 4648 section 5)."""
    for character in text:
        if character not in _LETTERS:
            raise BadWire("not base64url")
    if len(text) % 4 == 1:
        raise BadWire("not base64url")
    text = text.replace("-", "+").replace("_", "/")
    return a2b_base64(text + "=" * (-len(text) % 4))


def _content_length(lines: list) -> int:
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            value = value.strip(" \t")
            if not value.isdigit() or len(value) > 5 or int(value) > MAX_QUERY_BYTES:
                raise BadWire("a DNS message of a length that none has")
            return int(value)
    raise BadWire("a POST without a length")


def encode_response(status: int, message: bytes = b"") -> bytes:
    """Return the whole answer; the connection ends with it."""
    head = "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return (head % (status, _REASONS[status], TYPE, len(message))).encode() + message
