"""The DERP map: the relay regions, their servers, and what weighs in when a home is chosen (derp.md section 7)."""

from wayhomed.core.json_fields import (
    Fault,
    at,
    list_of,
    read_flag,
    read_integer,
    read_integer_key,
    read_into,
    read_object,
    read_text,
)
from wayhomed.port import const
from wayhomed.wire import address

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
    """The relay regions by id, and the factors on their latency (in thousandths) when a home is chosen."""

    def __init__(self):
        self.regions = {}
        self.scores_per_mille = {}

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


def _read_relay_node(value) -> RelayNode:
    node = RelayNode()
    read_into(node, read_object(value), _RELAY_NODE_FIELDS)
    for name, text in (("IPv4", node.ipv4), ("IPv6", node.ipv6)):
        if text not in ("", "none"):
            at(name, address.ip_from_text, text)
    return node


_read_relay_nodes = list_of(_read_relay_node, MAX_REGION_NODES)

_REGION_FIELDS = (
    ("RegionID", "id", read_region_id),
    ("RegionCode", "code", read_text),
    ("RegionName", "name", read_text),
    ("NoMeasureNoHome", "no_measure_no_home", read_flag),
    ("Nodes", "nodes", _read_relay_nodes),
)


def _read_region(value) -> Region:
    region = Region()
    read_into(region, read_object(value), _REGION_FIELDS)
    if not region.id:
        raise Fault("a region without RegionID")
    return region


def _read_regions(value) -> dict:
    read_object(value)
    if len(value) > MAX_REGIONS:
        raise Fault("%d regions" % len(value))
    regions = {}
    for key in value:
        region_id = at(key[:20], read_integer_key, key)
        if value[key] is None:
            continue  # a null region is dropped
        region = at(key, _read_region, value[key])
        if region.id != region_id:
            raise Fault("region %d stands under the key %d" % (region.id, region_id))
        regions[region_id] = region
    return regions


def _read_home_params(value) -> dict:
    scores: dict = {}
    given = read_object(value).get("RegionScore")
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


_DERP_MAP_FIELDS = (
    ("Regions", "regions", _read_regions),
    ("HomeParams", "scores_per_mille", _read_home_params),
)


def read_derp_map(value, old: DerpMap) -> DerpMap:
    """Return a new map; what the value leaves out is the old map's (control.md section 7.3). Raises Fault."""
    fields = read_object(value)
    derp_map = DerpMap()
    derp_map.regions = old.regions
    derp_map.scores_per_mille = old.scores_per_mille
    read_into(derp_map, fields, _DERP_MAP_FIELDS)
    return derp_map
