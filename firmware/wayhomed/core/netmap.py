"""The netmap: what the coordinator has told us so far, kept current by difference.

Rules of stickiness: control.md sections 7.3 (each field of a map response) and 7.4 (patches); types: section 8.
A response is checked whole before anything of it is kept: a fault raises BadWire with the path of the fault, such as
"Peers[3].AllowedIPs[0]: ...", and the netmap stays as it was. Unknown fields are ignored, null counts as absent.
"""

import json

from wayhomed.core import times
from wayhomed.port import const
from wayhomed.wire import address, keys
from wayhomed.wire.errors import BadWire

# Chosen by us: far above what a coordinator of ours sends, low enough that a hostile one can't fill a board's memory.
MAX_MESSAGE_BYTES = const(2_097_152)
MAX_PEERS = const(4096)
MAX_PREFIXES = const(1024)
MAX_ENDPOINTS = const(64)
MAX_TEXT = const(1024)
MAX_TAGS = const(64)
MAX_REGIONS = const(128)
MAX_REGION_NODES = const(16)
MAX_FILTERS = const(64)
MAX_FILTER_RULES = const(4096)
MAX_PROFILES = const(8192)
# Of parts that we keep as they come (capability maps, DNS settings, filter rules)
MAX_PLAIN_DEPTH = const(8)
MAX_PLAIN_ITEMS = const(65_536)
MAX_JSON_DEPTH = const(64)

_MAX_ID = const(9_007_199_254_740_992)
_MAX_REGION_ID = const(65_535)

ZERO_KEY = bytes(32)


class Node:
    """One node, self or peer, as far as the board needs it.

    key and disco_key are raw; addresses, allowed_ips and primary_routes are lists of prefixes (ip bytes, length);
    endpoints are (ip bytes, port); key_expiry_s and last_seen_s are seconds since 1970 (0 = never / unknown);
    online is True, False or None (unknown); cap_map maps a capability to its list of plain JSON values.
    """

    def __init__(self):
        self.id = 0
        self.stable_id = ""
        self.name = ""
        self.user = 0
        self.key = ZERO_KEY
        self.key_expiry_s = 0
        self.disco_key = ZERO_KEY
        self.addresses = []
        self.allowed_ips = []
        self.endpoints = []
        self.home_derp = 0
        self.hostname = ""
        self.os = ""
        self.cap = 0
        self.tags = []
        self.primary_routes = []
        self.online = None
        self.last_seen_s = 0
        self.machine_authorized = False
        self.cap_map = {}
        self.expired = False
        self.is_jailed = False
        self.is_wireguard_only = False

    def copy(self) -> "Node":
        """Return a twin that a patch may change; lists are replaced by patches, never changed in place."""
        twin = Node()
        for name in self.__dict__:
            setattr(twin, name, getattr(self, name))
        return twin

    def is_expired(self, now_s: int) -> bool:
        """Tell whether the node's key has run out; now_s is 0 while the clock is not to be trusted."""
        return self.expired or bool(self.key_expiry_s and now_s and self.key_expiry_s <= now_s)

    def display_name(self) -> str:
        """Return the first label of the DNS name, or what else names the node."""
        return self.name.split(".")[0] or self.hostname or keys.short(self.key)

    def as_json(self) -> dict:
        """Return the node in the form that a map response has."""
        fields = {
            "ID": self.id,
            "StableID": self.stable_id,
            "Name": self.name,
            "User": self.user,
            "Key": keys.key_text(keys.NODE, self.key),
            "DiscoKey": keys.key_text(keys.DISCO, self.disco_key),
            "Addresses": [address.prefix_text(prefix) for prefix in self.addresses],
            "AllowedIPs": [address.prefix_text(prefix) for prefix in self.allowed_ips],
            "HomeDERP": self.home_derp,
            "Hostinfo": {"Hostname": self.hostname, "OS": self.os},
            "Cap": self.cap,
            "MachineAuthorized": self.machine_authorized,
        }
        if self.key_expiry_s:
            fields["KeyExpiry"] = times.text_from_seconds(self.key_expiry_s)
        if self.last_seen_s:
            fields["LastSeen"] = times.text_from_seconds(self.last_seen_s)
        if self.online is not None:
            fields["Online"] = self.online
        if self.endpoints:
            fields["Endpoints"] = [address.endpoint_text(endpoint) for endpoint in self.endpoints]
        if self.primary_routes:
            fields["PrimaryRoutes"] = [address.prefix_text(prefix) for prefix in self.primary_routes]
        if self.tags:
            fields["Tags"] = self.tags
        if self.cap_map:
            fields["CapMap"] = self.cap_map
        for name, value in (
            ("Expired", self.expired),
            ("IsJailed", self.is_jailed),
            ("IsWireGuardOnly", self.is_wireguard_only),
        ):
            if value:
                fields[name] = True
        return fields


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


