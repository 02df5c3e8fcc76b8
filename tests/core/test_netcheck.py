"""One measurement by STUN: what is asked, what is believed, when it ends, and what it says."""

from wayhomed.core import netcheck
from wayhomed.core.derp_map import DerpMap, Region, RelayNode
from wayhomed.core.netcheck import BUDGET_MS, MAX_SERVERS, TRIES, Nat, StunRound, StunServer
from wayhomed.wire import stun
from wayhomed.wire.address import endpoint_from_text, ip_from_text


def at(text: str) -> tuple:
    return endpoint_from_text(text)


US = at("203.0.113.9:41641")
US6 = at("[2001:db8:1::9]:41641")
FIRST = StunServer(900, "900a", ip_from_text("198.51.100.1"), 3478)
SECOND = StunServer(900, "900b", ip_from_text("198.51.100.2"), 3478)
SECOND_PORT = StunServer(900, "900c", ip_from_text("198.51.100.1"), 3479)
FAR = StunServer(901, "901a", ip_from_text("192.0.2.77"), 3478)
INNER = StunServer(902, "902a", ip_from_text("192.168.0.10"), 3478)
FIRST6 = StunServer(900, "900a", ip_from_text("2001:db8::1"), 3478)
SECOND6 = StunServer(900, "900b", ip_from_text("2001:db8::2"), 3478)


class Txids:
    """Random bytes that differ each time and are the same in each run."""

    def __init__(self):
        self.count = 0

    def __call__(self, size: int) -> bytes:
        self.count += 1
        return bytes(size - 2) + bytes((self.count >> 8, self.count & 255))


def begin(*servers, now_ms: int = 0) -> StunRound:
    return StunRound(list(servers), Txids(), now_ms)


def place(server: StunServer) -> tuple:
    return (server.ip, server.port)


def answer(request: bytes, seen_at: tuple) -> bytes:
    return stun.encode_binding_response(stun.decode_binding_request(request), seen_at[0], seen_at[1])


def requests(one: StunRound, now_ms: int) -> dict:
    """Return {server: request} of what is sent now."""
    return dict(one.take_requests(now_ms))


def after_answers(*answers, now_ms: int = 10):
    """Return the report of a round in which each (server, where it saw us, or None for silence) is as told."""
    one = begin(*[server for server, _ in answers])
    sent = requests(one, 0)
    for server, seen_at in answers:
        if seen_at is not None:
            assert one.answer_received(answer(sent[server], seen_at), place(server), now_ms)
    return one.report(BUDGET_MS)


# The course of a round


def test_every_server_is_asked_at_once_and_agreeing_answers_end_the_round():
    one = begin(FIRST, SECOND)
    sent = requests(one, 0)
    assert set(sent) == {FIRST, SECOND}
    assert one.answer_received(answer(sent[FIRST], US), place(FIRST), 12)
    assert not one.done(12)
    assert one.answer_received(answer(sent[SECOND], US), place(SECOND), 15)
    assert one.done(15)
    assert one.next_timer_ms() is None
    report = one.report(15)
    assert report.mapped4 == [(US, 2)]
    assert report.latencies_ms == {(900, 4): 12}


def test_silence_is_asked_again_after_100_and_200_ms_and_the_round_ends_after_three_seconds():
    one = begin(FIRST)
    times = []
    now_ms = 0
    while not one.done(now_ms):
        if one.take_requests(now_ms):
            times.append(now_ms)
        now_ms = one.next_timer_ms()
        if now_ms is None:
            break
    assert times == [0, 100, 300]
    assert len(times) == TRIES
    assert now_ms == BUDGET_MS
    assert not one.report(now_ms).udp4


def test_an_answer_to_any_of_the_tries_counts_with_its_own_round_trip():
    one = begin(FIRST)
    first_try = requests(one, 0)[FIRST]
    requests(one, 100)
    assert one.answer_received(answer(first_try, US), place(FIRST), 150)
    assert one.report(150).latencies_ms == {(900, 4): 150}


def test_a_round_trip_of_no_time_counts_as_one_millisecond():
    one = begin(FIRST)
    one.answer_received(answer(requests(one, 5)[FIRST], US), place(FIRST), 5)
    assert one.report(5).latencies_ms == {(900, 4): 1}


