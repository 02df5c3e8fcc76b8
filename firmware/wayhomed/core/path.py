"""One peer's path: by the relay, or directly to the best of its addresses that answered a ping.

Pure: time (monotonic milliseconds, an int) is the last argument of every input, and `random_bytes` makes the txids. A
clock that steps back stands still; one that jumps ahead costs one round of pings, never a burst. The drawing of NEXT
is in docs/paths.md.

An endpoint is (address of 4 or 16 bytes, port). Endpoints given here have passed core/candidates.py, the sources of
pings too. Source: disco.md section 4, wireguard.md section 3.1.

What each input decides is collected in `take_actions()`:

    (PING, endpoint, txid)     send a disco ping there
    (CALL_ME_MAYBE,)           send all own endpoints by the relay
    (USE_DIRECT, endpoint)     WireGuard's endpoint becomes this one (said again after it roamed elsewhere)
    (USE_RELAY, renew)         WireGuard's endpoint becomes the relay's; renew is False in all cases so far
    (RENEW,)                   the peer restarted: by the relay, and with its WireGuard session made anew. Comes instead
                               of USE_RELAY, whatever the state was

Beyond the contract there are: is_active(now), gone(now), held_version (changes whenever held() does), lost_ms.
"""

from wayhomed.port import const
from wayhomed.wire.address import contains

# Fixed by the protocol (disco.md 4)
PING_TIMEOUT_MS = const(5_000)
DISCOVERY_MS = const(5_000)  # between pings to one candidate
HEARTBEAT_MS = const(3_000)  # to the best address; also between pings back to an address that pings us
TRUST_MS = const(6_500)  # after a pong
ACTIVE_MS = const(45_000)  # after the last traffic
FULL_PING_MS = const(60_000)  # ping everything although a direct path works
GOOD_LATENCY_MS = const(5)  # or less: no attempts to do better
LEARNED_MS = const(45_000)  # a learned candidate lives on after its last ping
TXID_BYTES = const(12)
_POINTS_LOOPBACK = const(50)
_POINTS_LINK_LOCAL = const(30)
_POINTS_PRIVATE = const(20)
_POINTS_IPV6 = const(10)
_LOOPBACK = ((b"\x7f" + bytes(3), 8), (bytes(15) + b"\x01", 128))
_LINK_LOCAL = ((b"\xa9\xfe\x00\x00", 16), (b"\xfe\x80" + bytes(14), 10))
_PRIVATE = (
    (b"\x0a" + bytes(3), 8),
    (b"\xac\x10\x00\x00", 12),
    (b"\xc0\xa8\x00\x00", 16),
    (b"\xfc" + bytes(15), 7),
)

# Chosen by us
MAX_CANDIDATES = const(32)
# Of these, only heard from. Kept apart, so that neither a long list nor replayed pings push the others out.
MAX_LEARNED = const(8)
# A CallMeMaybe (or a new uplink) makes a candidate worth a ping before its 5 s are over, yet not before this.
EAGER_MS = const(2_000)
# A ping from an address that is not proven is answered with one of ours: the door that was shut when we last pinged has
# been opened by the peer's ping, or by the call that it answers. Once at once, and then this soon after our last. Each
# costs the peer a fresh sealed ping.
PING_BACK_MS = const(500)
# Between calls that did not help. A stock client that was called pings all our addresses; it calls back only when it
# has pinged none for 5 s, and looks for that every 3 s. Called every 5 s it never does, and we never learn where it is
# now if its address changed while the coordinator was out of its reach.
CALL_AGAIN_MS = const(8_000)
# A peer that sends by the relay although it answers our pings is called after this long, and then after twice as long
# each time: a call is lost when a link to the relay breaks.
CALL_A_RELAYING_PEER_MS = const(4_000)
_CALL_A_RELAYING_PEER_MOST_MS = const(64_000)
# Nobody but the called one may know of the call. It stays awake this long; calls back only if it has traffic itself,
# or two idle nodes would keep each other awake for ever.
CALLED_MS = const(10_000)
# The best address is left once its newest ping went unanswered for this long (and for two of its round trips), if
# another one has answered since it last did: the peer has moved. Otherwise all would be lost until trust ends.
OVERDUE_MS = const(1_000)
# An address that WireGuard chose by itself is left alone this long if it is trusted: the peer sends from there, and its
# next packet would overrule us anyway.
ROAMED_MS = const(60_000)
# Pings within PING_TIMEOUT_MS, by what they are for: a peer's words cannot make us flood others, and none of the three
# can starve the others.
MAX_PINGS_LISTED = const(64)
MAX_PINGS_LEARNED = const(16)
MAX_PINGS_HEARTBEAT = const(16)
MAX_PINGS = const(96)
MAX_SEEN_TXIDS = const(64)
_RETRY_MS = const(1_000)  # after such a limit refused a ping

