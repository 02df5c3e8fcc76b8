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
_UNUSED = "none"
_LETTERS = "abcdefghijklmnop"
# A board takes no more of one region; so many STUN addresses tell nothing that two don't.
MAX_NODES = len(_LETTERS)


@dataclass(frozen=True)
class RelayPlace:
    """Where clients find the relay: a DNS name or an address, and a port with TLS.

    `pin` is the CertName that pins an own certificate, "" when a public authority stands behind it. `also` are further
    addresses of it, as where the host is an IPv4 address and the relay has IPv6 too.
    """

    host: str
    port: int
    pin: str = ""
    can_port_80: bool = False
    also: tuple[str, ...] = ()

    def address(self, version: int) -> str:
        """Return its address of a family: "" = DNS knows, "none" = it has none that is known."""
        known = [text for text in (self.host, *self.also) if _version(text) == version]
        if known:
            return known[0]
        return "" if _version(self.host) == 0 else _UNUSED


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
    """`stun` are the addresses where STUN listens ("0.0.0.0", "::" = wherever the relay is found).

    With one STUN address a client can't find out that its NAT maps by destination, so each further one becomes a node
    that does STUN alone. Two of different families and one port become one node.
    """
    left = _stun_places(place, stun)
    first = next((port for _, address, port in left if address is None), _NO_STUN)
    nodes = [_relay_node(REGION, place, first)]
    left = [one for one in left if one[1:] != (None, first)]
    while left and len(nodes) < MAX_NODES:
        version, address, port = left.pop(0)
        wanted = (10 - version, address is None, port)
        pair = next((one for one in left if (one[0], one[1] is None, one[2]) == wanted), None)
        addresses = {"IPv4": _UNUSED, "IPv6": _UNUSED, f"IPv{version}": address or place.address(version)}
        if pair is not None:
            left.remove(pair)
            addresses[f"IPv{pair[0]}"] = pair[1] or place.address(pair[0])
        node = {"Name": f"{REGION}{_LETTERS[len(nodes)]}", "RegionID": REGION, "HostName": address or place.host}
        nodes.append({**node, **_known(addresses), "STUNPort": port, "STUNOnly": True})
    return {"RegionID": REGION, "RegionCode": "home", "RegionName": "Home", "Nodes": nodes}


def _stun_places(place: RelayPlace, stun: Sequence[tuple[str, int]]) -> list[tuple[int, str | None, int]]:
    """Return (4 or 6, address, port) of each STUN place that clients can be told, once; address None: the relay's own.

    Where a family has neither a wildcard nor the relay's own address, its first stands for that: behind a name, or
    a router that passes a port on, machines listen on addresses that clients don't know.
    """
    at_the_relay: set[tuple[str, int]] = set()
    for version in (4, 6):
        here = place.address(version)
        mine = [(host, port) for host, port in stun if _version(host) == version]
        own = [one for one in mine if ipaddress.ip_address(one[0]).is_unspecified or one[0] == here]
        at_the_relay.update(own if own or here == _UNUSED else mine[:1])
    places: dict[tuple[int, str | None, int], None] = {}
    for host, port in stun:
        version = _version(host)
        if (host, port) not in at_the_relay:
            places[version, host, port] = None
        elif place.address(version) != _UNUSED:
            places[version, None, port] = None
    return list(places)


def _other_region(number: int, other: OtherRelay) -> dict[str, Any]:
    node = _relay_node(number, other.place, _NO_STUN if other.stun_port is None else other.stun_port)
    return {"RegionID": number, "RegionCode": f"relay{number}", "RegionName": other.place.host, "Nodes": [node]}


def _relay_node(region: int, place: RelayPlace, stun_port: int) -> dict[str, Any]:
    node: dict[str, Any] = {"Name": f"{region}a", "RegionID": region, **_host(place), "DERPPort": place.port}
    node["STUNPort"] = stun_port
    if place.pin:
        node["CertName"] = place.pin
    if place.can_port_80:
        node["CanPort80"] = True
    return node


def _host(place: RelayPlace) -> dict[str, str]:
    """Addresses are given where they are known: a client with broken DNS still finds the relay then."""
    return {"HostName": place.host, **_known({f"IPv{version}": place.address(version) for version in (4, 6)})}


def _known(addresses: dict[str, str]) -> dict[str, str]:
    """Leave out what DNS is to be asked for."""
    return {family: address for family, address in addresses.items() if address}


def _version(host: str) -> int:
    """Return 4 or 6 for an address, 0 for a name."""
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return 0
