"""A node as the coordinator describes it: our own or a peer (control.md section 8.1), and a patch to one (7.4).

What the coordinator decides about a node must be right, or the whole response is refused. What a peer says of itself
and a coordinator may pass on as it came (endpoints, host name, home region) is cut down to what can be used instead:
no peer may cut the board off from all the others.
"""

from wayhomed.core import prefixes, published, times
from wayhomed.core.derp_map import MAX_REGION_ID, read_region_id
from wayhomed.core.json_fields import (
    Fault,
    Names,
    at,
    list_of,
    read_flag,
    read_id,
    read_integer,
    read_into,
    read_object,
    read_plain,
    read_text,
    read_time,
)
from wayhomed.port import const
from wayhomed.wire import address, keys
from wayhomed.wire.errors import BadWire

# Chosen by us
MAX_PREFIXES = const(1024)
MAX_ENDPOINTS = const(64)
MAX_ENDPOINTS_READ = const(1024)  # of a longer list the rest is not looked at
MAX_HOSTNAME = const(255)
MAX_TAGS = const(64)
MAX_CAPABILITIES = const(1024)
MAX_PARTS = const(24_576)  # what all peers of a message may have of lists together: 100 bytes each
_USED_CAPABILITIES = (published.KEY,)

ZERO_KEY = bytes(32)


class Node:
    """One node, self or peer, as far as the board needs it.

    key and disco_key are raw; addresses, allowed_ips and primary_routes are prefixes (ip bytes, length); endpoints are
    (ip bytes, port); key_expiry_s and last_seen_s are seconds since 1970 (0 = never / unknown); online is True, False
    or None (unknown); cap_map maps a capability to its list of plain JSON values, empty but for those that we use.
    No tuple or dict in it is ever changed in place: nodes share them.
    """

    # What stands here takes no memory in a node that says nothing else: a thousand peers have to fit a small board.
    id = 0
    stable_id = ""
    name = ""
    user = 0
    key = ZERO_KEY
    key_expiry_s = 0
    disco_key = ZERO_KEY
    addresses: tuple = ()
    allowed_ips: tuple = ()
    endpoints: tuple = ()
    home_derp = 0
    hostname = ""
    os = ""
    cap = 0
    tags: tuple = ()
    primary_routes: tuple = ()
    online = None
    last_seen_s = 0
    machine_authorized = False
    cap_map: dict = {}
    expired = False
    is_jailed = False
    is_wireguard_only = False

    def copy(self) -> "Node":
        """Return a twin that a patch may change."""
        twin = Node()
        own = self.__dict__
        for name in own:
            setattr(twin, name, own[name])
        return twin

    def says_the_same(self, other: "Node") -> bool:
        """Tell whether nothing differs."""
        return self.__dict__ == other.__dict__

    def take_alike(self, other: "Node") -> None:
        """Use another's values where they equal ours, so that they are in memory once."""
        for name in _LARGE:
            value = getattr(other, name)
            if value and getattr(self, name) == value:
                setattr(self, name, value)

    def is_expired(self, now_s: int) -> bool:
        """Tell whether the node's key has run out; now_s is 0 while the clock is not to be trusted."""
        return self.expired or bool(self.key_expiry_s and now_s and self.key_expiry_s <= now_s)

    def display_name(self) -> str:
        """Return the first label of the DNS name, or what else names the node."""
        return self.name.split(".")[0] or self.hostname or keys.short(self.key)

    def as_json(self) -> dict:
        """Return the node in the form that a map response has, but for what is true at the moment only: whether it is
        online, and when it was.
        """
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


_LARGE = (
    "key",
    "disco_key",
    "name",
    "stable_id",
    "hostname",
    "addresses",
    "allowed_ips",
    "endpoints",
    "primary_routes",
)


def _read_node_key(value) -> bytes:
    key = keys.key_from_text(keys.NODE, read_text(value))
    if key == ZERO_KEY:
        raise Fault("a zero key")
    return key


def _read_disco_key(value) -> bytes:
    return keys.key_from_text(keys.DISCO, read_text(value))


