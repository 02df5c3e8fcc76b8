"""The netmap: what the coordinator has told us so far, kept current by difference.

Rules of stickiness: control.md sections 7.3 (each field of a map response) and 7.4 (patches); types: section 8.
A response is checked whole before anything of it is kept: a fault raises BadWire, in map_response.py or here, and the
netmap stays as it was. Unknown fields are ignored, null counts as absent.
"""

import json

from wayhomed.core.derp_map import DerpMap, read_derp_map
from wayhomed.core.json_fields import Fault, at
from wayhomed.core.map_response import (
    MAX_FILTER_RULES,
    MAX_FILTERS,
    MAX_HEALTH,
    MAX_PEERS,
    MAX_PROFILES,
    Response,
)
from wayhomed.core.node import Node, patch_node
from wayhomed.wire import address
from wayhomed.wire.errors import BadWire


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
        self.lasting = False  # what is kept on disk has changed, too
        self.left_out = []  # sentences: what is of no use in a response that is taken
        self.ping_request = None  # dict with URL, URLIsNoise, Types, IP, Payload
        self.browse_url = ""  # a person is to open it
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
    domain; profiles: (login name, display name) by user id; filters: by name, lists of FilterRules in JSON; health:
    texts; messages: texts by id, the newer form of health.
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
        self.messages = {}
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
        return [json.loads(str(rule, "utf-8")) for name in sorted(self.filters) for rule in self.filters[name]]

    def warnings(self) -> list:
        """Return what the coordinator wants the owner of this board to know."""
        return self.health + [self.messages[name] for name in sorted(self.messages)]

    def apply(self, response: Response, now_s: int = 0) -> Difference:
        """Take in one map response; return what changed. now_s: seconds since 1970, for "seen now".

        Raises BadWire (the netmap unchanged) for limits passed, for a first response without Node and the like.
        """
        try:
            staged = _Staged(self, self._expect_first)
            staged.take(response, now_s)
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
        self.messages = staged.messages

    def json_pieces(self):
        """Yield, piece by piece, the JSON of one full map response that says all this: what is kept on disk.

        Left out is what is true at the moment only: who is online, and the coordinator's warnings.
        """
        yield b'{"Node":' + _dumped(self.node.as_json() if self.node else None)
        yield b',"DERPMap":' + _dumped(self.derp_map.as_json()) + b',"DNSConfig":' + _dumped(self.dns)
        yield b',"Domain":' + _dumped(self.domain) + b',"PacketFilters":{'
        for index, name in enumerate(sorted(self.filters)):
            yield (b"," if index else b"") + _dumped(name) + b":"
            yield from _list_pieces(self.filters[name])
        yield b'},"UserProfiles":'
        profiles = self.profiles
        yield from _list_pieces(
            _dumped({"ID": user, "LoginName": profiles[user][0], "DisplayName": profiles[user][1]})
            for user in sorted(profiles)
        )
        yield b',"Peers":'
        peers = self.peers
        yield from _list_pieces(_dumped(peers[node_id].as_json()) for node_id in sorted(peers))
        yield b"}\n"


def _dumped(value) -> bytes:
    return json.dumps(value).encode()


