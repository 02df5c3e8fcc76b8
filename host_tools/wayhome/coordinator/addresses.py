"""The mesh's addresses: which there are, which are never given, and what comes next.

An address is given once. The registry keeps every one it ever gave, so the next is simply the one after the last:
nobody inherits what a deleted node's peers still have in their caches, firewalls and notes. At one new node a minute
the whole range lasts eight years. Source: protocol reference, "Addresses".
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, summarize_address_range

from .errors import RegistryError
from .model import Prefix

# Fixed by the protocol: clients hard-code both.
MESH_V4 = IPv4Network("100.64.0.0/10")
MESH_V6 = IPv6Network("fd7a:115c:a1e0::/48")
# ChromeOS' guest network, the clients' own service address (its whole /24), and one that the vendor's manual reserves.
RESERVED_V4 = (IPv4Network("100.115.92.0/23"), IPv4Network("100.100.100.0/24"), IPv4Network("100.100.0.0/24"))
RESERVED_V6 = (
    IPv6Network("fd7a:115c:a1e0::53/128"),
    IPv6Network("fd7a:115c:a1e0:b1a::/64"),
    IPv6Network("fd7a:115c:a1e0:efe3::/64"),
)
# The last three bytes are those of the IPv4 address, so both families stay in step.
_V6_BASE = int(IPv6Address("fd7a:115c:a1e0:ab12:4843:cd96:6200:0"))


def check_pool(pool: IPv4Network) -> None:
    """Raise RegistryError unless addresses can be given out of `pool`."""
    if not pool.subnet_of(MESH_V4):
        raise RegistryError(f"the address pool {pool} is outside {MESH_V4}, the only range that clients understand")
    if pool.num_addresses < 4:
        raise RegistryError(f"the address pool {pool} is too small; give it at least a /30")


def ipv6_of(ipv4: IPv4Address) -> IPv6Address:
    """The IPv6 address that goes with an IPv4 one: unique, because the pool's first byte is always 100."""
    return IPv6Address(_V6_BASE | (int(ipv4) & 0xFFFFFF))


def next_address(pool: IPv4Network, last: IPv4Address | None) -> IPv4Address:
    """The address after `last` (None: the pool's first) that may be given. Raises RegistryError when there is none."""
    candidate = int(pool.network_address) + 1
    if last is not None:
        candidate = max(candidate, int(last) + 1)
    while candidate < int(pool.broadcast_address):
        address = IPv4Address(candidate)
        taken = next((reserved for reserved in RESERVED_V4 if address in reserved), None)
        if taken is None:
            return address
        candidate = int(taken.broadcast_address) + 1
    raise RegistryError(
        f"every address of {pool} has been given out once, and none is ever given twice; use a larger pool"
    )


def exact_cover(addresses: Iterable[IPv4Address]) -> list[str]:
    """The fewest prefixes that hold just these addresses, then the same of the IPv6 addresses that go with them.

    Addresses are given one after the other, so a hundred devices that joined in a row are a handful of prefixes.
    """
    prefixes: list[IPv4Network] = []
    numbers = sorted(int(address) for address in addresses)
    start = 0
    for index, number in enumerate(numbers):
        if index + 1 == len(numbers) or numbers[index + 1] != number + 1:
            prefixes += summarize_address_range(IPv4Address(numbers[start]), IPv4Address(number))
            start = index + 1
    return [_prefix_text(prefix.network_address, prefix.prefixlen) for prefix in prefixes] + [
        _prefix_text(ipv6_of(prefix.network_address), prefix.prefixlen + 96) for prefix in prefixes
    ]


def _prefix_text(address: IPv4Address | IPv6Address, length: int) -> str:
    return str(address) if length == address.max_prefixlen else f"{address}/{length}"


def overlaps_mesh(prefix: Prefix) -> bool:
    if prefix.version == 4:
        return prefix.overlaps(MESH_V4)
    return prefix.overlaps(MESH_V6)
