"""Split DNS: names below a suffix are asked of resolvers of their own, such as a home's behind its router.

Every client is told; each asks through the mesh where the resolver lies in a route or is a published device.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

import sqlalchemy as sa

from . import names, tables
from .errors import NotFound, RegistryError
from .ledger import Ledger, mutation
from .model import Aspect, Change

SUFFIXES_MAX = 256
RESOLVERS_MAX = 8


class SplitDns:
    """Suffixes given to resolvers, and taken back."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._world = ledger.world

    @mutation
    async def set_split_dns(self, suffix: str, resolvers: Sequence[str]) -> str:
        """Have these resolvers ("192.168.1.1", "192.168.1.1:5353") asked for the suffix; return it as it is kept.

        What the suffix had before is replaced. Raises RegistryError.
        """
        plain = names.check_suffix(suffix)
        own = self._world.suffix
        if plain == own or own.endswith("." + plain):
            raise RegistryError(f"{plain} is the mesh's own; its names are answered by every client itself")
        if "." not in plain and plain not in names.PRIVATE_TOPS:
            raise RegistryError(
                f"{plain} is a whole part of the public DNS; name what lies below it, such as home.{plain}"
            )
        if not 1 <= len(resolvers) <= RESOLVERS_MAX:
            raise RegistryError(f"a suffix has 1 to {RESOLVERS_MAX} resolvers")
        kept = tuple(dict.fromkeys(check_resolver(resolver) for resolver in resolvers))
        if plain not in self._world.split_dns and len(self._world.split_dns) >= SUFFIXES_MAX:
            raise RegistryError(f"{SUFFIXES_MAX} suffixes have resolvers of their own already; remove one first")
        async with self._ledger.transaction() as db:
            await db.execute(sa.delete(tables.split_dns).where(tables.split_dns.c.suffix == plain))
            row = {"suffix": plain, "resolvers": list(kept), "created": self._ledger.now()}
            await db.execute(sa.insert(tables.split_dns).values(**row))
        self._world.put_split_dns(plain, kept)
        self._tell()
        return plain

    @mutation
    async def drop_split_dns(self, suffix: str) -> tuple[str, ...]:
        """Give the suffix's names back to everybody's usual resolver; return the resolvers it had. Raises NotFound."""
        plain = suffix.strip(".").lower()
        resolvers = self._world.split_dns.get(plain)
        if resolvers is None:
            raise NotFound(f"{suffix[:200]} has no resolver of its own; `wayhome dns split list` shows what has")
        async with self._ledger.transaction() as db:
            await db.execute(sa.delete(tables.split_dns).where(tables.split_dns.c.suffix == plain))
        self._world.drop_split_dns(plain)
        self._tell()
        return resolvers

    def _tell(self) -> None:
        everybody = frozenset(self._world.nodes)
        self._ledger.announce(Change(frozenset({Aspect.DNS}), None, None, False, everybody))


def check_resolver(text: str) -> str:
    """A resolver's address, with its port if that is not 53, as clients read it. Raises RegistryError."""
    host, port = text.strip(), 53
    try:
        if host.startswith("["):
            host, _, port_text = host[1:].partition("]:")
            port = int(port_text)
        elif host.count(":") == 1:
            host, _, port_text = host.partition(":")
            port = int(port_text)
        ip = ip_address(host)
    except ValueError:
        raise RegistryError(
            f'"{text[:80]}" is no resolver; write its address, as 192.168.1.1, 192.168.1.1:5353 or [fd00:1::1]:5353'
        ) from None
    if ip.is_loopback or ip.is_multicast or ip.is_unspecified or ip.is_link_local or not 1 <= port <= 0xFFFF:
        raise RegistryError(f"{text[:80]} is an address that no other device can ask")
    if port == 53:
        return str(ip)
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
