"""The coordinator's records: frozen, so that a reader's copy never changes under it.

Keys are 32 raw bytes, times are aware datetimes in UTC, addresses and prefixes are `ipaddress` objects.
Online state is not part of a Node: it lives in memory only (`World.online`).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

Prefix = IPv4Network | IPv6Network

ZERO_KEY = bytes(32)

# Tagged nodes belong to nobody; clients want an owner all the same. The number is the one clients meet at other
# servers too, far above any id of ours.
TAGGED_USER_ID = 2147455555
TAGGED_LOGIN = "tagged-devices"


@dataclass(frozen=True, slots=True)
class User:
    """A person. `name` is the login name ("anna" or "anna@example.org"), unique without regard to case."""

    id: int
    name: str
    display_name: str
    created: datetime


@dataclass(frozen=True, slots=True)
class Node:
    """A registered device. Owned by a user, or tagged and owned by nobody: never both.

    hostname: what the client calls itself; name: its DNS label in the mesh, unique; name_pinned: an admin chose it.
    hostinfo: the client's JSON with field names spelt as control.md 8.6, NetInfo of the last report that had one.
    endpoints: "ip:port" texts, most reliable first; endpoint_types: parallel to them (control.md 6).
    home_derp: region id, 0 = unknown. cap: the node's own capability version, 0 = not told yet.
    expiry: None = never. last_seen: when it last went offline; None = never been online.
    advertised: what it offers to route, sorted; approved: what an admin let it route (also what it offers no longer).
    """

    id: int
    machine_key: bytes
    node_key: bytes
    disco_key: bytes
    user_id: int | None
    tags: tuple[str, ...]
    hostname: str
    name: str
    name_pinned: bool
    ipv4: IPv4Address
    ipv6: IPv6Address
    hostinfo: Mapping[str, Any]
    endpoints: tuple[str, ...]
    endpoint_types: tuple[int, ...]
    home_derp: int
    cap: int
    created: datetime
    expiry: datetime | None
    ephemeral: bool
    last_seen: datetime | None
    advertised: tuple[Prefix, ...]
    approved: tuple[Prefix, ...]
    auth_key_id: int | None

    @property
    def served(self) -> tuple[Prefix, ...]:
        """The prefixes it may really route now: offered by it and approved by an admin."""
        return tuple(prefix for prefix in self.advertised if prefix in self.approved)

    def expired(self, now: datetime) -> bool:
        return self.expiry is not None and self.expiry <= now


@dataclass(frozen=True, slots=True)
class AuthKey:
    """An auth key as kept: its secret is known only to whoever was shown it. `expiry` None = never.

    used: when it last let somebody in; a one-off key with `used` set is spent.
    """

    id: int
    user_id: int | None
    tags: tuple[str, ...]
    reusable: bool
    ephemeral: bool
    created: datetime
    expiry: datetime | None
    used: datetime | None
    revoked: datetime | None

    def state(self, now: datetime) -> str:
        """One word for a table: "revoked", "used", "expired" or "valid"."""
        if self.revoked is not None:
            return "revoked"
        if self.used is not None and not self.reusable:
            return "used"
        if self.expiry is not None and self.expiry <= now:
            return "expired"
        return "valid"


@dataclass(frozen=True, slots=True)
class Device:
    """What a register request says, once its shapes are checked; the machine key is the one that Noise proved.

    expiry: the wished one, None = the server decides. source: the address the request came from, so that one stranger
    cannot take every place among the pending logins.
    """

    machine_key: bytes
    node_key: bytes
    hostinfo: Mapping[str, Any]
    cap: int = 0
    ephemeral: bool = False
    expiry: datetime | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class PendingLogin:
    """A device that waits for a person.

    id: unguessable, part of the AuthURL. code: short, for people to type.
    fingerprint: the machine key, short, to compare by eye.
    """

    id: str
    code: str
    fingerprint: str
    device: Device
    hostname: str
    os: str
    created: datetime
    expires: datetime


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports first..last of "tcp" or "udp"."""

    protocol: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.protocol}:{self.first}" + (f"-{self.last}" if self.last != self.first else "")


@dataclass(frozen=True, slots=True)
class Published:
    """A LAN device without a client that has a name and addresses of its own in the mesh, mapped 1:1 by its router.

    ports: what is reachable; empty = everything.
    """

    id: int
    name: str
    node_id: int
    ipv4: IPv4Address
    ipv6: IPv6Address
    target4: IPv4Address
    target6: IPv6Address | None
    ports: tuple[Ports, ...]
    created: datetime


class Aspect(enum.Enum):
    """What a change is about. Those of PATCHABLE fit a PeersChangedPatch (control.md 7.4).

    EXPIRY: the time was moved; EXPIRED: the key stopped being valid, or became valid again.
    """

    ENDPOINTS = enum.auto()
    HOME_DERP = enum.auto()
    DISCO_KEY = enum.auto()
    NODE_KEY = enum.auto()
    ONLINE = enum.auto()
    CAP = enum.auto()
    EXPIRY = enum.auto()
    EXPIRED = enum.auto()
    JOINED = enum.auto()
    REMOVED = enum.auto()
    NAME = enum.auto()
    TAGS = enum.auto()
    HOSTINFO = enum.auto()
    ROUTES = enum.auto()
    PUBLISHED = enum.auto()
    PROFILE = enum.auto()
    DERP_MAP = enum.auto()
    DNS = enum.auto()


PATCHABLE = frozenset(
    {
        Aspect.ENDPOINTS,
        Aspect.HOME_DERP,
        Aspect.DISCO_KEY,
        Aspect.NODE_KEY,
        Aspect.ONLINE,
        Aspect.CAP,
        Aspect.EXPIRY,
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """Something that was committed, for the sessions of `audience` to hand to their MapView.

    audience: ids of the nodes that may have to be told, the node itself included.
    node_id: the node concerned, None for a change of a user or of the relay map. node: as it is now, None if removed.
    online: of that node, now. memo: room for what is computed once for all viewers; belongs to `netmap`.
    """

    aspects: frozenset[Aspect]
    node_id: int | None
    node: Node | None
    online: bool
    audience: frozenset[int]
    memo: dict[Any, Any] = field(default_factory=dict)