class Difference:
    """What one map response changed, and what it asks for now (which is no part of the netmap)."""

    def __init__(self):
        self.keep_alive = False
        self.first = False
        self.self_changed = False
        self.peers_changed = []  # ids of peers new or changed
        self.peers_removed = []  # ids
        self.relays_changed = False
        self.filter_changed = False
        self.dns_changed = False
        self.names_changed = False  # domain, profiles, health
        self.ping_request = None  # dict with URL, URLIsNoise, Types, IP
        self.control_time_s = 0
        self.sleep_ms = 0
        self.exit_asked = False

    def anything(self) -> bool:
        """Tell whether the netmap differs from before."""
        return bool(
            self.self_changed
            or self.peers_changed
            or self.peers_removed
            or self.relays_changed
            or self.filter_changed
            or self.dns_changed
            or self.names_changed
        )


class Netmap:
    """All that the map responses of one stream said, merged.

    node: our own Node or None before the first response; peers: Node by id; derp_map; dns: the DNSConfig as it came;
    domain; profiles: (login name, display name) by user id; filters: FilterRule lists by name; health: texts.
    """

    def __init__(self):
        self.node = None
        self.peers = {}
        self.derp_map = DerpMap()
        self.dns = {}
        self.domain = ""
        self.profiles = {}
        self.filters = {}
        self.health = []
        self._expect_first = True

    def new_stream(self) -> None:
        """Say that the next response begins a stream: it replaces all, yet until it comes the old netmap serves."""
        self._expect_first = True

    def peer_by_key(self, node_key: bytes):
        """Return the peer with this node key, or None."""
        for peer in self.peers.values():
            if peer.key == node_key:
                return peer
        return None

    def filter_rules(self) -> list:
        """Return the FilterRules of all named filters, in order of the names."""
        rules = []
        for name in sorted(self.filters):
            rules.extend(self.filters[name])
        return rules

    def apply(self, response: dict, now_s: int = 0) -> Difference:
        """Take in one map response; return what changed. now_s: seconds since 1970, for "seen now".

        Raises BadWire (the netmap unchanged) for wrong types, limits passed, or a first response without Node.
        """
        try:
            staged = _Staged(self, self._expect_first)
            staged.read(_object(response), now_s)
        except _Fault as fault:
            raise BadWire(fault.text())
        if not staged.difference.keep_alive:
            self._keep(staged)
        return staged.difference

    def _keep(self, staged) -> None:
        if self._expect_first:
            for node_id in self.peers:
                if node_id not in staged.peers:
                    staged.difference.peers_removed.append(node_id)
            self._expect_first = False
        self.node = staged.node
        self.peers = staged.peers
        self.derp_map = staged.derp_map
        self.dns = staged.dns
        self.domain = staged.domain
        self.profiles = staged.profiles
        self.filters = staged.filters
        self.health = staged.health

    def as_json(self) -> dict:
        """Return one full map response that says all this: what is kept on disk."""
        return {
            "Node": self.node.as_json() if self.node else None,
            "Peers": [self.peers[node_id].as_json() for node_id in sorted(self.peers)],
            "DERPMap": self.derp_map.as_json(),
            "DNSConfig": self.dns,
            "Domain": self.domain,
            "PacketFilters": self.filters,
            "UserProfiles": [
                {"ID": user, "LoginName": self.profiles[user][0], "DisplayName": self.profiles[user][1]}
                for user in sorted(self.profiles)
            ],
            "Health": self.health,
        }


