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

Here is the whole that others hold. What each call does stands with its idea: `ledger` (how anything changes), `users`,
`keyring`, `admission`, `devices`, `lan_access`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from . import names
from .addresses import check_pool
from .admission import Admission
from .client_warnings import ClientWarnings
from .devices import Devices
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
from .keyring import Keyring
from .lan_access import LanAccess
from .ledger import Ledger, mutation
from .model import Aspect, Change, Node, PendingLogin, Published, User
from .settings import Settings
from .split_dns import SplitDns
from .storage import Storage
from .users import Users

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


def utc_now() -> datetime:
    return datetime.now(UTC)


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
        self._storage = storage
        self._ledger = ledger = Ledger(storage, settings, clock)
        self._keyring = keyring = Keyring(ledger, random_bytes)
        self._admission = admission = Admission(ledger, keyring, random_bytes)
        self._devices = devices = Devices(ledger)
        users = Users(ledger, keyring)
        lan_access = LanAccess(ledger)
        split_dns = SplitDns(ledger)

        # What others call is each part's own method: its signature and docstring stand there, once.
        self.settings = settings
        self.now = clock
        self.subscribe = ledger.subscribe

        self.world = world = ledger.world
        self.users: Mapping[int, User] = MappingProxyType(world.users)
        self.nodes: Mapping[int, Node] = MappingProxyType(world.nodes)
        self.published: Mapping[int, Published] = MappingProxyType(world.published)
        self.auth_keys = keyring.keys
        self.warnings = ClientWarnings()
        self.subscribe(self._changed)
        self.node_by_key = world.node_by_key
        self.dns_name = world.dns_name

        self.create_user = users.create_user
        self.rename_user = users.rename_user
        self.delete_user = users.delete_user

        self.create_auth_key = keyring.create_auth_key
        self.revoke_auth_key = keyring.revoke_auth_key

        self.refresh = admission.refresh
        self.register_with_key = admission.register_with_key
        self.logout = admission.logout
        self.begin_login = admission.begin_login
        self.wait_for_login = admission.wait_for_login
        self.find_login = admission.find_login
        self.approve_login = admission.approve_login
        self.refuse_login = admission.refuse_login

        self.update_node = devices.update_node
        self.set_online = devices.set_online
        self.rename_node = devices.rename_node
        self.expire_node = devices.expire_node
        self.delete_node = devices.delete_node

        self.approve_route = lan_access.approve_route
        self.unapprove_route = lan_access.unapprove_route
        self.publish = lan_access.publish
        self.unpublish = lan_access.unpublish

        self.split_dns: Mapping[str, tuple[str, ...]] = MappingProxyType(world.split_dns)
        self.set_split_dns = split_dns.set_split_dns
        self.drop_split_dns = split_dns.drop_split_dns

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
            async with registry._storage.transaction() as db:
                await registry._ledger.load(db)
                await registry._keyring.load(db)
        except BaseException:
            await registry._storage.close()
            raise
        return registry

    async def close(self) -> None:
        """Finish what is being written and let the file go. Those who wait for a login are told that it is gone."""
        self._admission.close()
        await self._ledger.close()

    # Reading

    @property
    def logins(self) -> Sequence[PendingLogin]:
        """Those that still wait for a person, oldest first."""
        return self._admission.waiting()

    def is_online(self, node_id: int) -> bool:
        return node_id in self.world.online

    def find_node(self, text: str) -> Node:
        """By name, full DNS name, id or mesh address, as people type it. Raises NotFound."""
        wanted = self.world.label_of(text)
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

    # Time

    def next_timer(self) -> datetime | None:
        """When `timer_fired` has something to do; ask again after each change."""
        times = (self._devices.next_timer(), self._admission.next_timer())
        return min((time for time in times if time is not None), default=None)

    @mutation
    async def timer_fired(self) -> None:
        """Do what is due: drop old logins, announce expired keys, remove ephemeral nodes that stayed away."""
        now = self.now()
        self._admission.time_passed(now)
        await self._devices.time_passed(now)

    def _changed(self, change: Change) -> None:
        if change.node is None and change.node_id is not None:
            self.warnings.removed(change.node_id)

    # The relay map

    def set_derp_map(self, derp_map: Mapping[str, Any]) -> None:
        """Give every client another relay map (not stored: the process that serves knows its relays)."""
        self.world.derp_map = derp_map
        self._ledger.announce(Change(frozenset({Aspect.DERP_MAP}), None, None, False, frozenset(self.world.nodes)))


def _path(database: str | Path) -> Path:
    text = str(database)
    if text.startswith("sqlite:///"):
        return Path(text.removeprefix("sqlite:///"))
    if "://" in text:
        raise RegistryError(f'"{text.split("://")[0]}://" is no database that can be used here; give a file\'s path')
    return Path(text)
