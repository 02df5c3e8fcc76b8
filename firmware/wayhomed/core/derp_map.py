"""The DERP map: the relay regions, their servers, and what weighs in when a home is chosen (derp.md section 7).

A server or region that can't be used is left out, and told; the others serve.
"""

from wayhomed.core.json_fields import (
    Fault,
    Names,
    at,
    read_flag,
    read_integer,
    read_integer_key,
    read_into,
    read_object,
    read_text,
)
from wayhomed.port import const
from wayhomed.wire import address
from wayhomed.wire.errors import BadWire

# Chosen by us
MAX_REGIONS = const(128)
MAX_REGION_NODES = const(16)

MAX_REGION_ID = const(65_535)


class RelayNode:
    """One server of a relay region (derp.md section 7). ipv4 and ipv6: text, "" = ask DNS, "none" = do not use."""

    def __init__(self):
        self.name = ""
        self.host_name = ""
        self.cert_name = ""
        self.ipv4 = ""
        self.ipv6 = ""
        self.stun_port = 0
        self.stun_only = False
        self.derp_port = 0
        self.insecure_for_tests = False

    def as_json(self, region_id: int) -> dict:
        return {
            "Name": self.name,
            "RegionID": region_id,
            "HostName": self.host_name,
            "CertName": self.cert_name,
            "IPv4": self.ipv4,
            "IPv6": self.ipv6,
            "STUNPort": self.stun_port,
            "STUNOnly": self.stun_only,
            "DERPPort": self.derp_port,
            "InsecureForTests": self.insecure_for_tests,
        }


class Region:
    """One relay region: its servers in order of preference."""

    def __init__(self):
        self.id = 0
        self.code = ""
        self.name = ""
        self.nodes = []
        self.no_measure_no_home = False

    def as_json(self) -> dict:
        return {
            "RegionID": self.id,
            "RegionCode": self.code,
            "RegionName": self.name,
            "NoMeasureNoHome": self.no_measure_no_home,
            "Nodes": [node.as_json(self.id) for node in self.nodes],
        }


class DerpMap:
    """The relay regions by id, and the factors on their latency (in thousandths) when a home is chosen.

    left_out: a sentence for each region or server that this map's coordinator named and that can't be used.
    """

    def __init__(self):
        self.regions = {}
        self.scores_per_mille = {}
        self.left_out = []

    def as_json(self) -> dict:
        return {
            "Regions": {str(region): self.regions[region].as_json() for region in self.regions},
            "HomeParams": {"RegionScore": {str(r): self.scores_per_mille[r] / 1000 for r in self.scores_per_mille}},
        }


def read_region_id(value) -> int:
    value = read_integer(value)
    if value < 0 or value > MAX_REGION_ID:
        raise Fault("a relay region outside 0..65535")
    return value


def _read_port(value) -> int:
    value = read_integer(value)
    if value < -1 or value > 65535:
        raise Fault("no port number")
    return value


_RELAY_NODE_FIELDS = (
    ("Name", "name", read_text),
    ("HostName", "host_name", read_text),
    ("CertName", "cert_name", read_text),
    ("IPv4", "ipv4", read_text),
    ("IPv6", "ipv6", read_text),
    ("STUNPort", "stun_port", _read_port),
    ("STUNOnly", "stun_only", read_flag),
    ("DERPPort", "derp_port", _read_port),
    ("InsecureForTests", "insecure_for_tests", read_flag),
)


_RELAY_NODE_NAMES = Names("RegionID", "CanPort80", "STUNTestIP", *[entry[0] for entry in _RELAY_NODE_FIELDS])


def _read_relay_node(value) -> RelayNode:
    node = RelayNode()
    read_into(node, _RELAY_NODE_NAMES.respelled(read_object(value)), _RELAY_NODE_FIELDS)
    for name, text in (("IPv4", node.ipv4), ("IPv6", node.ipv6)):
        if text not in ("", "none"):
            at(name, address.ip_from_text, text)
    return node


_REGION_FIELDS = (
    ("RegionID", "id", read_region_id),
    ("RegionCode", "code", read_text),
    ("RegionName", "name", read_text),
    ("NoMeasureNoHome", "no_measure_no_home", read_flag),
)
_REGION_NAMES = Names("Avoid", "Nodes", "Latitude", "Longitude", *[entry[0] for entry in _REGION_FIELDS])


def _read_region(region_id: int, value, left_out: list) -> Region:
    """Return the region that stands under this key. Raises Fault."""
    fields = _REGION_NAMES.respelled(read_object(value))
    region = Region()
    region.id = region_id
    read_into(region, fields, _REGION_FIELDS)
    if region.id != region_id or not 0 < region_id <= MAX_REGION_ID:
        raise Fault("a region %d under the key %d" % (region.id, region_id))
    given = fields.get("Nodes")
    if given is None:
        return region
    if not isinstance(given, list) or len(given) > MAX_REGION_NODES:
        raise Fault("Nodes is no list of at most %d" % MAX_REGION_NODES)
    for index, item in enumerate(given):
        try:
            region.nodes.append(_read_relay_node(item))
        except (Fault, BadWire) as error:
            left_out.append("a server of relay region %d is left out: Nodes[%d].%s" % (region_id, index, _said(error)))
    return region


def _said(error) -> str:
    if isinstance(error, Fault):
        return (error.path + ": " if error.path else "") + error.reason
    return str(error)


def _read_regions(value, left_out: list) -> dict:
    read_object(value)
    if len(value) > MAX_REGIONS:
        raise Fault("%d regions" % len(value))
    regions = {}
    avoided = []
    for key in value:
        if value[key] is None:
            continue  # a null region is dropped
        try:
            region_id = read_integer_key(key)
            region = regions[region_id] = _read_region(region_id, value[key], left_out)
        except Fault as fault:
            left_out.append("relay region %s is left out: %s" % (repr(key[:20]), _said(fault)))
            continue
        if value[key].get("Avoid") is True and not region.no_measure_no_home:
            avoided.append(region)
    # `Avoid` never had a clear meaning (derp.md section 7). It is obeyed as what took its place, but not to the point
    # of having no relay at all.
    if len(avoided) < len([region for region in regions.values() if not region.no_measure_no_home]):
        for region in avoided:
            region.no_measure_no_home = True
    return regions


def _read_home_params(value) -> dict:
    scores: dict = {}
    given = _HOME_NAMES.respelled(read_object(value)).get("RegionScore")
    if given is None:
        return scores
    at("RegionScore", read_object, given)
    if len(given) > MAX_REGIONS:
        raise Fault("%d scores" % len(given))
    for key in given:
        score = given[key]
        if score is True or score is False or not isinstance(score, (int, float)) or not 0 <= score <= 1000:
            raise Fault("a score is a number from 0 to 1000")
        scores[read_integer_key(key)] = int(score * 1000)
    return scores


_HOME_NAMES = Names("RegionScore")
_DERP_MAP_NAMES = Names("Regions", "HomeParams", "omitDefaultRegions")


def read_derp_map(value, old: DerpMap) -> DerpMap:
    """Return a new map; what the value leaves out is the old map's (control.md section 7.3). Raises Fault."""
    fields = _DERP_MAP_NAMES.respelled(read_object(value))
    derp_map = DerpMap()
    regions, home = fields.get("Regions"), fields.get("HomeParams")
    if regions is None:
        derp_map.regions = old.regions
    else:
        derp_map.regions = at("Regions", lambda given: _read_regions(given, derp_map.left_out), regions)
    derp_map.scores_per_mille = old.scores_per_mille if home is None else at("HomeParams", _read_home_params, home)
    return derp_map