def decode_response(payload: bytes) -> dict:
    """Return the JSON object of one map message.

    Raises BadWire for anything else, for more than MAX_MESSAGE_BYTES and for nesting deeper than MAX_JSON_DEPTH.
    """
    if len(payload) > MAX_MESSAGE_BYTES:
        raise BadWire("a map message of %d bytes" % len(payload))
    try:
        # CPython guesses UTF-16 and -32 from bytes; the protocol knows UTF-8 alone. MicroPython forgives brackets left
        # open at the end: the 7 then lands in one of them instead of behind the object.
        response = json.loads("[" + str(payload, "utf-8") + ",7]")
    except MemoryError:
        raise BadWire("a map message of %d bytes is more than this machine's memory takes" % len(payload))
    except (ValueError, RuntimeError):  # RuntimeError: nested too deep for the interpreter's own stack
        raise BadWire("a map message is not JSON")
    if len(response) != 2 or response[1] != 7 or not isinstance(response[0], dict):
        raise BadWire("a map message is not a JSON object")
    _limit_depth(response[0])
    return response[0]


def _limit_depth(value) -> None:
    """Refuse deep nesting without recursion: MicroPython's stack is shallow, and others walk the same value later."""
    level = [value]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_JSON_DEPTH:
            raise BadWire("a map message is nested too deep")
        below = []
        for item in level:
            if isinstance(item, dict):
                item = item.values()
            elif not isinstance(item, list):
                continue
            for child in item:
                if isinstance(child, (dict, list)):
                    below.append(child)
        level = below


class _Fault(Exception):
    """Why a value is refused; the path grows while it climbs out of the response."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason
        self.path = ""

    def text(self) -> str:
        return (self.path or "the response") + ": " + self.reason


def _at(step: str, read, value):
    """Read a value; a fault in it gets `step` put in front of its path."""
    try:
        return read(value)
    except _Fault as fault:
        below = fault.path
        fault.path = step + ("." if below and below[0] != "[" else "") + below
        raise fault
    except BadWire as error:
        refused = _Fault(str(error))
        refused.path = step
        raise refused


def _object(value) -> dict:
    if not isinstance(value, dict):
        raise _Fault("an object is due here")
    return value


def _text(value) -> str:
    if not isinstance(value, str):
        raise _Fault("a string is due here")
    if len(value) > MAX_TEXT:
        raise _Fault("a string of %d characters" % len(value))
    return value


def _flag(value) -> bool:
    if value is not True and value is not False:
        raise _Fault("true or false is due here")
    return value


def _integer(value) -> int:
    # bool is an int to Python, not to JSON
    if not isinstance(value, int) or value is True or value is False:
        raise _Fault("a whole number is due here")
    if value < -_MAX_ID or value > _MAX_ID:
        raise _Fault("a number out of range")
    return value


def _identity(value) -> int:
    value = _integer(value)
    if value <= 0:
        raise _Fault("an id is a positive number")
    return value


def _region_id(value) -> int:
    value = _integer(value)
    if value < 0 or value > _MAX_REGION_ID:
        raise _Fault("a relay region outside 0..65535")
    return value


def _number_key(text: str) -> int:
    """Read a map's integer key, which JSON writes as a decimal string."""
    if not 0 < len(text) <= 16:
        raise _Fault("a decimal key is due here")
    for character in text:
        if character < "0" or character > "9":
            raise _Fault("a decimal key is due here")
    return int(text)


def _list_of(read, limit: int):
    """Return a reader of lists with at most `limit` items, each read by `read`."""

    def read_list(value) -> list:
        if not isinstance(value, list):
            raise _Fault("a list is due here")
        if len(value) > limit:
            raise _Fault("a list of %d, %d are allowed" % (len(value), limit))
        items = []
        for index, item in enumerate(value):
            try:
                items.append(read(item))
            except _Fault as fault:
                below = fault.path
                fault.path = "[%d]" % index + ("." if below and below[0] != "[" else "") + below
                raise fault
            except BadWire as error:
                refused = _Fault(str(error))
                refused.path = "[%d]" % index
                raise refused
        return items

    return read_list


