"""Everything that must outlive the process: users, nodes, auth keys, routes, published devices.

    registry = await Registry.open(state / "wayhome.db", Settings(suffix="mesh.example"))
    registry.subscribe(lambda change: ...)
    ...
    await registry.close()

A mutating coroutine has committed when it returns; then memory and subscribers learn of it, in the order of commits.
If the commit fails, RegistryError is raised and memory is as it was. Cancelling the caller does not stop a mutation
half-way. Reads are synchronous, from memory. Subscribers are called synchronously and must neither block nor raise.

How a register request is answered (control.md 5.3), in this order:
 1. its Expiry is set and in the past  -> `logout(machine_key, node_key)`
 2. `node_by_key(node_key)` is known   -> `refresh(device)`: Node, or KeyExpired / WrongMachine
 3. it has an auth key                 -> `register_with_key(device, secret)`: Node, or BadAuthKey
 4. its Followup ends in a login's id  -> `wait_for_login(id, machine_key)`: Node, LoginRefused, or LoginGone (see 5)
 5. else                               -> `begin_login(device)`: AuthURL = <url>/register/<login.id>
"""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from pathlib import Path
from types import MappingProxyType
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from . import authkeys, hostinfo, names, policy, published, routes, tables
from .addresses import MESH_V4, check_pool, ipv6_of, next_address
from .errors import (
    BadAuthKey,
    BadUpdate,
    KeyExpired,
    LoginGone,
    LoginRefused,
    NotFound,
    RegistryError,
    WrongMachine,
)
from .logins import Logins
from .model import (
    PATCHABLE,
    TAGGED_LOGIN,
    ZERO_KEY,
    Aspect,
    AuthKey,
    Change,
    Device,
    Node,
    PendingLogin,
    Ports,
    Published,
    User,
)
from .storage import (
    Storage,
    auth_key_from,
    changed_columns,
    insert,
    node_from,
    node_row,
    published_from,
    spend_auth_key,
    user_from,
)
from .world import World

