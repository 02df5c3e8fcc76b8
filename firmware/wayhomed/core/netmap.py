"""The netmap: what the coordinator has told us so far, kept current by difference.

Rules of stickiness: control.md sections 7.3 (each field of a map response) and 7.4 (patches); types: section 8.
A response is checked whole before anything of it is kept: a fault raises BadWire with the path of the fault, such as
"Peers[3].AllowedIPs[0]: ...", and the netmap stays as it was. Unknown fields are ignored, null counts as absent.
"""

from wayhomed.core.derp_map import DerpMap, read_derp_map
from wayhomed.core.json_fields import Fault, at, read_flag, read_id, read_object, read_plain, read_text, read_time
from wayhomed.core.map_response import (
    MAX_FILTER_RULES,
    MAX_PEERS,
    MAX_PROFILES,
    read_debug,
    read_flags_by_id,
    read_health,
    read_ids,
    read_nodes,
    read_patches,
    read_ping_request,
    read_profiles,
    read_rules,
)
from wayhomed.core.node import Node, patch_node, read_node
from wayhomed.port import const
from wayhomed.wire import address
from wayhomed.wire.errors import BadWire

MAX_FILTERS = const(64)  # chosen by us


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

    def published_ipv4(self, name: str):
        """Return the IPv4 address (4 bytes) of a published device by its name, or by that name's first label, or None.

        Viewers know published devices by DNSConfig.ExtraRecords alone (control.md, appendix). The DNSConfig is kept as
        it came, so what is not as it should be is passed over here.
        """
        wanted = name.lower().rstrip(".")
        records = self.dns.get("ExtraRecords")
        for record in records if isinstance(records, list) else ():
            known, value = (record.get("Name"), record.get("Value")) if isinstance(record, dict) else (None, None)
            if not isinstance(known, str) or not isinstance(value, str):
                continue
            known = known.lower().rstrip(".")
            if wanted in (known, known.split(".")[0]):
                try:
                    ip = address.ip_from_text(value)
                except BadWire:
                    continue
                if len(ip) == 4:
                    return ip
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
            staged.read(read_object(response), now_s)
        except Fault as fault:
            raise BadWire((fault.path or "the response") + ": " + fault.reason)
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
        difference.keep_alive = self._value("KeepAlive", read_flag) is True
        difference.ping_request = self._value("PingRequest", read_ping_request)
        difference.control_time_s = self._value("ControlTime", read_time) or 0
        if difference.keep_alive:
            return
        debug = self._value("Debug", read_debug)
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
        return None if value is None else at(name, read, value)

    def _read_self(self) -> None:
        node = self._value("Node", read_node)
        if node is None:
            if self.first:
                raise Fault("the first response of a stream has no Node")
            return
        self.node = node
        self.difference.self_changed = True

    def _read_relays(self) -> None:
        derp_map = self._value("DERPMap", lambda value: read_derp_map(value, self.derp_map))
        if derp_map is None:
            return
        self.derp_map = derp_map
        self.difference.relays_changed = True

    def _own_peers(self) -> dict:
        if not self._peers_are_ours:
            self.peers = dict(self.peers)
            self._peers_are_ours = True
        return self.peers

    def _put_peer(self, peer: Node) -> None:
        _keep_expired(peer, self.peers.get(peer.id))
        self._own_peers()[peer.id] = peer
        if len(self.peers) > MAX_PEERS:
            raise Fault("more than %d peers" % MAX_PEERS)
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
        complete = self._value("Peers", read_nodes)
        if complete:  # absent and [] both say "no change"
            before = self.peers
            self.peers = {}
            self._peers_are_ours = True
            for peer in complete:
                if peer.id in self.peers:
                    raise Fault("Peers names %d twice" % peer.id)
                _keep_expired(peer, before.get(peer.id))
                self.peers[peer.id] = peer
                self.difference.peers_changed.append(peer.id)
            self.difference.peers_removed = [node_id for node_id in before if node_id not in self.peers]
            return
        for node_id in self._value("PeersRemoved", read_ids) or ():
            if node_id in self.peers:
                del self._own_peers()[node_id]
                self.difference.peers_removed.append(node_id)
        for peer in self._value("PeersChanged", read_nodes) or ():
            self._put_peer(peer)
        self._read_seen_and_online()
        for index, patch in enumerate(self._value("PeersChangedPatch", read_patches) or ()):
            at("PeersChangedPatch[%d]" % index, self._read_patch, patch)

    def _read_seen_and_online(self) -> None:
        seen = self._value("PeerSeenChange", read_flags_by_id) or {}
        for node_id in seen:
            peer = self._patched(node_id)
            if peer is not None:
                peer.last_seen_s = self._now_s if seen[node_id] else 0
        online = self._value("OnlineChange", read_flags_by_id) or {}
        for node_id in online:
            peer = self._patched(node_id)
            if peer is not None:
                peer.online = online[node_id]

    def _read_patch(self, fields: dict) -> None:
        node_id = at("NodeID", read_id, fields.get("NodeID"))
        peer = self._patched(node_id)
        # A patch for a stranger is skipped, yet its shape is checked like any other's.
        patch_node(Node() if peer is None else peer, fields)

    def _read_filters(self) -> None:
        base = self._value("PacketFilter", read_rules)
        named = self._value("PacketFilters", read_object)
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
                    filters[at("PacketFilters", read_text, name)] = at("PacketFilters." + name[:40], read_rules, rules)
                elif name in filters:
                    del filters[name]
        if len(filters) > MAX_FILTERS or sum([len(rules) for rules in filters.values()]) > MAX_FILTER_RULES:
            raise Fault("more than %d filters or %d rules" % (MAX_FILTERS, MAX_FILTER_RULES))
        self.filters = filters
        self.difference.filter_changed = True

    def _read_rest(self) -> None:
        dns = self._value("DNSConfig", read_object)
        if dns is not None:
            self.dns = at("DNSConfig", read_plain, dns)
            self.difference.dns_changed = True
        domain = self._value("Domain", read_text)
        if domain:
            self.domain = domain
            self.difference.names_changed = True
        profiles = self._value("UserProfiles", read_profiles)
        if profiles:
            self.profiles = dict(self.profiles)
            for user, login, display in profiles:
                self.profiles[user] = (login, display)
            if len(self.profiles) > MAX_PROFILES:
                raise Fault("more than %d user profiles" % MAX_PROFILES)
            self.difference.names_changed = True
        health = self._value("Health", read_health)
        if health is not None:
            self.health = health
            self.difference.names_changed = True


def _keep_expired(peer: Node, old: Node | None) -> None:
    """A key that has expired stays so (control.md section 8.1)."""
    if old is not None and old.expired and old.key == peer.key:
        peer.expired = True
