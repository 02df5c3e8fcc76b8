"""Subnet routes: which may be approved, and which of several routers is the one to use."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from .addresses import MESH_V4, MESH_V6, overlaps_mesh
from .errors import RegistryError
from .model import Prefix

_NOT_ROUTABLE = tuple(
    (ip_network(text), words)
    for text, words in (
        ("0.0.0.0/8", "addresses of this very network"),
        ("127.0.0.0/8", "loopback addresses"),
        ("169.254.0.0/16", "link-local addresses"),
        ("224.0.0.0/4", "multicast addresses"),
        ("240.0.0.0/4", "reserved addresses"),
        ("::/127", "loopback addresses"),
        ("fe80::/10", "link-local addresses"),
        ("ff00::/8", "multicast addresses"),
    )
)
# A shorter prefix is a good part of the Internet: a default route in pieces.
_SHORTEST_V4 = 8
_SHORTEST_V6 = 16


def sort_key(prefix: Prefix) -> tuple[int, int, int]:
    """IPv4 before IPv6, then by address: prefixes of both families don't compare by themselves."""
    return prefix.version, int(prefix.network_address), prefix.prefixlen


def prefix_from(text: str) -> Prefix:
    """Read a prefix that a person typed. Raises RegistryError."""
    try:
        return ip_network(text.strip())
    except ValueError:
        pass
    try:
        meant = ip_network(text.strip(), strict=False)
    except ValueError:
        raise RegistryError(f'"{text[:60]}" is not a prefix; write one like 192.168.1.0/24') from None
    raise RegistryError(f"{text} has bits set behind its length; did you mean {meant}?")


def check_route(prefix: Prefix) -> None:
    """Raise RegistryError, with the reason, unless `prefix` may be a subnet route."""
    if prefix.prefixlen == 0:
        raise RegistryError(
            f"{prefix} is a default route: it would send everything through this node, which is an exit node's task "
            "and not a subnet's; exit nodes are not offered yet, so approve the LAN's own prefix instead"
        )
    if overlaps_mesh(prefix):
        mesh = MESH_V4 if prefix.version == 4 else MESH_V6
        raise RegistryError(
            f"{prefix} overlaps {mesh}, the mesh's own addresses; it would draw other nodes' packets to this one"
        )
    shortest = _SHORTEST_V4 if prefix.version == 4 else _SHORTEST_V6
    if prefix.prefixlen < shortest:
        raise RegistryError(
            f"{prefix} is a part of the Internet, not of a LAN; approve a prefix of at least /{shortest}"
        )
    for network, words in _NOT_ROUTABLE:
        if network.version == prefix.version and network.overlaps(prefix):
            raise RegistryError(f"{prefix} holds {words} ({network}), which are never routed")


def check_target_v4(text: str) -> IPv4Address:
    """The IPv4 address of a LAN device that is to be published. Raises RegistryError."""
    try:
        address = IPv4Address(text.strip())
    except ValueError:
        raise RegistryError(f'"{text[:60]}" is not an IPv4 address; write one like 192.168.1.10') from None
    _check_target(address)
    return address


def check_target_v6(text: str) -> IPv6Address:
    """The IPv6 address of a LAN device that is to be published. Raises RegistryError."""
    try:
        address = IPv6Address(text.strip())
    except ValueError:
        raise RegistryError(f'"{text[:60]}" is not an IPv6 address; write one like fd00:1::10') from None
    if address.scope_id:
        raise RegistryError(f"{address} is good on one link only; publish an address that can be routed")
    _check_target(address)
    return address


def _check_target(address: IPv4Address | IPv6Address) -> None:
    whole: IPv4Network | IPv6Network = ip_network(f"{address}/{address.max_prefixlen}")
    if overlaps_mesh(whole):
        raise RegistryError(f"{address} is an address of the mesh, not of a LAN")
    for network, words in _NOT_ROUTABLE:
        if network.version == address.version and network.overlaps(whole):
            raise RegistryError(f"{address} is one of the {words} ({network}) and cannot be a device on a LAN")


def primary(routers: Iterable[int], online: Container[int], expired: Collection[int]) -> int | None:
    """Which of the routers of one prefix is to be used: of those online the lowest id, else the lowest at all.

    None if there is none whose key is still valid.
    """
    valid = sorted(router for router in routers if router not in expired)
    return next((router for router in valid if router in online), valid[0] if valid else None)
