"""The dates in an X.509 certificate, and nothing else of it.

    Certificate      SEQUENCE { tbsCertificate, ... }
    tbsCertificate   SEQUENCE { [0] version OPTIONAL, serialNumber INTEGER, signature SEQUENCE, issuer SEQUENCE,
                                validity SEQUENCE { notBefore, notAfter }, ... }

A time is a UTCTime (YYMMDDHHMMSSZ) or a GeneralizedTime (YYYYMMDDHHMMSSZ).
Who made it and for whom is TLS's business: this is for boards whose own clock TLS can't go by.
Source: RFC 5280 sections 4.1 and 4.1.2.5; X.690 section 8.1.
"""

from wayhomed.port import const

from .errors import BadWire

# Fixed by the format
_INTEGER = const(0x02)
_UTC_TIME = const(0x17)
_GENERALIZED_TIME = const(0x18)
_SEQUENCE = const(0x30)
_VERSION = const(0xA0)
# Chosen by us
MAX_BYTES = const(65_536)
_BAD = "not a certificate"


def validity(der: bytes) -> tuple:
    """Return (not before, not after) as texts "YYYYMMDDHHMMSS", UTC: they sort as the times do.

    Raises BadWire.
    """
    if len(der) > MAX_BYTES:
        raise BadWire("a certificate of %d bytes" % len(der))
    at, end = _open(der, 0, len(der), _SEQUENCE)
    at, end = _open(der, at, end, _SEQUENCE)
    if _tag(der, at) == _VERSION:
        at = _open(der, at, end, _VERSION)[1]
    for tag in (_INTEGER, _SEQUENCE, _SEQUENCE):
        at = _open(der, at, end, tag)[1]
    at, end = _open(der, at, end, _SEQUENCE)
    not_before, at = _time(der, at, end)
    not_after, at = _time(der, at, end)
    return not_before, not_after


def _tag(der: bytes, at: int) -> int:
    """Return the tag of the element at `at`, 0 where the bytes end. _open() refuses one outside of its parent."""
    return der[at] if at < len(der) else 0


def _open(der: bytes, at: int, end: int, tag: int) -> tuple:
    """Return (start, end) of what is inside the element at `at`, which must have this tag and end by `end`."""
    head = der[at : at + 2]
    if len(head) != 2 or head[0] != tag:
        raise BadWire(_BAD)
    length = head[1]
    at += 2
    if length & 0x80:
        count = length & 0x7F
        if count not in (1, 2):  # 0: no length at all; with 3 it would be more than MAX_BYTES
            raise BadWire(_BAD)
        length = int.from_bytes(der[at : at + count], "big")
        at += count
    if at + length > end:
        raise BadWire(_BAD)
    return at, at + length


def _time(der: bytes, at: int, end: int) -> tuple:
    tag = _GENERALIZED_TIME if _tag(der, at) == _GENERALIZED_TIME else _UTC_TIME
    start, stop = _open(der, at, end, tag)
    text = der[start:stop]
    if len(text) != (13 if tag == _UTC_TIME else 15) or text[-1] != 0x5A:
        raise BadWire(_BAD)
    for byte in text[:-1]:
        if not 0x30 <= byte <= 0x39:
            raise BadWire(_BAD)
    digits = text[:-1].decode()
    if tag == _UTC_TIME:
        digits = ("20" if digits < "50" else "19") + digits
    return digits, stop
