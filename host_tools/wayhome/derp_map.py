"""The relay map that clients get: a region with our relay and every further address where STUN answers, and one region
for each relay that runs elsewhere.

Source: protocol reference, DERP sections 7 and 8.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .errors import HostError

# 900 to 999 are for private use, by convention.
REGION = 900
_LAST_REGION = 999
_NO_STUN = -1
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class RelayPlace:
    """Where clients find the relay: a DNS name or an address, and a port with TLS.

    `pin` is the CertName that pins an own certificate, "" when a public authority stands behind it.
    """

    host: str
    port: int
    pin: str = ""
    can_port_80: bool = False


@dataclass(frozen=True)
class OtherRelay:
    """A relay that runs by itself (`wayhome relay`). `stun_port` None: it answers no STUN."""

    place: RelayPlace
    stun_port: int | None


def other_relay_text(relay: OtherRelay) -> str:
    """Return what `wayhome serve --other-relay` takes: HOST:PORT,stun=PORT,pin=sha256-raw:..."""
    place = relay.place
    host = f"[{place.host}]" if ":" in place.host else place.host
    stun = "none" if relay.stun_port is None else relay.stun_port
    return f"{host}:{place.port},stun={stun}" + (f",pin={place.pin}" if place.pin else "")


def other_relay_from_text(text: str) -> OtherRelay:
    """Read what other_relay_text() wrote; without stun= it is 3478. Raises HostError."""
    hint = "`wayhome relay` prints what belongs here, such as relay.example.net:8443,stun=3478,pin=sha256-raw:..."
    where, *words = text.split(",")
    found = re.fullmatch(r"(\[[0-9a-f:]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})", where)
    if found is None:
        raise HostError(f"{text} is no relay: it must begin with HOST:PORT; {hint}")
    stun_port: int | None = 3478
    pin = ""
    for word in words:
        name, _, value = word.partition("=")
        if name == "pin" and re.fullmatch("sha256-raw:[0-9a-f]{64}", value):
            pin = value
        elif name == "stun" and value == "none":
            stun_port = None
        elif name == "stun" and re.fullmatch("[0-9]{1,5}", value):
            stun_port = int(value)
        else:
            raise HostError(f"{word} in {text} is neither stun=PORT, stun=none nor pin=sha256-raw:...; {hint}")
    port = int(found[2])
    if not (0 < port < 65536 and (stun_port is None or 0 < stun_port < 65536)):
        raise HostError(f"a port in {text} is not between 1 and 65535; {hint}")
    return OtherRelay(RelayPlace(found[1].strip("[]"), port, pin), stun_port)


def derp_map(
    place: RelayPlace | None, stun: Sequence[tuple[str, int]], others: Sequence[OtherRelay] = ()
) -> dict[str, Any]:
    """Return the map; `place` None: we have no relay ourselves. Raises HostError for more relays than regions."""
    if len(others) > _LAST_REGION - REGION:
        raise HostError(f"a relay map has room for {_LAST_REGION - REGION} other relays, not for {len(others)}")
    regions = [] if place is None else [_own_region(place, stun)]
    regions += [_other_region(number, other) for number, other in enumerate(others, REGION + 1)]
    return {"Regions": {str(region["RegionID"]): region for region in regions}, "omitDefaultRegions": True}


def _own_region(place: RelayPlace, stun: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """`stun` are the addresses where STUN listens ("0.0.0.0" = at the relay's host).

    With one STUN address a client can't find out that its NAT maps by destination, so each further one becomes a node
    that does STUN alone.
    """
    first = stun[0][1] if stun else _NO_STUN
    nodes = [_relay_node(REGION, place, first)]
    told = {(place.host, first)}
    for address, port in stun[1:]:
        host = place.host if ipaddress.ip_address(address).is_unspecified else address
        if (host, port) not in told and len(nodes) < len(_LETTERS):
            told.add((host, port))
            name = f"{REGION}{_LETTERS[len(nodes)]}"
            nodes.append({"Name": name, "RegionID": REGION, **_host(host), "STUNPort": port, "STUNOnly": True})
    return {"RegionID": REGION, "RegionCode": "home", "RegionName": "Home", "Nodes": nodes}


def _other_region(number: int, other: OtherRelay) -> dict[str, Any]:
    node = _relay_node(number, other.place, _NO_STUN if other.stun_port is None else other.stun_port)
    return {"RegionID": number, "RegionCode": f"relay{number}", "RegionName": other.place.host, "Nodes": [node]}


def _relay_node(region: int, place: RelayPlace, stun_port: int) -> dict[str, Any]:
    node: dict[str, Any] = {"Name": f"{region}a", "RegionID": region, **_host(place.host), "DERPPort": place.port}
    node["STUNPort"] = stun_port
    if place.pin:
        node["CertName"] = place.pin
    if place.can_port_80:
        node["CanPort80"] = True
    return node


def _host(host: str) -> dict[str, str]:
    """Addresses are given where they are known: a client with broken DNS still finds the relay then."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return {"HostName": host}
    if address.version == 4:
        return {"HostName": host, "IPv4": host, "IPv6": "none"}
    return {"HostName": host, "IPv4": "none", "IPv6": host}
