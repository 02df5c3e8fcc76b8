"""What is so right now, indexed for the questions that policy and netmap ask. The registry keeps it in step.

A World changes only by its `put_...`, `drop_...`, `set_...` and `time_passed` calls, each after its commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from ipaddress import IPv4Address
from typing import Any

from .model import Node, Prefix, Published, User


class World:
    """Users, nodes and published devices, who is online, and the relay map.

    names: every DNS label in use. addresses: every IPv4 address of the mesh in use; the IPv6 ones go with them.
    expired: ids of nodes whose key has run out, as of the last `time_passed`.
    tagged_routers: tagged nodes that lead somewhere, so that people's devices have a reason to see them.
    away_since: since when each ephemeral node that is not online is away. After a restart they get their whole time
    again to come back.
    """

    def __init__(self, suffix: str, derp_map: Mapping[str, Any]) -> None:
        self.suffix = suffix
        self.derp_map: Mapping[str, Any] = derp_map
        self.users: dict[int, User] = {}
        self.nodes: dict[int, Node] = {}
        self.published: dict[int, Published] = {}
        self.split_dns: dict[str, tuple[str, ...]] = {}
        self.online: set[int] = set()
        self.expired: set[int] = set()
        self.away_since: dict[int, datetime] = {}
        self.names: set[str] = set()
        self.addresses: set[IPv4Address] = set()
        self.by_node_key: dict[bytes, int] = {}
        self.by_machine: dict[bytes, set[int]] = {}
        self.by_user: dict[int, set[int]] = {}
        self.owned: set[int] = set()
        self.routers: set[int] = set()
        self.tagged_routers: set[int] = set()
        self.routers_of: dict[Prefix, set[int]] = {}
        self.published_by: dict[int, dict[int, Published]] = {}
        # What was computed from the world for several viewers; forgotten by the calls that could make it wrong.
        self.node_memo: dict[int, dict[Any, Any]] = {}
        self.reach_memo: dict[Any, Any] = {}

    def put_user(self, user: User) -> None:
        self.users[user.id] = user
        self.by_user.setdefault(user.id, set())

    def drop_user(self, user_id: int) -> None:
        del self.users[user_id]
        del self.by_user[user_id]

    def put_node(self, node: Node, now: datetime) -> None:
        """Add a node, or replace the one of the same id."""
        before = self.nodes.get(node.id)
        expired = node.expired(now)
        if (
            before is None
            or (before.user_id, before.advertised, before.approved) != (node.user_id, node.advertised, node.approved)
            or expired != (node.id in self.expired)
        ):
            self.reach_memo.clear()
        if before is not None:
            self._unindex(before)
        self.nodes[node.id] = node
        if expired:
            self.expired.add(node.id)
        else:
            self.expired.discard(node.id)
        if not node.ephemeral:
            self.away_since.pop(node.id, None)
        elif node.id not in self.online:
            self.away_since.setdefault(node.id, now)
        self._index(node)
        self.node_memo.pop(node.id, None)

    def drop_node(self, node_id: int) -> None:
        """Remove a node and what it publishes."""
        for device in list(self.published_by.get(node_id, {}).values()):
            self.drop_published(device.id)
        self._unindex(self.nodes.pop(node_id))
        self.online.discard(node_id)
        self.expired.discard(node_id)
        self.away_since.pop(node_id, None)
        self.node_memo.pop(node_id, None)
        self.reach_memo.clear()

    def put_published(self, device: Published) -> None:
        self.published[device.id] = device
        self.published_by.setdefault(device.node_id, {})[device.id] = device
        self.names.add(device.name)
        self.addresses.add(device.ipv4)
        self._published_changed(device.node_id)

    def drop_published(self, device_id: int) -> None:
        device = self.published.pop(device_id)
        devices = self.published_by[device.node_id]
        del devices[device_id]
        if not devices:
            del self.published_by[device.node_id]
        self.names.discard(device.name)
        self.addresses.discard(device.ipv4)
        self._published_changed(device.node_id)

    def put_split_dns(self, suffix: str, resolvers: tuple[str, ...]) -> None:
        self.split_dns[suffix] = resolvers
        self.reach_memo.clear()

    def drop_split_dns(self, suffix: str) -> None:
        del self.split_dns[suffix]
        self.reach_memo.clear()

    def set_online(self, node_id: int, online: bool, now: datetime) -> None:
        if online:
            self.online.add(node_id)
            self.away_since.pop(node_id, None)
        else:
            self.online.discard(node_id)
            if self.nodes[node_id].ephemeral:
                self.away_since[node_id] = now
        self.node_memo.pop(node_id, None)

    def time_passed(self, now: datetime) -> list[int]:
        """Return the nodes whose keys have run out since the last call."""
        ran_out = [node.id for node in self.nodes.values() if node.id not in self.expired and node.expired(now)]
        for node_id in ran_out:
            self.expired.add(node_id)
            self.node_memo.pop(node_id, None)
        if ran_out:
            self.reach_memo.clear()
        return ran_out

    def node_by_key(self, node_key: bytes) -> Node | None:
        node_id = self.by_node_key.get(node_key)
        return None if node_id is None else self.nodes[node_id]

    def published_of(self, node_id: int) -> list[Published]:
        """What a router publishes, oldest first."""
        devices = self.published_by.get(node_id)
        return [devices[device_id] for device_id in sorted(devices)] if devices else []

    def is_router(self, node: Node) -> bool:
        """It offers routes or publishes devices: its own services are closed then."""
        return bool(node.advertised) or node.id in self.published_by

    def dns_name(self, label: str) -> str:
        """ "nas" -> "nas.wayhome.internal" (no dot at the end)."""
        return f"{label}.{self.suffix}"

    def label_of(self, text: str) -> str:
        """What a person typed as a name, as the label would be: "NAS.wayhome.internal." -> "nas"."""
        return text.strip().lower().rstrip(".").removesuffix("." + self.suffix)

    def _index(self, node: Node) -> None:
        self.names.add(node.name)
        self.addresses.add(node.ipv4)
        self.by_node_key[node.node_key] = node.id
        self.by_machine.setdefault(node.machine_key, set()).add(node.id)
        if node.user_id is not None:
            self.by_user[node.user_id].add(node.id)
            self.owned.add(node.id)
        for prefix in node.served:
            self.routers_of.setdefault(prefix, set()).add(node.id)
        self._index_router(node)

    def _index_router(self, node: Node) -> None:
        leads_somewhere = bool(node.served) or node.id in self.published_by
        for routers, belongs in ((self.routers, True), (self.tagged_routers, node.user_id is None)):
            (routers.add if leads_somewhere and belongs else routers.discard)(node.id)

    def _unindex(self, node: Node) -> None:
        self.names.discard(node.name)
        self.addresses.discard(node.ipv4)
        del self.by_node_key[node.node_key]
        machine = self.by_machine[node.machine_key]
        machine.discard(node.id)
        if not machine:
            del self.by_machine[node.machine_key]
        if node.user_id is not None:
            self.by_user[node.user_id].discard(node.id)
            self.owned.discard(node.id)
        for prefix in node.served:
            routers = self.routers_of[prefix]
            routers.discard(node.id)
            if not routers:
                del self.routers_of[prefix]
        self.routers.discard(node.id)
        self.tagged_routers.discard(node.id)

    def _published_changed(self, node_id: int) -> None:
        node = self.nodes.get(node_id)
        if node is not None:
            self._index_router(node)
        self.node_memo.pop(node_id, None)
        self.reach_memo.clear()