def _read_prefix(value) -> tuple:
    return address.prefix_from_text(read_text(value))


def _read_prefixes(value) -> tuple:
    return tuple(_read_list_of_prefixes(value))


def _read_tags(value) -> tuple:
    return tuple(_read_list_of_tags(value))


def _read_endpoints(value) -> tuple:
    """Return the first MAX_ENDPOINTS that could be a host's place, each once; the others are skipped."""
    if not isinstance(value, list):
        raise Fault("a list is due here")
    endpoints: list = []
    for text in value[:MAX_ENDPOINTS_READ]:
        try:
            ip, port = endpoint = address.endpoint_from_text(text)
        except BadWire:
            continue
        if port and not prefixes.is_no_host(ip) and endpoint not in endpoints:
            endpoints.append(endpoint)
            if len(endpoints) == MAX_ENDPOINTS:
                break
    return tuple(endpoints)


def _read_home_derp(value) -> int:
    """Read a home region; 0 ("not said") for a number that is no region's."""
    if isinstance(value, int) and not 0 <= value <= MAX_REGION_ID:
        return 0
    return read_region_id(value)


def _read_peers_words(value) -> str:
    if not isinstance(value, str):
        raise Fault("a string is due here")
    return value[:MAX_HOSTNAME]


def _read_cap_map(value) -> dict:
    """Return the capabilities; of values only those that we use are kept, and only those are looked at."""
    capabilities = {}
    read_object(value)
    if len(value) > MAX_CAPABILITIES:
        raise Fault("%d capabilities" % len(value))
    for name in value:
        values = value[name] if name in _USED_CAPABILITIES else None
        capabilities[read_text(name)] = () if values is None else at(name, _read_values, values)
    return capabilities


def _read_values(value) -> list:
    if not isinstance(value, list):
        raise Fault("a list is due here")
    return read_plain(value)


_read_list_of_prefixes = list_of(_read_prefix, MAX_PREFIXES)
_read_list_of_tags = list_of(read_text, MAX_TAGS)
_HOSTINFO_NAMES = Names("Hostname", "OS", "OSVersion", "Services", "RoutableIPs", "NetInfo", "IPNVersion")


def _read_hostinfo(value) -> tuple:
    info = _HOSTINFO_NAMES.respelled(read_object(value))
    hostname, system = info.get("Hostname"), info.get("OS")
    return (
        "" if hostname is None else at("Hostname", _read_peers_words, hostname),
        "" if system is None else at("OS", _read_peers_words, system),
    )


def _read_legacy_derp(value) -> int:
    """Read the old form of a home relay, "127.3.3.40:N"; 0 if it is none."""
    try:
        return address.endpoint_from_text(read_text(value))[1]
    except BadWire:
        return 0


# JSON name, our attribute, reader. AllowedIPs, DERP and Hostinfo need more and are read by hand.
_NODE_FIELDS = (
    ("ID", "id", read_id),
    ("StableID", "stable_id", read_text),
    ("Name", "name", read_text),
    ("User", "user", read_integer),
    ("Key", "key", _read_node_key),
    ("KeyExpiry", "key_expiry_s", read_time),
    ("DiscoKey", "disco_key", _read_disco_key),
    ("Addresses", "addresses", _read_prefixes),
    ("Endpoints", "endpoints", _read_endpoints),
    ("HomeDERP", "home_derp", _read_home_derp),
    ("Cap", "cap", read_integer),
    ("Tags", "tags", _read_tags),
    ("PrimaryRoutes", "primary_routes", _read_prefixes),
    ("Online", "online", read_flag),
    ("LastSeen", "last_seen_s", read_time),
    ("MachineAuthorized", "machine_authorized", read_flag),
    ("CapMap", "cap_map", _read_cap_map),
    ("Expired", "expired", read_flag),
    ("IsJailed", "is_jailed", read_flag),
    ("IsWireGuardOnly", "is_wireguard_only", read_flag),
)

