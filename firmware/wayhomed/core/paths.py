"""The paths to all peers: sealed disco messages in and out, and one Path a peer that decides.

Pure: monotonic milliseconds come as the last argument of each call, randomness as a callable, and what is to be done
comes out of take(). An endpoint is (ip of 4 or 16 bytes, port). Every byte that a stranger sends may come in here;
what is wrong with it is counted in `refused` and nothing else happens.

    udp_received   --+                                  +--> SEND_UDP, SEND_RELAY     disco messages
    relay_received --+--> open --> the peer's Path --> +--> SET_PATH                 where WireGuard sends
    packet_sent    --+             (core/path.py)       +--> REFRESH_ENDPOINTS        own addresses must be fresh
    traffic_seen   --+                                  +--> PONGED                   a user's ping was answered
    relayed data   --+

Who is believed: a message must open with the disco key of a peer in the netmap. A ping must name the node key of an
owner of that key; a CallMeMaybe and whatever else comes by a relay must come from an owner's node key. A pong must
answer a ping of ours, from the very address that was pinged. Two nodes may have the same disco key in the netmap, one
of them falsely: that is why the disco key alone names nobody. A pong names no node, so of two such nodes only one whose
ping was heard can prove an address: the owner of the key puts nobody else's node key into its pings.

Source: disco.md sections 1, 2 and 4; wireguard.md section 3.1 (polls, roaming, diverted addresses).
"""

from collections import namedtuple

from wayhomed.core import path as peer_path
from wayhomed.core.candidates import Own, refusal
from wayhomed.core.disco_box import DiscoBox
from wayhomed.core.pace import Pace
from wayhomed.core.path import Path, PathState, Reason
from wayhomed.core.whereabouts import Whereabouts
from wayhomed.port import const
from wayhomed.wire import disco, keys
from wayhomed.wire.errors import BadWire

# --- Fixed by the protocol ---
# What a pong over a relay names as the ping's source: this address, and the region as its port.
RELAY_ADDRESS = b"\x7f\x03\x03\x28"
PING_TIMEOUT_MS = const(5_000)
ACTIVE_MS = const(45_000)
ENDPOINTS_FRESH_MS = const(27_000)
_HEARD_MS = const(45_000)  # as long as a candidate learned from a ping lives
# What WireGuard sends of itself: nothing, a keepalive, a handshake message, a handshake message and a keepalive
_STEPS_WITHOUT_DATA = (0, 32, 92, 148, 92 + 32, 148 + 32)

# --- Chosen by us ---
# The largest ping that anybody sends probes a path of 9,000 B; opening costs time by length.
_DATAGRAM_MOST = const(9_216)
# Own endpoints that are old are searched before a CallMeMaybe. That takes 3 s; after this it goes with the old ones.
_REFRESH_WAIT_MS = const(4_000)
# A packet a quarter of a second ago is as good as one now: nothing in a path is finer, and packets come by thousands.
_PACKET_GATE_MS = const(250)
# A peer says in each pong where it sees us. That it is elsewhere has us look for ourselves, and call the peer, at most
# this often.
_SEEN_ELSEWHERE_MS = const(10_000)
_USER_PINGS = const(64)
_HEARD_MOST = const(32)  # addresses a peer
# An address heard for the first time gets our pings, and a replayed ping may name any: so many at once, then one a
# second. Above that pings are answered (110 B for 124 B or more) and the address is forgotten.
_NEW_SOURCES = const(16)
_NEW_SOURCE_MS = const(1_000)
_POLL_AFTER_PING_MS = const(10_000)

# Kinds of outputs, each with its tuple
SEND_UDP = const(1)  # (SEND_UDP, endpoint, datagram)
SEND_RELAY = const(2)  # (SEND_RELAY, node key, region id; 0 = the peer's usual, datagram)
SET_PATH = const(3)  # (SET_PATH, node key, endpoint or None = by relay, renew: begin a new WireGuard session)
REFRESH_ENDPOINTS = const(4)  # (REFRESH_ENDPOINTS,): own_endpoints() is awaited
PONGED = const(5)  # (PONGED, node key, txid, endpoint or None = by relay, region id or 0): answers user_ping()