# Actions; no const(), for MicroPython would put the number in place of PathInput.CALL_ME_MAYBE's name too
PING = 1
CALL_ME_MAYBE = 2
USE_DIRECT = 3
USE_RELAY = 4
RENEW = 5

# What a ping is for
_LISTED = const(0)
_LEARNED = const(1)
_HEARTBEAT = const(2)
_LIMITS = (MAX_PINGS_LISTED, MAX_PINGS_LEARNED, MAX_PINGS_HEARTBEAT)

# Where an address is listed
_IN_NETMAP = const(1)
_IN_CALL = const(2)


class PathState:
    """How packets to the peer travel."""

    RELAYED = 0  # by the relay, and nobody asked for more lately
    PROBING = 1  # by the relay, while candidates are pinged
    DIRECT = 2  # to `best`, which answered a ping less than 6.5 s ago


class PathInput:
    """What can change the state."""

    TRAFFIC = 0  # a packet for the peer, or from it
    CALL_ME_MAYBE = 1  # the peer asked for pings
    PONG = 2  # an address is proven
    SILENCE = 3  # the best address's trust ran out, and no other is trusted
    IDLE = 4  # no traffic for 45 s
    UPLINK_CHANGED = 5  # our own link, route or address changed
    SEND_FAILED = 6  # the machine cannot send to the best address
    DROPPED = 7  # the best address is not the peer's any more, says the peer or the netmap
    RESTARTED = 8  # the peer has a new disco key
    GONE = 9  # the peer has no disco key, or must not be spoken to


class Reason:
    """Why a path is as it is, for people."""

    DIRECT = 0
    IDLE = 1
    NO_DISCO_KEY = 2
    NO_ADDRESSES = 3
    ASKING = 4  # pings are under way
    NO_ANSWER = 5  # `asked` pings, and none was answered in time
    LOST = 6  # was direct until `lost_ms`


# Any other pair keeps the state: UDP may bring a pong late, twice or never.
NEXT = {
    (PathState.RELAYED, PathInput.TRAFFIC): PathState.PROBING,
    (PathState.RELAYED, PathInput.CALL_ME_MAYBE): PathState.PROBING,
    (PathState.PROBING, PathInput.PONG): PathState.DIRECT,
    (PathState.PROBING, PathInput.IDLE): PathState.RELAYED,
    (PathState.PROBING, PathInput.GONE): PathState.RELAYED,
    (PathState.DIRECT, PathInput.SILENCE): PathState.PROBING,
    (PathState.DIRECT, PathInput.IDLE): PathState.RELAYED,
    (PathState.DIRECT, PathInput.UPLINK_CHANGED): PathState.PROBING,
    (PathState.DIRECT, PathInput.SEND_FAILED): PathState.PROBING,
    (PathState.DIRECT, PathInput.DROPPED): PathState.PROBING,
    (PathState.DIRECT, PathInput.RESTARTED): PathState.PROBING,
    (PathState.DIRECT, PathInput.GONE): PathState.RELAYED,
}


def better(a: tuple, a_latency_ms: int, b: tuple, b_latency_ms: int) -> bool:
    """Tell whether endpoint a is worth leaving endpoint b for; latencies are 1 or more. Source: disco.md 4.3."""
    if a == b:
        return False
    a_points, b_points = _kind_points(a[0]), _kind_points(b[0])
    if a_latency_ms < b_latency_ms:
        a_points += 100 - a_latency_ms * 100 // b_latency_ms
    else:
        b_points += 100 - b_latency_ms * 100 // a_latency_ms
    return a_points > max(b_points, 1)  # one percent is no reason to move


def _kind_points(ip: bytes) -> int:
    points = _POINTS_IPV6 if len(ip) == 16 else 0
    if _in_any(_LOOPBACK, ip):
        return points + _POINTS_LOOPBACK
    if _in_any(_LINK_LOCAL, ip):
        return points + _POINTS_LINK_LOCAL
    if _in_any(_PRIVATE, ip):
        return points + _POINTS_PRIVATE
    return points


def _in_any(prefixes: tuple, ip: bytes) -> bool:
    for prefix in prefixes:
        if contains(prefix, ip):
            return True
    return False


