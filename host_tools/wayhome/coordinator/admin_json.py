"""The admin API's JSON: what requests may say, and how the registry's records are shown.

Requests are checked here for shape and size only; what a name, prefix or port may be is the registry's to say. Records
are shown field by field: nothing becomes visible because a record got one more field.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import msgspec

from ..visible_text import is_hidden
from .model import AuthKey, Node, PendingLogin, Prefix, Published
from .model import User as UserRecord
from .registry import Registry, RegistryError
from .routes import check_route

Json = dict[str, Any]

_Text = Annotated[str, msgspec.Meta(max_length=255)]
_Texts = Annotated[list[_Text], msgspec.Meta(max_length=100)]
_TEN_YEARS_SECONDS = 3660 * 24 * 3600


class BadRequest(Exception):
    """A request body that is not what the API takes; the text names the field."""


class _Request(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Every request's habit: a field that we don't know is a mistake worth telling."""


class CreateUser(_Request):
    name: _Text
    display_name: _Text = ""


class CreateKey(_Request):
    """Either user or tags. expires_seconds null: never."""

    user: _Text | None = None
    tags: _Texts = []
    reusable: bool = False
    ephemeral: bool = False
    expires_seconds: Annotated[int, msgspec.Meta(ge=1, le=_TEN_YEARS_SECONDS)] | None = 24 * 3600


class ApproveLogin(_Request):
    user: _Text


class RenameNode(_Request):
    name: _Text


class ApproveRoute(_Request):
    node: _Text
    prefix: _Text


class Publish(_Request):
    """via: a node, as people type it. ports: "tcp:80", "udp:5000-5010"; none = all."""

    name: _Text
    via: _Text
    ipv4: _Text
    ipv6: _Text | None = None
    ports: _Texts = []


class SetSplitDns(_Request):
    """resolvers: addresses, with a port as "192.168.1.1:5353"."""

    suffix: _Text
    resolvers: _Texts


class Nothing(_Request):
    """The body of a request that says all in its path: {} or empty."""


def decode(body: bytes, shape: type[Any]) -> Any:
    """Return a request body in its shape. Raises BadRequest with the field and what is wrong with it.

    Characters that steer a display are refused in every field, so that none ever gets into a name.
    """
    try:
        request = msgspec.json.decode(body or b"{}", type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the request is not understood: {error}") from error
    for field, value in msgspec.structs.asdict(request).items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and any(is_hidden(letter) for letter in text):
                raise BadRequest(f"{field} holds a control character or one that turns the direction of writing")
    return request


def user_json(registry: Registry, user: UserRecord) -> Json:
    return {
        "id": user.id,
        "name": user.name,
        "display_name": user.display_name,
        "created": user.created,
        "nodes": sum(node.user_id == user.id for node in registry.nodes.values()),
    }


def key_json(registry: Registry, key: AuthKey, now: datetime) -> Json:
    return {
        "id": key.id,
        "user": _user_name(registry, key.user_id),
        "tags": list(key.tags),
        "reusable": key.reusable,
        "ephemeral": key.ephemeral,
        "created": key.created,
        "expires": key.expiry,
        "used": key.used,
        "state": key.state(now),
    }


def node_json(registry: Registry, node: Node, now: datetime) -> Json:
    return {
        "id": node.id,
        "name": node.name,
        "dns_name": registry.dns_name(node.name),
        "user": _user_name(registry, node.user_id),
        "tags": list(node.tags),
        "addresses": [str(node.ipv4), str(node.ipv6)],
        "online": registry.is_online(node.id),
        "last_seen": node.last_seen,
        "created": node.created,
        "expires": node.expiry,
        "expired": node.expired(now),
        "ephemeral": node.ephemeral,
        "advertised_routes": _texts(node.advertised),
        "approved_routes": _texts(node.approved),
        "version": _hostinfo_text(node.hostinfo, "IPNVersion"),
        "system": system(node.hostinfo),
        "hostname": node.hostname,
        "key": f"nodekey:{node.node_key.hex()}",
        "machine_key": f"mkey:{node.machine_key.hex()}",
        "endpoints": list(node.endpoints),
        "published": sorted(entry.name for entry in registry.published.values() if entry.node_id == node.id),
        "warnings": registry.warnings.of(node, now),
    }


def login_json(login: PendingLogin) -> Json:
    return {
        "code": login.code,
        "device": login.hostname,
        "system": system(login.device.hostinfo),
        "fingerprint": login.fingerprint,
        "created": login.created,
        "expires": login.expires,
    }


def route_json(node: Node, prefix: Prefix) -> Json:
    return {
        "node": node.name,
        "prefix": str(prefix),
        "advertised": prefix in node.advertised,
        "approved": prefix in node.approved,
        "approvable": _is_approvable(prefix),
    }


def published_json(registry: Registry, entry: Published) -> Json:
    return {
        "name": entry.name,
        "dns_name": registry.dns_name(entry.name),
        "via": registry.nodes[entry.node_id].name,
        "via_online": registry.is_online(entry.node_id),
        # without an IPv6 address in its LAN there is nothing behind its IPv6 address in the mesh
        "addresses": [str(entry.ipv4)] + ([str(entry.ipv6)] if entry.target6 is not None else []),
        "targets": [str(target) for target in (entry.target4, entry.target6) if target is not None],
        "ports": [str(ports) for ports in entry.ports],
    }


def split_dns_json(suffix: str, resolvers: Iterable[str]) -> Json:
    return {"suffix": suffix, "resolvers": list(resolvers)}


def system(hostinfo: Any) -> str:
    """Return what a device says it runs, such as "linux 6.1"; a stranger's words."""
    words = (_hostinfo_text(hostinfo, "OS"), _hostinfo_text(hostinfo, "OSVersion"))
    return " ".join(word for word in words if word)


def _hostinfo_text(hostinfo: Any, field: str) -> str:
    value = hostinfo.get(field)
    return value[:100] if isinstance(value, str) else ""


def _is_approvable(prefix: Prefix) -> bool:
    try:
        check_route(prefix)
    except RegistryError:
        return False
    return True


def _user_name(registry: Registry, user_id: int | None) -> str | None:
    return None if user_id is None else registry.users[user_id].name


def _texts(prefixes: Iterable[Prefix]) -> list[str]:
    return [str(prefix) for prefix in prefixes]