def _plain(value):
    """Return a JSON value that is kept as it came, once it is known to be small and shallow."""
    level, count = [value], 0
    for _depth in range(MAX_PLAIN_DEPTH):
        below = []
        for item in level:
            if isinstance(item, dict):
                item = item.values()
            elif not isinstance(item, list):
                if isinstance(item, str) and len(item) > MAX_TEXT:
                    raise _Fault("a string of %d characters" % len(item))
                continue
            below.extend(item)
        count += len(below)
        if count > MAX_PLAIN_ITEMS:
            raise _Fault("more than %d values" % MAX_PLAIN_ITEMS)
        if not below:
            return value
        level = below
    raise _Fault("nested too deep")


def _node_key(value) -> bytes:
    key = keys.key_from_text(keys.NODE, _text(value))
    if key == ZERO_KEY:
        raise _Fault("a zero key")
    return key


def _disco_key(value) -> bytes:
    return keys.key_from_text(keys.DISCO, _text(value))


def _prefix(value) -> tuple:
    return address.prefix_from_text(_text(value))


def _endpoint(value) -> tuple:
    return address.endpoint_from_text(_text(value))


def _time(value) -> int:
    return times.seconds_from_text(_text(value))


def _cap_map(value) -> dict:
    capabilities = {}
    _object(value)
    if len(value) > MAX_PREFIXES:
        raise _Fault("%d capabilities" % len(value))
    for name in value:
        values = value[name]
        capabilities[_text(name)] = [] if values is None else _at(name, _values, values)
    return capabilities


def _values(value) -> list:
    if not isinstance(value, list):
        raise _Fault("a list is due here")
    return _plain(value)


_PREFIXES = _list_of(_prefix, MAX_PREFIXES)
_ENDPOINTS = _list_of(_endpoint, MAX_ENDPOINTS)
_TEXTS = _list_of(_text, MAX_TAGS)


def _hostinfo(value) -> tuple:
    info = _object(value)
    hostname, system = info.get("Hostname"), info.get("OS")
    return (
        "" if hostname is None else _at("Hostname", _text, hostname),
        "" if system is None else _at("OS", _text, system),
    )


def _legacy_derp(value) -> int:
    """Read the old form of a home relay, "127.3.3.40:N"."""
    text = _text(value)
    if not text:
        return 0
    _ip, port = address.endpoint_from_text(text)
    return port


# JSON name, our attribute, reader. AllowedIPs, DERP and Hostinfo need more and are read by hand.
_NODE_FIELDS = (
    ("ID", "id", _identity),
    ("StableID", "stable_id", _text),
    ("Name", "name", _text),
    ("User", "user", _integer),
    ("Key", "key", _node_key),
    ("KeyExpiry", "key_expiry_s", _time),
    ("DiscoKey", "disco_key", _disco_key),
    ("Addresses", "addresses", _PREFIXES),
    ("Endpoints", "endpoints", _ENDPOINTS),
    ("HomeDERP", "home_derp", _region_id),
    ("Cap", "cap", _integer),
    ("Tags", "tags", _TEXTS),
    ("PrimaryRoutes", "primary_routes", _PREFIXES),
    ("Online", "online", _flag),
    ("LastSeen", "last_seen_s", _time),
    ("MachineAuthorized", "machine_authorized", _flag),
    ("CapMap", "cap_map", _cap_map),
    ("Expired", "expired", _flag),
    ("IsJailed", "is_jailed", _flag),
    ("IsWireGuardOnly", "is_wireguard_only", _flag),
)

# The same for a patch; a patch touches nothing else (control.md 7.4).
_PATCH_FIELDS = (
    ("DERPRegion", "home_derp", _region_id),
    ("Cap", "cap", _integer),
    ("CapMap", "cap_map", _cap_map),
    ("Endpoints", "endpoints", _ENDPOINTS),
    ("Key", "key", _node_key),
    ("DiscoKey", "disco_key", _disco_key),
    ("Online", "online", _flag),
    ("LastSeen", "last_seen_s", _time),
    ("KeyExpiry", "key_expiry_s", _time),
)


def _read_fields(node: Node | RelayNode, fields: dict, table: tuple) -> None:
    for name, attribute, read in table:
        value = fields.get(name)
        if value is not None:
            setattr(node, attribute, _at(name, read, value))