# Why a datagram was refused; the keys of Paths.refused
TOO_LONG = "too long"
NOT_DISCO = "not disco"
NOT_A_PEER = "not a peer"
FORBIDDEN_SOURCE = "forbidden source"
DOES_NOT_OPEN = "does not open"
MALFORMED = "malformed"
UNKNOWN_TYPE = "unknown type"
WRONG_NODE_KEY = "wrong node key"
ONLY_BY_RELAY = "only by relay"
UNKNOWN_PONG = "pong to no ping"
DUPLICATE = "duplicate"
TOO_MANY_SOURCES = "too many sources"

_NOTHING: set = set()

PathView = namedtuple(
    "PathView", ("state", "best", "latency_ms", "since_ms", "reason", "candidates", "asked")
)  # best: endpoint or None; reason: of path.Reason; candidates, asked: how many addresses are known, how many pinged


class _Peer:
    """What is kept of one peer. Most of a netmap is idle: a Path is made when first needed."""

    def __init__(self, node, now_ms: int):
        self.key = node.key
        self.disco_key = keys.ZERO  # zero: takes no part
        self.last_key = keys.ZERO  # the last one that was not zero
        self.has_spoken = False  # there was a Path, so WireGuard may have a session with it
        self.endpoints: list = []  # of the netmap
        self.home_derp = 0
        self.path: Path | None = None
        self.since_ms = now_ms
        self.told: tuple | None = None  # the endpoint that WireGuard was given; None = by relay
        self.gate_ms = -1  # packets before this time need not be counted
        self.relayed_gate_ms = -1  # nor those of the peer that a relay brings
        self.whereabouts: Whereabouts | None = None
        self.elsewhere_ms = -_SEEN_ELSEWHERE_MS  # when it last saw us elsewhere
        self.counters: tuple | None = None  # (sent, received) of the last poll, bytes
        self.heard: dict = {}  # endpoint -> when a sealed message of the peer last came from there
        self.new_sources: Pace | None = None


