"""How anything changes: one writer at a time; commit, then memory, then tell.

    class Users:
        def __init__(self, ledger: Ledger) -> None:
            self._ledger = ledger

        @mutation
        async def rename_user(...) -> User:
            ...                                               # decide, from memory
            async with self._ledger.transaction() as db: ...  # commit
            self._ledger.world.put_user(user)                 # memory
            self._ledger.announce(...)                        # tell

If the commit fails, `transaction` raises RegistryError and neither memory nor a subscriber has heard of anything.
Nodes have it in one call: `change_node`, `remove_node`, or `remember` after a transaction that did more than that.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection, Coroutine
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from . import hostinfo, policy, tables
from .errors import NotFound
from .model import PATCHABLE, Aspect, Change, Node, User
from .settings import Settings
from .storage import Storage, node_from, published_from, update_node, user_from
from .world import World


class Ledger:
    """The database file, what is so in memory, and who is told of changes. All changes go through `@mutation`s.

    settings, now (the wall's clock, UTC) and world are for everybody who holds a ledger.
    """

    def __init__(self, storage: Storage, settings: Settings, clock: Callable[[], datetime]) -> None:
        self.settings = settings
        self.now = clock
        self.world = World(settings.suffix, settings.derp_map)
        self._storage = storage
        self._subscribers: list[Callable[[Change], None]] = []
        self._lock = asyncio.Lock()
        self._running: set[asyncio.Future[Any]] = set()

    async def load(self, db: AsyncConnection) -> None:
        """Read the world as it was committed. Nobody is online yet."""
        now = self.now()
        for row in await db.execute(sa.select(tables.users)):
            self.world.put_user(user_from(row))
        for row in await db.execute(sa.select(tables.nodes).order_by(tables.nodes.c.id)):
            self.world.put_node(node_from(row), now)
        for row in await db.execute(sa.select(tables.published)):
            self.world.put_published(published_from(row))
        for row in await db.execute(sa.select(tables.split_dns).order_by(tables.split_dns.c.suffix)):
            self.world.put_split_dns(row.suffix, tuple(row.resolvers))

    async def close(self) -> None:
        """Finish what is being written and let the file go."""
        while self._running:
            await asyncio.wait(set(self._running))
        await self._storage.close()

    # Changing; all called from inside a mutation

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """All or nothing: committed when the block is left, undone when it raises. Raises RegistryError."""
        return self._storage.transaction()

    async def store_node(self, before: Node, after: Node) -> None:
        """Commit a node's new state; nothing is written if it is the old one."""
        if before != after:
            async with self.transaction() as db:
                await update_node(db, before, after)

    async def change_node(self, before: Node, after: Node) -> Node:
        """Commit, remember and tell; nothing at all if the two states are the same."""
        await self.store_node(before, after)
        if before != after:
            self.remember(before, after)
        return after

    async def remove_node(self, node_id: int) -> None:
        async with self.transaction() as db:
            await db.execute(sa.delete(tables.nodes).where(tables.nodes.c.id == node_id))
        audience = self.audience(node_id)
        self.world.drop_node(node_id)
        self.announce_node({Aspect.REMOVED}, node_id, audience)

    def remember(self, before: Node | None, after: Node) -> None:
        """Take a committed state of a node into memory and tell of it. before: None for a new node."""
        now = self.now()
        aspects = _aspects(before, after, before is not None and before.id in self.world.expired, after.expired(now))
        moved = not aspects <= PATCHABLE
        audience = self.audience(after.id) if moved and before is not None else frozenset()
        self.world.put_node(after, now)
        if aspects:
            self.announce_node(aspects, after.id, audience | self.audience(after.id))

    # Telling

    def subscribe(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """Have `callback` called after each commit; returns what ends the subscription."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def audience(self, node_id: int) -> frozenset[int]:
        """Who may have to be told of a change of this node: itself, who sees it, who routes the same prefixes."""
        audience = policy.peers_of(self.world, node_id)
        audience.add(node_id)
        for prefix in self.world.nodes[node_id].served:
            audience |= self.world.routers_of[prefix]
        return frozenset(audience)

    def announce_node(self, aspects: Collection[Aspect], node_id: int, audience: frozenset[int]) -> None:
        node = self.world.nodes.get(node_id)
        self.announce(Change(frozenset(aspects), node_id, node, node_id in self.world.online, audience))

    def announce(self, change: Change) -> None:
        for callback in list(self._subscribers):
            callback(change)

    # Looking up, with an error that a person can read

    def user(self, user_id: int) -> User:
        """Raises NotFound."""
        user = self.world.users.get(user_id)
        if user is None:
            raise NotFound(f"there is no user with the id {user_id}")
        return user

    def node(self, node_id: int) -> Node:
        """Raises NotFound."""
        node = self.world.nodes.get(node_id)
        if node is None:
            raise NotFound(f"there is no node with the id {node_id}; it may have been deleted")
        return node

    # What `mutation` does

    async def carry_out(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Do `work` alone, and to its end even if whoever asked is gone: memory must hear of every commit."""
        task = asyncio.ensure_future(self._alone(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _alone(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        # One writer at a time: what a mutation decides from memory is still so when it commits.
        async with self._lock:
            return await work()


class _HoldsLedger(Protocol):
    _ledger: Ledger


_P = ParamSpec("_P")
_T = TypeVar("_T")
_Self = TypeVar("_Self", bound=_HoldsLedger)


def mutation(
    method: Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _T]]:
    """Make a method that changes things one of its ledger's: alone, and carried to its end. They can't be nested."""

    @functools.wraps(method)
    async def run(self: _Self, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await self._ledger.carry_out(functools.partial(method, self, *args, **kwargs))

    return run


def _aspects(before: Node | None, after: Node, was_expired: bool, is_expired: bool) -> set[Aspect]:
    """What others have to be told of, between two states of a node."""
    if before is None:
        return {Aspect.JOINED}
    differs = {
        Aspect.ENDPOINTS: before.endpoints != after.endpoints,
        Aspect.HOME_DERP: before.home_derp != after.home_derp,
        Aspect.DISCO_KEY: before.disco_key != after.disco_key,
        Aspect.NODE_KEY: before.node_key != after.node_key,
        Aspect.CAP: before.cap != after.cap,
        Aspect.EXPIRY: before.expiry != after.expiry,
        Aspect.EXPIRED: was_expired != is_expired,
        Aspect.NAME: before.name != after.name,
        Aspect.TAGS: before.tags != after.tags,
        Aspect.HOSTINFO: hostinfo.for_peers(before.hostinfo, ()) != hostinfo.for_peers(after.hostinfo, ()),
        Aspect.ROUTES: (before.served, bool(before.advertised)) != (after.served, bool(after.advertised)),
    }
    return {aspect for aspect, differ in differs.items() if differ}