def _node(value) -> Node:
    fields = _object(value)
    node = Node()
    _read_fields(node, fields, _NODE_FIELDS)
    if not node.id:
        raise _Fault("a node without ID")
    if node.key == ZERO_KEY:
        raise _Fault("a node without Key")
    allowed = fields.get("AllowedIPs")
    # null means the same as Addresses (capability version 112 and later)
    node.allowed_ips = list(node.addresses) if allowed is None else _at("AllowedIPs", _PREFIXES, allowed)
    if not node.home_derp and fields.get("DERP") is not None:
        node.home_derp = _at("DERP", _legacy_derp, fields["DERP"])
    if fields.get("Hostinfo") is not None:
        node.hostname, node.os = _at("Hostinfo", _hostinfo, fields["Hostinfo"])
    return node


_NODES = _list_of(_node, MAX_PEERS)
_IDS = _list_of(_identity, MAX_PEERS)
_PATCHES = _list_of(_object, MAX_PEERS)


def _port(value) -> int:
    value = _integer(value)
    if value < -1 or value > 65535:
        raise _Fault("no port number")
    return value


_RELAY_NODE_FIELDS = (
    ("Name", "name", _text),
    ("HostName", "host_name", _text),
    ("CertName", "cert_name", _text),
    ("IPv4", "ipv4", _text),
    ("IPv6", "ipv6", _text),
    ("STUNPort", "stun_port", _port),
    ("STUNOnly", "stun_only", _flag),
    ("DERPPort", "derp_port", _port),
    ("InsecureForTests", "insecure_for_tests", _flag),
)


def _relay_node(value) -> RelayNode:
    node = RelayNode()
    _read_fields(node, _object(value), _RELAY_NODE_FIELDS)
    for name, text in (("IPv4", node.ipv4), ("IPv6", node.ipv6)):
        if text not in ("", "none"):
            _at(name, address.ip_from_text, text)
    return node


_RELAY_NODES = _list_of(_relay_node, MAX_REGION_NODES)


def _region(value) -> Region:
    fields = _object(value)
    region = Region()
    for name, attribute, read in (
        ("RegionID", "id", _region_id),
        ("RegionCode", "code", _text),
        ("RegionName", "name", _text),
        ("NoMeasureNoHome", "no_measure_no_home", _flag),
        ("Nodes", "nodes", _RELAY_NODES),
    ):
        if fields.get(name) is not None:
            setattr(region, attribute, _at(name, read, fields[name]))
    if not region.id:
        raise _Fault("a region without RegionID")
    return region


def _regions(value) -> dict:
    _object(value)
    if len(value) > MAX_REGIONS:
        raise _Fault("%d regions" % len(value))
    regions = {}
    for key in value:
        region_id = _at(key[:20], _number_key, key)
        if value[key] is None:
            continue  # a null region is dropped
        region = _at(key, _region, value[key])
        if region.id != region_id:
            raise _Fault("region %d stands under the key %d" % (region.id, region_id))
        regions[region_id] = region
    return regions


def _home_params(value) -> dict:
    scores: dict = {}
    given = _object(value).get("RegionScore")
    if given is None:
        return scores
    _at("RegionScore", _object, given)
    if len(given) > MAX_REGIONS:
        raise _Fault("%d scores" % len(given))
    for key in given:
        score = given[key]
        if score is True or score is False or not isinstance(score, (int, float)) or not 0 <= score <= 1000:
            raise _Fault("a score is a number from 0 to 1000")
        scores[_number_key(key)] = int(score * 1000)
    return scores


def _profile(value) -> tuple:
    fields = _object(value)
    login, display = fields.get("LoginName"), fields.get("DisplayName")
    return (
        _at("ID", _identity, fields.get("ID")),
        "" if login is None else _at("LoginName", _text, login),
        "" if display is None else _at("DisplayName", _text, display),
    )


_PROFILES = _list_of(_profile, MAX_PROFILES)


def _rule(value) -> dict:
    return _plain(_object(value))


_RULES = _list_of(_rule, MAX_FILTER_RULES)


