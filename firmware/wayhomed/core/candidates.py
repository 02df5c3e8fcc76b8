"""Which addresses a peer may send us to: what may be pinged, and what never.

Candidates come from the netmap, from CallMeMaybes and from the sources of pings: all of them words of a peer. A peer
must not make this machine send to itself, into the tunnel, or to a whole network at once. Addresses of a LAN that we
are connected to are allowed: that is how two nodes at home meet. So are private networks and a carrier's 100.64/10.

An endpoint is (address of 4 or 16 bytes, port); a prefix is (network bytes, length in bits).
Source: disco.md sections 3 and 4.2; RFC 6890, RFC 919, RFC 4291.
"""

from wayhomed.wire.address import contains

# Fixed by the protocol
_THIS_NETWORK = (bytes(4), 8)
_LOOPBACK4 = (b"\x7f" + bytes(3), 8)
_LOOPBACK6 = bytes(15) + b"\x01"
_MULTICAST4 = (b"\xe0" + bytes(3), 4)
_RESERVED4 = (b"\xf0" + bytes(3), 4)
_MULTICAST6 = (b"\xff" + bytes(15), 8)
_LINK_LOCAL6 = (b"\xfe\x80" + bytes(14), 10)
_MAPPED4 = (bytes(10) + b"\xff\xff" + bytes(4), 96)
_MESH6 = (b"\xfd\x7a\x11\x5c\xa1\xe0" + bytes(10), 48)
_SERVICE4 = b"\x64" * 4


class Own:
    """What this machine knows of itself.

    addresses: its own IPs; connected: the prefixes on its links; mesh: IPs of the mesh, its own and the peers'.
    """

    def __init__(self, addresses=(), connected=(), mesh=()):
        self.addresses = set(addresses)
        self.connected = list(connected)
        self.mesh = set(mesh)


def refusal(endpoint: tuple, own: Own) -> str:
    """Say why nothing may be sent to this endpoint of a peer; "" = it may be pinged."""
    ip, port = endpoint
    if not 0 < port < 65536:
        return "no port"
    if len(ip) == 4:
        reason = _refusal4(ip, own)
    elif len(ip) == 16:
        reason = _refusal6(ip)
    else:
        reason = "no address"
    if reason:
        return reason
    if ip in own.addresses:
        return "an address of this machine"
    if ip in own.mesh:
        return "an address of the mesh"
    return ""


def _refusal4(ip: bytes, own: Own) -> str:
    if contains(_THIS_NETWORK, ip):
        return "unspecified"
    if contains(_LOOPBACK4, ip):
        return "loopback"
    if contains(_MULTICAST4, ip):
        return "multicast"
    if contains(_RESERVED4, ip):
        return "broadcast or reserved"
    if ip == _SERVICE4:
        return "an address of the mesh"
    for prefix in own.connected:
        if _is_broadcast(ip, prefix):
            return "broadcast of a connected network"
    return ""


def _refusal6(ip: bytes) -> str:
    if ip == bytes(16):
        return "unspecified"
    if ip == _LOOPBACK6:
        return "loopback"
    if contains(_MULTICAST6, ip):
        return "multicast"
    if contains(_LINK_LOCAL6, ip):
        return "link-local"
    if contains(_MAPPED4, ip):
        return "IPv4 written as IPv6"
    if contains(_MESH6, ip):
        return "an address of the mesh"
    return ""


def _is_broadcast(ip: bytes, prefix: tuple) -> bool:
    """Tell whether all host bits are equal: zeros (RFC 919's old form) or ones. /31 and /32 have no broadcast."""
    length = prefix[1]
    if length > 30 or not contains(prefix, ip):
        return False
    hosts = (1 << 32 - length) - 1
    return int.from_bytes(ip, "big") & hosts in (0, hosts)
