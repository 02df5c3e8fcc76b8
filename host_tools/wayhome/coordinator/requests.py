"""What clients ask of `/machine/register` and `/machine/map`, as typed records.

Lists and texts are bounded here, before anything is made of them. Hostinfo stays the client's own dict (with the
protocol's spelling); `HostinfoShape` checks the fields that somebody here will look at.

Source: protocol reference, "RegisterRequest", "POST /machine/map: the request", "Hostinfo and NetInfo".
"""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

from wayhomed.wire.errors import BadWire
from wayhomed.wire.keys import key_from_text

from .json_reading import HOSTINFO, MAP, REGISTER, BadRequest, read

# From this capability version on (client release 1.80): HomeDERP, null AllowedIPs, CapMap, PacketFilters.
OLDEST_CAPABILITY = 113
# Before this one a client takes 429 for a failure like any other and shows the user nothing of use.
CAPABILITY_TOO_MANY_REQUESTS = 137

# Chosen by us; what honest clients send stays far below.
ENDPOINTS = 1024  # a machine with a hundred containers names each of their networks
ROUTES = 256
HOSTINFO_BYTES = 64 * 1024

_Word = Annotated[str, Meta(max_length=256)]
_Text = Annotated[str, Meta(max_length=4096)]
_KeyText = Annotated[str, Meta(max_length=80)]
_Version = Annotated[int, Meta(ge=0, le=65535)]


class NetInfoShape(Struct, rename="pascal"):
    preferred_derp: Annotated[int, Meta(ge=0, le=65535)] | None = field(name="PreferredDERP", default=None)


class HostinfoShape(Struct, rename="pascal"):
    """The fields of Hostinfo that somebody reads; all the others may be anything."""

    hostname: _Word | None = None
    backend_log_id: _Word | None = field(name="BackendLogID", default=None)
    os: _Word | None = field(name="OS", default=None)
    go_version: _Word | None = None
    routable_ips: Annotated[list[_Word], Meta(max_length=ROUTES)] | None = field(name="RoutableIPs", default=None)
    request_tags: Annotated[list[_Word], Meta(max_length=64)] | None = None
    services: Annotated[list[dict[str, Any]], Meta(max_length=256)] | None = None
    net_info: NetInfoShape | None = None


class _Auth(Struct, rename="pascal"):
    auth_key: Annotated[str, Meta(max_length=512)] | None = None


class _RegisterBody(Struct, rename="pascal"):
    node_key: _KeyText
    version: _Version = 0
    auth: _Auth | None = None
    expiry: datetime | None = None
    followup: _Text | None = None
    hostinfo: dict[str, Any] | None = None
    ephemeral: bool | None = None


class _MapBody(Struct, rename="pascal"):
    node_key: _KeyText
    version: _Version = 0
    compress: _Word | None = None
    disco_key: _KeyText | None = None
    stream: bool | None = None
    hostinfo: dict[str, Any] | None = None
    endpoints: Annotated[list[_Word], Meta(max_length=ENDPOINTS)] | None = None
    endpoint_types: Annotated[list[int], Meta(max_length=ENDPOINTS)] | None = None
    read_only: bool | None = None
    omit_peers: bool | None = None
    debug_flags: Annotated[list[_Word], Meta(max_length=64)] | None = None


class RegisterRequest(Struct, frozen=True):
    """A register request that could be read. `expiry` None = the server decides; `auth_key`, `followup` "" = none."""

    version: int
    node_key: bytes
    auth_key: str
    expiry: datetime | None
    followup: str
    hostinfo: dict[str, Any]
    ephemeral: bool


class MapRequest(Struct, frozen=True):
    """A map request that could be read. None = not reported."""

    version: int
    node_key: bytes
    zstd: bool
    disco_key: bytes | None
    stream: bool
    read_only: bool
    omit_peers: bool
    hostinfo: dict[str, Any] | None
    endpoints: list[str] | None
    endpoint_types: list[int]
    debug_flags: list[str]

    @property
    def is_lite(self) -> bool:
        """An update that wants no map back (control.md 6)."""
        return not self.stream and self.omit_peers and not self.read_only


def read_register(body: bytes) -> RegisterRequest:
    """Raises BadRequest."""
    raw = read(body, REGISTER, _RegisterBody)
    return RegisterRequest(
        version=raw.version,
        node_key=_key("nodekey:", raw.node_key, "NodeKey"),
        auth_key=(raw.auth.auth_key or "") if raw.auth else "",
        expiry=_time(raw.expiry),
        followup=raw.followup or "",
        hostinfo=_hostinfo(raw.hostinfo) or {},
        ephemeral=bool(raw.ephemeral),
    )


def read_map(body: bytes) -> MapRequest:
    """Raises BadRequest."""
    raw = read(body, MAP, _MapBody)
    disco_key = _key("discokey:", raw.disco_key, "DiscoKey") if raw.disco_key else None
    return MapRequest(
        version=raw.version,
        node_key=_key("nodekey:", raw.node_key, "NodeKey"),
        zstd=raw.compress == "zstd",
        disco_key=disco_key if disco_key and any(disco_key) else None,
        stream=bool(raw.stream),
        read_only=bool(raw.read_only),
        omit_peers=bool(raw.omit_peers),
        hostinfo=_hostinfo(raw.hostinfo),
        endpoints=raw.endpoints,
        endpoint_types=raw.endpoint_types or [],
        debug_flags=raw.debug_flags or [],
    )


def _key(prefix: str, text: str, name: str) -> bytes:
    try:
        key = key_from_text(prefix, text)
    except BadWire as error:
        raise BadRequest(f"{error} - at `$.{name}`") from None
    if name == "NodeKey" and not any(key):
        raise BadRequest("the node key is all zeros - at `$.NodeKey`")
    return key


def _time(value: datetime | None) -> datetime | None:
    """None for an absent time and for the zero time, year 1, which means the same. Raises BadRequest."""
    if value is None or value.year <= 1:
        return None
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise BadRequest("a time beyond the calendar - at `$.Expiry`") from None


def _hostinfo(value: dict[str, Any] | None) -> dict[str, Any] | None:
    if value is None:
        return None
    folded: dict[str, Any] = HOSTINFO.fold(value)
    try:
        msgspec.convert(folded, HostinfoShape)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error).replace("`$", "`$.Hostinfo")) from None
    if len(msgspec.json.encode(folded)) > HOSTINFO_BYTES:
        raise BadRequest(f"more than {HOSTINFO_BYTES} bytes - at `$.Hostinfo`")
    return folded