def test_the_slower_ones_get_as_long_again_as_the_slowest_once_two_have_answered():
    one = begin(FIRST, SECOND, FAR)
    sent = requests(one, 0)
    one.answer_received(answer(sent[FIRST], US), place(FIRST), 20)
    one.answer_received(answer(sent[SECOND], US), place(SECOND), 180)
    assert not one.done(359)
    assert one.done(360)


def test_two_answers_of_one_family_do_not_cut_the_other_short():
    one = begin(FIRST, SECOND, FIRST6)
    sent = requests(one, 0)
    one.answer_received(answer(sent[FIRST], US), place(FIRST), 20)
    one.answer_received(answer(sent[SECOND], US), place(SECOND), 20)
    assert not one.done(BUDGET_MS - 1)
    assert one.done(BUDGET_MS)


def test_a_family_that_cannot_be_sent_is_not_waited_for():
    one = begin(FIRST, FIRST6)
    sent = requests(one, 0)
    one.send_failed(FIRST6, 0)
    one.answer_received(answer(sent[FIRST], US), place(FIRST), 20)
    assert one.done(20)
    report = one.report(20)
    assert report.udp4
    assert not report.udp6
    assert (report.asked6, report.unreachable6) == (1, 1)


def test_a_round_without_servers_is_over_at_once():
    one = begin()
    assert one.done(0)
    assert one.take_requests(0) == []
    assert one.next_timer_ms() is None


def test_a_round_that_is_over_sends_nothing_and_takes_nothing():
    one = begin(FIRST)
    late = answer(requests(one, 0)[FIRST], US)
    assert one.done(BUDGET_MS)
    assert one.take_requests(BUDGET_MS) == []
    assert not one.answer_received(late, place(FIRST), BUDGET_MS + 1)


def test_a_server_that_answered_is_not_asked_again():
    one = begin(FIRST, SECOND)
    sent = requests(one, 0)
    one.answer_received(answer(sent[FIRST], US), place(FIRST), 10)
    assert one.next_timer_ms() == 100
    assert list(requests(one, 100)) == [SECOND]
    assert list(requests(one, 300)) == [SECOND]
    assert one.next_timer_ms() == BUDGET_MS


def test_a_failed_send_counts_only_for_a_server_that_is_still_silent():
    one = begin(FIRST, SECOND)
    sent = requests(one, 0)
    one.send_failed(FAR, 5)
    one.answer_received(answer(sent[FIRST], US), place(FIRST), 10)
    one.send_failed(FIRST, 11)
    assert (one.report(11).unreachable4, one.report(11).answered4) == (0, 1)
    one.send_failed(SECOND, BUDGET_MS)
    assert one.report(BUDGET_MS).unreachable4 == 0


# Bad input


def test_an_answer_nobody_asked_for_is_none():
    one = begin(FIRST)
    requests(one, 0)
    assert not one.answer_received(stun.encode_binding_response(b"x" * 12, US[0], US[1]), place(FIRST), 1)
    assert not one.report(1).udp4


def test_an_answer_from_another_source_than_the_server_asked_is_none():
    one = begin(FIRST, SECOND)
    sent = requests(one, 0)
    for source in (place(SECOND), (FIRST.ip, 3479), (FIRST6.ip, 3478), at("192.0.2.66:3478")):
        assert not one.answer_received(answer(sent[FIRST], US), source, 1)
    assert not one.report(1).udp4
    assert one.answer_received(answer(sent[FIRST], US), place(FIRST), 2)


def test_a_second_answer_to_one_request_changes_nothing():
    one = begin(FIRST, SECOND)
    sent = requests(one, 0)
    assert one.answer_received(answer(sent[FIRST], US), place(FIRST), 5)
    assert not one.answer_received(answer(sent[FIRST], at("192.0.2.66:1")), place(FIRST), 6)
    assert one.report(6).mapped4 == [(US, 1)]


def test_a_server_counts_once_however_many_of_its_requests_it_answers():
    one = begin(FIRST, SECOND)
    first_try = requests(one, 0)[FIRST]
    second_try = requests(one, 100)[FIRST]
    assert one.answer_received(answer(first_try, US), place(FIRST), 110)
    assert not one.answer_received(answer(second_try, at("192.0.2.66:1")), place(FIRST), 111)
    report = one.report(111)
    assert report.mapped4 == [(US, 1)]
    assert report.answered4 == 1


def test_an_answer_replayed_in_a_later_round_is_none():
    txids = Txids()
    old = StunRound([FIRST], txids, 0)
    heard = answer(requests(old, 0)[FIRST], US)
    assert old.answer_received(heard, place(FIRST), 1)
    new = StunRound([FIRST], txids, 20_000)
    requests(new, 20_000)
    assert not new.answer_received(heard, place(FIRST), 20_001)


