"""The admin API's answers as the commands expect them: checked once, so that the tables can rely on them."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import msgspec

from ..errors import HostError

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class User:
    name: str
    display_name: str
    created: datetime
    nodes: int


@dataclass(frozen=True)
class Key:
    """An auth key. state: "valid", "used", "expired" or "revoked"; key: the secret, in the answer to create only."""

    id: int
    user: str | None
    tags: list[str]
    reusable: bool
    ephemeral: bool
    created: datetime
    expires: datetime | None
    state: str
    key: str | None = None


@dataclass(frozen=True)
class Node:
    id: int
    name: str
    dns_name: str
    user: str | None
    tags: list[str]
    addresses: list[str]
    online: bool
    last_seen: datetime | None
    created: datetime
    expires: datetime | None
    expired: bool
    ephemeral: bool
    advertised_routes: list[str]
    approved_routes: list[str]
    version: str
    system: str
    hostname: str
    key: str
    machine_key: str
    endpoints: list[str]
    published: list[str]
    warnings: list[str]


@dataclass(frozen=True)
class Login:
    """A device that waits to be let in. fingerprint is its machine key's, as its login page shows it."""

    code: str
    device: str
    system: str
    fingerprint: str
    created: datetime
    expires: datetime


@dataclass(frozen=True)
class Route:
    node: str
    prefix: str
    advertised: bool
    approved: bool
    approvable: bool


@dataclass(frozen=True)
class Published:
    """via: the board, which is reached now if via_online."""

    name: str
    dns_name: str
    via: str
    via_online: bool
    addresses: list[str]
    targets: list[str]
    ports: list[str]


@dataclass(frozen=True)
class SplitDns:
    suffix: str
    resolvers: list[str]


@dataclass(frozen=True)
class Status:
    """waiting: devices that wait to be let in; warned: those that there is a warning for. --json shows more."""

    version: str
    suffix: str
    users: int
    nodes: int
    online: int
    waiting: int
    warned: int
    url: str = ""


def read(answer: object, shape: type[Answer]) -> Answer:
    """Return the decoded JSON answer in its shape. Raises HostError: client and server are of different versions."""
    try:
        return msgspec.convert(answer, shape)
    except msgspec.ValidationError as error:
        raise HostError(
            f"the coordinator answers in another form than this command expects ({error}); "
            "are both from the same version of Wayhome?"
        ) from error
