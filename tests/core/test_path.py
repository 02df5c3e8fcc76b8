"""The path machine: one peer's way by the relay or direct, as scenes with a clock."""

from wayhomed.core import path as paths
from wayhomed.core.path import (
    ACTIVE_MS,
    CALL_A_RELAYING_PEER_MS,
    CALL_AGAIN_MS,
    CALL_ME_MAYBE,
    CALLED_MS,
    DISCOVERY_MS,
    EAGER_MS,
    FULL_PING_MS,
    HEARTBEAT_MS,
    LEARNED_MS,
    MAX_CANDIDATES,
    MAX_LEARNED,
    MAX_PINGS,
    MAX_PINGS_LEARNED,
    MAX_PINGS_LISTED,
    NEXT,
    OVERDUE_MS,
    PING,
    PING_TIMEOUT_MS,
    RENEW,
    ROAMED_MS,
    TRUST_MS,
    USE_DIRECT,
    USE_RELAY,
    Path,
    PathInput,
    PathState,
    Reason,
    better,
)
from wayhomed.wire.address import endpoint_from_text

HOME = endpoint_from_text("192.168.1.9:41641")
WAN = endpoint_from_text("203.0.113.9:41641")
WAN2 = endpoint_from_text("198.51.100.9:41641")
WAN6 = endpoint_from_text("[2001:db8::9]:41641")
STRANGER = endpoint_from_text("192.0.2.66:666")


def numbered(count, host="198.18.0.0"):
    """Return many endpoints, all different."""
    ip = endpoint_from_text(host + ":1")[0]
    return [(ip[:2] + bytes((i >> 8, i & 255)), 1000) for i in range(count)]