def test_malformed_answers_are_none_and_the_real_one_still_counts():
    one = begin(FIRST)
    request = requests(one, 0)[FIRST]
    real = answer(request, US)
    for cut in range(len(real)):
        assert not one.answer_received(real[:cut], place(FIRST), 1)
    assert not one.answer_received(request, place(FIRST), 1)
    assert one.answer_received(real, place(FIRST), 2)


NO_MAPPINGS = (
    "0.0.0.0:41641",
    "0.1.2.3:41641",
    "127.0.0.1:41641",
    "169.254.1.1:41641",
    "224.0.0.1:41641",
    "239.255.255.250:1900",
    "240.0.0.1:41641",
    "255.255.255.255:41641",
    "203.0.113.9:0",
)
NO_MAPPINGS6 = (
    "[::]:41641",
    "[::1]:41641",
    "[fe80::1]:41641",
    "[ff02::1]:41641",
    "[fd7a:115c:a1e0::5]:41641",
    "[2001:db8:1::9]:0",
)


def test_a_mapping_at_which_no_host_can_be_is_not_believed():
    for text in NO_MAPPINGS:
        report = after_answers((FIRST, at(text)))
        assert report.udp4, text
        assert report.mapped4 == [], text
    for text in NO_MAPPINGS6:
        report = after_answers((FIRST6, at(text)))
        assert report.udp6, text
        assert report.mapped6 == [], text


def test_a_mapping_of_the_other_family_is_not_believed():
    report = after_answers((FIRST, US6), (FIRST6, US))
    assert report.mapped4 == report.mapped6 == []


def test_a_private_mapping_and_a_carriers_are_believed():
    for text in ("192.168.1.20:41641", "10.0.0.2:41641", "172.16.0.9:1", "100.64.7.7:41641"):
        assert after_answers((FIRST, at(text))).mapped4 == [(at(text), 1)]
    assert after_answers((FIRST6, at("[fd00::1]:41641"))).mapped6 == [(at("[fd00::1]:41641"), 1)]


def test_a_mapping_that_is_not_believed_is_no_sign_of_a_hard_nat():
    report = after_answers((FIRST, US), (SECOND, at("127.0.0.1:41641")))
    assert report.mapped4 == [(US, 1)]
    assert report.mapping_varies is None


def test_of_a_thousand_servers_each_region_gets_its_first_and_the_rest_is_left_alone():
    crowd = [StunServer(1 + i % 20, "n", bytes((10, 9, i >> 8, i & 255)), 3478) for i in range(1000)]
    one = begin(*crowd)
    asked = []
    for now_ms in range(0, BUDGET_MS, 50):
        asked += [server for server, _ in one.take_requests(now_ms)]
    assert len(asked) == TRIES * MAX_SERVERS
    assert {server.region_id for server in asked} == set(range(1, 21))
    assert one.report(BUDGET_MS).asked4 == MAX_SERVERS == 32


def test_a_server_named_again_and_again_takes_one_place():
    one = begin(*[FIRST] * 100, SECOND)
    assert set(requests(one, 0)) == {FIRST, SECOND}


def test_a_server_named_twice_is_asked_once():
    assert len(begin(FIRST, FIRST, StunServer(901, "901a", FIRST.ip, FIRST.port)).take_requests(0)) == 1


def test_a_clock_that_steps_back_sends_nothing_early_and_measures_nothing_negative():
    one = begin(FIRST, now_ms=10_000)
    request = requests(one, 10_000)[FIRST]
    assert one.take_requests(3_000) == []
    assert one.take_requests(10_050) == []
    assert one.answer_received(answer(request, US), place(FIRST), 1)
    assert one.report(0).latencies_ms == {(900, 4): 50}


def test_a_clock_that_jumps_ahead_ends_the_round_without_a_burst():
    one = begin(FIRST, SECOND)
    requests(one, 0)
    assert one.take_requests(10_000_000) == []
    assert one.done(10_000_000)
    assert one.done(0)


# What is concluded


def test_a_nat_that_maps_by_destination_shows_in_two_mappings():
    report = after_answers((FIRST, US), (SECOND, at("203.0.113.9:51000")))
    assert report.mapping_varies is True
    assert report.mapped4 == [(US, 1), (at("203.0.113.9:51000"), 1)]