class _Candidate:
    def __init__(self):
        self.lists = 0  # _IN_NETMAP + _IN_CALL
        self.learned_ms = None  # when the peer last pinged from here, or WireGuard last took it
        self.heard = False  # a sealed message of the peer came from here
        self.pinged_ms = -DISCOVERY_MS
        self.eager = False  # may be pinged again after EAGER_MS
        self.pinged_back = False  # in answer to the peer's pings, since it was last pinged for any other reason
        self.latency_ms = 0  # of the last pong
        self.answered_ms = 0  # when the newest ping that was answered was sent
        self.trust_until_ms = 0

    def forget_pongs(self) -> None:
        self.latency_ms = 0
        self.trust_until_ms = 0

    def due_ms(self) -> int:
        """Return when discovery may ping it; in the past = now."""
        return self.pinged_ms + (EAGER_MS if self.eager else DISCOVERY_MS)


class _Sent:
    """A ping of the last 5 s. Kept when answered or void, too: it counts for the limits."""

    def __init__(self, endpoint: tuple, kind: int, now_ms: int):
        self.endpoint = endpoint
        self.kind = kind
        self.sent_ms = now_ms
        self.waiting = True


class Path:
    """The path to one peer. `state`, `best` (None unless DIRECT) and `since_ms` may be read at any time."""

    def __init__(self, random_bytes):
        self.state = PathState.RELAYED
        self.best: tuple = None  # type: ignore[assignment]  # unless DIRECT
        self.since_ms = 0  # when state or best last changed
        self.asked = 0  # pings since the state last changed
        self.lost_ms = None  # when a direct path was lost that this traffic used before
        self.held_version = 0
        self._random_bytes = random_bytes
        self._now_ms = 0
        self._usable = True
        self._relay_known = False
        self._candidates = {}  # endpoint -> _Candidate
        self._sent = {}  # txid -> _Sent
        self._seen = []  # (txid, source) of the last pings received, oldest first
        self._actions = []
        self._held = set()
        self._traffic_ms = None
        self._called_ms = -CALLED_MS
        self._owes_call = False  # the peer called, and we had nothing to send yet
        self._asking_since_ms = None
        self._full_ping_ms = 0
        self._call_sent_ms = -CALL_AGAIN_MS
        self._call_eager = False  # may be sent again after EAGER_MS
        self._call_due = False  # to be sent as soon as it may
        self.is_missed = False  # the call is due to a peer that we reach directly and that sends by the relay
        self._call_relaying_ms = CALL_A_RELAYING_PEER_MS
        self._uplink_ms = -EAGER_MS  # when it last changed after some time
        self._roamed_ms = None  # when WireGuard chose `best`
        self._retry_ms = 0
        self._due_ms = None

    # --- Questions ---

    @property
    def latency_ms(self) -> int:
        """Round trip of the best address, 1 or more; 0 if there is none."""
        return 0 if self.best is None else self._candidates[self.best].latency_ms

    @property
    def trust_until_ms(self) -> int:
        """When the best address's trust ends if no pong comes; 0 if there is none."""
        return 0 if self.best is None else self._candidates[self.best].trust_until_ms

    @property
    def candidates(self) -> int:
        """How many addresses of the peer are known."""
        return len(self._candidates)

    def trusted(self, endpoint: tuple, now_ms: int) -> bool:
        """Tell whether a ping to this very endpoint was answered within the last 6.5 s."""
        candidate = self._candidates.get(endpoint)
        return candidate is not None and max(now_ms, self._now_ms) < candidate.trust_until_ms

    def held(self) -> set:
        """Return the endpoints from which WireGuard must not take packets itself (it would roam there).

        From them the peer was heard, and by the last input they were not proven: our answers might get lost.
        """
        return self._held

    def is_active(self, now_ms: int) -> bool:
        """Tell whether there was traffic within 45 s, or the peer called within 10 s."""
        return self._usable and max(now_ms, self._now_ms) < self._active_until_ms()

    def reason(self, now_ms: int) -> int:
        """Return the Reason for the present state."""
        if self.state == PathState.DIRECT:
            return Reason.DIRECT
        if not self._usable:
            return Reason.NO_DISCO_KEY
        if self.state == PathState.RELAYED:
            return Reason.IDLE
        if not self._candidates:
            return Reason.NO_ADDRESSES
        if self.lost_ms is not None:
            return Reason.LOST
        if self._asking_since_ms is not None and max(now_ms, self._now_ms) - self._asking_since_ms >= PING_TIMEOUT_MS:
            return Reason.NO_ANSWER
        return Reason.ASKING

    def next_timer_ms(self) -> int | None:
        """Return when timer_fired() is due; None when the peer is idle: nothing wakes the machine."""
        if self.state == PathState.RELAYED:
            return self._due_ms
        idle_ms = self._active_until_ms()
        return idle_ms if self._due_ms is None else min(idle_ms, self._due_ms)

    def take_actions(self) -> list:
        """Return what is to be done since the last call, in order."""
        actions = self._actions
        self._actions = []
        return actions

    # --- Inputs ---

    def packet_sent(self, now_ms: int) -> None:
        """Note a packet for the peer: WireGuard's at the proxy, or a user's ping. Called for each relayed packet."""
        now_ms = self._clock(now_ms)
        if self.state != PathState.RELAYED and (self._due_ms is None or now_ms < self._due_ms):
            self._traffic_ms = now_ms  # nothing else to do, and done quickly
            if self._owes_call:
                self._call_back(now_ms)
            return
        self._settle(now_ms)
        self._traffic_ms = now_ms
        self._step(PathInput.TRAFFIC, now_ms)
        self._settle(now_ms)
        self._call_back(now_ms)

    def traffic_seen(self, now_ms: int) -> None:
        """Note that data moved either way, as WireGuard's counters tell."""
        self.packet_sent(now_ms)

    def timer_fired(self, now_ms: int) -> None:
        """Do what is due. Harmless at any time."""
        self._settle(self._clock(now_ms))

    def endpoints_received(self, endpoints: list, now_ms: int) -> None:
        """Take the netmap's addresses of the peer, in place of those it gave before."""
        now_ms = self._begin(now_ms)
        self._take_list(endpoints, _IN_NETMAP, now_ms)
        self._settle(now_ms)

    def call_me_maybe(self, endpoints: list, now_ms: int) -> None:
        """Take the peer's call: its firewall is open now, and these are all its addresses."""
        now_ms = self._begin(now_ms)
        self._take_list(endpoints, _IN_CALL, now_ms)
        self._called_ms = now_ms
        self._forget_last_pings()
        self._step(PathInput.CALL_ME_MAYBE, now_ms)
        self._settle(now_ms, True)
        self._owes_call = True
        self._call_back(now_ms)

    def ping_received(self, txid: bytes, source: tuple, now_ms: int) -> bool:
        """Note the peer's ping by UDP; tell whether to answer it (not so if it is a copy)."""
        now_ms = self._begin(now_ms)
        if not self._usable or (txid, source) in self._seen:
            return False
        self._seen.append((txid, source))
        if len(self._seen) > MAX_SEEN_TXIDS:
            self._seen.pop(0)
        self._learn(source, now_ms)
        candidate = self._candidates.get(source)
        pinged_ms = 0 if candidate is None else candidate.pinged_ms
        self._settle(now_ms)
        if candidate is not None and candidate.pinged_ms == pinged_ms:
            self._ping_back(source, candidate, now_ms)
        return True

    def pong_received(self, txid: bytes, source: tuple, now_ms: int) -> int | None:
        """Note an answer; return its round trip (ms, 1 or more), or None if it proves nothing.

        It must come from the very endpoint that was pinged: else whoever can copy datagrams could move our path.
        """
        now_ms = self._clock(now_ms)
        sent = self._sent.get(txid)
        if sent is None or not sent.waiting or sent.endpoint != source or now_ms - sent.sent_ms >= PING_TIMEOUT_MS:
            return None
        sent.waiting = False
        latency_ms = max(1, now_ms - sent.sent_ms)
        candidate = self._candidates.get(source)
        if candidate is not None:
            candidate.heard = True
            candidate.latency_ms = latency_ms
            candidate.answered_ms = max(candidate.answered_ms, sent.sent_ms)
            candidate.trust_until_ms = now_ms + TRUST_MS
            if self.state == PathState.DIRECT and not self._is_left_alone(now_ms):
                if better(source, latency_ms, self.best, self.latency_ms):
                    self._use(source, now_ms)
            self._settle(now_ms)
        return latency_ms

    def roamed(self, endpoint: tuple, now_ms: int) -> None:
        """Note that WireGuard took this address as the peer's by itself: a packet from there was authentic.

        If it is trusted, it is left alone. If not, it becomes a candidate, and WireGuard is set back.
        """
        now_ms = self._begin(now_ms)
        if not self._usable:
            self._actions.append((USE_RELAY, False))
            return
        self._learn(endpoint, now_ms)
        self._settle(now_ms)
        if self.state == PathState.DIRECT and self.trusted(endpoint, now_ms):
            self._use(endpoint, now_ms)
            self._roamed_ms = now_ms
        elif self.state == PathState.DIRECT:
            self._actions.append((USE_DIRECT, self.best))
        else:
            self._actions.append((USE_RELAY, False))
        self._ping_again(endpoint, HEARTBEAT_MS, now_ms)

    def adopted(self, endpoint: tuple, now_ms: int) -> None:
        """Note that WireGuard sends to this address since before we began: it is believed until a ping could prove it.

        Our predecessor had proven it. Sending by the relay meanwhile would lose what the relay does not carry yet.
        """
        now_ms = self._begin(now_ms)
        self._learn(endpoint, now_ms)
        candidate = self._candidates.get(endpoint)
        if not self._usable or candidate is None:
            self._actions.append((USE_RELAY, False))
            return
        candidate.trust_until_ms = now_ms + TRUST_MS
        self._traffic_ms = now_ms
        self._step(PathInput.TRAFFIC, now_ms)
        self._settle(now_ms)

    def own_endpoints_changed(self, now_ms: int) -> None:
        """Note that we can be reached elsewhere: a peer that we ask in vain does not know, and its NAT may be shut for
        where we come from now. It is called again soon, and pinged.
        """
        now_ms = self._begin(now_ms)
        if self.state == PathState.PROBING:
            self._forget_last_pings()
            self._call_eager = True
            self._settle(now_ms)

    def seen_elsewhere(self, now_ms: int) -> None:
        """Note that the peer sees us at another address than before: it is called soon, even if the path is direct.

        A stock client that is in no doubt of its own path may send to the former address until it is told.
        """
        now_ms = self._begin(now_ms)
        if self.state != PathState.RELAYED:
            self._call_eager = self._call_due = True
            self._settle(now_ms)

    def relayed_data_received(self, now_ms: int) -> None:
        """Note that the peer sends by the relay. If we reach it directly, it has missed where we are."""
        now_ms = self._begin(now_ms)
        if self.state != PathState.DIRECT:
            return
        wait_ms = self._call_relaying_ms
        # What came at once was under way.
        if now_ms - self._call_sent_ms >= wait_ms and now_ms - self.since_ms >= EAGER_MS:
            self._call_relaying_ms = min(2 * wait_ms, _CALL_A_RELAYING_PEER_MOST_MS)
            self._call_eager = self._call_due = self.is_missed = True
            self._settle(now_ms)

    def uplink_changed(self, now_ms: int) -> None:
        """Forget what was proven: our own link, route or address changed.

        Addresses that were pinged a moment ago are pinged again at once, before anybody asks a STUN server: a router
        that still knows the peer's flow with our former address lets the peer see another port now than the server
        would, but shows the server the port that the newest flow got (Linux). Not if the uplink changes all the time.
        """
        now_ms = self._begin(now_ms)
        self._forget_proofs()
        if now_ms - self._uplink_ms >= EAGER_MS:
            self._uplink_ms = now_ms
            for candidate in self._candidates.values():
                candidate.pinged_ms = min(candidate.pinged_ms, now_ms - EAGER_MS)
        self._leave(PathInput.UPLINK_CHANGED, now_ms)
        self._settle(now_ms)

    def disco_key_changed(self, now_ms: int) -> None:
        """Begin anew with a peer that restarted (or got its disco key back): its WireGuard sessions are gone too."""
        now_ms = self._begin(now_ms)
        self._usable = True
        self._forget_proofs()
        self._step(PathInput.RESTARTED, now_ms)
        self._actions.append((RENEW,))
        self._settle(now_ms)

    def gone(self, now_ms: int) -> None:
        """Stop everything: the peer has no disco key, or expired. disco_key_changed() begins anew."""
        now_ms = self._begin(now_ms)
        self._forget_proofs()
        for candidate in self._candidates.values():
            candidate.heard = False
        self._traffic_ms = None
        self._called_ms = -CALLED_MS
        self._owes_call = self._call_due = False
        self._leave(PathInput.GONE, now_ms)
        self._step(PathInput.GONE, now_ms)
        self._usable = False
        self._settle(now_ms)

    def send_failed(self, endpoint: tuple, now_ms: int) -> None:
        """Take the machine's word that nothing can be sent there: no route, unreachable."""
        now_ms = self._begin(now_ms)
        self._forget_sent(endpoint)
        candidate = self._candidates.get(endpoint)
        if candidate is not None:
            candidate.forget_pongs()
            if endpoint == self.best:
                self._leave(PathInput.SEND_FAILED, now_ms)
        self._settle(now_ms)

    def relay_known(self, known: bool, now_ms: int) -> None:
        """Note whether the peer can be called by a relay."""
        self._clock(now_ms)
        self._relay_known = known

    # --- Inside ---

    def _clock(self, now_ms: int) -> int:
        if now_ms > self._now_ms:
            self._now_ms = now_ms
        return self._now_ms

    def _begin(self, now_ms: int) -> int:
        """Do first what was due before this input, as the timer may be late; return the time."""
        now_ms = self._clock(now_ms)
        self._settle(now_ms)
        return now_ms

    def _active_until_ms(self) -> int:
        until_ms = 0
        if self._traffic_ms is not None:
            until_ms = self._traffic_ms + ACTIVE_MS
        return max(until_ms, self._called_ms + CALLED_MS)

    def _step(self, path_input: int, now_ms: int) -> None:
        """Take the table's step, with what belongs to entering and leaving a state."""
        state = NEXT.get((self.state, path_input), self.state) if self._usable else self.state
        if state == self.state:
            return
        if self.state == PathState.DIRECT:
            self.best = None  # type: ignore[assignment]
            self.lost_ms = now_ms
        else:
            self._call_relaying_ms = CALL_A_RELAYING_PEER_MS
        if state != PathState.PROBING:
            self.lost_ms = None
        self.state = state
        self.since_ms = now_ms
        self.asked = 0
        self._asking_since_ms = None

    def _leave(self, path_input: int, now_ms: int) -> None:
        """Stop using the best address for this reason: for another trusted one if there is any, else for the relay."""
        if self.state != PathState.DIRECT:
            return
        other = None if path_input in (PathInput.IDLE, PathInput.GONE) else self._best_trusted(now_ms)
        if other is not None:
            self._use(other, now_ms)
            return
        self._step(path_input, now_ms)
        self._actions.append((USE_RELAY, False))

    def _use(self, endpoint: tuple, now_ms: int) -> None:
        """Send to a trusted endpoint from now on."""
        self._roamed_ms = None
        if endpoint != self.best:
            self.best = endpoint
            self.since_ms = now_ms
        self._actions.append((USE_DIRECT, endpoint))

    def _is_left_alone(self, now_ms: int) -> bool:
        return self._roamed_ms is not None and now_ms - self._roamed_ms < ROAMED_MS

    def _overdue_ms(self) -> int:
        """Return when the best address's newest ping has, or will have, waited too long; later than any trust if it was
        answered.
        """
        best = self._candidates[self.best]
        if best.answered_ms >= best.pinged_ms:
            return best.trust_until_ms
        return best.pinged_ms + max(OVERDUE_MS, 2 * best.latency_ms)

    def _best_trusted(self, now_ms: int, since_ms: int = 0) -> tuple | None:
        """Return the best address that is trusted, of those that answered a ping sent at that time or later."""
        best, best_latency_ms = None, 0
        for endpoint, candidate in self._candidates.items():
            if (
                now_ms < candidate.trust_until_ms
                and candidate.answered_ms >= since_ms
                and (best is None or better(endpoint, candidate.latency_ms, best, best_latency_ms))
            ):
                best, best_latency_ms = endpoint, candidate.latency_ms
        return best

    def _settle(self, now_ms: int, called: bool = False) -> None:
        """Do all that follows from the clock and the candidates; each input ends here."""
        self._expire(now_ms)
        has_broken = False
        if self.state != PathState.RELAYED and now_ms >= self._active_until_ms():
            if self.state == PathState.DIRECT:
                self._leave(PathInput.IDLE, now_ms)
            else:
                self._step(PathInput.IDLE, now_ms)
        if self.state == PathState.DIRECT and not self.trusted(self.best, now_ms):
            self._leave(PathInput.SILENCE, now_ms)
            has_broken = self.state == PathState.PROBING
            self._call_eager = self._call_eager or has_broken
        if self.state == PathState.DIRECT and self._overdue_ms() <= now_ms and not self._is_left_alone(now_ms):
            endpoint = self._best_trusted(now_ms, self._candidates[self.best].answered_ms + 1)
            if endpoint is not None:
                self._use(endpoint, now_ms)
        if self.state == PathState.PROBING:
            endpoint = self._best_trusted(now_ms)
            if endpoint is not None:
                self._step(PathInput.PONG, now_ms)
                self._use(endpoint, now_ms)
        if self.state == PathState.PROBING:
            self._discover(now_ms, not called, False)
            if has_broken:
                self._call(now_ms)  # also if all were pinged a moment ago: the peer may be elsewhere, or we are
        elif self.state == PathState.DIRECT:
            self._keep_up(now_ms, called)
        if self._call_due:
            self._call(now_ms)
        self._note_held(now_ms)
        self._note_due(now_ms)

    def _keep_up(self, now_ms: int, called: bool) -> None:
        """Ping the best address, and now and then the others: one may have become better."""
        best = self._candidates[self.best]
        if now_ms - best.pinged_ms >= HEARTBEAT_MS:
            self._ping(self.best, best, _HEARTBEAT, now_ms)
        if self.latency_ms > GOOD_LATENCY_MS and now_ms - self._full_ping_ms >= FULL_PING_MS:
            self._discover(now_ms, not called, False)
        else:
            self._discover(now_ms, False, True)

    def _discover(self, now_ms: int, may_call: bool, only_eager: bool) -> None:
        """Ping the candidates whose time has come, and let the peer ping us at the same time."""
        pinged = False
        for endpoint, candidate in self._candidates.items():
            if candidate.due_ms() <= now_ms and (candidate.eager or not only_eager):
                if self._ping(endpoint, candidate, _LISTED if candidate.lists else _LEARNED, now_ms):
                    pinged = True
        if not only_eager:
            self._full_ping_ms = now_ms
        if pinged and may_call:
            self._call(now_ms)

    def _call_back(self, now_ms: int) -> None:
        """Answer a call with one of ours, once, as soon as there is traffic.

        Our pings have opened our door. Who called does not know that: it pings again only 5 s after it last did, and
        meanwhile sends by the relay.
        """
        if not self._owes_call or not self._has_traffic(now_ms):
            return
        self._owes_call = False
        if now_ms - self._called_ms < CALLED_MS:
            self._call(now_ms)

    def _has_traffic(self, now_ms: int) -> bool:
        return self._traffic_ms is not None and now_ms - self._traffic_ms < ACTIVE_MS

    def _call(self, now_ms: int) -> None:
        """Call the peer, unless we did a moment ago. Only who has traffic calls: else two idle nodes would wake each
        other for ever.
        """
        if not self._usable or not self._relay_known or not self._has_traffic(now_ms):
            self._call_due = False
            return
        if now_ms >= self._may_call_ms():
            self._call_sent_ms = now_ms
            self._call_eager = self._call_due = False
            self._actions.append((CALL_ME_MAYBE,))

    def _may_call_ms(self) -> int:
        return self._call_sent_ms + (EAGER_MS if self._call_eager else CALL_AGAIN_MS)

    def _ping_back(self, endpoint: tuple, candidate, now_ms: int) -> None:
        """Ping an address from which the peer pinged us."""
        if now_ms < candidate.trust_until_ms:
            self._ping_again(endpoint, HEARTBEAT_MS, now_ms)
        else:
            self._ping_again(endpoint, PING_BACK_MS if candidate.pinged_back else 0, now_ms)
            candidate.pinged_back = True

    def _ping_again(self, endpoint: tuple, after_ms: int, now_ms: int) -> None:
        """Ping an address the peer uses, if we last did so long ago: it is trusted before WireGuard roams there."""
        candidate = self._candidates.get(endpoint)
        if self.state == PathState.RELAYED or candidate is None:
            return
        if now_ms - candidate.pinged_ms >= after_ms:
            self._ping(endpoint, candidate, _LISTED if candidate.lists else _LEARNED, now_ms)

    def _ping(self, endpoint: tuple, candidate, kind: int, now_ms: int) -> bool:
        """Ask for a ping unless there were too many of this kind within 5 s."""
        count = 0
        for sent in self._sent.values():
            if sent.kind == kind:
                count += 1
        if count >= _LIMITS[kind]:
            self._retry_ms = now_ms + _RETRY_MS
            return False
        txid = self._random_bytes(TXID_BYTES)
        self._sent[txid] = _Sent(endpoint, kind, now_ms)
        candidate.pinged_ms = now_ms
        candidate.eager = candidate.pinged_back = False
        self.asked += 1
        if self._asking_since_ms is None:
            self._asking_since_ms = now_ms
        self._actions.append((PING, endpoint, txid))
        return True

    def _take_list(self, endpoints: list, which: int, now_ms: int) -> None:
        """Note what a new list names, as far as there is room; drop what nothing names any more.

        What a call takes back must prove itself anew: whoever calls has just looked where he is.
        """
        named = set(endpoints)
        for endpoint, candidate in self._candidates.items():
            if endpoint not in named:
                if candidate.lists & which == _IN_CALL:
                    candidate.forget_pongs()
                candidate.lists &= ~which
            elif candidate.lists:
                candidate.lists |= which
        self._drop_unlisted(now_ms)
        if self.best is not None and not self.trusted(self.best, now_ms):
            self._leave(PathInput.DROPPED, now_ms)
        for endpoint in endpoints:
            candidate = self._candidates.get(endpoint)
            if candidate is not None and candidate.lists:
                continue
            if not self._has_room_on_lists(which, now_ms):
                return
            if candidate is None:
                if len(self._candidates) >= MAX_CANDIDATES and not self._drop_learned(now_ms):
                    return
                candidate = self._add(endpoint)
            candidate.lists = which

    def _has_room_on_lists(self, which: int, now_ms: int) -> bool:
        """Tell whether one more address may be listed. A call's push the netmap's out: they are newer."""
        count = 0
        for candidate in self._candidates.values():
            if candidate.lists:
                count += 1
        return count < MAX_CANDIDATES - MAX_LEARNED or (which == _IN_CALL and self._drop_from_netmap(now_ms))

    def _learn(self, endpoint: tuple, now_ms: int) -> None:
        """Note an address the peer was heard from, if there is room."""
        candidate = self._candidates.get(endpoint)
        if candidate is None:
            learned = 0
            for other in self._candidates.values():
                if not other.lists:
                    learned += 1
            if learned >= MAX_LEARNED and not self._drop_learned(now_ms):
                return
            candidate = self._add(endpoint)
        candidate.learned_ms = now_ms
        candidate.heard = True

    def _drop_from_netmap(self, now_ms: int) -> bool:
        """Make room: drop an address that the netmap alone lists."""
        for endpoint, candidate in self._candidates.items():
            if candidate.lists == _IN_NETMAP and now_ms >= candidate.trust_until_ms:
                del self._candidates[endpoint]
                return True
        return False

    def _drop_learned(self, now_ms: int) -> bool:
        """Make room: drop the learned address from which the peer pinged least lately."""
        oldest = None
        for endpoint, candidate in self._candidates.items():
            if not candidate.lists and now_ms >= candidate.trust_until_ms:
                if oldest is None or candidate.learned_ms < self._candidates[oldest].learned_ms:
                    oldest = endpoint
        if oldest is None:
            return False
        del self._candidates[oldest]
        return True

    def _add(self, endpoint: tuple):
        """Make a candidate. One that was dropped and came back is not pinged sooner for that."""
        candidate = _Candidate()
        for sent in self._sent.values():
            if sent.endpoint == endpoint:
                candidate.pinged_ms = max(candidate.pinged_ms, sent.sent_ms)
        self._candidates[endpoint] = candidate
        return candidate

    def _drop_unlisted(self, now_ms: int) -> None:
        """Drop what is in no list any more and was not learned either."""
        for endpoint, candidate in list(self._candidates.items()):
            if not candidate.lists and candidate.learned_ms is None:
                del self._candidates[endpoint]
                if endpoint == self.best:
                    self._leave(PathInput.DROPPED, now_ms)

    def _expire(self, now_ms: int) -> None:
        for txid, sent in list(self._sent.items()):
            if now_ms - sent.sent_ms >= PING_TIMEOUT_MS:
                del self._sent[txid]
        for endpoint, candidate in list(self._candidates.items()):
            if candidate.learned_ms is None or now_ms - candidate.learned_ms < LEARNED_MS:
                continue
            if candidate.lists:
                candidate.learned_ms = None
            elif now_ms >= candidate.trust_until_ms:
                del self._candidates[endpoint]

    def _forget_last_pings(self) -> None:
        for candidate in self._candidates.values():
            candidate.eager = True

    def _forget_sent(self, endpoint: tuple | None) -> None:
        """Let no pong to the pings under way (to one endpoint, or None: to all) prove anything."""
        for sent in self._sent.values():
            if endpoint is None or sent.endpoint == endpoint:
                sent.waiting = False

    def _forget_proofs(self) -> None:
        for candidate in self._candidates.values():
            candidate.forget_pongs()
        self._forget_sent(None)
        self._forget_last_pings()
        self._call_eager = True

    def _note_held(self, now_ms: int) -> None:
        held = set()
        for endpoint, candidate in self._candidates.items():
            if candidate.heard and now_ms >= candidate.trust_until_ms:
                held.add(endpoint)
        if held != self._held:
            self._held = held
            self.held_version += 1

    def _note_due(self, now_ms: int) -> None:
        """Find when something happens next, going idle excepted."""
        due_ms = None
        for candidate in self._candidates.values():
            if now_ms < candidate.trust_until_ms:
                due_ms = _earlier(due_ms, candidate.trust_until_ms)
            if self.state == PathState.PROBING or (self.state == PathState.DIRECT and candidate.eager):
                due_ms = _earlier(due_ms, max(candidate.due_ms(), self._retry_ms))
        if self.state == PathState.DIRECT:
            due_ms = _earlier(due_ms, max(self._candidates[self.best].pinged_ms + HEARTBEAT_MS, self._retry_ms))
            if now_ms < self._overdue_ms():
                due_ms = _earlier(due_ms, self._overdue_ms())
        if self._call_due and self.state != PathState.RELAYED:
            due_ms = _earlier(due_ms, self._may_call_ms())
        self._due_ms = due_ms


def _earlier(a_ms: int | None, b_ms: int) -> int:
    return b_ms if a_ms is None or b_ms < a_ms else a_ms
