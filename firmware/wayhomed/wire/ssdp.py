"""SSDP, the search of UPnP: a question to all, and the header lines of its answers.

    M-SEARCH * HTTP/1.1      to 239.255.255.250:1900
    HTTP/1.1 200 OK          back to who asked: SERVER, ST, USN, LOCATION and others, no body

LOCATION is not read at all: to fetch what a stranger names is to be sent wherever he likes.
Source: UPnP Device Architecture 1.1, section 1.3.
"""

from ..port import const
from .errors import BadWire

GROUP = b"\xef\xff\xff\xfa"
PORT = const(1900)
_OK = b"HTTP/1.1 200"
# Chosen by us
MAX_BYTES = const(2048)
_MAX_LINES = const(40)
_WANTED = ("server", "st", "usn")


def encode_search(wait_s: int) -> bytes:
    """Return the question to every root device, which answers within wait_s seconds."""
    lines = ("M-SEARCH * HTTP/1.1", "HOST: 239.255.255.250:1900", 'MAN: "ssdp:discover"', "MX: %d" % wait_s)
    return "\r\n".join(lines + ("ST: upnp:rootdevice", "", "")).encode()


def decode_answer(datagram: bytes) -> dict:
    """Return {"server", "st", "usn": text} of an answer, "" for what it does not say. Raises BadWire."""
    if len(datagram) > MAX_BYTES:
        raise BadWire("an SSDP answer of %d bytes" % len(datagram))
    head = bytes(datagram).split(b"\r\n\r\n", 1)[0]
    lines = head.split(b"\r\n", _MAX_LINES)
    if lines[0][: len(_OK)] != _OK or len(lines) > _MAX_LINES:
        raise BadWire("not an SSDP answer")
    found = {name: "" for name in _WANTED}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        try:
            key, text = str(name, "utf-8").strip().lower(), str(value, "utf-8").strip()
        except ValueError:
            raise BadWire("an SSDP answer that is no text")
        if not colon:
            raise BadWire("an SSDP line without a colon")
        if key in found and not found[key]:
            found[key] = text
    return found