def test_a_nat_that_maps_by_port_shows_with_two_ports_of_one_address():
    assert after_answers((FIRST, US), (SECOND_PORT, at("203.0.113.9:51000"))).mapping_varies is True


def test_one_address_alone_cannot_tell_whether_mapping_varies():
    assert after_answers((FIRST, US)).mapping_varies is None
    assert after_answers((FIRST, US), (SECOND_PORT, US)).mapping_varies is None
    assert after_answers((FIRST, US), (SECOND, None)).mapping_varies is None
    assert after_answers((FIRST, US), (SECOND, US)).mapping_varies is False


def test_two_mappings_of_ipv6_or_one_of_each_family_are_no_hard_nat():
    other = at("[2001:db8:1::9]:51000")
    assert after_answers((FIRST6, US6), (SECOND6, other)).mapping_varies is None
    assert after_answers((FIRST, US), (FIRST6, US6), (SECOND6, other)).mapping_varies is None


def test_silence_has_no_latency():
    assert after_answers((FIRST, None)).latencies_ms == {}
    assert after_answers((FIRST, None)).preferred == 0


def test_of_equal_regions_the_first_is_preferred_and_a_faster_one_before_it():
    assert after_answers((FAR, US), (FIRST, US)).preferred == 900
    one = begin(FIRST, FAR)
    sent = requests(one, 0)
    one.answer_received(answer(sent[FAR], US), place(FAR), 5)
    one.answer_received(answer(sent[FIRST], US), place(FIRST), 9)
    assert one.report(9).preferred == 901


def test_of_two_families_the_faster_counts_for_a_region():
    one = begin(FIRST, FIRST6)
    sent = requests(one, 0)
    one.answer_received(answer(sent[FIRST], US), place(FIRST), 5)
    one.answer_received(answer(sent[FIRST6], US6), place(FIRST6), 9)
    assert one.report(9).region_latencies_ms() == {900: 5}


def test_the_mapping_seen_most_often_comes_first_and_then_the_fastest_answers():
    other = at("203.0.113.9:51000")
    report = after_answers((FIRST, other), (SECOND, US), (FAR, US))
    assert report.mapped4 == [(US, 2), (other, 1)]
    one = begin(FIRST, SECOND)
    sent = requests(one, 0)
    one.answer_received(answer(sent[SECOND], US), place(SECOND), 5)
    one.answer_received(answer(sent[FIRST], other), place(FIRST), 9)
    assert one.report(9).mapped4 == [(US, 1), (other, 1)]


def test_the_region_with_the_least_latency_is_preferred_over_both_families():
    one = begin(FIRST, FAR, FIRST6)
    sent = requests(one, 0)
    one.answer_received(answer(sent[FIRST6], US6), place(FIRST6), 20)
    one.answer_received(answer(sent[FAR], US), place(FAR), 30)
    one.answer_received(answer(sent[FIRST], US), place(FIRST), 40)
    report = one.report(40)
    assert report.preferred == 900
    assert report.latencies_ms == {(900, 4): 40, (901, 4): 30, (900, 6): 20}
    assert report.region_latencies_ms() == {900: 20, 901: 30}


# The servers of a DERP map


def node(name: str, host: str, ipv4: str = "", ipv6: str = "", port: int = 0) -> RelayNode:
    made = RelayNode()
    made.name, made.host_name, made.ipv4, made.ipv6, made.stun_port = name, host, ipv4, ipv6, port
    return made


def derp_map(**regions) -> DerpMap:
    made = DerpMap()
    for key in regions:
        region = Region()
        region.id = int(key[1:])
        region.nodes = regions[key]
        made.regions[region.id] = region
    return made


def test_a_relay_maps_addresses_become_servers_of_each_family():
    both = derp_map(r900=[node("900a", "198.51.100.1", "198.51.100.1", "2001:db8::1")])
    assert netcheck.stun_servers(both, {}) == [FIRST, FIRST6]
    assert netcheck.hosts_to_resolve(both) == []


def test_a_name_without_addresses_is_asked_of_dns_and_none_forbids_a_family():
    named = derp_map(r900=[node("900a", "relay.example", "", "none")], r901=[node("901a", "relay.example", "none", "")])
    assert netcheck.hosts_to_resolve(named) == ["relay.example"]
    found = {"relay.example": [FIRST.ip, FIRST6.ip]}
    assert netcheck.stun_servers(named, found) == [FIRST, StunServer(901, "901a", FIRST6.ip, 3478)]
    assert netcheck.stun_servers(named, {}) == []


