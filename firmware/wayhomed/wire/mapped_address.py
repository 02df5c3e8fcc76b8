"""IPv4 addresses inside IPv6's 16 bytes (::ffff:a.b.c.d), as disco, DERP and STUN carry them.

Source: RFC 4291 section 2.5.5.2.
"""

from .address import IPV4_BYTES, IPV6_BYTES
from .errors import BadWire

_PREFIX = b"\0" * 10 + b"\xff\xff"


def mapped(ip: bytes) -> bytes:
    """Return 16 bytes for an address of either family."""
    if len(ip) == IPV4_BYTES:
        return _PREFIX + ip
    if len(ip) != IPV6_BYTES:
        raise ValueError("an IP address has 4 or 16 bytes, not " + str(len(ip)))
    return bytes(ip)


def unmapped(ip: bytes) -> bytes:
    """Return 4 bytes for a mapped IPv4 address, else the 16 as they are. Raises BadWire for another length."""
    if len(ip) != IPV6_BYTES:
        raise BadWire("an address of " + str(len(ip)) + " bytes where 16 belong")
    if ip[:12] == _PREFIX:
        return bytes(ip[12:])
    return bytes(ip)