class Scene:
    """A path with its clock and everything it asked for."""

    def __init__(self, *endpoints, relay=True):
        self.counter = 0
        self.now = 1_000
        self.path = Path(self.random_bytes)
        self.path.relay_known(relay, self.now)
        self.path.endpoints_received(list(endpoints), self.now)
        self.pings = {}  # endpoint -> (txid, when) of the last ping
        self.answering = {}  # endpoint -> after how many ms its pongs come
        self.coming = []  # (when, txid, endpoint) of these pongs
        self.log = []
        self.act()

    def random_bytes(self, count):
        self.counter += 1
        return self.counter.to_bytes(count, "big")

    def act(self):
        """Take the actions; return them without txids."""
        done = []
        for action in self.path.take_actions():
            if action[0] == PING:
                self.pings[action[1]] = (action[2], self.now)
                if action[1] in self.answering:
                    self.coming.append((self.now + self.answering[action[1]], action[2], action[1]))
                action = action[:2]
            done.append(action)
        self.log += done
        return done

    def wait(self, ms):
        """Let time pass, with timer and pongs on time; return what was asked for meanwhile."""
        end = self.now + ms
        done = []
        while True:
            due = self.path.next_timer_ms()
            pong = min(self.coming) if self.coming else None
            if pong is not None and pong[0] <= end and (due is None or pong[0] <= due):
                self.coming.remove(pong)
                self.now = max(self.now, pong[0])
                self.path.pong_received(pong[1], pong[2], self.now)
            elif due is not None and due <= end:
                assert due > self.now, "a timer in the past would turn in circles"
                self.now = due
                self.path.timer_fired(self.now)
            else:
                break
            done += self.act()
        self.now = end
        return done

    def send(self):
        self.path.packet_sent(self.now)
        return self.act()

    def pong(self, endpoint, after=20, source=None):
        """Let the last ping to the endpoint be answered after some milliseconds; return what follows."""
        self.now += after
        self.path.pong_received(self.pings[endpoint][0], source or endpoint, self.now)
        return self.act()

    def ping(self, source, txid=None):
        """Let the peer ping us; return what follows."""
        self.counter += 1
        self.answered = self.path.ping_received(txid or b"p%11d" % self.counter, source, self.now)
        return self.act()

    def call(self, *endpoints):
        self.path.call_me_maybe(list(endpoints), self.now)
        return self.act()

    def keep_busy(self, ms):
        """Let time pass with ten packets a second."""
        done = []
        for _ in range(ms // 100):
            done += self.send() + self.wait(100)
        return done


def direct(*endpoints):
    """Return a scene that is direct to the first endpoint, just proven."""
    scene = Scene(*endpoints)
    scene.send()
    scene.pong(endpoints[0])
    assert scene.path.state == PathState.DIRECT and scene.path.best == endpoints[0]
    return scene


def gaps(times):
    return [times[i] - times[i - 1] for i in range(1, len(times))]


def pinged(actions):
    return {action[1] for action in actions if action[0] == PING}


# --- The table ---


def names(kind):
    return [value for name, value in sorted(kind.__dict__.items()) if name[:1] != "_" and isinstance(value, int)]


def test_every_step_of_the_table_leads_from_a_state_to_another_state():
    states, inputs = names(PathState), names(PathInput)
    for (state, path_input), after in NEXT.items():
        assert state in states and after in states and path_input in inputs and after != state


def test_direct_is_entered_by_a_pong_alone_and_left_by_every_failure():
    for (_, path_input), after in NEXT.items():
        assert after != PathState.DIRECT or path_input == PathInput.PONG
    for path_input in names(PathInput):
        stays = path_input in (PathInput.TRAFFIC, PathInput.CALL_ME_MAYBE, PathInput.PONG)
        assert stays == ((PathState.DIRECT, path_input) not in NEXT)


def scene_in(state):
    if state == PathState.RELAYED:
        return Scene(WAN)
    if state == PathState.PROBING:
        scene = Scene(WAN)
        scene.send()
        return scene
    return direct(WAN)


def put_in(scene, path_input):
    """Let this input happen, by the public calls."""
    path = scene.path
    if path_input == PathInput.TRAFFIC:
        path.packet_sent(scene.now)
    elif path_input == PathInput.CALL_ME_MAYBE:
        path.call_me_maybe([WAN], scene.now)
    elif path_input == PathInput.PONG:
        if WAN not in scene.pings:  # relayed: a pong to a ping that was sent before it became idle
            scene.send()
            path.timer_fired(scene.now + ACTIVE_MS - 1)
            scene.act()
            scene.now += ACTIVE_MS
            path.timer_fired(scene.now)
        scene.now += 20
        path.pong_received(scene.pings[WAN][0], WAN, scene.now)
    elif path_input == PathInput.SILENCE:
        scene.path.packet_sent(scene.now + 1)
        scene.now += TRUST_MS
        path.timer_fired(scene.now)
    elif path_input == PathInput.IDLE:
        scene.now += ACTIVE_MS + CALLED_MS
        path.timer_fired(scene.now)
    elif path_input == PathInput.UPLINK_CHANGED:
        path.uplink_changed(scene.now)
    elif path_input == PathInput.SEND_FAILED:
        path.send_failed(WAN, scene.now)
    elif path_input == PathInput.DROPPED:
        path.endpoints_received([], scene.now)
    elif path_input == PathInput.RESTARTED:
        path.disco_key_changed(scene.now)
    else:
        path.gone(scene.now)


def test_every_pair_of_state_and_input_leads_where_the_table_says():
    for state in names(PathState):
        for path_input in names(PathInput):
            scene = scene_in(state)
            assert scene.path.state == state
            put_in(scene, path_input)
            expected = NEXT.get((state, path_input), state)
            if path_input == PathInput.SILENCE and state == PathState.RELAYED:
                expected = PathState.PROBING  # there is no silence without traffic
            assert scene.path.state == expected, (state, path_input, scene.path.state)


def test_the_protocols_times_are_as_it_says():
    assert (PING_TIMEOUT_MS, DISCOVERY_MS, HEARTBEAT_MS, TRUST_MS) == (5_000, 5_000, 3_000, 6_500)
    assert (ACTIVE_MS, FULL_PING_MS, LEARNED_MS, paths.GOOD_LATENCY_MS) == (45_000, 60_000, 45_000, 5)


def test_the_limits_are_those_of_the_documentation():
    assert (MAX_CANDIDATES, MAX_LEARNED, MAX_PINGS, EAGER_MS, CALLED_MS, ROAMED_MS) == (
        32,
        8,
        96,
        2_000,
        10_000,
        60_000,
    )
    assert (MAX_PINGS_LISTED, MAX_PINGS_LEARNED, paths.MAX_PINGS_HEARTBEAT) == (64, 16, 16)
    assert MAX_PINGS == MAX_PINGS_LISTED + MAX_PINGS_LEARNED + paths.MAX_PINGS_HEARTBEAT


# --- From the relay to a direct path ---


def test_a_new_path_is_relayed_and_asks_for_nothing():
    scene = Scene(WAN, HOME)
    assert scene.path.state == PathState.RELAYED
    assert scene.path.best is None and scene.path.latency_ms == 0 and scene.path.trust_until_ms == 0
    assert scene.path.since_ms == 0 and scene.path.asked == 0
    assert scene.log == []
    assert scene.path.next_timer_ms() is None
    assert scene.path.reason(scene.now) == Reason.IDLE
    assert not scene.path.is_active(scene.now)


def test_the_first_packet_pings_every_candidate_and_calls_the_peer():
    scene = Scene(WAN, HOME, WAN6)
    actions = scene.send()
    assert pinged(actions) == {WAN, HOME, WAN6}
    assert actions[-1] == (CALL_ME_MAYBE,)
    assert scene.path.state == PathState.PROBING
    assert scene.path.candidates == 3 and scene.path.asked == 3


def test_a_pong_makes_the_path_direct():
    scene = Scene(WAN, HOME)
    scene.send()
    assert scene.pong(WAN, after=30) == [(USE_DIRECT, WAN)]
    path = scene.path
    assert path.state == PathState.DIRECT and path.best == WAN and path.latency_ms == 30
    assert path.since_ms == scene.now and path.trust_until_ms == scene.now + TRUST_MS
    assert path.trusted(WAN, scene.now) and not path.trusted(HOME, scene.now)
    assert path.reason(scene.now) == Reason.DIRECT


def test_a_pong_within_the_same_millisecond_counts_as_one():
    scene = Scene(WAN)
    scene.send()
    scene.pong(WAN, after=0)
    assert scene.path.latency_ms == 1


def test_a_ping_from_an_address_alone_proves_nothing():
    scene = Scene()
    scene.send()
    for _ in range(5):
        scene.ping(WAN)
    assert scene.path.state == PathState.PROBING and scene.path.best is None
    assert (USE_DIRECT, WAN) not in scene.log


def test_more_packets_ping_no_candidate_again_before_5_s():
    scene = Scene(WAN)
    scene.send()
    for _ in range(49):
        scene.now += 100
        assert scene.send() == []
    scene.now += 100
    assert scene.send() == [(PING, WAN)]


def test_more_packets_do_not_begin_the_search_anew():
    scene = Scene(WAN)
    scene.send()
    began = scene.now
    scene.now += DISCOVERY_MS
    scene.send()
    assert scene.path.since_ms == began and scene.path.asked == 2
    scene.pong(WAN)
    assert scene.path.asked == 0


def test_while_traffic_is_young_candidates_are_asked_every_5_s_without_a_packet():
    scene = Scene(WAN)
    scene.send()
    assert scene.wait(4_999) == []
    assert scene.wait(1) == [(PING, WAN)]


def test_a_call_that_did_not_help_leaves_the_peer_time_for_one_of_its_own():
    # a stock client calls only when it has pinged nothing for 5 s, and looks every 3 s; each call of ours has it ping
    scene = Scene(WAN)
    times = [scene.now] if (CALL_ME_MAYBE,) in scene.send() else []
    for _ in range(600):
        if (CALL_ME_MAYBE,) in scene.keep_busy(100):
            times.append(scene.now)
    assert len(times) == 7 and gaps(times) == [2 * DISCOVERY_MS] * 6


def test_without_a_relay_nobody_is_called():
    scene = Scene(WAN, relay=False)
    assert scene.send() == [(PING, WAN)]
    scene.path.relay_known(True, scene.now)
    assert (CALL_ME_MAYBE,) in scene.wait(DISCOVERY_MS)


def test_without_addresses_nobody_is_pinged_or_called():
    scene = Scene()
    assert scene.send() == []
    assert scene.path.reason(scene.now) == Reason.NO_ADDRESSES
    assert scene.wait(20_000) == []


def test_an_address_that_comes_while_probing_is_pinged_at_once():
    scene = Scene()
    scene.send()
    scene.path.endpoints_received([WAN], scene.now)
    assert scene.act() == [(PING, WAN), (CALL_ME_MAYBE,)]


def test_an_address_that_comes_while_idle_is_not_pinged():
    scene = Scene()
    scene.path.endpoints_received([WAN], scene.now)
    assert scene.act() == []


# --- Pongs that prove nothing ---


def test_a_pong_from_another_source_than_the_one_pinged_is_ignored():
    scene = Scene(WAN)
    scene.send()
    assert scene.pong(WAN, source=STRANGER) == []
    assert scene.path.state == PathState.PROBING
    assert not scene.path.trusted(STRANGER, scene.now) and STRANGER not in scene.path.held()
    assert scene.pong(WAN) == [(USE_DIRECT, WAN)]  # the true one still counts


def test_a_pong_for_another_candidates_ping_is_ignored():
    scene = Scene(WAN, HOME)
    scene.send()
    assert scene.pong(WAN, source=HOME) == []
    assert scene.path.state == PathState.PROBING


def test_a_pong_that_nobody_asked_for_is_ignored():
    scene = Scene(WAN)
    scene.send()
    assert scene.path.pong_received(b"x" * 12, WAN, scene.now) is None
    assert scene.path.state == PathState.PROBING


def test_a_pong_counts_once():
    scene = direct(WAN)
    until = scene.path.trust_until_ms
    assert scene.pong(WAN, after=1_000) == []
    assert scene.path.trust_until_ms == until and scene.path.latency_ms == 20


def test_a_pong_after_5_s_counts_no_more():
    scene = Scene(WAN)
    scene.send()
    txid = scene.pings[WAN][0]
    scene.now += PING_TIMEOUT_MS
    assert scene.path.pong_received(txid, WAN, scene.now) is None
    assert scene.path.state == PathState.PROBING


def test_a_pong_of_an_address_that_was_dropped_makes_nothing_direct():
    scene = Scene(WAN)
    scene.send()
    scene.path.endpoints_received([], scene.now)
    assert scene.pong(WAN) == []
    assert scene.path.state == PathState.PROBING


# --- Which of two addresses is better ---


def test_the_same_address_is_never_better_than_itself():
    assert not better(WAN, 1, WAN, 1000)


def test_the_faster_of_equals_is_better():
    assert better(WAN, 50, WAN2, 100)
    assert not better(WAN2, 100, WAN, 50)


def test_equally_fast_equals_keep_what_is():
    assert not better(WAN, 50, WAN2, 50)
    assert not better(WAN2, 50, WAN, 50)


def test_one_percent_is_no_reason_to_move():
    assert not better(WAN, 99, WAN2, 100)
    assert not better(WAN, 199, WAN2, 200)  # integer percents: 199 * 100 // 200 is 99
    assert better(WAN, 98, WAN2, 100)


def test_ipv6_is_worth_ten_percent():
    assert better(WAN6, 109, WAN, 100)
    assert not better(WAN6, 112, WAN, 100)
    assert not better(WAN, 91, WAN6, 100)
    assert better(WAN, 89, WAN6, 100)


def test_private_addresses_are_worth_twenty_percent():
    for text in ("10.1.2.3:1", "172.16.0.1:1", "172.31.255.1:1", "192.168.9.9:1"):
        assert better(endpoint_from_text(text), 120, WAN, 100), text
        assert not better(endpoint_from_text(text), 130, WAN, 100), text
    assert not better(endpoint_from_text("172.32.0.1:1"), 120, WAN, 100)
    assert better(endpoint_from_text("[fd12::1]:1"), 140, WAN, 100)  # and ten for IPv6


def test_link_local_is_worth_thirty_percent_and_loopback_fifty():
    link_local, loopback = endpoint_from_text("169.254.1.1:1"), endpoint_from_text("127.0.0.1:1")
    assert better(link_local, 140, WAN, 100) and not better(link_local, 150, WAN, 100)
    assert better(loopback, 190, WAN, 100) and not better(loopback, 200, WAN, 100)
    assert better(endpoint_from_text("[fe80::1]:1"), 160, WAN, 100)
    assert better(endpoint_from_text("[::1]:1"), 240, WAN, 100)


def test_a_better_address_takes_over_while_direct():
    scene = Scene(WAN, HOME)
    scene.send()
    scene.pong(WAN, after=10)
    assert scene.pong(HOME, after=1) == [(USE_DIRECT, HOME)]
    assert scene.path.best == HOME and scene.path.since_ms == scene.now


def test_a_worse_address_does_not_take_over():
    scene = Scene(WAN, HOME)
    scene.send()
    scene.pong(HOME, after=10)
    assert scene.pong(WAN, after=10) == []
    assert scene.path.best == HOME


# --- Keeping, losing and regaining ---


def test_the_best_address_is_pinged_every_3_s_while_there_is_traffic():
    scene = direct(WAN)
    scene.answering[WAN] = 20
    times = []
    for _ in range(310):
        if (PING, WAN) in scene.keep_busy(100):
            times.append(scene.pings[WAN][1])
    assert gaps(times) == [HEARTBEAT_MS] * 9
    assert scene.path.state == PathState.DIRECT


def test_a_direct_path_falls_back_to_the_relay_6500_ms_after_the_last_pong():
    scene = direct(WAN)
    pong_at = scene.now
    scene.wait(TRUST_MS - 1)
    assert scene.path.state == PathState.DIRECT
    actions = scene.wait(1)
    assert actions[0] == (USE_RELAY, False)
    assert scene.path.state == PathState.PROBING and scene.path.best is None
    assert scene.path.since_ms == pong_at + TRUST_MS == scene.path.lost_ms
    assert scene.path.reason(scene.now) == Reason.LOST


def test_a_late_timer_falls_back_too_and_so_does_the_next_packet():
    for late_by in ("timer", "packet"):
        scene = direct(WAN)
        scene.send()
        scene.now += TRUST_MS + 400
        if late_by == "timer":
            scene.path.timer_fired(scene.now)
        else:
            scene.path.packet_sent(scene.now)
        assert (USE_RELAY, False) in scene.act()


def test_the_path_comes_back_when_pongs_return():
    scene = direct(WAN)
    scene.wait(TRUST_MS)
    scene.send()
    scene.wait(DISCOVERY_MS)
    assert scene.path.state == PathState.PROBING
    assert scene.pong(WAN) == [(USE_DIRECT, WAN)]
    assert scene.path.state == PathState.DIRECT and scene.path.lost_ms is None


def test_traffic_alone_does_not_extend_trust():
    scene = direct(WAN)
    for _ in range(80):
        scene.path.traffic_seen(scene.now)
        scene.wait(100)
    assert scene.path.state == PathState.PROBING


def test_45_s_without_traffic_lead_back_to_the_relay_and_then_nothing_wakes_us():
    scene = direct(WAN)
    scene.answering[WAN] = 20
    scene.send()
    sent_at = scene.now
    assert (USE_RELAY, False) not in scene.wait(ACTIVE_MS - 1)
    assert scene.path.state == PathState.DIRECT
    assert scene.wait(1) == [(USE_RELAY, False)]
    assert scene.path.state == PathState.RELAYED and scene.path.since_ms == sent_at + ACTIVE_MS
    assert scene.wait(TRUST_MS) == []  # trust runs out, so that the address is held from then on
    assert scene.path.next_timer_ms() is None and scene.path.held() == {WAN}
    assert scene.path.reason(scene.now) == Reason.IDLE


def test_traffic_seen_by_the_counters_keeps_a_direct_path():
    scene = direct(WAN)
    scene.answering[WAN] = 20
    for _ in range(40):
        scene.path.traffic_seen(scene.now)
        scene.wait(3_000)
    assert scene.path.state == PathState.DIRECT


def test_a_packet_right_after_going_idle_is_direct_at_once_if_the_address_is_still_trusted():
    scene = direct(WAN)
    scene.answering[WAN] = 20
    scene.wait(ACTIVE_MS)
    assert scene.path.state == PathState.RELAYED
    assert scene.send()[0] == (USE_DIRECT, WAN)


def test_a_probing_path_without_traffic_goes_idle_too():
    scene = Scene(WAN)
    scene.send()
    scene.wait(ACTIVE_MS)
    assert scene.path.state == PathState.RELAYED and scene.path.next_timer_ms() is None
    assert (USE_RELAY, False) not in scene.log  # it is there already


def test_when_the_best_is_lost_another_trusted_address_takes_over_without_the_relay():
    scene = direct(WAN, WAN2)
    scene.pong(WAN2, after=1_000)
    assert scene.path.best == WAN
    scene.now += TRUST_MS - 1_000
    scene.path.timer_fired(scene.now)
    assert (USE_DIRECT, WAN2) in scene.act() and scene.path.best == WAN2
    assert (USE_RELAY, False) not in scene.log


def test_all_candidates_are_pinged_every_60_s_while_a_direct_path_is_slower_than_5_ms():
    for latency_ms, expected in ((6, 2), (5, 0)):
        scene = Scene(WAN, WAN2)
        began = scene.now
        scene.send()
        scene.pong(WAN, after=latency_ms)
        scene.answering[WAN] = latency_ms
        actions = scene.keep_busy(2 * FULL_PING_MS + 5_000)
        assert scene.path.state == PathState.DIRECT
        assert actions.count((PING, WAN2)) == actions.count((CALL_ME_MAYBE,)) == expected
        assert scene.pings[WAN2][1] == began + expected * FULL_PING_MS


# --- Called by the peer ---


def test_a_call_pings_at_once_and_calls_nobody_back():
    scene = Scene(WAN)
    assert scene.call(HOME) in ([(PING, WAN), (PING, HOME)], [(PING, HOME), (PING, WAN)])
    assert scene.path.state == PathState.PROBING
    assert scene.pong(HOME) == [(USE_DIRECT, HOME)]


def test_a_call_forgets_when_candidates_were_pinged_last():
    scene = Scene(WAN)
    scene.send()
    scene.now += EAGER_MS
    assert (PING, WAN) in scene.call(WAN)


def test_a_flood_of_calls_pings_a_candidate_at_most_every_2_s():
    scene = Scene(WAN)
    times = []
    for _ in range(1_000):
        scene.now += 10
        if (PING, WAN) in scene.call(WAN):
            times.append(scene.now)
    assert min(gaps(times)) >= EAGER_MS
    assert 4 <= len(times) <= 6


def test_a_call_too_soon_after_a_ping_is_answered_when_2_s_are_over():
    scene = Scene(WAN)
    scene.send()
    scene.now += 500
    assert scene.call(WAN) == []
    assert scene.wait(EAGER_MS - 501) == []
    assert (PING, WAN) in scene.wait(1)


def test_a_call_pings_the_others_too_though_a_direct_path_works():
    scene = direct(WAN, WAN2)
    scene.wait(100)
    assert scene.call(WAN, WAN2) == []
    scene.answering[WAN] = 20
    assert (PING, WAN2) in scene.wait(EAGER_MS)
    assert scene.pings[WAN2][1] == 1_000 + EAGER_MS


def test_calls_with_ever_new_addresses_cause_a_bounded_number_of_pings():
    scene = Scene()
    pings = 0
    for i in range(100):
        scene.now += 10
        pings += len(pinged(scene.call(*numbered(20 * (i + 1))[20 * i :])))
    assert pings <= MAX_PINGS_LISTED


def test_calls_that_swap_addresses_do_not_ping_them_more_often():
    scene = Scene()
    a, b = numbered(10), numbered(10, "198.19.0.0")
    times = []
    for i in range(400):
        scene.now += 10
        if (PING, a[0]) in scene.call(*(a if i % 2 else b)):
            times.append(scene.now)
    assert min(gaps(times)) >= EAGER_MS, times


def test_called_addresses_stay_until_a_later_call_omits_them():
    scene = Scene(WAN, WAN2)
    scene.call(HOME, WAN)
    scene.path.endpoints_received([], scene.now)
    assert scene.path.candidates == 2
    scene.call(HOME)
    assert scene.path.candidates == 1
    scene.call()
    assert scene.path.candidates == 0


def test_the_address_in_use_is_left_at_once_when_a_call_takes_it_back():
    for in_netmap in ([], [WAN]):
        scene = Scene(*in_netmap)
        scene.send()
        scene.call(WAN)
        scene.ping(WAN)  # so it is learned, too
        scene.pong(WAN)
        assert scene.path.best == WAN
        scene.now += EAGER_MS
        done = scene.call(WAN2)
        assert (USE_RELAY, False) in done and (PING, WAN) in done and (PING, WAN2) in done
        scene.pong(WAN2)
        assert scene.path.best == WAN2


def test_an_address_that_a_call_took_back_is_used_again_once_it_answers():
    scene = Scene()
    scene.send()
    scene.call(WAN)
    scene.ping(WAN)
    scene.pong(WAN)
    scene.now += EAGER_MS
    scene.call(WAN2)
    assert scene.pong(WAN) == [(USE_DIRECT, WAN)]


def test_the_address_in_use_stays_when_a_call_omits_it_that_none_had_named():
    scene = direct(WAN)
    assert (USE_RELAY, False) not in scene.call(WAN2)
    assert scene.path.best == WAN


def test_an_address_of_the_netmap_stays_when_a_later_call_omits_it():
    scene = Scene(WAN)
    scene.call(WAN)
    scene.call()
    assert scene.path.candidates == 1


def test_a_called_path_with_traffic_pings_and_calls_back_once():
    scene = Scene(WAN, relay=False)
    scene.send()
    scene.now += EAGER_MS
    scene.path.relay_known(True, scene.now)
    assert scene.call(WAN) == [(PING, WAN), (CALL_ME_MAYBE,)]
    scene.now += EAGER_MS
    assert scene.call(WAN) == [(PING, WAN)]


def test_a_called_path_calls_back_when_it_has_something_to_send():
    scene = Scene(WAN)
    assert scene.call(WAN) == [(PING, WAN)]
    scene.now += 10
    assert scene.send() == [(CALL_ME_MAYBE,)]
    assert scene.send() == []
    scene.pong(WAN)
    scene.answering[WAN] = 20
    assert (CALL_ME_MAYBE,) not in scene.keep_busy(2 * CALLED_MS)


def test_a_direct_path_calls_back_too_when_it_has_something_to_send():
    scene = Scene(WAN)
    scene.call(WAN)
    scene.pong(WAN)
    scene.now += HEARTBEAT_MS
    assert (CALL_ME_MAYBE,) in scene.send()


def test_a_call_of_long_ago_is_not_answered():
    scene = Scene(WAN)
    scene.answering[WAN] = 20
    scene.call(WAN)
    scene.wait(CALLED_MS)
    assert scene.path.state == PathState.RELAYED
    assert scene.send() == [(USE_DIRECT, WAN)]
    assert scene.wait(100) == []


def test_an_empty_call_pings_what_is_known():
    scene = Scene(WAN)
    assert scene.call() == [(PING, WAN)]


def test_two_idle_nodes_do_not_keep_each_other_awake():
    ours, theirs = Scene(WAN), Scene(WAN2)
    ours.send()  # a single packet each, and no ping ever arrives
    theirs.send()
    calls = 0
    for _ in range(1_200):
        for here, there in ((ours, theirs), (theirs, ours)):
            if (CALL_ME_MAYBE,) in here.wait(100) + (here.act()):
                calls += 1
                there.now = max(there.now, here.now)
                there.call(WAN, WAN2)
    assert ours.path.state == theirs.path.state == PathState.RELAYED
    assert ours.path.next_timer_ms() is None and theirs.path.next_timer_ms() is None
    assert calls <= 2 * (ACTIVE_MS // DISCOVERY_MS + 1)


def test_who_had_traffic_long_ago_calls_nobody_when_called():
    scene = Scene(WAN)
    scene.send()
    scene.wait(ACTIVE_MS)
    scene.call(WAN)
    assert (CALL_ME_MAYBE,) not in scene.wait(CALLED_MS)


def test_after_a_call_the_pace_is_5_s_again():
    scene = Scene(WAN)
    scene.call(WAN)
    times = [scene.now]
    for _ in range(200):
        if (PING, WAN) in scene.keep_busy(100):
            times.append(scene.pings[WAN][1])
    assert gaps(times) == [DISCOVERY_MS] * 4


def test_a_called_path_that_nobody_uses_goes_idle():
    scene = Scene(WAN)
    scene.call(WAN)
    scene.pong(WAN)
    assert scene.path.state == PathState.DIRECT
    assert (USE_RELAY, False) in scene.wait(CALLED_MS)
    assert scene.path.state == PathState.RELAYED


def test_new_pings_by_the_timer_call_at_most_every_8_s():
    scene = Scene(*numbered(3))
    times = []
    for i in range(300):
        if (CALL_ME_MAYBE,) in scene.send() + scene.wait(100):
            times.append(scene.now)
        scene.call(*numbered(3 + i % 5))
        scene.path.endpoints_received(numbered(3 + i % 7), scene.now)
    assert min(gaps(times)) >= CALL_AGAIN_MS - 100


# --- Pinged by the peer ---


def test_a_ping_is_answered_once_for_each_source():
    scene = Scene()
    scene.ping(WAN, b"t" * 12)
    assert scene.answered
    scene.ping(WAN, b"t" * 12)
    assert not scene.answered
    scene.ping(WAN2, b"t" * 12)
    assert scene.answered


def test_pings_are_answered_while_idle_but_wake_nobody():
    scene = Scene(WAN)
    assert scene.ping(WAN2) == [] and scene.answered
    assert scene.path.state == PathState.RELAYED and scene.path.next_timer_ms() is None


def test_an_address_is_learned_from_a_ping_and_pinged_back_while_active():
    scene = Scene()
    scene.send()
    assert (PING, WAN) in scene.ping(WAN)
    assert scene.pong(WAN) == [(USE_DIRECT, WAN)]


def test_the_peers_ping_shows_that_its_door_is_open_and_is_answered_by_one_at_once():
    # the other's NAT dropped our ping, and opened when the peer, called by the relay, pinged us
    scene = Scene(WAN)
    assert (PING, WAN) in scene.send()
    assert scene.ping(WAN) == [(PING, WAN)]
    assert scene.pong(WAN) == [(USE_DIRECT, WAN)]


def test_who_pings_on_without_answering_is_pinged_every_half_a_second():
    scene = Scene(WAN)
    scene.send()
    scene.ping(WAN)
    assert scene.ping(WAN) == []
    scene.now += paths.PING_BACK_MS
    assert scene.ping(WAN) == [(PING, WAN)]
    assert scene.ping(WAN) == []


def test_a_ping_that_makes_an_address_known_is_answered_by_a_single_one():
    scene = Scene()
    scene.send()
    assert scene.ping(WAN).count((PING, WAN)) == 1


def test_pings_from_a_proven_address_are_answered_by_pings_at_most_every_3_s():
    scene = direct(HOME)
    scene.answering[HOME] = scene.answering[WAN] = 20
    times = []
    for _ in range(120):
        scene.keep_busy(100)
        if (PING, WAN) in scene.ping(WAN):
            times.append(scene.now)
    assert len(times) >= 3
    assert min(gaps(times)) >= HEARTBEAT_MS


def test_both_addresses_of_an_asymmetric_pair_stay_trusted():
    scene = direct(HOME)
    scene.answering = {HOME: 20, WAN: 30}
    for second in range(60):
        scene.keep_busy(1_000)
        if second % 3 == 0:
            scene.ping(WAN)
        if second > 5:
            assert scene.path.trusted(HOME, scene.now) and scene.path.trusted(WAN, scene.now), second
            assert scene.path.best == HOME and scene.path.held() == set()


def test_a_learned_address_is_forgotten_45_s_after_its_last_ping():
    scene = Scene()
    scene.ping(WAN)
    assert scene.path.candidates == 1
    scene.now += LEARNED_MS - 1
    scene.path.timer_fired(scene.now)
    assert scene.path.candidates == 1
    scene.now += 1
    scene.path.timer_fired(scene.now)
    assert scene.path.candidates == 0 and scene.path.held() == set()


def test_a_learned_address_in_use_is_not_forgotten_while_its_pongs_come():
    scene = Scene()
    scene.send()
    scene.ping(WAN)
    scene.pong(WAN)
    scene.answering[WAN] = 20
    scene.keep_busy(60_000)
    assert scene.path.best == WAN


def test_a_listed_address_outlives_the_pings_from_it():
    scene = Scene(WAN)
    scene.ping(WAN)
    scene.now += LEARNED_MS
    scene.path.timer_fired(scene.now)
    assert scene.path.candidates == 1


# --- Limits ---


def test_a_peer_has_at_most_32_candidates():
    scene = Scene(*numbered(1_000))
    assert scene.path.candidates == MAX_CANDIDATES - MAX_LEARNED
    for endpoint in numbered(100, "198.19.0.0"):
        scene.ping(endpoint)
    assert scene.path.candidates == MAX_CANDIDATES
    scene.path.endpoints_received(numbered(100, "198.19.0.0"), scene.now)
    scene.call(*numbered(64, "198.20.0.0"))
    for endpoint in numbered(100, "198.21.0.0"):
        scene.ping(endpoint)
    assert scene.path.candidates <= MAX_CANDIDATES


def test_learned_addresses_that_became_unlisted_make_room_for_listed_ones():
    scene = Scene(*numbered(24))
    for endpoint in numbered(24):
        scene.ping(endpoint)
    scene.path.endpoints_received([], scene.now)
    assert scene.path.candidates == 24
    scene.path.endpoints_received(numbered(24, "198.19.0.0"), scene.now)
    assert scene.path.candidates == MAX_CANDIDATES
    scene.send()
    assert scene.pong(numbered(24, "198.19.0.0")[-1])


def test_learned_addresses_replace_the_oldest_learned_but_never_listed_best_or_trusted_ones():
    scene = Scene(WAN2)
    scene.send()
    scene.ping(WAN)
    scene.pong(WAN)
    scene.ping(HOME)
    scene.pong(HOME)
    assert scene.path.best == HOME and scene.path.trusted(WAN, scene.now)
    for endpoint in numbered(50):
        scene.now += 1
        scene.ping(endpoint)
    assert scene.path.best == HOME and scene.path.trusted(WAN, scene.now)
    assert scene.path.candidates == 1 + MAX_LEARNED
    scene.path.uplink_changed(scene.now)
    assert WAN2 in scene.pings
    assert scene.path.held() == {WAN, HOME} | set(numbered(50)[-6:])


def test_a_learned_address_is_not_taken_when_all_learned_ones_are_trusted():
    scene = Scene()
    scene.send()
    for endpoint in numbered(MAX_LEARNED):
        scene.ping(endpoint)
        scene.pong(endpoint, after=1)
    scene.ping(WAN)
    assert scene.answered and scene.path.candidates == MAX_LEARNED
    assert WAN not in scene.pings


def test_a_calls_addresses_push_out_the_netmaps():
    scene = Scene(*numbered(100))
    scene.call(WAN, HOME)
    assert {WAN, HOME} <= set(scene.pings)
    assert scene.path.candidates == MAX_CANDIDATES - MAX_LEARNED


def test_a_call_that_names_what_the_netmap_lists_pushes_nothing_out():
    scene = Scene(*numbered(24))
    scene.send()
    scene.pong(numbered(24)[0])
    scene.call(WAN, *numbered(24))
    assert scene.path.candidates == 24
    assert scene.path.trusted(numbered(24)[0], scene.now)


def test_the_netmaps_addresses_do_not_push_out_the_calls():
    scene = Scene()
    scene.call(*numbered(24))
    scene.path.endpoints_received([WAN], scene.now)
    scene.wait(EAGER_MS)
    assert WAN not in scene.pings


def test_copied_pings_from_ever_new_sources_cause_a_bounded_number_of_pings():
    scene = direct(WAN)
    pings = 0
    for endpoint in numbered(500):
        scene.now += 1
        pings += len(pinged(scene.ping(endpoint, b"copied ping!")))
    assert 0 < pings <= MAX_PINGS_LEARNED


def test_copied_pings_do_not_keep_true_addresses_from_being_asked():
    scene = direct(WAN)
    scene.answering[WAN] = 20
    for i in range(2_000):
        scene.ping((STRANGER[0], 1 + i))
        scene.send()
        scene.wait(10)
    assert scene.path.state == PathState.DIRECT and scene.path.best == WAN
    assert (USE_RELAY, False) not in scene.log


def test_as_many_pings_as_the_limit_are_followed_by_the_rest_a_little_later():
    scene = Scene()
    scene.send()
    for i in range(4):
        scene.call(*[(WAN[0], 100 * i + port + 1) for port in range(24)])
    scene.wait(100)
    last = {(WAN[0], 300 + port + 1) for port in range(24)}
    assert not last <= set(scene.pings)
    scene.wait(PING_TIMEOUT_MS + 1_000)
    assert last <= set(scene.pings)


def test_every_address_of_a_long_list_is_pinged_and_so_are_the_ones_heard():
    scene = Scene(*numbered(24))
    assert len(pinged(scene.send())) == 24
    assert (PING, WAN) in scene.ping(WAN)
    scene.pong(numbered(24)[0])
    assert (PING, numbered(24)[0]) in scene.wait(HEARTBEAT_MS)


def test_a_ping_txid_has_12_bytes():
    scene = Scene(WAN)
    scene.send()
    assert len(scene.pings[WAN][0]) == 12


def test_heartbeats_are_bounded_though_the_best_address_changes_and_changes():
    many = [(WAN[0], 1 + port) for port in range(24)]
    scene = Scene(*many)
    scene.send()
    scene.now += HEARTBEAT_MS + 500
    for endpoint in many:
        scene.pong(endpoint, after=0)
    before = len(scene.log)
    for _ in range(23):
        scene.path.send_failed(scene.path.best, scene.now)
        scene.act()
    assert scene.path.state == PathState.DIRECT
    assert len(pinged(scene.log[before:])) < paths.MAX_PINGS_HEARTBEAT
    assert (PING, scene.path.best) in scene.wait(PING_TIMEOUT_MS)


def test_a_copy_is_known_among_the_last_64_pings():
    scene = Scene()
    for i in range(64):
        scene.ping(WAN, b"%12d" % i)
    scene.ping(WAN, b"%12d" % 0)
    assert not scene.answered
    scene.ping(WAN, b"%12d" % 64)
    scene.ping(WAN, b"%12d" % 0)
    assert scene.answered


def test_a_call_does_not_push_out_the_address_in_use_nor_another_calls():
    scene = direct(*numbered(24))
    scene.call(*numbered(60, "198.19.0.0"))
    assert scene.path.best == numbered(24)[0] and scene.path.candidates == 24
    assert set(numbered(23, "198.19.0.0")) <= set(scene.pings)
    assert numbered(24, "198.19.0.0")[23] not in scene.pings


def test_a_learned_address_is_not_listed_beyond_the_limit():
    scene = Scene(*numbered(24))
    scene.ping(WAN)
    scene.path.endpoints_received([WAN] + numbered(24), scene.now)
    scene.now += LEARNED_MS
    scene.path.timer_fired(scene.now)
    assert scene.path.candidates == 24


def test_a_learned_address_that_becomes_listed_keeps_its_trust():
    scene = Scene()
    scene.send()
    scene.ping(WAN)
    scene.pong(WAN)
    scene.path.endpoints_received([WAN], scene.now)
    assert scene.path.best == WAN and scene.act() == []
    scene.wait(ACTIVE_MS + LEARNED_MS)
    scene.path.timer_fired(scene.now)
    assert scene.path.candidates == 1


def test_no_more_is_learned_when_all_places_are_taken_by_addresses_that_became_unlisted():
    scene = Scene(*numbered(24))
    scene.send()
    for endpoint in numbered(24):
        scene.ping(endpoint)
        scene.pong(endpoint, after=1)
    scene.path.endpoints_received(numbered(24, "198.19.0.0"), scene.now)
    assert scene.path.candidates == MAX_CANDIDATES
    scene.ping(WAN)
    assert scene.path.candidates == MAX_CANDIDATES and WAN not in scene.path.held()


# --- Which addresses are held ---


def test_addresses_heard_but_not_proven_are_held_in_every_state():
    scene = Scene()
    scene.ping(WAN)
    assert scene.path.held() == {WAN}
    version = scene.path.held_version
    scene.send()
    assert scene.path.held() == {WAN} and scene.path.held_version == version
    scene.pong(WAN)
    assert scene.path.held() == set() and scene.path.held_version == version + 1
    scene.ping(WAN2)
    assert scene.path.held() == {WAN2}
    scene.wait(TRUST_MS)
    assert scene.path.held() == {WAN, WAN2}


def test_addresses_never_heard_from_are_not_held():
    scene = Scene(WAN, HOME)
    scene.send()
    assert scene.path.held() == set()


# --- What happens to the machine ---


def test_another_uplink_means_the_relay_and_new_pings():
    scene = direct(WAN, WAN2)
    scene.now += EAGER_MS
    scene.path.uplink_changed(scene.now)
    actions = scene.act()
    assert actions[0] == (USE_RELAY, False) and pinged(actions) == {WAN, WAN2}
    assert scene.path.state == PathState.PROBING and scene.path.best is None
    assert not scene.path.trusted(WAN, scene.now)


def test_a_pong_that_came_by_the_old_uplink_proves_nothing():
    scene = Scene(WAN)
    scene.send()
    before = scene.pings[WAN]
    scene.path.uplink_changed(scene.now)
    scene.act()
    scene.pings[WAN] = before
    assert scene.pong(WAN) == []
    assert scene.path.state == PathState.PROBING


def test_what_was_pinged_by_the_old_uplink_a_moment_ago_is_pinged_by_the_new_one_at_once():
    scene = Scene(WAN, WAN2)
    scene.send()
    scene.now += 10
    scene.path.uplink_changed(scene.now)
    assert pinged(scene.act()) == {WAN, WAN2}
    scene.now += 10
    scene.path.uplink_changed(scene.now)
    assert scene.act() == []


def test_a_new_uplink_soon_after_a_call_calls_again():
    scene = Scene(WAN)
    scene.send()
    scene.wait(EAGER_MS)
    scene.path.uplink_changed(scene.now)
    assert scene.act() == [(PING, WAN), (CALL_ME_MAYBE,)]
    assert scene.call(WAN) == []
    assert scene.wait(EAGER_MS) == [(PING, WAN)]


def test_an_address_that_falls_silent_is_left_for_one_that_answered_since():
    scene = direct(WAN)
    scene.answering = {WAN: 20}
    scene.wait(10_000)
    scene.answering = {WAN2: 20}
    scene.call(WAN, WAN2)  # it has moved, and names its former address too
    moved = scene.wait(HEARTBEAT_MS + OVERDUE_MS)
    assert (USE_DIRECT, WAN2) in moved and (USE_RELAY, False) not in moved
    assert scene.path.best == WAN2


def test_an_address_that_falls_silent_is_kept_while_no_other_answered_since():
    scene = direct(WAN, WAN2)
    scene.pong(WAN2, after=0)  # both work
    scene.answering = {WAN: 20}
    scene.wait(HEARTBEAT_MS + 100)
    scene.answering = {}
    quiet = scene.wait(HEARTBEAT_MS + OVERDUE_MS)
    assert scene.path.best == WAN and {action[0] for action in quiet} == {PING}


def test_an_address_gets_two_of_its_round_trips_to_answer():
    scene = Scene(WAN, WAN2)
    scene.send()
    scene.pong(WAN, after=1_200)
    scene.answering = {WAN2: 1_200}
    scene.call(WAN, WAN2)
    pinged_ms = 800  # from here: 2 s after the first ping
    scene.wait(pinged_ms + 2_400 - 100)
    assert scene.path.best == WAN
    scene.wait(200)
    assert scene.path.best == WAN2


def test_who_is_found_to_be_elsewhere_calls_again_if_it_is_not_direct():
    scene = Scene(WAN)
    scene.send()
    scene.wait(EAGER_MS)
    scene.path.own_endpoints_changed(scene.now)
    assert scene.act() == [(PING, WAN), (CALL_ME_MAYBE,)]
    scene.pong(WAN)
    scene.now += EAGER_MS
    scene.path.own_endpoints_changed(scene.now)
    assert scene.act() == [] and scene.path.state == PathState.DIRECT


def test_when_a_direct_path_breaks_the_peer_is_called_at_once_though_it_was_pinged_a_moment_ago():
    scene = direct(WAN)
    scene.answering = {WAN: 20}
    scene.wait(30_000)
    scene.send()
    scene.answering = {}
    broken = scene.wait(TRUST_MS)
    assert broken[-2:] == [(USE_RELAY, False), (CALL_ME_MAYBE,)]


def test_a_peer_that_sees_us_elsewhere_is_called_though_the_path_is_direct():
    scene = direct(WAN)
    scene.now += EAGER_MS
    scene.path.seen_elsewhere(scene.now)
    assert (CALL_ME_MAYBE,) in scene.act()
    scene.path.seen_elsewhere(scene.now)
    assert (CALL_ME_MAYBE,) not in scene.act()
    scene.answering = {WAN: 20}
    assert scene.wait(EAGER_MS).count((CALL_ME_MAYBE,)) == 1  # later, and by itself
    assert (CALL_ME_MAYBE,) not in scene.wait(10_000)


def test_a_peer_that_sends_by_the_relay_though_it_is_direct_is_called_ever_more_seldom():
    scene = direct(WAN)
    scene.answering = {WAN: 20}
    times = []
    for _ in range(20 * 60 * 4):
        scene.wait(250)
        scene.send()
        scene.path.relayed_data_received(scene.now)
        if (CALL_ME_MAYBE,) in scene.act():
            times.append(scene.now)
    waits = gaps(times)
    assert waits[:4] == [2 * CALL_A_RELAYING_PEER_MS, 4 * CALL_A_RELAYING_PEER_MS, 32_000, 64_000]
    assert set(waits[4:]) == {64_000}


def test_packets_that_were_under_way_by_the_relay_bring_no_call():
    scene = Scene(WAN)
    scene.send()
    scene.wait(CALL_A_RELAYING_PEER_MS)
    scene.pong(WAN)
    for _ in range(19):
        scene.now += 100
        scene.path.relayed_data_received(scene.now)
        assert scene.act() == []


def test_packets_by_the_relay_are_no_news_while_the_path_is_relayed():
    for scene in (Scene(WAN), Scene(WAN)):
        scene.now += 10 * CALL_AGAIN_MS
        scene.path.relayed_data_received(scene.now)
        scene.path.seen_elsewhere(scene.now)
        assert scene.act() == [] and scene.path.next_timer_ms() is None
    scene.send()
    scene.now += CALL_A_RELAYING_PEER_MS
    scene.path.relayed_data_received(scene.now)
    assert (CALL_ME_MAYBE,) not in scene.act()


def test_a_call_that_is_due_ends_with_the_traffic():
    scene = direct(WAN)
    scene.path.seen_elsewhere(scene.now)
    scene.path.gone(scene.now)
    scene.act()
    assert scene.path.next_timer_ms() is None
    scene.path.disco_key_changed(scene.now)
    assert (CALL_ME_MAYBE,) not in scene.act() + scene.wait(60_000)


def test_an_idle_path_sleeps_through_new_addresses_of_our_own():
    scene = Scene(WAN)
    scene.path.own_endpoints_changed(scene.now)
    assert scene.act() == [] and scene.path.next_timer_ms() is None


def test_own_addresses_that_change_all_the_time_bring_a_call_every_2_s_at_most():
    scene = Scene(WAN)
    scene.send()
    times = []
    for _ in range(1_000):
        scene.now += 10
        scene.path.own_endpoints_changed(scene.now)
        actions = scene.act()
        assert actions in ([], [(PING, WAN), (CALL_ME_MAYBE,)])
        if actions:
            times.append(scene.now)
    assert min(gaps(times)) >= EAGER_MS and len(times) >= 3


def test_an_idle_path_sleeps_through_a_new_uplink():
    scene = Scene(WAN)
    scene.path.uplink_changed(scene.now)
    assert scene.act() == [] and scene.path.next_timer_ms() is None


def test_an_uplink_that_comes_and_goes_pings_at_most_every_2_s():
    scene = direct(WAN)
    times = []
    for _ in range(1_000):
        scene.now += 10
        scene.path.uplink_changed(scene.now)
        if (PING, WAN) in scene.act():
            times.append(scene.now)
    assert min(gaps(times)) >= EAGER_MS and len(times) >= 3


def test_a_failed_send_to_the_best_address_means_the_relay():
    scene = direct(WAN)
    scene.path.send_failed(WAN, scene.now)
    assert (USE_RELAY, False) in scene.act() and scene.path.held() == {WAN}
    assert scene.path.state == PathState.PROBING and not scene.path.trusted(WAN, scene.now)


def test_a_failed_send_to_the_best_address_means_another_trusted_one_if_there_is_any():
    scene = direct(WAN, WAN2)
    scene.pong(WAN2)
    scene.path.send_failed(WAN, scene.now)
    assert scene.act() == [(USE_DIRECT, WAN2)] and scene.path.best == WAN2


def test_a_failed_send_elsewhere_changes_nothing():
    scene = direct(WAN, HOME)
    scene.path.send_failed(HOME, scene.now)
    scene.path.send_failed(STRANGER, scene.now)
    assert scene.act() == [] and scene.path.best == WAN


def test_a_failed_send_voids_the_pings_under_way_there():
    scene = Scene(WAN)
    scene.send()
    scene.path.send_failed(WAN, scene.now)
    assert scene.pong(WAN) == [] and scene.path.state == PathState.PROBING


def test_a_failed_send_says_nothing_about_other_addresses():
    scene = Scene(WAN, HOME)
    scene.send()
    scene.path.send_failed(HOME, scene.now)
    assert scene.pong(WAN) == [(USE_DIRECT, WAN)]


def test_the_better_of_the_other_trusted_addresses_takes_over():
    for others in ((WAN2, HOME, WAN6), (HOME, WAN6, WAN2)):
        scene = direct(WAN, *others)
        for endpoint in others:
            scene.pong(endpoint, after=0)
        scene.path.send_failed(scene.path.best, scene.now)
        scene.path.endpoints_received(others, scene.now)
        assert scene.path.best in (HOME, WAN6)
        scene.path.send_failed(HOME, scene.now)
        assert scene.path.best == WAN6


def test_a_restarted_peer_gets_its_session_renewed_and_its_addresses_asked_again():
    scene = direct(WAN)
    scene.now += EAGER_MS
    scene.path.disco_key_changed(scene.now)
    actions = scene.act()
    assert actions == [(RENEW,), (PING, WAN), (CALL_ME_MAYBE,)]
    assert scene.path.state == PathState.PROBING and not scene.path.trusted(WAN, scene.now)


def test_a_pong_made_before_the_peer_restarted_proves_nothing():
    scene = Scene(WAN)
    scene.send()
    scene.path.disco_key_changed(scene.now)
    scene.act()
    assert scene.pong(WAN) == []


def test_a_restarted_peer_of_an_idle_path_is_renewed_without_pings():
    scene = Scene(WAN)
    scene.path.disco_key_changed(scene.now)
    assert scene.act() == [(RENEW,)] and scene.path.state == PathState.RELAYED


def test_a_peer_that_is_gone_is_relayed_and_sent_nothing():
    scene = direct(WAN)
    scene.ping(WAN2)
    assert scene.path.held() == {WAN2}
    scene.path.gone(scene.now)
    assert scene.act() == [(USE_RELAY, False)]
    assert scene.path.reason(scene.now) == Reason.NO_DISCO_KEY and scene.path.held() == set()
    assert scene.send() == [] and scene.call(WAN) == [] and scene.ping(WAN) == [] and not scene.answered
    assert scene.path.next_timer_ms() is None and scene.path.state == PathState.RELAYED
    assert not scene.path.is_active(scene.now)
    scene.now += DISCOVERY_MS
    assert scene.send() == [] and scene.call(WAN) == [] and scene.send() == []
    scene.path.roamed(WAN, scene.now)
    assert scene.act() == [(USE_RELAY, False)] and scene.path.held() == set()


def test_a_peer_that_got_its_disco_key_back_begins_anew():
    scene = direct(WAN)
    scene.now += ACTIVE_MS
    scene.call(WAN)
    scene.path.gone(scene.now)
    scene.path.disco_key_changed(scene.now)
    assert not scene.path.is_active(scene.now) and scene.path.state == PathState.RELAYED
    scene.now += EAGER_MS
    assert (PING, WAN) in scene.send()


# --- What the netmap says ---


def test_a_best_address_that_the_netmap_drops_is_used_no_more():
    scene = direct(WAN)
    scene.path.endpoints_received([WAN2], scene.now)
    assert scene.act()[0] == (USE_RELAY, False)
    assert scene.path.state == PathState.PROBING and not scene.path.trusted(WAN, scene.now)


def test_another_trusted_address_takes_over_when_the_netmap_drops_the_best():
    scene = direct(WAN, WAN2)
    scene.pong(WAN2)
    scene.path.endpoints_received([WAN2], scene.now)
    assert scene.act() == [(USE_DIRECT, WAN2)]


def test_a_best_address_that_the_peer_pings_from_survives_the_netmap():
    scene = direct(WAN)
    scene.ping(WAN)
    scene.path.endpoints_received([], scene.now)
    assert scene.path.best == WAN


def test_an_address_that_the_netmap_drops_changes_nothing_if_it_is_not_in_use():
    scene = direct(WAN, HOME)
    scene.path.endpoints_received([WAN], scene.now)
    assert scene.act() == [] and scene.path.best == WAN


def test_a_best_address_that_the_peer_pinged_from_long_ago_does_not_survive_the_netmap():
    scene = direct(WAN)
    scene.ping(WAN)
    scene.answering[WAN] = 20
    scene.keep_busy(LEARNED_MS)
    assert scene.path.best == WAN
    scene.path.endpoints_received([], scene.now)
    assert scene.path.state == PathState.PROBING and scene.path.candidates == 0


def test_the_same_netmap_again_changes_nothing():
    scene = direct(WAN, WAN2)
    scene.path.endpoints_received([WAN, WAN2], scene.now)
    assert scene.act() == [] and scene.path.best == WAN


# --- WireGuard roams by itself ---


def test_a_trusted_address_to_which_wireguard_roamed_is_left_alone():
    scene = direct(HOME, WAN)
    scene.pong(WAN)
    scene.path.roamed(WAN, scene.now)
    assert scene.act() == [(USE_DIRECT, WAN)] and scene.path.best == WAN
    scene.answering = {HOME: 20, WAN: 20}
    moves = [action for action in scene.keep_busy(ROAMED_MS - 5_000) if action[0] == USE_DIRECT]
    assert moves == []


def test_after_a_minute_the_better_address_may_take_over_again():
    scene = direct(HOME, WAN)
    scene.pong(WAN)
    scene.path.roamed(WAN, scene.now)
    scene.act()
    scene.answering = {HOME: 20, WAN: 20}
    moves = []
    for i in range(25):
        scene.ping(HOME)
        moves += [(i, action[1]) for action in scene.keep_busy(3_000) if action[0] == USE_DIRECT]
    assert moves == [(ROAMED_MS // 3_000, HOME)]


def test_the_minute_ends_with_the_address_it_was_for():
    scene = Scene(WAN2, WAN, HOME)
    scene.send()
    scene.pong(WAN2, after=200)
    scene.pong(WAN, after=1)
    scene.path.roamed(WAN, scene.now)
    scene.path.send_failed(WAN, scene.now)
    scene.act()
    assert scene.path.best == WAN2
    assert scene.pong(HOME, after=1) == [(USE_DIRECT, HOME)]
    scene.path.roamed(WAN2, scene.now)
    scene.wait(TRUST_MS)
    assert scene.path.state == PathState.PROBING
    scene.send()
    scene.wait(DISCOVERY_MS)
    scene.pong(WAN)
    assert scene.pong(HOME, after=0) == [(USE_DIRECT, HOME)]


def test_wireguard_at_the_best_address_is_no_change():
    scene = direct(WAN)
    since = scene.path.since_ms
    scene.now += 100
    scene.path.roamed(WAN, scene.now)
    assert scene.path.since_ms == since


def test_wireguard_is_set_back_from_an_address_for_which_there_is_no_room():
    scene = Scene()
    scene.send()
    for endpoint in numbered(MAX_LEARNED):
        scene.ping(endpoint)
        scene.pong(endpoint, after=1)
    scene.act()
    scene.path.roamed(WAN, scene.now)
    assert scene.act() == [(USE_DIRECT, scene.path.best)]


def test_an_unproven_address_to_which_wireguard_roamed_is_set_back_and_asked():
    scene = direct(WAN)
    scene.path.roamed(STRANGER, scene.now)
    assert scene.act() == [(USE_DIRECT, WAN), (PING, STRANGER)]
    assert scene.path.best == WAN and scene.path.held() == {STRANGER}


def test_an_idle_or_probing_path_that_roamed_is_set_back_to_the_relay():
    scene = Scene()
    scene.path.roamed(WAN, scene.now)
    assert scene.act() == [(USE_RELAY, False)] and scene.path.held() == {WAN}
    scene.send()
    scene.path.roamed(WAN2, scene.now)
    actions = scene.act()
    assert (USE_RELAY, False) in actions and (PING, WAN2) in actions


# --- Why it is not direct ---


def test_reasons_tell_asking_from_not_answering():
    scene = Scene(WAN, HOME)
    scene.send()
    assert scene.path.reason(scene.now) == Reason.ASKING
    assert scene.path.reason(scene.now + PING_TIMEOUT_MS) == Reason.NO_ANSWER
    scene.wait(DISCOVERY_MS)
    assert scene.path.asked == 4 and scene.path.reason(scene.now) == Reason.NO_ANSWER


def test_a_path_that_was_idle_meanwhile_has_not_lost_anything():
    scene = direct(WAN)
    scene.now += 3_600_000
    scene.send()
    assert scene.path.lost_ms is None and scene.path.reason(scene.now) == Reason.ASKING
    scene = direct(WAN)
    scene.now += 3_600_000
    scene.call(WAN)
    assert scene.path.lost_ms is None


def test_a_path_that_is_idle_has_not_lost_anything():
    scene = direct(WAN)
    scene.wait(ACTIVE_MS)
    assert scene.path.state == PathState.RELAYED and scene.path.lost_ms is None


# --- The clock ---


def test_a_clock_that_steps_back_stands_still():
    scene = direct(WAN)
    until = scene.path.trust_until_ms
    scene.path.packet_sent(0)
    scene.path.timer_fired(-5)
    assert scene.act() == [] and scene.path.trust_until_ms == until and scene.path.trusted(WAN, 0)


def test_traffic_while_the_clock_is_back_is_as_young_as_any():
    scene = Scene(WAN)
    scene.now += 100_000
    scene.send()
    scene.pong(WAN)
    scene.path.packet_sent(0)
    scene.path.timer_fired(scene.now + 1)
    assert scene.path.state == PathState.DIRECT


def test_a_clock_that_jumps_ahead_costs_one_round_of_pings():
    scene = Scene(WAN, HOME)
    scene.send()
    scene.now += 30 * 86_400_000
    assert len(scene.send()) == 3
    scene.path.timer_fired(scene.now)
    assert scene.act() == []


def test_full_pings_that_are_late_do_not_pile_up():
    scene = direct(WAN, WAN2)
    scene.answering[WAN] = 20
    scene.keep_busy(FULL_PING_MS - 1_000)
    scene.act()
    scene.now += 4_000
    scene.path.timer_fired(scene.now)
    assert scene.act().count((PING, WAN2)) == 1
    scene.path.timer_fired(scene.now)
    assert (PING, WAN2) not in scene.wait(FULL_PING_MS // 2)