def _list_pieces(items):
    """Yield a JSON list of items that are JSON already."""
    opening = b"["
    for item in items:
        yield opening + item
        opening = b",\n"
    yield b"]" if opening != b"[" else b"[]"


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
        self.messages = {} if first else old.messages
        self._before = old.peers
        self._peers_are_ours = False

    def take(self, response: Response, now_s: int) -> None:
        """Go through a response in the order of control.md 7.3."""
        difference = self.difference
        difference.keep_alive = response.keep_alive
        difference.ping_request = response.ping_request
        difference.browse_url = response.browse_url
        difference.control_time_s = response.control_time_s
        if difference.keep_alive:
            return
        difference.sleep_ms, difference.exit_asked = response.sleep_ms, response.exit_asked
        difference.first = self.first
        self._take_self(response.node)
        if response.derp_map is not None:
            self.derp_map = at("DERPMap", lambda value: read_derp_map(value, self.derp_map), response.derp_map)
            difference.left_out = self.derp_map.left_out
            self.derp_map.left_out = []
            difference.relays_changed = True
        self._take_peers(response, now_s)
        self._take_filters(response)
        self._take_rest(response)
        if self.first:
            # All of it replaces what a former stream said.
            difference.self_changed = difference.relays_changed = difference.filter_changed = True
            difference.dns_changed = difference.names_changed = True
        if difference.self_changed or difference.relays_changed or difference.filter_changed:
            difference.lasting = True
        if difference.dns_changed or difference.names_changed or difference.peers_removed:
            difference.lasting = True

    def _take_self(self, node) -> None:
        if node is not None:
            self.node = node
            self.difference.self_changed = True
        elif self.first:
            raise Fault("the first response of a stream has no Node")

    def _own_peers(self) -> dict:
        if not self._peers_are_ours:
            self.peers = dict(self.peers)
            self._peers_are_ours = True
        return self.peers

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

    def _take_peers(self, response: Response, now_s: int) -> None:
        if response.peers:  # absent and [] both say "no change"
            self._take_all_peers(response.peers)
            return
        for node_id in response.peers_removed or ():
            if node_id in self.peers:
                del self._own_peers()[node_id]
                self.difference.peers_removed.append(node_id)
        for peer in response.peers_changed or ():
            old = self.peers.get(peer.id)
            if old is peer:
                continue
            _keep_expired(peer, old)
            self._own_peers()[peer.id] = peer
            if len(self.peers) > MAX_PEERS:
                raise Fault("more than %d peers" % MAX_PEERS)
            self.difference.peers_changed.append(peer.id)
            self.difference.lasting = True
        self._take_seen_and_online(response, now_s)
        for patch in response.patches or ():
            patched = self._patched(patch["NodeID"])
            if patched is not None:
                patch_node(patched, patch)
                for name in patch:
                    if name not in ("NodeID", "Online", "LastSeen"):
                        self.difference.lasting = True

    def _take_all_peers(self, complete: list) -> None:
        before = self._before
        shown = self.peers
        self.peers = {}
        self._peers_are_ours = True
        for peer in complete:
            if peer.id in self.peers:
                raise Fault("Peers names %d twice" % peer.id)
            self.peers[peer.id] = peer
            old = before.get(peer.id)
            if old is not peer:
                _keep_expired(peer, shown.get(peer.id))
                self.difference.peers_changed.append(peer.id)
                self.difference.lasting = True
        self.difference.peers_removed = [node_id for node_id in shown if node_id not in self.peers]

    def _take_seen_and_online(self, response: Response, now_s: int) -> None:
        seen, online = response.seen or {}, response.online or {}
        for node_id in seen:
            peer = self._patched(node_id)
            if peer is not None:
                peer.last_seen_s = now_s if seen[node_id] else 0
        for node_id in online:
            peer = self._patched(node_id)
            if peer is not None:
                peer.online = online[node_id]

    def _take_filters(self, response: Response) -> None:
        base, named = response.filter, response.filters
        if base is None and named is None:
            return
        filters = dict(self.filters)
        if base is not None:
            filters["base"] = base  # [] stays: it blocks everything
        if named is not None:
            if "*" in named and named["*"] is None:
                filters = {}
            for name in named:
                if named[name] is not None:
                    filters[name] = named[name]
                elif name in filters:
                    del filters[name]
        if len(filters) > MAX_FILTERS or sum([len(rules) for rules in filters.values()]) > MAX_FILTER_RULES:
            raise Fault("more than %d filters or %d rules" % (MAX_FILTERS, MAX_FILTER_RULES))
        self.filters = filters
        self.difference.filter_changed = True

    def _take_rest(self, response: Response) -> None:
        difference = self.difference
        if response.dns is not None:
            self.dns = response.dns
            difference.dns_changed = True
        if response.domain:
            self.domain = response.domain
            difference.names_changed = True
        if response.profiles:
            self.profiles = dict(self.profiles)
            for user, login, display in response.profiles:
                self.profiles[user] = (login, display)
            if len(self.profiles) > MAX_PROFILES:
                raise Fault("more than %d user profiles" % MAX_PROFILES)
            difference.names_changed = True
        if response.health is not None:
            self.health = response.health
            difference.names_changed = True
        if response.messages is not None:
            self._take_messages(response.messages)
            difference.names_changed = True

    def _take_messages(self, told: dict) -> None:
        messages = {} if "*" in told and told["*"] is None else dict(self.messages)
        for name in told:
            if told[name] is not None:
                messages[name] = told[name]
            elif name in messages:
                del messages[name]
        if len(messages) > MAX_HEALTH:
            raise Fault("more than %d messages" % MAX_HEALTH)
        self.messages = messages


def _keep_expired(peer: Node, old: Node | None) -> None:
    """A key that has expired stays so (control.md section 8.1)."""
    if old is not None and old.expired and old.key == peer.key:
        peer.expired = True
