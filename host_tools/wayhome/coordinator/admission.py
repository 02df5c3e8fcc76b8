"""How devices come in and log out: node keys known, auth keys, and people who let them in.

In which order a register request tries these: `registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address

from . import hostinfo, tables
from .addresses import ipv6_of
from .errors import KeyExpired, LoginGone, NotFound, RegistryError, WrongMachine
from .keyring import Keyring
from .ledger import Ledger, mutation
from .logins import Logins
from .model import ZERO_KEY, AuthKey, Device, Node, PendingLogin
from .reports import check_keys, with_hostinfo
from .storage import insert, new_address, node_row, update_node


class Admission:
    """Devices let in by key or by a person, and the logins that wait for one."""

    def __init__(self, ledger: Ledger, keyring: Keyring, random_bytes: Callable[[int], bytes]) -> None:
        self._ledger = ledger
        self._world = ledger.world
        self._keyring = keyring
        self._logins = Logins(ledger.settings.logins_max, ledger.settings.login_lifetime, random_bytes)

    # With a key

    @mutation
    async def refresh(self, device: Device) -> Node:
        """A known node key again: nothing changes (but a wished expiry earlier than now planned is honoured).

        Raises NotFound, KeyExpired or WrongMachine.
        """
        known = self._world.node_by_key(device.node_key)
        if known is None:
            raise NotFound("this node key is not registered; log in again")
        return await self._again(known, device)

    @mutation
    async def register_with_key(self, device: Device, secret: str) -> Node:
        """Let a device in by an auth key: a new node, or its owner's node of this machine with a new key in place.

        A known (machine key, node key) pair that has not expired is let in without spending the key, so that a client
        may repeat a request whose answer it never got. Raises BadAuthKey, KeyExpired or WrongMachine.
        """
        known = self._world.node_by_key(device.node_key)
        if known is not None:
            return await self._again(known, device)
        key = self._keyring.usable(secret)
        return await self._admit(device, key.user_id, key.tags, key)

    @mutation
    async def logout(self, machine_key: bytes, node_key: bytes) -> None:
        """Expire the node now; an ephemeral one is deleted. Unknown keys are no error. Raises WrongMachine."""
        node = self._world.node_by_key(node_key)
        if node is None:
            return
        _check_machine(node, machine_key)
        now = self._ledger.now()
        if node.ephemeral:
            await self._ledger.remove_node(node.id)
        elif not node.expired(now):
            await self._ledger.change_node(node, replace(node, expiry=now))

    # By a person

    def begin_login(self, device: Device) -> PendingLogin:
        """Remember a device that waits for a person. Asking again it gets the same login while that is young.

        Raises KeyExpired or WrongMachine for known node keys, BadUpdate, or RegistryError when a limit is reached.
        """
        known = self._world.node_by_key(device.node_key)
        if known is not None:
            self._check_valid(known, device.machine_key)
        check_keys(device)
        return self._logins.begin(replace(device, hostinfo=hostinfo.checked(device.hostinfo)), self._ledger.now())

    async def wait_for_login(self, login_id: str, machine_key: bytes) -> Node:
        """Return the node once a person let it in.

        Raises LoginRefused, or LoginGone: unknown, timed out, or another machine's; then begin a new one.
        """
        node = self._world.nodes.get(await self._logins.wait(login_id, machine_key, self._ledger.now()))
        if node is None:
            raise LoginGone("the device was deleted right after it was let in")
        return node

    @mutation
    async def approve_login(self, code: str, user_id: int) -> Node:
        """Let the waiting device in as that user's. `code` may be the login's id too. Raises LoginGone."""
        login = self.find_login(code)
        self._ledger.user(user_id)
        known = self._world.node_by_key(login.device.node_key)
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
        login = self.find_login(code)
        self._logins.refused(login)
        return login

    def find_login(self, id_or_code: str) -> PendingLogin:
        """Raises LoginGone."""
        return self._logins.find(id_or_code, self._ledger.now())

    def waiting(self) -> Sequence[PendingLogin]:
        """Those that still wait for a person, oldest first."""
        self._logins.time_passed(self._ledger.now())
        return self._logins.waiting()

    # Time

    def next_timer(self) -> datetime | None:
        """When the next login is over."""
        return self._logins.next_timer()

    def time_passed(self, now: datetime) -> None:
        """Drop the logins whose time is over."""
        self._logins.time_passed(now)

    def close(self) -> None:
        """Tell those who wait for a login that it is gone."""
        self._logins.close()

    # What these share

    def _check_valid(self, node: Node, machine_key: bytes) -> None:
        _check_machine(node, machine_key)
        if node.expired(self._ledger.now()):
            raise KeyExpired("this node key has expired; log in again")

    async def _again(self, known: Node, device: Device) -> Node:
        """A registered node key registers once more."""
        self._check_valid(known, device.machine_key)
        if device.expiry is not None and (known.expiry is None or device.expiry < known.expiry) and not known.tags:
            return await self._ledger.change_node(known, replace(known, expiry=device.expiry))
        return known

    async def _admit(self, device: Device, user_id: int | None, tags: tuple[str, ...], key: AuthKey | None) -> Node:
        """Make the node of (machine, owner), or give the one that there is its new node key; spend `key` with it."""
        check_keys(device)
        now = self._ledger.now()
        before = self._node_of(device.machine_key, user_id)
        after = replace(
            before or _fresh(device.machine_key, user_id, now),
            node_key=device.node_key,
            tags=tags,
            cap=device.cap,
            expiry=None if tags else self._first_expiry(device, now),
            ephemeral=device.ephemeral or (key is not None and key.ephemeral),
            auth_key_id=None if key is None else key.id,
        )
        after = with_hostinfo(after, device.hostinfo, self._world.names)
        async with self._ledger.transaction() as db:
            if key is not None:
                await self._keyring.spend(db, key, now)
            if before is None:
                ipv4 = await new_address(db, self._ledger.settings.pool, now)
                after = replace(after, ipv4=ipv4, ipv6=ipv6_of(ipv4))
                after = replace(after, id=await insert(db, tables.nodes, node_row(after)))
            else:
                await update_node(db, before, after)
        if key is not None:
            self._keyring.spent(key, now)
        self._ledger.remember(before, after)
        return after

    def _node_of(self, machine_key: bytes, user_id: int | None) -> Node | None:
        """The node that this owner has on this machine. None as user: the tagged one, which nobody owns."""
        nodes = (self._world.nodes[node_id] for node_id in self._world.by_machine.get(machine_key, ()))
        return next((node for node in nodes if node.user_id == user_id), None)

    def _first_expiry(self, device: Device, now: datetime) -> datetime | None:
        lifetime = self._ledger.settings.node_expiry
        planned = None if lifetime is None else now + lifetime
        wished = device.expiry if device.expiry is not None and device.expiry > now else None
        return min((time for time in (planned, wished) if time is not None), default=None)


def _check_machine(node: Node, machine_key: bytes) -> None:
    if node.machine_key != machine_key:
        raise WrongMachine("this node key belongs to another device; remove this device's state and log in anew")


def _fresh(machine_key: bytes, user_id: int | None, now: datetime) -> Node:
    """A node with nothing in it yet: no key, no name, no address, and 0 for an id."""
    return Node(
        id=0,
        machine_key=machine_key,
        node_key=ZERO_KEY,
        disco_key=ZERO_KEY,
        user_id=user_id,
        tags=(),
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
