"""What of a router's LAN the mesh can reach: approved routes and published devices.

The rules are `routes` and `published`; here they are applied and the outcome is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import sqlalchemy as sa

from . import hostinfo, names, published, routes, tables
from .addresses import ipv6_of
from .errors import NotFound, RegistryError
from .ledger import Ledger, mutation
from .model import Aspect, Node, Published
from .storage import insert, kept_address, new_address


class LanAccess:
    """Routes approved, devices published, and both taken back."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._world = ledger.world

    # Routes

    @mutation
    async def approve_route(self, node_id: int, prefix: str) -> Node:
        """Refused with a reason when not offered, overlapping the mesh, or a default route."""
        node = self._ledger.node(node_id)
        wanted = routes.prefix_from(prefix)
        routes.check_route(wanted)
        if wanted not in node.advertised:
            offered = ", ".join(str(offer) for offer in node.advertised) or "nothing"
            raise NotFound(f"{node.name} does not offer {wanted}; it offers {offered}")
        approved = tuple(sorted({*node.approved, wanted}, key=routes.sort_key))
        return await self._ledger.change_node(node, replace(node, approved=approved))

    @mutation
    async def unapprove_route(self, node_id: int, prefix: str) -> Node:
        node = self._ledger.node(node_id)
        wanted = routes.prefix_from(prefix)
        if wanted not in node.approved:
            approved = ", ".join(str(approved) for approved in node.approved) or "nothing"
            raise NotFound(f"{wanted} is not approved for {node.name}; approved is {approved}")
        left = tuple(approved for approved in node.approved if approved != wanted)
        return await self._ledger.change_node(node, replace(node, approved=left))

    # Published devices

    @mutation
    async def publish(
        self, name: str, node_id: int, target4: str, target6: str | None = None, ports: Sequence[str] = ()
    ) -> Published:
        """Give a LAN device behind a router its own name and addresses. ports: "tcp:80", "udp:5000-5010"; none = all.

        The same name by the same router gets the address it had before.
        """
        router = self._ledger.node(node_id)
        label = names.check_label(name)
        _check_router(router)
        if label in self._world.names:
            raise RegistryError(f'"{label}" is taken already; choose another name, or unpublish or rename its holder')
        v4 = routes.check_target_v4(target4)
        v6 = None if target6 is None else routes.check_target_v6(target6)
        self._check_publishable(router, {v4} if v6 is None else {v4, v6})
        open_ports = published.ports_from(ports)
        now = self._ledger.now()
        row = {
            "name": label,
            "node_id": node_id,
            "target4": str(v4),
            "target6": None if v6 is None else str(v6),
            "ports": [[port.protocol, port.first, port.last] for port in open_ports],
            "created": now,
        }
        async with self._ledger.transaction() as db:
            ipv4 = await kept_address(db, node_id, label)
            if ipv4 is None:
                ipv4 = await new_address(db, self._ledger.settings.pool, now, router_id=node_id, device_name=label)
            device_id = await insert(db, tables.published, {**row, "ipv4": int(ipv4)})
        device = Published(device_id, label, node_id, ipv4, ipv6_of(ipv4), v4, v6, open_ports, now)
        before = self._ledger.audience(node_id)
        self._world.put_published(device)
        self._tell(node_id, before)
        return device

    @mutation
    async def unpublish(self, name: str) -> Published:
        """Its address stays reserved: published again by the same router, the name gets it back. Raises NotFound."""
        wanted = self._world.label_of(name)
        device = next((device for device in self._world.published.values() if device.name == wanted), None)
        if device is None:
            raise NotFound(f'nothing is published as "{name[:80]}"; `wayhome publish list` shows what is')
        async with self._ledger.transaction() as db:
            await db.execute(sa.delete(tables.published).where(tables.published.c.id == device.id))
        before = self._ledger.audience(device.node_id)
        self._world.drop_published(device.id)
        self._tell(device.node_id, before)
        return device

    def _check_publishable(self, router: Node, targets: set[IPv4Address | IPv6Address]) -> None:
        devices = self._world.published_of(router.id)
        if len(devices) >= published.PUBLISHED_PER_NODE_MAX:
            raise RegistryError(f"{router.name} publishes {len(devices)} devices already, the most that one router may")
        for device in devices:
            for target in targets & {device.target4, device.target6}:
                raise RegistryError(
                    f"{router.name} publishes {target} already, as {device.name}; one device has one name"
                )

    def _tell(self, router_id: int, before: frozenset[int]) -> None:
        """Who sees the router now has to know, and who saw it `before`: a tagged one is seen for what it publishes."""
        self._ledger.announce_node({Aspect.PUBLISHED}, router_id, before | self._ledger.audience(router_id))


def _check_router(node: Node) -> None:
    if node.ephemeral:
        raise RegistryError(f"{node.name} is ephemeral; what it publishes would go with it: let it join for good")
    if hostinfo.facts(node.hostinfo).is_go_client:
        raise RegistryError(
            f"{node.name} runs a stock client, which cannot stand in for other devices; name a board that runs wayhomed"
        )