def _flags_by_id(value) -> dict:
    _object(value)
    if len(value) > MAX_PEERS:
        raise _Fault("%d entries" % len(value))
    return {_number_key(key): _at(key, _flag, value[key]) for key in value}


def _ping_request(value) -> dict:
    fields = _object(value)
    request = {"URL": "", "URLIsNoise": False, "Types": "", "IP": ""}
    for name, read in (("URL", _text), ("URLIsNoise", _flag), ("Types", _text), ("IP", _text)):
        if fields.get(name) is not None:
            request[name] = _at(name, read, fields[name])
    return request


def _debug(value) -> tuple:
    """Return (milliseconds to sleep, whether an exit is asked for)."""
    fields = _object(value)
    sleep = fields.get("SleepSeconds")
    if sleep is None:
        sleep = 0
    if sleep is True or sleep is False or not isinstance(sleep, (int, float)):
        raise _Fault("SleepSeconds is a number")
    # The stock client caps the sleep at 300 s too (control.md 7.3). `not >` refuses NaN as well.
    sleep_ms = 0 if not sleep > 0 else int(min(sleep, 300) * 1000)
    return sleep_ms, fields.get("Exit") is not None


class _Staged:
    """A netmap in the making: the old one's parts, replaced as the response says. Nothing of the old one is touched."""

    def __init__(self, old: Netmap, first: bool):
        self.difference = Difference()
        self.first = first
        self.node = None if first else old.node
        self.peers = {} if first else old.peers
        # Without a relay nothing reaches us, so an old relay map is better than none until a new one comes.
        self.derp_map = old.derp_map
        self.dns = {} if first else old.dns
        self.domain = "" if first else old.domain
        self.profiles = {} if first else old.profiles
        self.filters = {} if first else old.filters
        self.health = [] if first else old.health
        self._peers_are_ours = False

    def read(self, fields: dict, now_s: int) -> None:
        """Go through a response in the order of control.md 7.3."""
        self._fields = fields
        self._now_s = now_s
        difference = self.difference
        difference.keep_alive = self._value("KeepAlive", _flag) is True
        difference.ping_request = self._value("PingRequest", _ping_request)
        difference.control_time_s = self._value("ControlTime", _time) or 0
        if difference.keep_alive:
            return
        debug = self._value("Debug", _debug)
        if debug:
            difference.sleep_ms, difference.exit_asked = debug
        difference.first = self.first
        self._read_self()
        self._read_relays()
        self._read_peers()
        self._read_filters()
        self._read_rest()
        if self.first:
            # All of it replaces what a former stream said.
            difference.self_changed = difference.relays_changed = difference.filter_changed = True
            difference.dns_changed = difference.names_changed = True

    def _value(self, name: str, read):
        value = self._fields.get(name)
        return None if value is None else _at(name, read, value)

    def _read_self(self) -> None:
        node = self._value("Node", _node)
        if node is None:
            if self.first:
                raise _Fault("the first response of a stream has no Node")
            return
        self.node = node
        self.difference.self_changed = True

    def _read_relays(self) -> None:
        given = self._value("DERPMap", _object)
        if given is None:
            return
        derp_map = DerpMap()
        derp_map.regions = self.derp_map.regions
        derp_map.scores_per_mille = self.derp_map.scores_per_mille
        if given.get("Regions") is not None:
            derp_map.regions = _at("DERPMap", lambda value: _at("Regions", _regions, value), given["Regions"])
        if given.get("HomeParams") is not None:
            derp_map.scores_per_mille = _at(
                "DERPMap", lambda value: _at("HomeParams", _home_params, value), given["HomeParams"]
            )
        self.derp_map = derp_map
        self.difference.relays_changed = True

    def _own_peers(self) -> dict:
        if not self._peers_are_ours:
            self.peers = dict(self.peers)
            self._peers_are_ours = True
        return self.peers

    def _put_peer(self, peer: Node) -> None:
        old = self.peers.get(peer.id)
        if old is not None and old.expired and old.key == peer.key:
            peer.expired = True  # a key that has expired stays so (control.md 8.1)
        self._own_peers()[peer.id] = peer
        if len(self.peers) > MAX_PEERS:
            raise _Fault("more than %d peers" % MAX_PEERS)
        self.difference.peers_changed.append(peer.id)

    def _patched(self, node_id: int):
        """Return a copy of the peer to change, put in its place; None for an id that we don't know."""
        old = self.peers.get(node_id)
        if old is None:
            return None
        peer = old.copy()
        self._own_peers()[node_id] = peer
        if node_id not in self.difference.peers_changed:
            self.difference.peers_changed.append(node_id)
        return peer

    def _read_peers(self) -> None:
        complete = self._value("Peers", _NODES)
        if complete:  # absent and [] both say "no change"
            before = self.peers
            self.peers = {}
            self._peers_are_ours = True
            for peer in complete:
                if peer.id in self.peers:
                    raise _Fault("Peers names %d twice" % peer.id)
                old = before.get(peer.id)
                if old is not None and old.expired and old.key == peer.key:
                    peer.expired = True
                self.peers[peer.id] = peer
                self.difference.peers_changed.append(peer.id)
            self.difference.peers_removed = [node_id for node_id in before if node_id not in self.peers]
            return
        for node_id in self._value("PeersRemoved", _IDS) or ():
            if node_id in self.peers:
                del self._own_peers()[node_id]
                self.difference.peers_removed.append(node_id)
        for peer in self._value("PeersChanged", _NODES) or ():
            self._put_peer(peer)
        self._read_seen_and_online()
        for index, patch in enumerate(self._value("PeersChangedPatch", _PATCHES) or ()):
            _at("PeersChangedPatch[%d]" % index, self._read_patch, patch)

    def _read_seen_and_online(self) -> None:
        seen = self._value("PeerSeenChange", _flags_by_id) or {}
        for node_id in seen:
            peer = self._patched(node_id)
            if peer is not None:
                peer.last_seen_s = self._now_s if seen[node_id] else 0
        online = self._value("OnlineChange", _flags_by_id) or {}
        for node_id in online:
            peer = self._patched(node_id)
            if peer is not None:
                peer.online = online[node_id]

    def _read_patch(self, fields: dict) -> None:
        node_id = _at("NodeID", _identity, fields.get("NodeID"))
        peer = self._patched(node_id)
        # A patch for a stranger is skipped, yet its shape is checked like any other's.
        twin = Node() if peer is None else peer
        home = twin.home_derp
        _read_fields(twin, fields, _PATCH_FIELDS)
        if not twin.home_derp:
            twin.home_derp = home  # DERPRegion counts only when not zero

    def _read_filters(self) -> None:
        base = self._value("PacketFilter", _RULES)
        named = self._value("PacketFilters", _object)
        if base is None and named is None:
            return
        filters = dict(self.filters)
        if base is not None:
            filters["base"] = base  # [] stays: it blocks everything
        if named is not None:
            if "*" in named and named["*"] is None:
                filters = {}
            for name in named:
                rules = named[name]
                if rules is not None:
                    filters[_at("PacketFilters", _text, name)] = _at("PacketFilters." + name[:40], _RULES, rules)
                elif name in filters:
                    del filters[name]
        if len(filters) > MAX_FILTERS or sum([len(rules) for rules in filters.values()]) > MAX_FILTER_RULES:
            raise _Fault("more than %d filters or %d rules" % (MAX_FILTERS, MAX_FILTER_RULES))
        self.filters = filters
        self.difference.filter_changed = True

    def _read_rest(self) -> None:
        dns = self._value("DNSConfig", _object)
        if dns is not None:
            self.dns = _at("DNSConfig", _plain, dns)
            self.difference.dns_changed = True
        domain = self._value("Domain", _text)
        if domain:
            self.domain = domain
            self.difference.names_changed = True
        profiles = self._value("UserProfiles", _PROFILES)
        if profiles:
            self.profiles = dict(self.profiles)
            for user, login, display in profiles:
                self.profiles[user] = (login, display)
            if len(self.profiles) > MAX_PROFILES:
                raise _Fault("more than %d user profiles" % MAX_PROFILES)
            self.difference.names_changed = True
        health = self._value("Health", _TEXTS)
        if health is not None:
            self.health = health
            self.difference.names_changed = True
