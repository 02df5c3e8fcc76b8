"""Whose a prefix can be: the mesh's own, a home's, or no tunnel's business. Source: README.md section 4, RFC 6890."""

from wayhomed.wire import address

# Fixed by the protocol
_MESH4 = (b"\x64\x40\x00\x00", 10)  # 100.64.0.0/10
_MESH6 = (b"\xfd\x7a\x11\x5c\xa1\xe0" + bytes(10), 48)
_MAPPED4 = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96: an IPv4 address that was not unmapped
_CHROME4 = (b"\x64\x73\x5c\x00", 23)  # 100.115.92.0/23 is not the mesh's
_SERVICE = (b"\x64\x64\x64\x64", b"\xfd\x7a\x11\x5c\xa1\xe0" + bytes(9) + b"\x53")  # the client's own resolver
_VIA6 = (b"\xfd\x7a\x11\x5c\xa1\xe0\x0b\x1a" + bytes(8), 64)  # 4via6: subnets of IPv4 written as IPv6
# Never the business of a tunnel: this host, link-local, multicast and above
_NEVER = (
    (bytes(4), 8),
    (b"\x7f" + bytes(3), 8),
    (b"\xa9\xfe\x00\x00", 16),
    (b"\xe0" + bytes(3), 3),
    (bytes(15) + b"\x01", 128),
    (b"\xfe\x80" + bytes(14), 10),
    (b"\xff" + bytes(15), 8),
)
# Where homes have their LANs (RFC 1918, RFC 4193)
_PRIVATE = (
    (b"\x0a" + bytes(3), 8),
    (b"\xac\x10\x00\x00", 12),
    (b"\xc0\xa8\x00\x00", 16),
    (b"\xfc" + bytes(15), 7),
)


def is_mesh_address(prefix: tuple) -> bool:
    """Tell whether a prefix is a single address of the mesh's own ranges."""
    ip, length = prefix
    if length != 8 * len(ip) or ip in _SERVICE:
        return False
    if len(ip) == 4:
        return address.contains(_MESH4, ip) and not address.contains(_CHROME4, ip)
    return address.contains(_MESH6, ip) and not address.contains(_VIA6, ip)


def is_no_host(ip: bytes) -> bool:
    """Tell whether nobody beyond this link can be at an address: unspecified, loopback, link-local, multicast..."""
    if ip == bytes(16) or ip[:12] == _MAPPED4:
        return True
    for never in _NEVER:
        if address.contains(never, ip):
            return True
    return False


def is_shared_space(ip: bytes) -> bool:
    """Tell whether an address is of 100.64/10, which carriers use inside and the mesh borrows (RFC 6598)."""
    return address.contains(_MESH4, ip)


def is_mesh6(ip: bytes) -> bool:
    """Tell whether an address is of the mesh's own IPv6 range, which nobody else uses."""
    return address.contains(_MESH6, ip)


def is_private(prefix: tuple) -> bool:
    """Tell whether a prefix lies within what homes and companies use inside."""
    for private in _PRIVATE:
        if private[1] <= prefix[1] and address.contains(private, prefix[0]):
            return True
    return False


def no_subnet_reason(prefix: tuple) -> str:
    """Say why a prefix can be no subnet of anybody, or ""."""
    if prefix[1] == 0:
        return "a default route needs an exit node"
    for never in _NEVER:
        if address.overlaps(never, prefix):
            return "not for a tunnel: loopback, link-local or multicast"
    if address.overlaps(_MESH4, prefix) or (
        address.overlaps(_MESH6, prefix) and not (address.contains(_VIA6, prefix[0]) and prefix[1] >= _VIA6[1])
    ):
        return "overlaps the mesh's own addresses"
    return ""