def test_a_name_with_addresses_is_not_asked_of_dns():
    known = derp_map(r900=[node("900a", "relay.example", "198.51.100.1", "none")])
    assert netcheck.hosts_to_resolve(known) == []
    assert netcheck.stun_servers(known, {"relay.example": [SECOND.ip, SECOND6.ip]}) == [FIRST]


def test_a_name_of_several_servers_is_asked_once():
    twice = derp_map(r900=[node("900a", "relay.example"), node("900b", "relay.example", port=3479)])
    assert netcheck.hosts_to_resolve(twice) == ["relay.example"]


def test_a_host_name_that_is_an_address_needs_no_dns():
    literal = derp_map(r900=[node("900a", "198.51.100.1"), node("900b", "2001:db8::2", port=3479)])
    assert netcheck.hosts_to_resolve(literal) == []
    assert netcheck.stun_servers(literal, {}) == [FIRST, StunServer(900, "900b", SECOND6.ip, 3479)]


def test_servers_without_stun_and_regions_never_measured_are_left_out():
    silent = derp_map(r900=[node("900a", "198.51.100.1", "198.51.100.1", "none", -1)])
    assert netcheck.stun_servers(silent, {}) == []
    unmeasured = derp_map(r900=[node("900a", "relay.example", "198.51.100.1", "none"), node("900b", "b.example")])
    unmeasured.regions[900].no_measure_no_home = True
    assert netcheck.stun_servers(unmeasured, {}) == []
    assert netcheck.hosts_to_resolve(unmeasured) == []


def test_an_address_at_which_no_server_can_be_is_not_asked():
    for ip in ("0.0.0.0", "224.0.0.1", "255.255.255.255"):
        assert netcheck.stun_servers(derp_map(r900=[node("900a", "r.example", ip, "none")]), {}) == []
    for ip in ("::", "ff02::1"):
        assert netcheck.stun_servers(derp_map(r900=[node("900a", "r.example", "none", ip)]), {}) == []


def test_a_private_server_is_asked_in_both_families():
    for ip in ("fd00::5", "64:ff9b::1", "::1"):
        assert len(netcheck.stun_servers(derp_map(r900=[node("900a", "r.example", "none", ip)]), {})) == 1
    for ip in ("10.0.0.5", "127.0.0.1", "100.64.0.1"):
        assert len(netcheck.stun_servers(derp_map(r900=[node("900a", "r.example", ip, "none")]), {})) == 1


# Words


def said(report, *local) -> str:
    return " ".join(netcheck.describe(report, [ip_from_text(text) for text in local] or None))


def kind(report, *local) -> int:
    return netcheck.nat_kind(report, [ip_from_text(text) for text in local] or None)


def test_no_nat_an_easy_one_and_a_hard_one_are_told_apart():
    easy = after_answers((FIRST, US), (SECOND, US))
    assert kind(easy, "192.168.1.20") == Nat.EASY
    assert "behind an easy NAT" in said(easy, "192.168.1.20")
    assert kind(easy, "203.0.113.9") == Nat.NONE
    assert "IPv4: no NAT" in said(easy, "203.0.113.9")
    hard = after_answers((FIRST, US), (SECOND, at("203.0.113.9:51000")))
    assert kind(hard, "192.168.1.20") == Nat.HARD
    assert "behind a hard NAT" in said(hard, "192.168.1.20")
    assert "cannot be told" not in said(easy) + said(hard)


def test_a_relay_map_with_one_stun_address_is_told_as_such():
    report = after_answers((FIRST, US))
    assert kind(report) == Nat.UNTOLD
    assert "the relay map has one STUN address only" in said(report)
    assert "the relay map has one STUN address only" in said(after_answers((FIRST, US), (FIRST6, US6)))
    assert "IPv4: behind a NAT." in said(report)
    assert "cannot be told" not in said(report, "203.0.113.9")


def test_two_ports_of_one_address_are_one_stun_address():
    assert "the relay map has one STUN address only" in said(after_answers((FIRST, US), (SECOND_PORT, US)))


def test_one_answer_of_two_servers_is_told_as_such():
    assert "1 of 2 servers answered" in said(after_answers((FIRST, US), (SECOND, None)))


