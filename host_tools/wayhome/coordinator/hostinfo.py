"""What a client says about itself: Hostinfo and endpoints, checked and cut down. Source: control.md 8.6.

Kept as the client's JSON, with the known names spelt as the protocol spells them: real clients write `HostInfo`,
`PreferredDerp` and the like.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network
from typing import Any

import msgspec

from .addresses import MESH_V6
from .errors import BadUpdate
from .json_reading import HOSTINFO, Shape
from .model import Prefix

# Chosen by us. A stock client's Hostinfo is 1 to 4 KiB and its endpoints fewer than 20; a /16 in /24s is 256 routes.
HOSTINFO_MAX_BYTES = 64 * 1024
ENDPOINTS_MAX = 32
ENDPOINTS_READ = 1024
ROUTES_MAX = 256
SERVICES_MAX = 64
_TEXT_MAX = 255

_NO_HOSTS_V4 = IPv4Network("0.0.0.0/8")
_RESOLVER_V4 = IPv4Address("100.100.100.100")  # the clients' own, inside each of them
_SERVICE = Shape("Proto Port Description")
_PEERAPI = frozenset({"peerapi4", "peerapi6", "peerapi-dns-proxy"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What the coordinator itself uses of a Hostinfo. home_derp: 0 = not said."""

    hostname: str
    os: str
    advertised: tuple[Prefix, ...]
    home_derp: int
    is_go_client: bool


