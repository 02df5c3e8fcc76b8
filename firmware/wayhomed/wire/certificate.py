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
    if at < end and der[at] == _VERSION:
        at = _open(der, at, end, _VERSION)[1]
    for tag in (_INTEGER, _SEQUENCE, _SEQUENCE):
        at = _open(der, at, end, tag)[1]
    at, end = _open(der, at, end, _SEQUENCE)
    not_before, at = _time(der, at, end)
    not_after, at = _time(der, at, end)
    return not_before, not_after


def _open(der: bytes, at: int, end: int, tag: int) -> tuple:
    """Return (start, end) of what is inside the element at `at`, which must have this tag."""
    if at + 2 > end or der[at] != tag:
        raise BadWire(_BAD)
    length = der[at + 1]
    at += 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 3 or at + count > end:
            raise BadWire(_BAD)
        length = 0
        for _ in range(count):
            length = length << 8 | der[at]
            at += 1
    if at + length > end:
        raise BadWire(_BAD)
    return at, at + length


def _time(der: bytes, at: int, end: int) -> tuple:
    if at >= end or der[at] not in (_UTC_TIME, _GENERALIZED_TIME):
        raise BadWire(_BAD)
    tag = der[at]
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
