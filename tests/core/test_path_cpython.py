"""The path machine against anything at all, at any time; and its drawing."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core import path_drawing
from wayhomed.core.path import (
    ACTIVE_MS,
    CALL_AGAIN_MS,
    CALL_ME_MAYBE,
    CALLED_MS,
    DISCOVERY_MS,
    EAGER_MS,
    HEARTBEAT_MS,
    MAX_CANDIDATES,
    MAX_PINGS,
    NEXT,
    PING,
    PING_BACK_MS,
    PING_TIMEOUT_MS,
    RENEW,
    TRUST_MS,
    USE_DIRECT,
    USE_RELAY,
    Path,
    PathState,
    better,
)

PLACES = (b"\xcb\x00\x71", b"\xc0\xa8\x01", b"\xc6\x12\x00")
ENDPOINTS = [(place + bytes([i]), 41641) for place in PLACES for i in range(17)]
ENDPOINTS += [(bytes.fromhex("20010db8") + bytes(11) + bytes([i]), 41641) for i in range(9)]
endpoints = st.sampled_from(ENDPOINTS)
few = st.sampled_from(ENDPOINTS[:4])
# Mostly small steps, sometimes hours or weeks, sometimes back: by a little, or to the beginning (a clock that wrapped).
steps = st.one_of(
    st.integers(0, 50),
    st.integers(0, 3_000),
    st.sampled_from([HEARTBEAT_MS, DISCOVERY_MS, EAGER_MS, TRUST_MS, TRUST_MS - 1, ACTIVE_MS, CALLED_MS]),
    st.integers(0, 10**10),
    st.integers(-10_000, -1),
    st.just(-(2**62)),
)


class AnyLife(RuleBasedStateMachine):
    """A path that lives through any inputs at any times, beside a book of what was proven."""

    def __init__(self):
        super().__init__()
        self.now = 0  # the greatest time so far: a path's clock never steps back
        self.counter = 0
        self.path = Path(self.random_bytes)
        self.under_way = {}  # txid -> (endpoint, when)
        self.answered = []  # txids
        self.proven = {}  # endpoint -> when last, of what still counts
        self.heard = set()
        self.last_ping = {}  # endpoint -> when
        self.pinged_back = set()
        self.last_call = -(10**9)
        self.last_uplink = -EAGER_MS
        self.direct = None  # what WireGuard was told
        self.rate = []  # when pings were asked for
        self.relay = False
        self.since_ms = 0
        self.ping_back = self.pinged_from = None
        self.eager = set()
        self.fresh_call = False

    def random_bytes(self, count):
        self.counter += 1
        return self.counter.to_bytes(count, "big")

    def tick(self, step):
        """Return a clock's reading after a step."""
        reading = self.now + step
        self.now = max(self.now, reading)
        return reading

    def check_actions(self):
        for action in self.path.take_actions():
            if action[0] == PING:
                _, endpoint, txid = action
                assert len(txid) == 12 and txid not in self.under_way
                since = self.now - self.last_ping.get(endpoint, -(10**9))
                if endpoint == self.pinged_from and since < (EAGER_MS if endpoint in self.eager else HEARTBEAT_MS):
                    # once at once for each ping of another kind, and then every half a second
                    assert since >= PING_BACK_MS or endpoint not in self.pinged_back
                    assert not self.path.trusted(endpoint, self.now)
                    self.eager.add(endpoint)
                    self.pinged_back.add(endpoint)
                else:
                    assert since >= EAGER_MS, "two pings within 2 s"
                    self.pinged_back.discard(endpoint)
                if since < DISCOVERY_MS and endpoint not in self.eager:
                    used = {self.direct, self.path.best, self.ping_back}
                    assert since >= HEARTBEAT_MS and endpoint in used, (since, endpoint)
                self.last_ping[endpoint] = self.now
                self.eager.discard(endpoint)
                self.under_way[txid] = (endpoint, self.now)
                self.rate = [when for when in self.rate if when > self.now - PING_TIMEOUT_MS] + [self.now]
                assert len(self.rate) <= MAX_PINGS
            elif action[0] == CALL_ME_MAYBE:
                assert self.relay
                assert self.now - self.last_call >= (EAGER_MS if self.fresh_call else CALL_AGAIN_MS)
                self.last_call = self.now
                self.fresh_call = False
            elif action[0] == USE_DIRECT:
                assert self.is_proven(action[1]), "an address that answered no ping"
                self.direct = action[1]
            else:
                assert action in ((USE_RELAY, False), (RENEW,))
                if self.direct is not None:
                    self.fresh_call = True
                self.direct = None
        self.ping_back = self.pinged_from = None

    def is_proven(self, endpoint):
        return endpoint in self.proven and self.now < self.proven[endpoint] + TRUST_MS

    @rule(step=steps)
    def packet_sent(self, step):
        self.path.packet_sent(self.tick(step))
        self.check_actions()

    @rule(step=steps)
    def traffic_seen(self, step):
        self.path.traffic_seen(self.tick(step))
        self.check_actions()

    @rule(step=steps)
    def timer_fired(self, step):
        self.path.timer_fired(self.tick(step))
        self.check_actions()

    @rule()
    def timer_fired_on_time(self):
        due = self.path.next_timer_ms()
        if due is not None:
            self.now = max(self.now, due)
            self.path.timer_fired(due)
            self.check_actions()

    @rule(step=steps, listed=st.lists(st.one_of(few, endpoints), max_size=60))
    def endpoints_received(self, step, listed):
        self.path.endpoints_received(listed, self.tick(step))
        self.check_actions()

    @rule(step=steps, listed=st.lists(st.one_of(few, endpoints), max_size=60))
    def call_me_maybe(self, step, listed):
        self.eager = set(ENDPOINTS)
        self.path.call_me_maybe(listed, self.tick(step))
        self.check_actions()
        self.eager = set(ENDPOINTS)  # what was due before the call may just have been pinged

    @rule(step=steps, source=st.one_of(few, endpoints), txid=st.one_of(st.none(), st.just(b"copied ping!")))
    def ping_received(self, step, source, txid):
        txid = txid or b"P" + self.random_bytes(11)
        self.ping_back = self.pinged_from = source
        now = self.tick(step)
        if self.path.ping_received(txid, source, now):
            self.heard.add(source)
            self.check_actions()
            before = self.path.held_version, self.path.candidates
            assert not self.path.ping_received(txid, source, now)
            assert before == (self.path.held_version, self.path.candidates) and self.path.take_actions() == []
        self.check_actions()

    @rule(step=steps, data=st.data())
    @precondition(lambda self: self.under_way)
    def pong_received(self, step, data):
        self.pong(data.draw(st.sampled_from(list(self.under_way)[-40:])), step)

    @rule(step=st.integers(0, 30), data=st.data())
    @precondition(lambda self: self.waiting())
    def pong_received_soon(self, step, data):
        self.pong(data.draw(st.sampled_from(self.waiting())), step)

    def waiting(self):
        """Return the txids that may still be answered."""
        return [
            txid
            for txid, (_, sent) in list(self.under_way.items())[-MAX_PINGS:]
            if self.now - sent < 2_000 and txid not in self.answered
        ]

    def pong(self, txid, step):
        endpoint, sent = self.under_way[txid]
        reading = self.tick(step)
        latency = self.path.pong_received(txid, endpoint, reading)
        if latency is not None:
            assert latency == max(1, self.now - sent) and latency < PING_TIMEOUT_MS
            assert txid not in self.answered, "a pong that counts twice"
            self.answered.append(txid)
            self.proven[endpoint] = self.now
            self.heard.add(endpoint)
        self.check_actions()

    @rule(step=steps, source=endpoints, data=st.data())
    @precondition(lambda self: self.under_way)
    def pong_received_that_proves_nothing(self, step, source, data):
        txid = data.draw(st.sampled_from([*list(self.under_way)[-40:], b"never sent.."]))
        if txid in self.under_way and (source == self.under_way[txid][0] and txid not in self.answered):
            return
        reading = self.tick(step)
        before = self.path.best, self.path.state, self.path.held_version, self.path.next_timer_ms()
        assert self.path.pong_received(txid, source, reading) is None
        assert before == (self.path.best, self.path.state, self.path.held_version, self.path.next_timer_ms())
        assert self.path.take_actions() == []

    @rule(step=steps, source=st.one_of(few, endpoints))
    def roamed(self, step, source):
        self.ping_back = source
        self.path.roamed(source, self.tick(step))
        self.heard.add(source)
        self.check_actions()

    @rule(step=steps, which=st.sampled_from(["uplink", "key", "gone"]))
    def everything_changed(self, step, which):
        reading = self.tick(step)
        self.eager = set(ENDPOINTS)
        self.fresh_call = True
        self.under_way_is_void()
        if which == "uplink":
            self.path.timer_fired(reading)
            self.check_actions()
            if self.now - self.last_uplink >= EAGER_MS:
                self.last_uplink = self.now
                self.last_ping = {endpoint: min(when, self.now - EAGER_MS) for endpoint, when in self.last_ping.items()}
            self.eager = set(ENDPOINTS)
            self.fresh_call = True
            self.under_way_is_void()
            self.path.uplink_changed(reading)
        elif which == "key":
            self.path.disco_key_changed(reading)
        else:
            self.path.gone(reading)
            assert self.path.held() == set() and self.path.next_timer_ms() is None
        self.check_actions()
        self.proven = {}  # only now: what was due before the change was still done with it
        self.eager = set(ENDPOINTS)
        self.fresh_call = True

    @rule(step=steps)
    def own_endpoints_changed(self, step):
        self.eager = set(ENDPOINTS)
        self.fresh_call = True
        self.path.own_endpoints_changed(self.tick(step))
        self.check_actions()
        self.eager = set(ENDPOINTS)  # again: it may have done first what was due before
        self.fresh_call = True

    @rule(step=steps, endpoint=st.one_of(few, endpoints))
    def send_failed(self, step, endpoint):
        reading = self.tick(step)
        self.path.send_failed(endpoint, reading)
        self.answered += [txid for txid, (where, _) in self.under_way.items() if where == endpoint]
        self.check_actions()
        self.proven.pop(endpoint, None)

    @rule(known=st.booleans())
    def relay_known(self, known):
        self.relay = known
        self.path.relay_known(known, self.now)

    def under_way_is_void(self):
        self.answered += list(self.under_way)

    @invariant()
    def direct_means_proven_and_trusted(self):
        path = self.path
        assert (path.state == PathState.DIRECT) == (path.best is not None)
        assert self.direct == path.best, "WireGuard was told something else"
        if path.best is None:
            assert path.latency_ms == path.trust_until_ms == 0
            return
        due = path.next_timer_ms()
        assert self.now < path.trust_until_ms <= self.now + TRUST_MS or due <= self.now
        assert path.best in self.proven and path.trust_until_ms <= self.proven[path.best] + TRUST_MS
        assert path.latency_ms >= 1

    @invariant()
    def times_only_grow(self):
        assert self.since_ms <= self.path.since_ms <= self.now
        self.since_ms = self.path.since_ms
        assert self.path.lost_ms is None or self.path.lost_ms <= self.now

    @invariant()
    def what_is_held_was_heard_and_is_not_trusted(self):
        assert self.path.held() <= self.heard
        if (self.path.next_timer_ms() or self.now + 1) > self.now:
            for endpoint in self.path.held():
                assert not self.path.trusted(endpoint, self.now)

    @invariant()
    def nothing_grows_without_bound(self):
        assert self.path.candidates <= MAX_CANDIDATES
        assert len(self.path.held()) <= MAX_CANDIDATES

    @invariant()
    def an_idle_path_sleeps(self):
        due = self.path.next_timer_ms()
        if self.path.state == PathState.RELAYED:
            assert (
                due is None or any(self.path.trusted(endpoint, self.now) for endpoint in ENDPOINTS) or due <= self.now
            )
        else:
            assert due is not None and due <= self.now + ACTIVE_MS

    @invariant()
    def the_timer_leads_on(self):
        """After the timer fired, the next is in the future, so that nobody turns in circles."""
        due = self.path.next_timer_ms()
        if due is not None and due <= self.now:
            self.path.timer_fired(self.now)
            self.check_actions()
            due = self.path.next_timer_ms()
            assert due is None or due > self.now