def checked(hostinfo: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a Hostinfo as it is to be kept. Raises BadUpdate beyond the limits or where a used field has a wrong type.

    stored: the one kept so far. A report without NetInfo means "as before", and one whose NetInfo differs in
    DERPLatency alone says nothing new.
    """
    kept = _said(HOSTINFO.fold(dict(hostinfo)))
    net_info = kept.pop("NetInfo", None)
    before = (stored or {}).get("NetInfo")
    if isinstance(net_info, Mapping):
        net_info = _said(net_info)
        if isinstance(before, Mapping) and _without_latency(net_info) == _without_latency(before):
            net_info = before
    elif net_info is not None:
        raise BadUpdate("Hostinfo.NetInfo is not an object")
    else:
        net_info = before
    if net_info is not None:
        kept["NetInfo"] = net_info
    try:
        size = len(msgspec.json.encode(kept))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadUpdate(f"Hostinfo is not plain JSON: {error}") from error
    if size > HOSTINFO_MAX_BYTES:
        raise BadUpdate(f"Hostinfo is {size} bytes; at most {HOSTINFO_MAX_BYTES} are taken")
    facts(kept)
    return kept


def facts(hostinfo: Mapping[str, Any]) -> Facts:
    """Read a Hostinfo that `checked` returned. Raises BadUpdate where a field has a wrong type."""
    net_info = hostinfo.get("NetInfo")
    region = net_info.get("PreferredDERP") if isinstance(net_info, Mapping) else None
    if region is None:
        region = 0
    # 16 bits: clients carry a region as the port of a made-up endpoint.
    if type(region) is not int or not 0 <= region <= 0xFFFF:
        raise BadUpdate("Hostinfo.NetInfo.PreferredDERP is not a region number")
    return Facts(
        hostname=_text(hostinfo, "Hostname"),
        os=_text(hostinfo, "OS"),
        advertised=_prefixes(hostinfo.get("RoutableIPs")),
        home_derp=region,
        is_go_client=bool(_text(hostinfo, "GoVersion")),
    )


def for_peers(hostinfo: Mapping[str, Any], routes: Sequence[Prefix]) -> dict[str, Any]:
    """The little that others are told of a Hostinfo (control.md 8.1): name, system, PeerAPI ports, usable routes."""
    told: dict[str, Any] = {"OS": _text(hostinfo, "OS"), "Hostname": _text(hostinfo, "Hostname")}
    services = _peerapi_services(hostinfo.get("Services"))
    if services:
        told["Services"] = services
    if routes:
        told["RoutableIPs"] = [str(prefix) for prefix in routes]
    return told


def checked_endpoints(
    endpoints: Sequence[str], types: Sequence[int], mesh: Container[IPv4Address] = ()
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return (endpoints, types) as they are to be kept: what could be a host's place, at most ENDPOINTS_MAX of them.

    mesh: the mesh's IPv4 addresses in use; other ones of 100.64.0.0/10 may be a carrier's. The most reliable come
    first, so the surplus is cut at the end. Raises BadUpdate for text that is no endpoint.
    """
    if not isinstance(endpoints, (list, tuple)) or not isinstance(types, (list, tuple)):
        raise BadUpdate("Endpoints and EndpointTypes are lists")
    kept: dict[str, int] = {}
    for index, text in enumerate(endpoints[:ENDPOINTS_READ]):
        address, port = _endpoint(text)
        kind = types[index] if index < len(types) else 0
        if type(kind) is not int or not 0 <= kind <= 255:
            raise BadUpdate("an endpoint's type is a small number")
        if port == 0 or address in mesh or _is_no_place(address):
            continue
        canonical = f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"
        if len(kept) < ENDPOINTS_MAX:
            kept.setdefault(canonical, kind)
    return tuple(kept), tuple(kept.values())


def _is_no_place(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether peers that sent there would reach nobody, themselves, their own network or the tunnel."""
    if address.is_unspecified or address.is_loopback or address.is_multicast:
        return True
    if isinstance(address, IPv4Address):
        return address in _NO_HOSTS_V4 or address.is_reserved or address == _RESOLVER_V4
    # Link-local: clients name theirs, no peer pings them. Mapped: IPv4 in a form that no client needs.
    return address.is_link_local or address.ipv4_mapped is not None or address in MESH_V6


def _endpoint(text: object) -> tuple[IPv4Address | IPv6Address, int]:
    if not isinstance(text, str) or len(text) > 80:
        raise BadUpdate("an endpoint is a text like 192.0.2.1:41641")
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ip_address(host[1:-1] if bracketed else host)
        if not colon or bracketed != (address.version == 6) or not (port.isascii() and port.isdigit()):
            raise ValueError
        number = int(port)
    except ValueError:
        raise BadUpdate(f"{text!r} is not an endpoint like 192.0.2.1:41641 or [2001:db8::1]:41641") from None
    if number > 0xFFFF:
        raise BadUpdate(f"{text!r} is not an endpoint that a peer could use")
    if isinstance(address, IPv6Address) and address.scope_id:
        if not address.is_link_local:
            raise BadUpdate(f"{text!r} is not an endpoint that a peer could use")
        address = IPv6Address(int(address))
    return address, number


def _said(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are there: null says as little as no field."""
    return {name: value for name, value in given.items() if value is not None}


def _without_latency(net_info: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in net_info.items() if name != "DERPLatency"}


def _text(hostinfo: Mapping[str, Any], name: str) -> str:
    value = hostinfo.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadUpdate(f"Hostinfo.{name} is not a text")
    return value[:_TEXT_MAX]


def _prefixes(values: object) -> tuple[Prefix, ...]:
    if values is None:
        return ()
    if not isinstance(values, (list, tuple)):
        raise BadUpdate("Hostinfo.RoutableIPs is not a list")
    if len(values) > ROUTES_MAX:
        raise BadUpdate(f"{len(values)} routes are offered; at most {ROUTES_MAX} are taken from one node")
    prefixes: set[Prefix] = set()
    for text in values:
        try:
            if not isinstance(text, str) or len(text) > 60:
                raise ValueError
            prefixes.add(ip_network(text))
        except ValueError:
            raise BadUpdate(f"{str(text)[:60]!r} is not a prefix like 192.168.1.0/24") from None
    return tuple(sorted(prefixes, key=lambda prefix: (prefix.version, int(prefix.network_address), prefix.prefixlen)))


def _peerapi_services(services: object) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    if isinstance(services, (list, tuple)):
        for service in services[:SERVICES_MAX]:
            if not isinstance(service, Mapping):
                continue
            entry = _SERVICE.fold(dict(service))
            proto, port = entry.get("Proto"), entry.get("Port")
            if isinstance(proto, str) and proto in _PEERAPI and type(port) is int and 0 < port <= 0xFFFF:
                told.append({"Proto": proto, "Port": port})
    return told
