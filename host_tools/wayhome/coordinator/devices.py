"""Nodes once they are in: what they report, whether they are there, what people and time do to them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from . import names
from .errors import BadUpdate, RegistryError
from .ledger import Ledger, mutation
from .model import ZERO_KEY, Aspect, Node
from .reports import with_endpoints, with_hostinfo

_log = logging.getLogger(__name__)


class Devices:
    """Nodes updated, renamed, expired and deleted, online or away."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._world = ledger.world

    # What sessions say

    @mutation
    async def update_node(
        self,
        node_id: int,
        *,
        hostinfo: Mapping[str, Any] | None = None,
        endpoints: Sequence[str] | None = None,
        endpoint_types: Sequence[int] = (),
        disco_key: bytes | None = None,
        cap: int | None = None,
    ) -> Node:
        """A lite update; None = not reported. Writes and tells only what really changed. Raises BadUpdate, NotFound."""
        before = self._ledger.node(node_id)
        after = before
        if hostinfo is not None:
            after = with_hostinfo(after, hostinfo, self._world.names)
        if endpoints is not None:
            after = with_endpoints(after, endpoints, endpoint_types, self._world.addresses)
        if disco_key is not None and len(disco_key) != 32:
            raise BadUpdate("a disco key has 32 bytes")
        if disco_key is not None and disco_key not in (ZERO_KEY, before.disco_key):
            after = replace(after, disco_key=disco_key)
            if node_id not in self._world.online:
                # It just spoke. Clients drop a new disco key that seems older than what they know (control.md 7.4).
                after = replace(after, last_seen=self._ledger.now())
        if cap is not None and 0 < cap <= 0xFFFF:
            after = replace(after, cap=cap)
        return await self._ledger.change_node(before, after)

    @mutation
    async def set_online(self, node_id: int, online: bool) -> None:
        """Sessions tell when a node's first poll began and its last ended. Unknown nodes are no error.

        Going offline stores last_seen; if the disk won't take that, the node is offline all the same.
        """
        before = self._world.nodes.get(node_id)
        if before is None or online == (node_id in self._world.online):
            return
        now = self._ledger.now()
        if not online:
            after = replace(before, last_seen=now)
            try:
                await self._ledger.store_node(before, after)
            except RegistryError as error:
                _log.warning("last_seen of %s is not stored: %s", after.name, error)
            self._world.put_node(after, now)
        self._world.set_online(node_id, online, now)
        self._ledger.announce_node({Aspect.ONLINE}, node_id, self._ledger.audience(node_id))

    # What people say

    @mutation
    async def rename_node(self, node_id: int, name: str | None) -> Node:
        """Pin the DNS name; None = let the client's own host name decide again."""
        node = self._ledger.node(node_id)
        taken = self._world.names - {node.name}
        if name is None:
            label = names.unique_label(names.label_from(node.hostname), taken)
        else:
            label = names.check_label(name)
            if label in taken:
                raise RegistryError(f'"{label}" is taken already; choose another name, or rename the one that has it')
        return await self._ledger.change_node(node, replace(node, name=label, name_pinned=name is not None))

    @mutation
    async def expire_node(self, node_id: int, at: datetime | None = None) -> Node:
        """Now, or at a time (aware, UTC). The device has to log in again after that."""
        node = self._ledger.node(node_id)
        return await self._ledger.change_node(node, replace(node, expiry=at or self._ledger.now()))

    @mutation
    async def delete_node(self, node_id: int) -> None:
        """Its addresses and id are never given again; its published devices go with it."""
        self._ledger.node(node_id)
        await self._ledger.remove_node(node_id)

    # Time

    def next_timer(self) -> datetime | None:
        """When the next key runs out, or an ephemeral node has been away for too long."""
        due = [node.expiry for node in self._world.nodes.values() if node.expiry and node.id not in self._world.expired]
        due += [since + self._ledger.settings.ephemeral_timeout for since in self._world.away_since.values()]
        return min(due, default=None)

    async def time_passed(self, now: datetime) -> None:
        """Announce expired keys, remove ephemeral nodes that stayed away. Called from inside a mutation."""
        for node_id in self._world.time_passed(now):
            self._ledger.announce_node({Aspect.EXPIRED}, node_id, self._ledger.audience(node_id))
        for node_id, since in list(self._world.away_since.items()):
            if since + self._ledger.settings.ephemeral_timeout <= now:
                await self._ledger.remove_node(node_id)