__all__ = [
    "BadAuthKey",
    "BadUpdate",
    "KeyExpired",
    "LoginGone",
    "LoginRefused",
    "NotFound",
    "Registry",
    "RegistryError",
    "Settings",
    "WrongMachine",
    "utc_now",
]

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may choose; every field has a sensible default.

    suffix: DNS suffix of the mesh, no dots at its ends (".internal" is ICANN's top-level domain for private use).
    pool: where IPv4 addresses come from, inside 100.64.0.0/10; IPv6 follows from IPv4.
    node_expiry: how long a node key lives; None = until revoked. Tagged nodes never expire.
    ephemeral_timeout: how long an ephemeral node may be away before it is removed.
    """

    suffix: str = "wayhome.internal"
    pool: IPv4Network = MESH_V4
    node_expiry: timedelta | None = None
    ephemeral_timeout: timedelta = timedelta(minutes=30)
    login_lifetime: timedelta = timedelta(minutes=15)
    logins_max: int = 1024
    derp_map: Mapping[str, Any] = field(default_factory=dict)


def _whole(
    method: Callable[Concatenate[Registry, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[Registry, _P], Coroutine[Any, Any, _T]]:
    """Carry a mutation to its end even if whoever asked is gone: memory must hear of every commit."""

    @functools.wraps(method)
    async def run(self: Registry, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        task = asyncio.ensure_future(method(self, *args, **kwargs))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    return run


class Registry:
    """See the module's text. One per database; a second `open` of the same file is refused while the first lives.

    nodes, users, auth_keys, published: by id, read-only views of what is so now. world: the same, indexed, as policy
    and netmap want it.
    """

    def __init__(
        self,
        storage: Storage,
        settings: Settings,
        clock: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """Use `open`."""
        self.settings = settings
        self.now = clock
        self.world = World(settings.suffix, settings.derp_map)
        self.users: Mapping[int, User] = MappingProxyType(self.world.users)
        self.nodes: Mapping[int, Node] = MappingProxyType(self.world.nodes)
        self.published: Mapping[int, Published] = MappingProxyType(self.world.published)
        self._auth_keys: dict[int, AuthKey] = {}
        self.auth_keys: Mapping[int, AuthKey] = MappingProxyType(self._auth_keys)
        self._key_hashes: dict[int, bytes] = {}
        self._logins = Logins(settings.logins_max, settings.login_lifetime, random_bytes)
        self._random_bytes = random_bytes
        self._storage = storage
        self._subscribers: list[Callable[[Change], None]] = []
        # One writer at a time: what a mutation decides from memory is still so when it commits.
        self._lock = asyncio.Lock()
        self._running: set[asyncio.Future[Any]] = set()
        # Since when ephemeral nodes are away. After a restart they get their whole time again to come back.
        self._away_since: dict[int, datetime] = {}

    # Opening

    @classmethod
    async def open(
        cls,
        database: str | Path,
        settings: Settings | None = None,
        clock: Callable[[], datetime] = utc_now,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> Registry:
        """Open or make the database (a path, or a "sqlite:///" URL) and bring its schema up to date.

        Raises RegistryError when the file cannot be written, is not ours, is in use, or is from a newer version.
        """
        settings = settings or Settings()
        settings = replace(settings, suffix=names.check_suffix(settings.suffix))
        check_pool(settings.pool)
        registry = cls(await Storage.open(_path(database)), settings, clock, random_bytes)
        try:
            await registry._load()
        except BaseException:
            await registry._storage.close()
            raise
        return registry

    async def close(self) -> None:
        """Finish what is being written and let the file go. Those who wait for a login are told that it is gone."""
        self._logins.close()
        while self._running:
            await asyncio.wait(set(self._running))
        await self._storage.close()

    def subscribe(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """Have `callback` called after each commit; returns what ends the subscription."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    async def _load(self) -> None:
        now = self.now()
        async with self._storage.transaction() as db:
            for row in await db.execute(sa.select(tables.users)):
                self.world.put_user(user_from(row))
            for row in await db.execute(sa.select(tables.auth_keys)):
                self._auth_keys[row.id] = auth_key_from(row)
                self._key_hashes[row.id] = row.secret_hash
            for row in await db.execute(sa.select(tables.nodes).order_by(tables.nodes.c.id)):
                node = node_from(row)
                self.world.put_node(node, now)
                if node.ephemeral:
                    self._away_since[node.id] = now
            for row in await db.execute(sa.select(tables.published)):
                self.world.put_published(published_from(row))

    # Reading

    @property
    def logins(self) -> Sequence[PendingLogin]:
        """Those that still wait for a person, oldest first."""
        self._logins.time_passed(self.now())
        return self._logins.waiting()

    def node_by_key(self, node_key: bytes) -> Node | None:
        node_id = self.world.by_node_key.get(node_key)
        return None if node_id is None else self.world.nodes[node_id]

    def is_online(self, node_id: int) -> bool:
        return node_id in self.world.online

    def find_node(self, text: str) -> Node:
        """By name, full DNS name, id or mesh address, as people type it. Raises NotFound."""
        wanted = text.strip().lower().rstrip(".").removesuffix("." + self.settings.suffix)
        # An id before a name: no device may get in the way of another by calling itself what that one's id is.
        if wanted.isascii() and wanted.isdigit() and len(wanted) < 16 and (known := self.world.nodes.get(int(wanted))):
            return known
        for node in self.world.nodes.values():
            if wanted in (node.name, str(node.ipv4), str(node.ipv6)):
                return node
        raise NotFound(f'there is no node "{text[:80]}"; `wayhome node list` shows them all')

    def find_user(self, name: str) -> User:
        """Raises NotFound."""
        for user in self.world.users.values():
            if user.name.casefold() == name.strip().casefold():
                return user
        raise NotFound(f'there is no user "{name[:80]}"; make it with `wayhome user create {name[:80]}`')

    def find_login(self, id_or_code: str) -> PendingLogin:
        """Raises LoginGone."""
        return self._logins.find(id_or_code, self.now())

    def dns_name(self, label: str) -> str:
        """ "nas" -> "nas.wayhome.internal" (no dot at the end)."""
        return self.world.dns_name(label)

    # Users

    @_whole
    async def create_user(self, name: str, display_name: str = "") -> User:
        async with self._lock:
            name = self._free_user_name(name, but=None)
            now = self.now()
            values = {"name": name, "display_name": display_name[:255] or name, "created": now}
            async with self._storage.transaction() as db:
                user_id = await insert(db, tables.users, {**values, "folded_name": name.casefold()})
            user = User(id=user_id, name=name, display_name=display_name[:255] or name, created=now)
            self.world.put_user(user)
            return user

    @_whole
    async def rename_user(self, user_id: int, name: str, display_name: str | None = None) -> User:
        async with self._lock:
            before = self._user(user_id)
            name = self._free_user_name(name, but=user_id)
            user = replace(
                before, name=name, display_name=before.display_name if display_name is None else display_name
            )
            async with self._storage.transaction() as db:
                await db.execute(
                    sa.update(tables.users)
                    .where(tables.users.c.id == user_id)
                    .values(name=name, folded_name=name.casefold(), display_name=user.display_name)
                )
            self.world.put_user(user)
            audience = self.world.by_user[user_id] | self.world.tagged_routers
            self._announce(Change(frozenset({Aspect.PROFILE}), None, None, False, frozenset(audience)))
            return user

    @_whole
    async def delete_user(self, user_id: int) -> None:
        """Refused while the user has nodes; takes the user's auth keys along."""
        async with self._lock:
            user = self._user(user_id)
            if self.world.by_user[user_id]:
                owned = ", ".join(sorted(self.world.nodes[node].name for node in self.world.by_user[user_id])[:5])
                raise RegistryError(f"{user.name} still has devices ({owned}); delete those first")
            async with self._storage.transaction() as db:
                await db.execute(sa.delete(tables.users).where(tables.users.c.id == user_id))
            self.world.drop_user(user_id)
            for key in [key for key in self._auth_keys.values() if key.user_id == user_id]:
                del self._auth_keys[key.id], self._key_hashes[key.id]

    # Auth keys

    @_whole
    async def create_auth_key(
        self,
        user_id: int | None,
        tags: Collection[str] = (),
        *,
        reusable: bool = False,
        ephemeral: bool = False,
        lifetime: timedelta | None = timedelta(hours=1),
    ) -> tuple[AuthKey, str]:
        """Return the record and the secret text, shown here and never again. Either a user or tags, not both.

        lifetime None: the key never expires.
        """
        async with self._lock:
            if (user_id is None) == (not tags):
                raise RegistryError("an auth key lets in either a user's devices or tagged ones: give a user or tags")
            if user_id is not None:
                self._user(user_id)
            if lifetime is not None and lifetime <= timedelta(0):
                raise RegistryError("an auth key must be valid for some time; give a lifetime above zero")
            now = self.now()
            key = AuthKey(
                id=0,
                user_id=user_id,
                tags=tuple(sorted({names.check_tag(tag) for tag in tags})),
                reusable=reusable,
                ephemeral=ephemeral,
                created=now,
                expiry=None if lifetime is None else _later(now, lifetime),
                used=None,
                revoked=None,
            )
            secret = authkeys.new_secret(self._random_bytes)
            secret_hash = authkeys.secret_hash(secret)
            row = {
                "secret_hash": secret_hash,
                "user_id": user_id,
                "tags": list(key.tags),
                "reusable": reusable,
                "ephemeral": ephemeral,
                "created": now,
                "expiry": key.expiry,
            }
            async with self._storage.transaction() as db:
                key = replace(key, id=await insert(db, tables.auth_keys, row))
            self._auth_keys[key.id] = key
            self._key_hashes[key.id] = secret_hash
            return key, authkeys.key_text(key.id, secret)

    @_whole
    async def revoke_auth_key(self, key_id: int) -> AuthKey:
        """It lets nobody in any more; nodes that came in by it stay."""
        async with self._lock:
            key = self._auth_keys.get(key_id)
            if key is None:
                raise NotFound(f"there is no auth key {key_id}; `wayhome key list` shows them all")
            if key.revoked is None:
                key = replace(key, revoked=self.now())
                async with self._storage.transaction() as db:
                    await db.execute(
                        sa.update(tables.auth_keys).where(tables.auth_keys.c.id == key_id).values(revoked=key.revoked)
                    )
                self._auth_keys[key_id] = key
            return key

    # Registration

    @_whole
    async def refresh(self, device: Device) -> Node:
        """A known node key again: nothing changes (but a wished expiry earlier than now planned is honoured).

        Raises NotFound, KeyExpired or WrongMachine.
        """
        async with self._lock:
            known = self.node_by_key(device.node_key)
            if known is None:
                raise NotFound("this node key is not registered; log in again")
            return await self._again(known, device)

    @_whole
    async def register_with_key(self, device: Device, secret: str) -> Node:
        """Let a device in by an auth key: a new node, or its owner's node of this machine with a new key in place.

        A known (machine key, node key) pair that has not expired is let in without spending the key, so that a client
        may repeat a request whose answer it never got. Raises BadAuthKey, KeyExpired or WrongMachine.
        """
        async with self._lock:
            known = self.node_by_key(device.node_key)
            if known is not None:
                return await self._again(known, device)
            key = self._usable_key(secret)
            return await self._admit(device, key.user_id, key.tags, key)

    def begin_login(self, device: Device) -> PendingLogin:
        """Remember a device that waits for a person. Asking again it gets the same login while that is young.

        Raises KeyExpired or WrongMachine for known node keys, BadUpdate, or RegistryError when a limit is reached.
        """
        known = self.node_by_key(device.node_key)
        if known is not None:
            self._check_machine(known, device.machine_key)
            self._check_valid(known)
        _check_keys(device)
        return self._logins.begin(replace(device, hostinfo=hostinfo.checked(device.hostinfo)), self.now())

    async def wait_for_login(self, login_id: str, machine_key: bytes) -> Node:
        """Return the node once a person let it in.

        Raises LoginRefused, or LoginGone: unknown, timed out, or another machine's; then begin a new one.
        """
        node = self.world.nodes.get(await self._logins.wait(login_id, machine_key, self.now()))
        if node is None:
            raise LoginGone("the device was deleted right after it was let in")
        return node

    @_whole
    async def approve_login(self, code: str, user_id: int) -> Node:
        """Let the waiting device in as that user's. `code` may be the login's id too. Raises LoginGone."""
        async with self._lock:
            login = self._logins.find(code, self.now())
            self._user(user_id)
            known = self.node_by_key(login.device.node_key)
            if known is not None:
                node = await self._again(known, login.device)
                if node.user_id != user_id:
                    raise RegistryError(
                        f"this device came in meanwhile, as {node.name} of somebody else; delete that first"
                    )
            else:
                node = await self._admit(login.device, user_id, (), None)
            self._logins.approved(login, node.id)
            return node

    def refuse_login(self, code: str) -> PendingLogin:
        """Tell the waiting device no. Raises LoginGone."""
        login = self._logins.find(code, self.now())
        self._logins.refused(login)
        return login

    @_whole
    async def logout(self, machine_key: bytes, node_key: bytes) -> None:
        """Expire the node now; an ephemeral one is deleted. Unknown keys are no error. Raises WrongMachine."""
        async with self._lock:
            node = self.node_by_key(node_key)
            if node is None:
                return
            self._check_machine(node, machine_key)
            if node.ephemeral:
                await self._remove(node.id)
            elif not node.expired(self.now()):
                await self._change_node(node, replace(node, expiry=self.now()))

    # Nodes

    @_whole
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
        async with self._lock:
            before = self._node(node_id)
            after = before
            if hostinfo is not None:
                after = self._with_hostinfo(after, hostinfo)
            if endpoints is not None:
                after = _with_endpoints(after, endpoints, endpoint_types)
            if disco_key is not None and len(disco_key) != 32:
                raise BadUpdate("a disco key has 32 bytes")
            if disco_key is not None and disco_key not in (ZERO_KEY, before.disco_key):
                after = replace(after, disco_key=disco_key)
                if node_id not in self.world.online:
                    # It just spoke. Clients drop a new disco key that seems older than what they know (control.md 7.4).
                    after = replace(after, last_seen=self.now())
            if cap is not None and 0 < cap <= 0xFFFF:
                after = replace(after, cap=cap)
            return await self._change_node(before, after)

    @_whole
    async def set_online(self, node_id: int, online: bool) -> None:
        """Sessions tell when a node's first poll began and its last ended. Unknown nodes are no error.

        Going offline stores last_seen; if the disk won't take that, the node is offline all the same.
        """
        async with self._lock:
            node = self.world.nodes.get(node_id)
            if node is None or online == (node_id in self.world.online):
                return
            if online:
                self._away_since.pop(node_id, None)
            else:
                now = self.now()
                if node.ephemeral:
                    self._away_since[node_id] = now
                node = replace(node, last_seen=now)
                try:
                    await self._store_node(self.world.nodes[node_id], node)
                except RegistryError as error:
                    _log.warning("last_seen of %s is not stored: %s", node.name, error)
                self.world.put_node(node, now)
            self.world.set_online(node_id, online)
            self._announce_node({Aspect.ONLINE}, node_id, self._audience(node_id))

    @_whole
    async def rename_node(self, node_id: int, name: str | None) -> Node:
        """Pin the DNS name; None = let the client's own host name decide again."""
        async with self._lock:
            node = self._node(node_id)
            taken = self.world.names - {node.name}
            if name is None:
                label = names.unique_label(names.label_from(node.hostname), taken)
            else:
                label = names.check_label(name)
                if label in taken:
                    raise RegistryError(
                        f'"{label}" is taken already; choose another name, or rename the one that has it'
                    )
            return await self._change_node(node, replace(node, name=label, name_pinned=name is not None))

    @_whole
    async def expire_node(self, node_id: int, at: datetime | None = None) -> Node:
        """Now, or at a time (aware, UTC). The device has to log in again after that."""
        async with self._lock:
            node = self._node(node_id)
            return await self._change_node(node, replace(node, expiry=at or self.now()))

    @_whole
    async def delete_node(self, node_id: int) -> None:
        """Its addresses and id are never given again; its published devices go with it."""
        async with self._lock:
            self._node(node_id)
            await self._remove(node_id)

    # Routes

    @_whole
    async def approve_route(self, node_id: int, prefix: str) -> Node:
        """Refused with a reason when not offered, overlapping the mesh, or a default route."""
        async with self._lock:
            node = self._node(node_id)
            wanted = routes.prefix_from(prefix)
            routes.check_route(wanted)
            if wanted not in node.advertised:
                offered = ", ".join(str(offer) for offer in node.advertised) or "nothing"
                raise NotFound(f"{node.name} does not offer {wanted}; it offers {offered}")
            approved = tuple(sorted({*node.approved, wanted}, key=routes.sort_key))
            return await self._change_node(node, replace(node, approved=approved))

    @_whole
    async def unapprove_route(self, node_id: int, prefix: str) -> Node:
        async with self._lock:
            node = self._node(node_id)
            wanted = routes.prefix_from(prefix)
            if wanted not in node.approved:
                approved = ", ".join(str(approved) for approved in node.approved) or "nothing"
                raise NotFound(f"{wanted} is not approved for {node.name}; approved is {approved}")
            left = tuple(approved for approved in node.approved if approved != wanted)
            return await self._change_node(node, replace(node, approved=left))

    # Published devices

    @_whole
    async def publish(
        self, name: str, node_id: int, target4: str, target6: str | None = None, ports: Sequence[str] = ()
    ) -> Published:
        """Give a LAN device behind a router its own name and addresses. ports: "tcp:80", "udp:5000-5010"; none = all.

        The same name by the same router gets the address it had before.
        """
        async with self._lock:
            node = self._node(node_id)
            label = names.check_label(name)
            if node.ephemeral:
                raise RegistryError(
                    f"{node.name} is ephemeral; what it publishes would go with it: let it join for good"
                )
            if hostinfo.facts(node.hostinfo).is_go_client:
                raise RegistryError(
                    f"{node.name} runs a stock client, which cannot stand in for other devices; "
                    "name a board that runs wayhomed"
                )
            if label in self.world.names:
                raise RegistryError(
                    f'"{label}" is taken already; choose another name, or unpublish or rename its holder'
                )
            v4 = routes.check_target_v4(target4)
            v6 = None if target6 is None else routes.check_target_v6(target6)
            self._check_publishable(node, {v4, v6} - {None})
            open_ports = published.ports_from(ports)
            now = self.now()
            row = {
                "name": label,
                "node_id": node_id,
                "target4": str(v4),
                "target6": None if v6 is None else str(v6),
                "ports": [[port.protocol, port.first, port.last] for port in open_ports],
                "created": now,
            }
            async with self._storage.transaction() as db:
                ipv4 = await self._kept_address(db, node_id, label)
                if ipv4 is None:
                    ipv4 = await self._new_address(db, now, router_id=node_id, device_name=label)
                device_id = await insert(db, tables.published, {**row, "ipv4": int(ipv4)})
            device = Published(device_id, label, node_id, ipv4, ipv6_of(ipv4), v4, v6, open_ports, now)
            before = self._audience(node_id)
            self.world.put_published(device)
            self._announce_node({Aspect.PUBLISHED}, node_id, before | self._audience(node_id))
            return device

    @_whole
    async def unpublish(self, name: str) -> Published:
        """Its address stays reserved: published again by the same router, the name gets it back. Raises NotFound."""
        async with self._lock:
            wanted = name.strip().lower().rstrip(".").removesuffix("." + self.settings.suffix)
            device = next((device for device in self.world.published.values() if device.name == wanted), None)
            if device is None:
                raise NotFound(f'nothing is published as "{name[:80]}"; `wayhome publish list` shows what is')
            async with self._storage.transaction() as db:
                await db.execute(sa.delete(tables.published).where(tables.published.c.id == device.id))
            before = self._audience(device.node_id)
            self.world.drop_published(device.id)
            self._announce_node({Aspect.PUBLISHED}, device.node_id, before | self._audience(device.node_id))
            return device

    def parse_ports(self, texts: Sequence[str]) -> tuple[Ports, ...]:
        """Read "tcp:80", "udp:5000-5010". Raises RegistryError."""
        return published.ports_from(texts)

    # Time

    def next_timer(self) -> datetime | None:
        """When `timer_fired` has something to do; ask again after each change."""
        due = [node.expiry for node in self.world.nodes.values() if node.expiry and node.id not in self.world.expired]
        due += [since + self.settings.ephemeral_timeout for since in self._away_since.values()]
        login = self._logins.next_timer()
        return min(due + ([login] if login else []), default=None)

    @_whole
    async def timer_fired(self) -> None:
        """Do what is due: drop old logins, announce expired keys, remove ephemeral nodes that stayed away."""
        async with self._lock:
            now = self.now()
            self._logins.time_passed(now)
            for node_id in self.world.time_passed(now):
                self._announce_node({Aspect.EXPIRED}, node_id, self._audience(node_id))
            for node_id, since in list(self._away_since.items()):
                if since + self.settings.ephemeral_timeout <= now:
                    await self._remove(node_id)

    # The relay map

    def set_derp_map(self, derp_map: Mapping[str, Any]) -> None:
        """Give every client another relay map (not stored: the process that serves knows its relays)."""
        self.world.derp_map = derp_map
        self._announce(Change(frozenset({Aspect.DERP_MAP}), None, None, False, frozenset(self.world.nodes)))

    # What mutations share; all called with the lock held

    def _user(self, user_id: int) -> User:
        user = self.world.users.get(user_id)
        if user is None:
            raise NotFound(f"there is no user with the id {user_id}")
        return user

    def _node(self, node_id: int) -> Node:
        node = self.world.nodes.get(node_id)
        if node is None:
            raise NotFound(f"there is no node with the id {node_id}; it may have been deleted")
        return node

    def _free_user_name(self, name: str, but: int | None) -> str:
        name = names.check_user(name.strip())
        if name.casefold() == TAGGED_LOGIN:
            raise RegistryError(f'"{name}" is the name that clients show for tagged devices; choose another')
        for user in self.world.users.values():
            if user.id != but and user.name.casefold() == name.casefold():
                raise RegistryError(f"there is a user {user.name} already; choose another name")
        return name

    def _check_machine(self, node: Node, machine_key: bytes) -> None:
        if node.machine_key != machine_key:
            raise WrongMachine("this node key belongs to another device; remove this device's state and log in anew")

    def _check_valid(self, node: Node) -> None:
        if node.expired(self.now()):
            raise KeyExpired("this node key has expired; log in again")

    def _usable_key(self, text: str) -> AuthKey:
        now = self.now()
        parts = authkeys.split_key(text)
        key = self._auth_keys.get(parts[0]) if parts else None
        if parts is None or key is None or not authkeys.is_secret_of(parts[1], self._key_hashes[key.id]):
            raise BadAuthKey("this auth key is not known here; make one with `wayhome key create`")
        self._refuse_unless_valid(key, now)
        return key

    def _refuse_unless_valid(self, key: AuthKey, now: datetime) -> None:
        state = key.state(now)
        if state != "valid":
            reason = {"used": "has been used, and it is good for one device only"}.get(state, f"is {state}")
            reason = "has expired" if state == "expired" else reason
            raise BadAuthKey(f"auth key {key.id} {reason}; make another with `wayhome key create`")

    def _check_publishable(self, router: Node, targets: set[Any]) -> None:
        devices = self.world.published_of(router.id)
        if len(devices) >= published.PUBLISHED_PER_NODE_MAX:
            raise RegistryError(f"{router.name} publishes {len(devices)} devices already, the most that one router may")
        for device in devices:
            for target in targets & {device.target4, device.target6}:
                raise RegistryError(
                    f"{router.name} publishes {target} already, as {device.name}; one device has one name"
                )

    async def _again(self, known: Node, device: Device) -> Node:
        """A registered node key registers once more."""
        self._check_machine(known, device.machine_key)
        self._check_valid(known)
        if device.expiry is not None and (known.expiry is None or device.expiry < known.expiry) and not known.tags:
            return await self._change_node(known, replace(known, expiry=device.expiry))
        return known

    async def _admit(self, device: Device, user_id: int | None, tags: tuple[str, ...], key: AuthKey | None) -> Node:
        """Make the node of (machine, owner), or give the one that there is its new node key; spend `key` with it."""
        _check_keys(device)
        now = self.now()
        before = next(
            (
                node
                for node in (self.world.nodes[node_id] for node_id in self.world.by_machine.get(device.machine_key, ()))
                if node.user_id == user_id
            ),
            None,
        )
        fresh = Node(
            id=0,
            machine_key=device.machine_key,
            node_key=device.node_key,
            disco_key=ZERO_KEY,
            user_id=user_id,
            tags=tags,
            hostname="",
            name="",
            name_pinned=False,
            ipv4=IPv4Address(0),
            ipv6=IPv6Address(0),
            hostinfo={},
            endpoints=(),
            endpoint_types=(),
            home_derp=0,
            cap=0,
            created=now,
            expiry=None,
            ephemeral=False,
            last_seen=None,
            advertised=(),
            approved=(),
            auth_key_id=None,
        )
        after = replace(
            before or fresh,
            node_key=device.node_key,
            tags=tags,
            cap=device.cap,
            expiry=None if tags else self._first_expiry(device, now),
            ephemeral=device.ephemeral or (key is not None and key.ephemeral),
            auth_key_id=None if key is None else key.id,
        )
        after = self._with_hostinfo(after, device.hostinfo)
        async with self._storage.transaction() as db:
            if key is not None and not await spend_auth_key(db, key.id, now):
                raise BadAuthKey(f"auth key {key.id} was used or revoked this very moment; make another one")
            if before is None:
                ipv4 = await self._new_address(db, now)
                after = replace(after, ipv4=ipv4, ipv6=ipv6_of(ipv4))
                after = replace(after, id=await insert(db, tables.nodes, node_row(after)))
            else:
                await _update_row(db, before, after)
        if key is not None:
            self._auth_keys[key.id] = replace(key, used=now)
        self._remember(before, after)
        return after

    def _first_expiry(self, device: Device, now: datetime) -> datetime | None:
        planned = None if self.settings.node_expiry is None else now + self.settings.node_expiry
        wished = device.expiry if device.expiry is not None and device.expiry > now else None
        return min((time for time in (planned, wished) if time is not None), default=None)

    def _with_hostinfo(self, node: Node, reported: Mapping[str, Any]) -> Node:
        """The node with a newly reported Hostinfo and all that follows from it."""
        kept = hostinfo.checked(reported, node.hostinfo)
        facts = hostinfo.facts(kept)
        node = replace(
            node,
            hostinfo=kept,
            advertised=facts.advertised,
            # 0 says that it found no relay just now; where it was last is still the best guess.
            home_derp=facts.home_derp or node.home_derp,
        )
        if node.name and (not facts.hostname or facts.hostname == node.hostname):
            return node
        wanted = names.label_from(facts.hostname)
        # A host name that asks for the same label as before keeps the one it got, "-1" or not: names are to be stable.
        if not node.name or (not node.name_pinned and wanted != names.label_from(node.hostname)):
            node = replace(node, name=names.unique_label(wanted, self.world.names - {node.name}))
        return replace(node, hostname=facts.hostname)

    async def _new_address(self, db: AsyncConnection, now: datetime, **reserved_for: Any) -> IPv4Address:
        pool = self.settings.pool
        last = await db.scalar(
            sa.select(sa.func.max(tables.addresses.c.ipv4)).where(
                tables.addresses.c.ipv4.between(int(pool.network_address), int(pool.broadcast_address))
            )
        )
        ipv4 = next_address(pool, None if last is None else IPv4Address(last))
        await insert(db, tables.addresses, {"ipv4": int(ipv4), "given": now, **reserved_for})
        return ipv4

    async def _kept_address(self, db: AsyncConnection, router_id: int, device_name: str) -> IPv4Address | None:
        known = await db.scalar(
            sa.select(tables.addresses.c.ipv4).where(
                tables.addresses.c.router_id == router_id, tables.addresses.c.device_name == device_name
            )
        )
        return None if known is None else IPv4Address(known)

    async def _store_node(self, before: Node, after: Node) -> None:
        if before != after:
            async with self._storage.transaction() as db:
                await _update_row(db, before, after)

    async def _change_node(self, before: Node, after: Node) -> Node:
        await self._store_node(before, after)
        if before != after:
            self._remember(before, after)
        return after

    async def _remove(self, node_id: int) -> None:
        async with self._storage.transaction() as db:
            await db.execute(sa.delete(tables.nodes).where(tables.nodes.c.id == node_id))
        audience = self._audience(node_id)
        self._away_since.pop(node_id, None)
        self.world.drop_node(node_id)
        self._announce_node({Aspect.REMOVED}, node_id, audience)

    def _remember(self, before: Node | None, after: Node) -> None:
        """Take a committed state of a node into memory and tell of it."""
        now = self.now()
        aspects = _aspects(before, after, before is not None and before.id in self.world.expired, after.expired(now))
        moved = not aspects <= PATCHABLE
        audience = self._audience(after.id) if moved and before is not None else frozenset()
        self.world.put_node(after, now)
        if after.ephemeral and after.id not in self.world.online:
            self._away_since.setdefault(after.id, now)
        elif not after.ephemeral:
            self._away_since.pop(after.id, None)
        if aspects:
            self._announce_node(aspects, after.id, audience | self._audience(after.id))

    def _audience(self, node_id: int) -> frozenset[int]:
        """Who may have to be told of a change of this node: itself, who sees it, who routes the same prefixes."""
        audience = policy.peers_of(self.world, node_id)
        audience.add(node_id)
        for prefix in self.world.nodes[node_id].served:
            audience |= self.world.routers_of[prefix]
        return frozenset(audience)

    def _announce_node(self, aspects: Collection[Aspect], node_id: int, audience: frozenset[int]) -> None:
        node = self.world.nodes.get(node_id)
        self._announce(Change(frozenset(aspects), node_id, node, node_id in self.world.online, audience))

    def _announce(self, change: Change) -> None:
        for callback in list(self._subscribers):
            callback(change)


def _path(database: str | Path) -> Path:
    text = str(database)
    if text.startswith("sqlite:///"):
        return Path(text.removeprefix("sqlite:///"))
    if "://" in text:
        raise RegistryError(f'"{text.split("://")[0]}://" is no database that can be used here; give a file\'s path')
    return Path(text)


def _later(now: datetime, lifetime: timedelta) -> datetime:
    try:
        return now + lifetime
    except OverflowError:
        raise RegistryError("that lifetime is beyond the calendar; leave it out for a key that never expires") from None


def _check_keys(device: Device) -> None:
    for key in (device.machine_key, device.node_key):
        if len(key) != 32 or key == ZERO_KEY:
            raise BadUpdate("a device registers with a machine key and a node key of 32 bytes that are not all zero")


def _with_endpoints(node: Node, endpoints: Sequence[str], types: Sequence[int]) -> Node:
    kept, kept_types = hostinfo.checked_endpoints(endpoints, types)
    return replace(node, endpoints=kept, endpoint_types=kept_types)


async def _update_row(db: AsyncConnection, before: Node, after: Node) -> None:
    columns = changed_columns(before, after)
    if columns:
        await db.execute(sa.update(tables.nodes).where(tables.nodes.c.id == before.id).values(**columns))


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
