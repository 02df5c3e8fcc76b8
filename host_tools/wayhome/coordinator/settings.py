"""What an operator may choose about a mesh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Network
from typing import Any

from .addresses import MESH_V4


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