# The same for a patch; a patch touches nothing else (control.md 7.4).
_PATCH_FIELDS = (
    ("DERPRegion", "home_derp", _read_home_derp),
    ("Cap", "cap", read_integer),
    ("CapMap", "cap_map", _read_cap_map),
    ("Endpoints", "endpoints", _read_endpoints),
    ("Key", "key", _read_node_key),
    ("DiscoKey", "disco_key", _read_disco_key),
    ("Online", "online", read_flag),
    ("LastSeen", "last_seen_s", read_time),
    ("KeyExpiry", "key_expiry_s", read_time),
)


_NODE_NAMES = Names(
    "AllowedIPs", "DERP", "Hostinfo", "Machine", "Sharer", "Created", "Capabilities", "KeySignature",
    "ComputedName", "ComputedNameWithHost", *[entry[0] for entry in _NODE_FIELDS]
)  # fmt: skip
_PATCH_NAMES = Names("NodeID", "KeySignature", "Capabilities", *[entry[0] for entry in _PATCH_FIELDS])


def read_node(value) -> Node:
    """Return the node of a whole description. Raises Fault."""
    fields = _NODE_NAMES.respelled(read_object(value))
    node = Node()
    read_into(node, fields, _NODE_FIELDS)
    if not node.id:
        raise Fault("a node without ID")
    if node.key == ZERO_KEY:
        raise Fault("a node without Key")
    allowed = fields.get("AllowedIPs")
    # null means the same as Addresses (capability version 112 and later)
    if allowed is None or allowed == fields.get("Addresses"):
        node.allowed_ips = node.addresses
    else:
        node.allowed_ips = at("AllowedIPs", _read_prefixes, allowed)
    if not node.home_derp and fields.get("DERP") is not None:
        node.home_derp = at("DERP", _read_legacy_derp, fields["DERP"])
    if fields.get("Hostinfo") is not None:
        node.hostname, node.os = at("Hostinfo", _read_hostinfo, fields["Hostinfo"])
    return node


def patch_fields(value) -> dict:
    """Return of a PeerChange what we know of it."""
    fields = _PATCH_NAMES.respelled(read_object(value))
    return {name: fields[name] for name in _PATCHED if fields.get(name) is not None}


_PATCHED = ["NodeID"] + [entry[0] for entry in _PATCH_FIELDS]


def patch_node(node: Node, fields: dict) -> None:
    """Change the node as a PeerChange says; its NodeID is the caller's matter. Raises Fault, the node half changed."""
    home = node.home_derp
    read_into(node, fields, _PATCH_FIELDS)
    if not node.home_derp:
        node.home_derp = home  # DERPRegion counts only when not zero


class PeerReader:
    """Reads peers so that what is alike is kept once: among them, and with the same peers as they were before."""

    def __init__(self, before: dict):
        """before: the peers known so far, by id."""
        self._before = before
        self._alike: dict = {}
        self._parts = 0

    def read(self, value) -> Node:
        """Return the peer of a whole description, the one known before if it says the same. Raises Fault."""
        peer = read_node(value)
        self._parts += len(peer.addresses) + len(peer.endpoints) + len(peer.tags) + len(peer.cap_map)
        if peer.allowed_ips is not peer.addresses:
            self._parts += len(peer.allowed_ips) + len(peer.primary_routes)
        if self._parts > MAX_PARTS:
            raise Fault("more than %d addresses, routes, endpoints, tags and capabilities of peers" % MAX_PARTS)
        before = self._before.get(peer.id)
        if before is not None and before.says_the_same(peer):
            return before
        self._share(peer)
        if before is not None:
            peer.take_alike(before)
        return peer

    def _share(self, peer: Node) -> None:
        alike = self._alike
        if peer.os:
            peer.os = alike.setdefault(peer.os, peer.os)
        if peer.tags:
            peer.tags = alike.setdefault(peer.tags, peer.tags)
        if peer.cap_map:
            # Of a peer we look at the names alone.
            names = tuple(sorted(peer.cap_map))
            if names not in alike:
                alike[names] = {name: () for name in names}
            peer.cap_map = alike[names]