AnyLife.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestAnyLife = AnyLife.TestCase

latencies = st.integers(1, 5_000)


@given(endpoints, latencies, endpoints, latencies)
def test_two_addresses_are_never_both_better_than_the_other(a, a_ms, b, b_ms):
    assert not (better(a, a_ms, b, b_ms) and better(b, b_ms, a, a_ms))


@given(endpoints, latencies, endpoints, latencies, latencies)
def test_getting_faster_never_makes_an_address_worse(a, a_ms, b, b_ms, faster_ms):
    if better(a, a_ms, b, b_ms) and faster_ms < a_ms:
        assert better(a, faster_ms, b, b_ms)


def test_the_page_shows_the_table_as_it_is():
    page = path_drawing.PAGE.read_text()
    assert path_drawing.page_with(path_drawing.drawing(), page) == page, "run tests/core/path_drawing.py"


def test_every_step_is_in_the_drawing_and_in_the_pages_words():
    text = path_drawing.drawing()
    assert sum(line.count(",") + 1 for line in text.splitlines() if ": " in line) == len(NEXT)
    from wayhomed.core.path import PathInput, Reason

    page = path_drawing.PAGE.read_text()
    for kind in (PathState, PathInput):
        for name in path_drawing.names(kind).values():
            assert f"| `{name}` |" in page
    for number, name in path_drawing.names(Reason).items():
        assert number == Reason.DIRECT or f"| `{name}` |" in page
