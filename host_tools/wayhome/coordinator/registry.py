"""Everything that must outlive the process: users, nodes, auth keys, routes, published devices.

    registry = await Registry.open(state / "wayhome.db", Settings(suffix="mesh.example"))
    registry.subscribe(lambda change: ...)
    ...
    await registry.close()

A mutating coroutine has committed when it returns; then memory and subscribers learn of it, in the order of commits. If
the commit fails, RegistryError is raised and memory is as it was. Reads are synchronous, from memory. Subscribers are
called synchronously and must not block.

How a register request is answered (control.md 5.3), in this order:
 1. its Expiry is set and in the past        -> `logout(machine_key, node_key)`
 2. `node_by_key(node_key)` is known         -> `refresh(device)`: Node, or KeyExpired / WrongMachine
 3. it has an auth key                       -> `register_with_key(device, secret)`: Node, or BadAuthKey
 4. it has a Followup that ends in a login id -> `wait_for_login(id, machine_key)`: Node, LoginRefused, or LoginGone (answer a new AuthURL)
 5. else                                     -> `begin_login(device)`: AuthURL = <url>/register/<login.id>
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from ..errors import HostError
from .model import AuthKey, Change, Device, Node, PendingLogin, Ports, Published, User


class RegistryError(HostError):
    """The registry refuses or cannot do what was asked; the text says why and what to do. Nothing was changed."""


class NotFound(RegistryError):
    """There is no such user, node, key, login, route or published device."""


class KeyExpired(RegistryError):
    """The node key is known and has expired: the client must make a new one (NodeKeyExpired)."""


class WrongMachine(RegistryError):
    """The node key belongs to another machine key."""


class BadAuthKey(RegistryError):
    """The auth key is unknown, spent, expired or revoked."""


class BadUpdate(RegistryError):
    """A client reported something out of its limits or of the wrong shape."""


class LoginRefused(RegistryError):
    """The person said no."""


class LoginGone(RegistryError):
    """No such pending login, or not any more: begin a new one."""


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
    pool: IPv4Network = IPv4Network("100.64.0.0/10")
    node_expiry: timedelta | None = None
    ephemeral_timeout: timedelta = timedelta(minutes=30)
    login_lifetime: timedelta = timedelta(minutes=15)
    logins_max: int = 1024
    derp_map: Mapping[str, Any] = field(default_factory=dict)


class Registry:
    """See the module's text. One per database; a second `open` of the same file is refused while the first lives."""

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
        raise NotImplementedError

    async def close(self) -> None:
        """Finish what is being written and let the file go."""

    def subscribe(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """Have `callback` called after each commit; returns what ends the subscription."""
        raise NotImplementedError

    # Reading. `world` (policy.World) is what policy and netmap work on: nodes, users, published, online, derp_map, suffix.

    settings: Settings
    users: Mapping[int, User]
    nodes: Mapping[int, Node]
    auth_keys: Mapping[int, AuthKey]
    published: Mapping[int, Published]

    @property
    def logins(self) -> Sequence[PendingLogin]:
        """Those that still wait, oldest first."""
        raise NotImplementedError

    def node_by_key(self, node_key: bytes) -> Node | None: ...

    def is_online(self, node_id: int) -> bool: ...

    def find_node(self, text: str) -> Node:
        """By name, full DNS name, id or mesh address, as people type it. Raises NotFound."""
        raise NotImplementedError

    def find_user(self, name: str) -> User:
        """Raises NotFound."""
        raise NotImplementedError

    def find_login(self, id_or_code: str) -> PendingLogin:
        """Raises LoginGone."""
        raise NotImplementedError

    def dns_name(self, label: str) -> str:
        """ "nas" -> "nas.wayhome.internal" (no dot at the end)."""
        raise NotImplementedError

    # Users

    async def create_user(self, name: str, display_name: str = "") -> User:
        raise NotImplementedError

    async def rename_user(self, user_id: int, name: str, display_name: str | None = None) -> User:
        raise NotImplementedError

    async def delete_user(self, user_id: int) -> None:
        """Refused while the user has nodes; takes the user's auth keys along."""

    # Auth keys

    async def create_auth_key(
        self,
        user_id: int | None,
        tags: Collection[str] = (),
        *,
        reusable: bool = False,
        ephemeral: bool = False,
        lifetime: timedelta | None = timedelta(hours=1),
    ) -> tuple[AuthKey, str]:
        """Return the record and the secret text, which is shown here and never again. Either a user or tags, not both."""
        raise NotImplementedError

    async def revoke_auth_key(self, key_id: int) -> AuthKey:
        """It lets nobody in any more; nodes that came in by it stay."""
        raise NotImplementedError

    # Registration

    async def refresh(self, device: Device) -> Node:
        """A known node key again: nothing changes (but a wished expiry earlier than now planned is honoured).

        Raises NotFound, KeyExpired or WrongMachine.
        """
        raise NotImplementedError

    async def register_with_key(self, device: Device, secret: str) -> Node:
        """Let a device in by an auth key: a new node, or the owner's node of this machine with its key replaced in place.

        A known (machine key, node key) pair that has not expired is let in without spending the key.
        Raises BadAuthKey, KeyExpired or WrongMachine.
        """
        raise NotImplementedError

    def begin_login(self, device: Device) -> PendingLogin:
        """Remember a device that waits for a person. The same device asking again gets the same login while it is young.

        Raises WrongMachine, or RegistryError when a limit is reached.
        """
        raise NotImplementedError

    async def wait_for_login(self, login_id: str, machine_key: bytes) -> Node:
        """Return the node once a person let it in. Raises LoginRefused, LoginGone (unknown, timed out, another machine's)."""
        raise NotImplementedError

    async def approve_login(self, code: str, user_id: int) -> Node:
        """Let the waiting device in as that user's. `code` may be the login's id too. Raises LoginGone."""
        raise NotImplementedError

    def refuse_login(self, code: str) -> PendingLogin:
        raise NotImplementedError

    async def logout(self, machine_key: bytes, node_key: bytes) -> None:
        """Expire the node now; an ephemeral one is deleted. Unknown keys are no error. Raises WrongMachine."""

    # Nodes

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
        """A lite update; None = not reported. Writes and announces only what really changed. Raises BadUpdate, NotFound."""
        raise NotImplementedError

    async def set_online(self, node_id: int, online: bool) -> None:
        """Sessions tell when a node's first poll began and its last ended. Going offline stores last_seen."""

    async def rename_node(self, node_id: int, name: str | None) -> Node:
        """Pin the DNS name; None = let the client's own host name decide again."""
        raise NotImplementedError

    async def expire_node(self, node_id: int, at: datetime | None = None) -> Node:
        """Now, or at a time."""
        raise NotImplementedError

    async def delete_node(self, node_id: int) -> None:
        """Its addresses and id are never given again; its published devices go with it."""

    # Routes

    async def approve_route(self, node_id: int, prefix: str) -> Node:
        """Refused with a reason when not offered, overlapping the mesh, or a default route."""
        raise NotImplementedError

    async def unapprove_route(self, node_id: int, prefix: str) -> Node:
        raise NotImplementedError

    # Published devices

    async def publish(
        self, name: str, node_id: int, target4: str, target6: str | None = None, ports: Sequence[str] = ()
    ) -> Published:
        """Give a LAN device behind a router its own name and addresses. ports: "tcp:80", "udp:5000-5010"; none = all.

        The same name by the same router gets the address it had before.
        """
        raise NotImplementedError

    async def unpublish(self, name: str) -> Published:
        raise NotImplementedError

    def parse_ports(self, texts: Sequence[str]) -> tuple[Ports, ...]:
        raise NotImplementedError

    # Time

    def next_timer(self) -> datetime | None:
        """When `timer_fired` has something to do; ask again after each change."""

    async def timer_fired(self) -> None:
        """Do what is due by the clock: drop old logins, announce expired keys, remove ephemeral nodes that stayed away."""

    # The relay map

    def set_derp_map(self, derp_map: Mapping[str, Any]) -> None:
        """Give every client another relay map (not stored: the process that serves knows its relays)."""