def test_blocked_udp_and_no_network_are_told_apart():
    blocked = after_answers((FIRST, None), (SECOND, None))
    assert kind(blocked) == Nat.BLOCKED
    assert "UDP is blocked: no answer from any of 2 STUN servers" in said(blocked)
    one = begin(FIRST, FIRST6)
    requests(one, 0)
    one.send_failed(FIRST, 0)
    one.send_failed(FIRST6, 0)
    assert one.done(0)
    assert kind(one.report(0)) == Nat.NO_NETWORK
    assert "There is no network" in said(one.report(0))


def test_each_family_is_told_by_itself_where_the_other_works():
    one = begin(FIRST, FIRST6)
    sent = requests(one, 0)
    one.send_failed(FIRST, 0)
    one.answer_received(answer(sent[FIRST6], US6), place(FIRST6), 5)
    assert "IPv4: not there" in said(one.report(5))
    assert "IPv4: UDP is blocked" in said(after_answers((FIRST, None), (FIRST6, US6)), "192.168.1.20", "fd00::9")
    assert "IPv6: UDP gets through, but no" in said(after_answers((FIRST, US), (FIRST6, at("[::1]:1"))))


def test_silence_is_no_wonder_for_a_machine_without_addresses():
    silence = after_answers((FIRST, None), (FIRST6, None))
    assert "There is no network" in " ".join(netcheck.describe(silence, []))
    assert netcheck.nat_kind(silence, []) == Nat.NO_NETWORK
    assert "UDP is blocked" in said(silence, "192.168.1.20")
    assert "UDP is blocked" in said(silence, "2001:db8:1::9")
    half = after_answers((FIRST, US), (FIRST6, None))
    assert "IPv6: not there" in said(half, "192.168.1.20")
    assert "IPv6: UDP is blocked" in said(half, "192.168.1.20", "2001:db8:1::9")
    assert netcheck.nat_kind(after_answers((FIRST, None), (FIRST6, US6)), [US6[0]]) == Nat.NO_NETWORK


def test_nobody_to_ask_is_told_as_such():
    assert "names no STUN server" in said(begin().report(0))
    assert "names no STUN server with an IPv6 address" in said(after_answers((FIRST, US)))
    assert "names no STUN server with an IPv4 address" in said(after_answers((FIRST6, US6)))


def test_a_carriers_nat_and_a_double_one_are_hinted_at():
    assert "internet provider's inside" in said(after_answers((FIRST, at("100.64.7.7:41641"))))
    assert "carrier NAT" in said(after_answers((FIRST, US)), "100.64.7.7")
    assert "carrier NAT" not in said(after_answers((FIRST, US)), "192.168.1.20")
    assert "carrier NAT" not in said(after_answers((FIRST, US)), "203.0.113.9", "100.64.7.7")
    assert "double NAT" in said(after_answers((INNER, at("192.168.0.2:41641"))), "10.0.0.5")
    assert "double NAT" not in said(after_answers((INNER, at("10.0.0.5:41641"))), "10.0.0.5")


def test_a_public_server_that_sees_private_addresses_is_told_as_hidden_behind_something():
    report = after_answers((FIRST, at("172.17.0.1:41641")))
    assert report.rewritten4 == 1
    assert "something in front of the server" in said(report, "192.168.1.20")
    assert "something in front of the server" not in said(after_answers((INNER, at("172.17.0.1:41641"))))
    assert after_answers((FIRST, US)).rewritten4 == 0
    assert after_answers((FIRST6, at("[fd00::9]:1"))).rewritten4 == 0
    carriers = StunServer(900, "900a", ip_from_text("100.64.0.10"), 3478)
    assert after_answers((carriers, at("10.0.0.7:41641"))).rewritten4 == 0
    assert after_answers((FIRST, at("127.0.0.1:1"))).rewritten4 == 0


def test_ipv6_is_told_by_itself():
    report = after_answers((FIRST6, US6))
    assert "IPv6: works, no NAT" in said(report, "2001:db8:1::9")
    assert "IPv6: works, but it is translated" in said(report, "fd00::9")
    assert "IPv6: UDP is blocked" in said(after_answers((FIRST, US), (FIRST6, None)))
    one = begin(FIRST, FIRST6)
    sent = requests(one, 0)
    one.send_failed(FIRST6, 0)
    one.answer_received(answer(sent[FIRST], US), place(FIRST), 5)
    assert "IPv6: not there" in said(one.report(5))


def test_an_answer_without_a_usable_address_is_told_as_such():
    assert "no STUN server told a usable outside address" in said(after_answers((FIRST, at("127.0.0.1:1"))))