class Paths:
    """All peers' paths of one board, which has one disco key for as long as it runs."""

    def __init__(self, disco_private: bytes, random_bytes):
        """disco_private: 32 bytes; random_bytes(n): n fresh bytes."""
        self._box = DiscoBox(disco_private, random_bytes)
        self.disco_public = self._box.public_key
        self.refused: dict = {}  # reason -> how many datagrams
        self.held_version = 0
        self._random_bytes = random_bytes
        self._own_node_key = keys.ZERO
        self._own = Own()
        self._peers: dict = {}  # node key -> _Peer
        self._owners: dict = {}  # disco key -> list of _Peer that have it in the netmap
        self._outputs: list = []
        self._timers: dict = {}  # node key -> next timer of its path
        self._busy: set = set()  # node keys of paths that are not idle
        self._held: dict = {}  # node key -> its path's held()
        self._claims: dict = {}  # endpoint -> set of node keys heard from there
        self._user_pings: dict = {}  # txid -> (node key, endpoint or None = by relay, sent at ms)
        self._own_endpoints: list = []
        self._fresh_until_ms = -1
        self._callers: set = set()  # node keys whose CallMeMaybe waits for fresh endpoints
        self._call_at_ms = 0
        self._traffic_ms: int | None = None
        self._pinged_ms: int | None = None
        self._now_ms = 0

    # --- The netmap ---

    def peers_changed(self, own_node_key: bytes, peers: list, own, now_ms: int) -> None:
        """Take the netmap's peers (core.node.Node; leave out, or mark as expired, whose key ran out) and our addresses.

        own: candidates.Own, what may not be pinged. Cheap for peers in which nothing changed.
        """
        now_ms = self._at(now_ms)
        own_changed = not _same(own, self._own)
        self._own, self._own_node_key = own, own_node_key
        present = {node.key: node for node in peers if node.key != own_node_key}
        for key in [key for key in self._peers if key not in present]:
            self._drop_path(self._peers[key], now_ms)
            del self._peers[key]
        self._owners = {}
        for key in present:
            node = present[key]
            peer = self._peers.get(key)
            if peer is None:
                peer = self._peers[key] = _Peer(node, now_ms)
            self._peer_changed(peer, node, own_changed, now_ms)
            if peer.disco_key != keys.ZERO:
                self._owners.setdefault(peer.disco_key, []).append(peer)
        self._box.known_keys(self._owners)

    def _peer_changed(self, peer, node, own_changed: bool, now_ms: int) -> None:
        endpoints_changed = own_changed or node.endpoints != peer.endpoints
        home_changed = node.home_derp != peer.home_derp
        peer.endpoints, peer.home_derp = node.endpoints, node.home_derp
        # Our own key in a peer's hands would make our own messages, sent back to us, look like the peer's.
        if node.expired or node.disco_key in (keys.ZERO, self.disco_public):
            if peer.told is not None:
                self._outputs.append((SET_PATH, peer.key, None, False))
            self._drop_path(peer, now_ms)
            peer.disco_key = keys.ZERO
            return
        has_restarted = peer.last_key not in (keys.ZERO, node.disco_key)
        if has_restarted:
            peer.whereabouts = None
            self._unhear_all(peer)  # who was heard is the owner of the former key
        peer.disco_key = peer.last_key = node.disco_key
        if has_restarted and peer.has_spoken:
            self._path_of(peer, now_ms).disco_key_changed(now_ms)
        if peer.path is None:
            return
        if endpoints_changed:
            peer.path.endpoints_received(self._allowed(peer.endpoints), now_ms)
        if home_changed and node.home_derp:
            peer.path.relay_known(True, now_ms)
        if has_restarted or endpoints_changed or home_changed:
            self._settle(peer, now_ms)

    def relay_gone(self, node_key: bytes, now_ms: int) -> None:
        """Note that the peer is at no relay that we know, so that it can't be called."""
        peer = self._peers.get(node_key)
        if peer is not None and peer.path is not None and not peer.home_derp:
            now_ms = self._at(now_ms)
            peer.path.relay_known(False, now_ms)
            self._settle(peer, now_ms)

    # --- Messages ---

    def udp_received(self, datagram: bytes, source: tuple, now_ms: int) -> None:
        """Take a datagram that looked like disco, from a source endpoint."""
        now_ms = self._at(now_ms)
        if refusal(source, self._own):
            self._refuse(FORBIDDEN_SOURCE)
            return
        sender = self._known_sender(datagram)
        if sender is None:
            return
        message = self._opened(sender, datagram)
        if message is None:
            return
        if isinstance(message, disco.Ping):
            self._udp_ping(sender, message, source, now_ms)
        elif isinstance(message, disco.Pong):
            self._udp_pong(sender, message, source, now_ms)
        else:
            # Anybody may replay a datagram; a relay says who sent it.
            self._refuse(ONLY_BY_RELAY)

    def relay_received(self, node_key: bytes, datagram: bytes, region_id: int, now_ms: int) -> None:
        """Take a disco message that a relay brought from the owner of a node key."""
        now_ms = self._at(now_ms)
        peer = self._peers.get(node_key)
        if peer is None:
            self._refuse(NOT_A_PEER)
            return
        sender = self._known_sender(datagram)
        if sender is None:
            return
        if sender != peer.disco_key:
            self._refuse(WRONG_NODE_KEY)
            return
        message = self._opened(sender, datagram)
        if message is None:
            return
        if isinstance(message, disco.Ping):
            if message.node_key not in (node_key, keys.ZERO):
                self._refuse(WRONG_NODE_KEY)
                return
            self._send_relay(peer, region_id, disco.encode_pong(message.txid, RELAY_ADDRESS, region_id))
        elif isinstance(message, disco.Pong):
            if not self._user_pong([peer], message.txid, None, region_id, now_ms):
                self._refuse(UNKNOWN_PONG)
        elif isinstance(message, disco.CallMeMaybe):
            path = self._path_of(peer, now_ms)
            path.relay_known(True, now_ms)  # it spoke by one
            path.call_me_maybe(self._allowed(message.endpoints), now_ms)
            self._settle(peer, now_ms)

    def _known_sender(self, datagram: bytes) -> bytes | None:
        """Return the disco key that a datagram names if a peer has it; nothing is proven yet."""
        if len(datagram) > _DATAGRAM_MOST:
            self._refuse(TOO_LONG)
            return None
        if not disco.looks_like_disco(datagram):
            self._refuse(NOT_DISCO)
            return None
        sender = disco.sender_of(datagram)
        if sender not in self._owners:
            self._refuse(NOT_A_PEER)
            return None
        return sender

    def _opened(self, sender: bytes, datagram: bytes) -> tuple | None:
        plaintext = self._box.open(sender, datagram)
        if plaintext is None:
            self._refuse(DOES_NOT_OPEN)
            return None
        try:
            message = disco.decode_message(plaintext)
        except BadWire:
            self._refuse(MALFORMED)
            return None
        if message is None:
            self._refuse(UNKNOWN_TYPE)
        return message

    def _udp_ping(self, sender: bytes, ping, source: tuple, now_ms: int) -> None:
        # Very old clients name no node key. No answer to them: a pong longer than its ping would serve to flood others.
        peer = self._peers.get(ping.node_key)
        if peer is None or peer.disco_key != sender:
            self._refuse(WRONG_NODE_KEY)
            return
        self._pinged_ms = now_ms
        path = self._path_of(peer, now_ms)
        if self._may_learn(peer, source, now_ms):
            self._hear(peer, source, now_ms)
            if not path.ping_received(ping.txid, source, now_ms):
                self._refuse(DUPLICATE)
                return
        else:
            self._refuse(TOO_MANY_SOURCES)
        self._send_udp(peer, source, disco.encode_pong(ping.txid, source[0], source[1]))
        self._settle(peer, now_ms)

    def _udp_pong(self, sender: bytes, pong, source: tuple, now_ms: int) -> None:
        if self._user_pong(self._owners[sender], pong.txid, source, 0, now_ms):
            return
        owners = self._owners[sender]
        for peer in owners:
            if peer.path is None or (len(owners) > 1 and not peer.heard):
                continue
            if peer.path.pong_received(pong.txid, source, now_ms) is not None:
                self._hear(peer, source, now_ms)
                self._seen_at(peer, source, (pong.address, pong.port), now_ms)
                self._settle(peer, now_ms)
                return
        self._refuse(UNKNOWN_PONG)

    def _seen_at(self, peer, source: tuple, ours: tuple, now_ms: int) -> None:
        """Take where a peer's pong says that it sees us. If that is news, a router of ours has another address."""
        if peer.whereabouts is None:
            peer.whereabouts = Whereabouts()
        is_elsewhere = peer.whereabouts.pong_received(source, ours, now_ms)
        if is_elsewhere and now_ms - peer.elsewhere_ms >= _SEEN_ELSEWHERE_MS:
            peer.elsewhere_ms = now_ms
            self._fresh_until_ms = -1
            peer.path.seen_elsewhere(now_ms)

    def _user_pong(self, owners: list, txid: bytes, source: tuple | None, region_id: int, now_ms: int) -> bool:
        waiting = self._user_pings.get(txid)
        if waiting is None or waiting[1] != source or now_ms - waiting[2] > PING_TIMEOUT_MS:
            return False
        for peer in owners:
            if peer.key == waiting[0]:
                del self._user_pings[txid]
                self._outputs.append((PONGED, peer.key, txid, source, region_id))
                return True
        return False

    def _may_learn(self, peer, source: tuple, now_ms: int) -> bool:
        if source in peer.heard and now_ms - peer.heard[source] < _HEARD_MS:
            return True
        if peer.new_sources is None:
            peer.new_sources = Pace(_NEW_SOURCES, _NEW_SOURCE_MS)
        if peer.new_sources.wait_ms(now_ms):
            return False
        peer.new_sources.done(now_ms)
        return True

    # --- Traffic ---

    def packet_sent(self, node_key: bytes, now_ms: int) -> None:
        """Note that WireGuard had a packet for the peer, which goes by the relay. Called for each such packet."""
        peer = self._peers.get(node_key)
        if peer is None or now_ms < peer.gate_ms:
            return
        now_ms = self._at(now_ms)
        if peer.disco_key == keys.ZERO:
            peer.gate_ms = now_ms + _PACKET_GATE_MS
            return
        self._traffic_ms = now_ms
        self._path_of(peer, now_ms).packet_sent(now_ms)
        self._settle(peer, now_ms)
        peer.gate_ms = now_ms + _PACKET_GATE_MS

    def relayed_data_received(self, node_key: bytes, now_ms: int) -> None:
        """Note that a relay brought a peer's data. Called for each such packet."""
        peer = self._peers.get(node_key)
        if peer is None or peer.path is None or now_ms < peer.relayed_gate_ms:
            return
        now_ms = self._at(now_ms)
        peer.relayed_gate_ms = now_ms + _PACKET_GATE_MS
        peer.path.relayed_data_received(now_ms)
        self._settle(peer, now_ms)

    def traffic_seen(
        self, node_key: bytes, sent_bytes: int, received_bytes: int, endpoint: tuple | None, now_ms: int
    ) -> None:
        """Take a poll of WireGuard: a peer's counters and where it sends to, None for the peer's relay proxy.

        Keepalives and handshakes are no traffic, or two idle peers would keep each other awake.
        """
        now_ms = self._at(now_ms)
        peer = self._peers.get(node_key)
        if peer is None:
            return
        if peer.disco_key == keys.ZERO:
            if endpoint is not None:
                self._outputs.append((SET_PATH, peer.key, None, False))
            return
        before, peer.counters = peer.counters, (sent_bytes, received_bytes)
        if before is not None and (_carried_data(sent_bytes - before[0]) or _carried_data(received_bytes - before[1])):
            self._traffic_ms = now_ms
            self._path_of(peer, now_ms).traffic_seen(now_ms)
        if endpoint != peer.told:
            self._roamed(peer, endpoint, now_ms)
        if peer.path is not None:
            self._settle(peer, now_ms)

    def adopted(self, node_key: bytes, endpoint: tuple, now_ms: int) -> None:
        """Take that WireGuard sends a peer's packets to this endpoint since before we began.

        To be told once, after the first peers_changed().
        """
        now_ms = self._at(now_ms)
        peer = self._peers.get(node_key)
        if peer is None:
            return
        if peer.disco_key == keys.ZERO or refusal(endpoint, self._own):
            self._outputs.append((SET_PATH, peer.key, None, False))
            return
        self._path_of(peer, now_ms).adopted(endpoint, now_ms)
        self._settle(peer, now_ms)

    def _roamed(self, peer, endpoint: tuple | None, now_ms: int) -> None:
        """WireGuard took another address by itself: the peer's, as it proved, but not proven to take our packets."""
        path = self._path_of(peer, now_ms)
        if endpoint is None or refusal(endpoint, self._own):
            self._outputs.append((SET_PATH, peer.key, peer.told, False))
        else:
            path.roamed(endpoint, now_ms)

    def user_ping(self, node_key: bytes, now_ms: int, by_relay: bool = False) -> bytes:
        """Ping a peer by its present path, or by the relay; return the txid that PONGED will bring. Counts as traffic.

        Raises BadWire for a peer that can't be asked.
        """
        now_ms = self._at(now_ms)
        peer = self._peers.get(node_key)
        if peer is None or peer.disco_key == keys.ZERO:
            raise BadWire("this peer has no disco key, or its node key has expired")
        path = self._path_of(peer, now_ms)
        endpoint = path.best if path.state == PathState.DIRECT and not by_relay else None
        txid = self._random_bytes(disco.TXID_BYTES)
        self._make_room_for_a_user_ping(now_ms)
        self._user_pings[txid] = (peer.key, endpoint, now_ms)
        ping = disco.encode_ping(txid, self._own_node_key)
        if endpoint is None:
            self._send_relay(peer, 0, ping)
        else:
            self._send_udp(peer, endpoint, ping)
        self._traffic_ms = now_ms
        path.packet_sent(now_ms)
        self._settle(peer, now_ms)
        return txid

    def _make_room_for_a_user_ping(self, now_ms: int) -> None:
        oldest = None
        for txid in list(self._user_pings):
            sent_ms = self._user_pings[txid][2]
            if now_ms - sent_ms > PING_TIMEOUT_MS:
                del self._user_pings[txid]
            elif oldest is None or sent_ms < self._user_pings[oldest][2]:
                oldest = txid
        if len(self._user_pings) >= _USER_PINGS:
            del self._user_pings[oldest]

    # --- Our own side ---

    def own_endpoints(self, endpoints: list, now_ms: int) -> None:
        """Take our endpoints, just found; the CallMeMaybes that waited for them go out."""
        now_ms = self._at(now_ms)
        endpoints = list(endpoints)[: disco.ENDPOINTS_MOST]
        have_moved = set(endpoints) != set(self._own_endpoints)
        self._own_endpoints = endpoints
        self._fresh_until_ms = now_ms + ENDPOINTS_FRESH_MS
        self._call_all(now_ms)
        if have_moved:
            for key in self._busy.copy():
                peer = self._peers[key]
                peer.path.own_endpoints_changed(now_ms)
                self._settle(peer, now_ms)

    def uplink_changed(self, now_ms: int) -> None:
        """Note that the machine's way out is another one: nothing proven about any path holds."""
        now_ms = self._at(now_ms)
        self._fresh_until_ms = -1
        for peer in list(self._peers.values()):
            if peer.whereabouts is not None:
                peer.whereabouts.uplink_changed(now_ms)
            if peer.path is not None:
                peer.path.uplink_changed(now_ms)
                self._settle(peer, now_ms)

    def send_failed(self, endpoint: tuple, now_ms: int) -> None:
        """Note that the system refused to send to an endpoint."""
        now_ms = self._at(now_ms)
        for key in list(self._timers):
            peer = self._peers[key]
            peer.path.send_failed(endpoint, now_ms)
            self._settle(peer, now_ms)

    # --- Time ---

    def timer_fired(self, now_ms: int) -> None:
        """Do what is due; calls that come early or late do no harm."""
        now_ms = self._at(now_ms)
        for key in [key for key in self._timers if self._timers[key] <= now_ms]:
            peer = self._peers[key]
            peer.path.timer_fired(now_ms)
            self._settle(peer, now_ms)
        if self._callers and now_ms >= self._call_at_ms:
            self._call_all(now_ms)

    def next_timer_ms(self) -> int | None:
        """Return when timer_fired() is due; None while all peers are idle."""
        due = [self._call_at_ms] if self._callers else []
        if self._timers:
            due.append(min(self._timers.values()))
        return min(due) if due else None

    # --- Questions ---

    def take(self) -> list:
        """Return what is to be done, in order, and forget it."""
        if not self._outputs:
            return []
        outputs, self._outputs = self._outputs, []
        return outputs

    def held(self) -> dict:
        """Return {endpoint: node key}: whence WireGuard packets must not reach WireGuard as they come.

        An address that two peers were heard from (by pings, or by the pongs that prove it) is nobody's: one of them
        lies, or somebody replays its pings, and packets of the other must not be taken for its own.
        """
        held = {}
        for key in self._held:
            for endpoint in self._held[key]:
                if not self._claimed_by_another(endpoint, key):
                    held[endpoint] = key
        return held

    def polling_wanted(self, now_ms: int) -> bool:
        """Tell whether WireGuard's counters and endpoints must be looked at: a path is in use, or a peer pings us."""
        now_ms = self._at(now_ms)
        return bool(self._busy) or (self._pinged_ms is not None and now_ms - self._pinged_ms < _POLL_AFTER_PING_MS)

    def endpoints_wanted(self, now_ms: int) -> bool:
        """Tell whether our own endpoints are to be kept fresh: there was traffic of late."""
        now_ms = self._at(now_ms)
        return self._traffic_ms is not None and now_ms - self._traffic_ms < ACTIVE_MS

    def view(self, node_key: bytes, now_ms: int) -> PathView | None:
        """Return how a peer is reached, and why not directly; None if it is no peer."""
        now_ms = self._at(now_ms)
        peer = self._peers.get(node_key)
        if peer is None:
            return None
        if peer.path is None:
            reason = Reason.IDLE if peer.disco_key != keys.ZERO else Reason.NO_DISCO_KEY
            return PathView(PathState.RELAYED, None, 0, peer.since_ms, reason, len(peer.endpoints), 0)
        path = peer.path
        return PathView(
            path.state, path.best, path.latency_ms, path.since_ms, path.reason(now_ms), path.candidates, path.asked
        )

    # --- Within ---

    def _at(self, now_ms: int) -> int:
        """Return the time, which never goes back here whatever the clock does."""
        if now_ms > self._now_ms:
            self._now_ms = now_ms
        return self._now_ms

    def _refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def _allowed(self, endpoints: list) -> list:
        return [endpoint for endpoint in endpoints[: disco.ENDPOINTS_MOST] if not refusal(endpoint, self._own)]

    def _path_of(self, peer, now_ms: int):
        if peer.path is None:
            peer.path = Path(self._random_bytes)
            peer.has_spoken = True
            peer.path.relay_known(bool(peer.home_derp), now_ms)
            peer.path.endpoints_received(self._allowed(peer.endpoints), now_ms)
        return peer.path

    def _drop_path(self, peer, now_ms: int) -> None:
        """Forget all about the way to a peer that takes no part any more."""
        self._unhear_all(peer)
        peer.whereabouts = None
        if peer.path is None:
            return
        peer.path, peer.told = None, None
        peer.since_ms = now_ms
        self._busy.discard(peer.key)
        self._timers.pop(peer.key, None)
        self._callers.discard(peer.key)
        self._held.pop(peer.key, None)
        self.held_version += 1

    def _settle(self, peer, now_ms: int) -> None:
        """Carry out what a path decided, after each of its inputs."""
        path = peer.path
        for action in path.take_actions():
            kind = action[0]
            if kind == peer_path.PING:
                self._ping(peer, action[1], action[2])
            elif kind == peer_path.CALL_ME_MAYBE:
                self._call(peer, now_ms)
            else:
                if kind == peer_path.USE_RELAY and peer.told is not None and path.state == PathState.PROBING:
                    # Perhaps our own NAT has forgotten us: the call that follows must say where we are now.
                    self._fresh_until_ms = -1
                peer.told = action[1] if kind == peer_path.USE_DIRECT else None
                renew = kind == peer_path.RENEW or (kind == peer_path.USE_RELAY and action[1])
                self._outputs.append((SET_PATH, peer.key, peer.told, renew))
        timer_ms = path.next_timer_ms()
        if timer_ms is not None:
            self._timers[peer.key] = timer_ms
        else:
            self._timers.pop(peer.key, None)
        if path.state == PathState.RELAYED:
            self._busy.discard(peer.key)
        else:
            self._busy.add(peer.key)
        held = path.held()
        if held != self._held.get(peer.key, _NOTHING):
            self.held_version += 1
            self._held[peer.key] = held

    def _ping(self, peer, endpoint: tuple, txid: bytes) -> None:
        # Asked again here, as our own addresses may have changed since the candidate came.
        if not refusal(endpoint, self._own):
            self._send_udp(peer, endpoint, disco.encode_ping(txid, self._own_node_key))

    def _call(self, peer, now_ms: int) -> None:
        if now_ms < self._fresh_until_ms:
            self._send_call(peer, now_ms)
            return
        if not self._callers:
            self._call_at_ms = now_ms + _REFRESH_WAIT_MS
            self._outputs.append((REFRESH_ENDPOINTS,))
        self._callers.add(peer.key)

    def _call_all(self, now_ms: int) -> None:
        for key in self._callers:
            self._send_call(self._peers[key], now_ms)
        self._callers = set()

    def _send_call(self, peer, now_ms: int) -> None:
        """Call a peer; twice if it may still send to where we were: an address that the second call takes back is
        left at once.
        """
        former = [] if peer.whereabouts is None else peer.whereabouts.former(now_ms)
        former = [endpoint for endpoint in former if endpoint not in self._own_endpoints]
        if former:
            both = (former + self._own_endpoints)[: disco.ENDPOINTS_MOST]
            self._send_relay(peer, 0, disco.encode_call_me_maybe(both))
        self._send_relay(peer, 0, disco.encode_call_me_maybe(self._own_endpoints))
        if peer.path.is_missed:
            # A stock client may hold to an address of ours that is silent now but was quicker than the one that works.
            peer.path.is_missed = False
            seen = peer.whereabouts and peer.whereabouts.seen_from(peer.path.best)
            if seen and self._own_endpoints != [seen]:
                self._send_relay(peer, 0, disco.encode_call_me_maybe([seen]))

    def _send_udp(self, peer, endpoint: tuple, plaintext: bytes) -> None:
        datagram = self._box.seal(peer.disco_key, plaintext)
        if datagram is not None:
            self._outputs.append((SEND_UDP, endpoint, datagram))

    def _send_relay(self, peer, region_id: int, plaintext: bytes) -> None:
        datagram = self._box.seal(peer.disco_key, plaintext)
        if datagram is not None:
            self._outputs.append((SEND_RELAY, peer.key, region_id, datagram))

    def _hear(self, peer, source: tuple, now_ms: int) -> None:
        """Remember that the peer was heard from a source; others' claims to it that are old end."""
        if source not in peer.heard:
            if len(peer.heard) >= _HEARD_MOST:
                self._unhear(peer, min(peer.heard, key=lambda endpoint: peer.heard[endpoint]))
            self._claims.setdefault(source, set()).add(peer.key)
            self.held_version += 1
        peer.heard[source] = now_ms
        for key in list(self._claims[source]):
            if now_ms - self._peers[key].heard[source] >= _HEARD_MS:
                self._unhear(self._peers[key], source)

    def _unhear_all(self, peer) -> None:
        for source in list(peer.heard):
            self._unhear(peer, source)

    def _unhear(self, peer, source: tuple) -> None:
        del peer.heard[source]
        self._claims[source].discard(peer.key)
        if not self._claims[source]:
            del self._claims[source]
        self.held_version += 1

    def _claimed_by_another(self, endpoint: tuple, key: bytes) -> bool:
        claims = self._claims.get(endpoint, ())
        return any([other != key for other in claims])


def _carried_data(step_bytes: int) -> bool:
    return step_bytes > 0 and step_bytes not in _STEPS_WITHOUT_DATA


def _same(a: Own, b: Own) -> bool:
    return a.addresses == b.addresses and a.connected == b.connected and a.mesh == b.mesh
