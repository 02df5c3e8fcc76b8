"""The relay map that clients get: one region, our relay in it, and every further address where STUN answers.

Source: protocol reference, DERP sections 7 and 8.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# 900 to 999 are for private use, by convention.
REGION = 900
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


def derp_map(place: RelayPlace, stun: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Return the map; `stun` are the addresses where STUN listens ("0.0.0.0" = at the relay's host).

    With one STUN address a client can't find out that its NAT maps by destination, so each further one becomes a node
    that does STUN alone.
    """
    first = stun[0][1] if stun else _NO_STUN
    relay: dict[str, Any] = {"Name": f"{REGION}a", "RegionID": REGION, **_host(place.host), "DERPPort": place.port}
    relay["STUNPort"] = first
    if place.pin:
        relay["CertName"] = place.pin
    if place.can_port_80:
        relay["CanPort80"] = True
    nodes = [relay]
    told = {(place.host, first)}
    for address, port in stun[1:]:
        host = place.host if ipaddress.ip_address(address).is_unspecified else address
        if (host, port) not in told and len(nodes) < len(_LETTERS):
            told.add((host, port))
            name = f"{REGION}{_LETTERS[len(nodes)]}"
            nodes.append({"Name": name, "RegionID": REGION, **_host(host), "STUNPort": port, "STUNOnly": True})
    region = {"RegionID": REGION, "RegionCode": "home", "RegionName": "Home", "Nodes": nodes}
    return {"Regions": {str(REGION): region}, "omitDefaultRegions": True}


def _host(host: str) -> dict[str, str]:
    """Addresses are given where they are known: a client with broken DNS still finds the relay then."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return {"HostName": host}
    if address.version == 4:
        return {"HostName": host, "IPv4": host, "IPv6": "none"}
    return {"HostName": host, "IPv4": "none", "IPv6": host}
