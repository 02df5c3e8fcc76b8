"""Which endpoints peers are told of, and how long they are good for."""

from wayhomed.core.endpoints import (
    FRESH_MS,
    LOCAL,
    MAX_ENDPOINTS,
    REMEMBERED_MS,
    STUN,
    STUN4_LOCAL_PORT,
    OwnEndpoints,
    netinfo,
)
from wayhomed.core.netcheck import Netcheck
from wayhomed.wire.address import endpoint_from_text, ip_from_text

PORT = 41641


def at(text: str) -> tuple:
    return endpoint_from_text(text)


def ips(*texts) -> list:
    return [ip_from_text(text) for text in texts]


def report(*mapped, varies=None, mapped6=()) -> Netcheck:
    made = Netcheck()
    made.asked4 = made.answered4 = len(mapped)
    made.asked6 = made.answered6 = len(mapped6)
    made.mapped4 = [(at(text), times) for text, times in mapped]
    made.mapped6 = [(at(text), times) for text, times in mapped6]
    made.mapping_varies = varies
    return made


def own(random_byte: int = 0) -> OwnEndpoints:
    return OwnEndpoints(PORT, lambda size: bytes([random_byte] * size))


def test_as_seen_from_outside_comes_before_the_machines_own_addresses():
    one = own()
    one.interfaces_changed(ips("192.168.1.20", "2001:db8:1::9"))
    one.report_received(report(("203.0.113.9:5000", 2), varies=False, mapped6=[("[2001:db8:1::9]:41641", 1)]), 0)
    assert one.current(0) == [
        (at("203.0.113.9:5000"), STUN),
        (at("[2001:db8:1::9]:41641"), STUN),
        (at("192.168.1.20:41641"), LOCAL),
    ]


def test_the_best_mapping_is_told_and_others_only_if_seen_more_than_once():
    one = own()
    one.report_received(report(("203.0.113.9:1", 3), ("203.0.113.9:2", 2), ("203.0.113.9:3", 1), varies=True), 0)
    assert [endpoint for endpoint, kind in one.current(0) if kind == STUN] == [
        at("203.0.113.9:1"),
        at("203.0.113.9:2"),
    ]


def test_behind_a_hard_nat_the_outside_address_with_our_own_port_is_told_too():
    one = own()
    one.report_received(report(("203.0.113.9:5000", 1), ("203.0.113.9:5001", 1), varies=True), 0)
    assert one.current(0) == [(at("203.0.113.9:5000"), STUN), (at("203.0.113.9:41641"), STUN4_LOCAL_PORT)]
    one = own()
    one.report_received(report(("203.0.113.9:41641", 1), ("203.0.113.9:5001", 1), varies=True), 0)
    assert one.current(0) == [(at("203.0.113.9:41641"), STUN)]


def test_behind_an_easy_nat_or_an_untold_one_no_port_is_guessed():
    for varies in (False, None):
        one = own()
        one.report_received(report(("203.0.113.9:5000", 1), varies=varies), 0)
        assert one.current(0) == [(at("203.0.113.9:5000"), STUN)]


def test_an_outside_endpoint_is_remembered_for_five_minutes_and_ten_seconds():
    one = own()
    one.report_received(report(("203.0.113.9:5000", 2)), 0)
    one.report_received(report(("203.0.113.9:6000", 2)), 20_000)
    one.report_received(report(), 40_000)
    assert one.current(REMEMBERED_MS) == [(at("203.0.113.9:6000"), STUN), (at("203.0.113.9:5000"), STUN)]
    assert one.current(REMEMBERED_MS + 1) == [(at("203.0.113.9:6000"), STUN)]
    assert one.current(REMEMBERED_MS + 20_001) == []


def test_a_call_names_what_the_newest_report_of_each_family_has_and_no_memories():
    one = own()
    one.interfaces_changed(ips("192.168.1.20"))
    both = [("[2001:db8:1::9]:41641", 1)]
    one.report_received(report(("203.0.113.9:1", 1), mapped6=both), 0)
    assert one.to_call_with(0) == [at("203.0.113.9:1"), at("[2001:db8:1::9]:41641"), at("192.168.1.20:41641")]
    # another mapping of IPv4, no word of IPv6
    one.report_received(report(("203.0.113.9:2", 1)), 20_000)
    assert one.to_call_with(20_000) == [at("203.0.113.9:2"), at("[2001:db8:1::9]:41641"), at("192.168.1.20:41641")]
    assert at("203.0.113.9:1") in [endpoint for endpoint, _kind in one.current(20_000)]


def test_a_call_names_the_last_that_was_seen_while_nobody_answers():
    one = own()
    one.report_received(report(("203.0.113.9:1", 1)), 0)
    one.report_received(report(), 20_000)
    one.interfaces_changed(ips("192.168.1.21"))
    assert one.to_call_with(20_000) == [at("203.0.113.9:1"), at("192.168.1.21:41641")]
    one.report_received(report(("203.0.113.9:2", 1)), 25_000)
    assert one.to_call_with(25_000) == [at("203.0.113.9:2"), at("192.168.1.21:41641")]
    assert one.to_call_with(25_000 + REMEMBERED_MS + 1) == [at("192.168.1.21:41641")]


def test_an_own_address_that_was_once_seen_from_outside_is_always_named_in_a_call():
    one = own()
    one.interfaces_changed(ips("203.0.113.9"))
    one.report_received(report(("203.0.113.9:41641", 1)), 0)
    one.report_received(report(("203.0.113.77:5", 1)), 20_000)
    assert one.to_call_with(20_000) == [at("203.0.113.77:5"), at("203.0.113.9:41641")]


def test_a_nat_with_a_new_mapping_each_time_does_not_crowd_out_the_own_addresses():
    one = own()
    one.interfaces_changed(ips("192.168.1.20", "10.0.0.7"))
    for turn in range(200):
        one.report_received(report(("203.0.113.9:%d" % (1000 + turn), 1), varies=True), 100 * turn)  # noqa: UP031
    told = one.current(20_000)
    assert len(told) == MAX_ENDPOINTS // 2 + 2
    assert told[0] == (at("203.0.113.9:1199"), STUN)
    assert told[-2:] == [(at("192.168.1.20:41641"), LOCAL), (at("10.0.0.7:41641"), LOCAL)]


def test_no_more_than_the_limit_is_told_of_a_machine_with_many_addresses():
    one = own()
    one.interfaces_changed([bytes((10, 0, 0, 1 + i)) for i in range(100)])
    one.report_received(report(("203.0.113.9:5000", 1)), 0)
    told = one.current(0)
    assert len(told) == MAX_ENDPOINTS
    assert told[0] == (at("203.0.113.9:5000"), STUN)


def test_addresses_that_serve_nobody_else_are_left_out():
    one = own()
    useless = ips("127.0.0.1", "::1", "169.254.3.4", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "fd7a:115c:a1e0::7")
    assert not one.interfaces_changed(useless)
    assert one.current(0) == []


def test_the_tunnels_own_address_is_left_out_and_a_carriers_is_not():
    one = own()
    one.interfaces_changed(ips("100.64.0.9", "100.99.3.4"), ips("100.64.0.9"))
    assert one.current(0) == [(at("100.99.3.4:41641"), LOCAL)]


def test_a_mapping_that_is_a_mesh_address_is_not_told():
    one = own()
    one.interfaces_changed([], ips("100.64.0.9"))
    one.report_received(report(("100.64.0.9:41641", 1)), 0)
    assert one.current(0) == []


def test_a_nat_with_a_new_mapping_each_time_is_not_remembered_without_end():
    one = own()
    for turn in range(40):
        one.report_received(report((f"203.0.113.{100 + turn}:1", 1)), turn)
    one.report_received(report(), 40)
    newest = ips(*[f"203.0.113.{140 - back}" for back in range(1, 17)])
    one.interfaces_changed([], newest)
    assert one.current(40) == []


def test_a_hard_nat_without_a_usable_mapping_tells_nothing():
    one = own()
    one.report_received(report(varies=True), 0)
    assert one.current(0) == []


def test_an_address_given_twice_is_told_once():
    one = own()
    one.interfaces_changed(ips("203.0.113.9"))
    assert not one.interfaces_changed(ips("203.0.113.9", "203.0.113.9"))
    one.interfaces_changed(ips("203.0.113.9", "203.0.113.9"))
    one.report_received(report(("203.0.113.9:41641", 1)), 0)
    assert one.current(0) == [(at("203.0.113.9:41641"), STUN)]


def test_endpoints_are_fresh_for_27_seconds_after_a_report_and_not_before():
    one = own()
    assert not one.is_fresh(0)
    one.report_received(report(("203.0.113.9:5000", 1)), 1000)
    assert one.is_fresh(1000 + FRESH_MS)
    assert not one.is_fresh(1001 + FRESH_MS)


def test_other_interfaces_make_the_endpoints_stale_and_the_same_ones_do_not():
    one = own()
    assert one.interfaces_changed(ips("192.168.1.20"))
    one.report_received(report(("203.0.113.9:5000", 1)), 0)
    assert not one.interfaces_changed(ips("192.168.1.20"))
    assert one.is_fresh(0)
    assert one.interfaces_changed(ips("192.168.7.3"))
    assert not one.is_fresh(0)
    assert one.next_refresh_ms() == 0
    assert one.current(0) == [(at("203.0.113.9:5000"), STUN), (at("192.168.7.3:41641"), LOCAL)]


def test_the_same_addresses_in_another_order_are_no_change():
    one = own()
    one.interfaces_changed(ips("192.168.1.20", "10.0.0.7"))
    one.report_received(report(), 0)
    assert not one.interfaces_changed(ips("10.0.0.7", "192.168.1.20"))
    assert one.is_fresh(0)


def test_the_next_round_is_due_after_20_to_26_seconds_by_chance():
    for random_byte, wait_ms in ((0, 20_000), (255, 26_000)):
        one = own(random_byte)
        assert one.next_refresh_ms() == 0
        one.report_received(report(), 5_000)
        assert one.next_refresh_ms() == 5_000 + wait_ms


def test_after_a_round_that_nobody_answered_the_next_is_due_in_5_seconds():
    blocked = Netcheck()
    blocked.asked4 = blocked.asked6 = 1
    one = own()
    one.report_received(blocked, 5_000)
    assert one.next_refresh_ms() == 10_000
    blocked.answered6 = 1
    one.report_received(blocked, 10_000)
    assert one.next_refresh_ms() == 30_000


def test_a_clock_that_steps_back_makes_nothing_fresh_again():
    one = own()
    one.report_received(report(("203.0.113.9:5000", 1)), 1_000_000)
    assert not one.is_fresh(1_000_001 + FRESH_MS)
    assert not one.is_fresh(0)
    one.report_received(report(), 0)
    assert one.next_refresh_ms() >= 1_000_000 + FRESH_MS + 20_000


def test_a_clock_that_jumps_ahead_forgets_the_outside_and_keeps_the_own_addresses():
    one = own()
    one.interfaces_changed(ips("192.168.1.20"))
    one.report_received(report(("203.0.113.9:5000", 1)), 0)
    assert one.current(10**12) == [(at("192.168.1.20:41641"), LOCAL)]


def test_netinfo_names_the_home_and_leaves_out_what_is_not_known():
    assert netinfo(None, 900) == {"PreferredDERP": 900}
    one_server = report(("203.0.113.9:5000", 1))
    one_server.latencies_ms = {(900, 4): 21}
    assert netinfo(one_server, 900) == {
        "PreferredDERP": 900,
        "WorkingUDP": True,
        "DERPLatency": {"900-v4": 0.021},
    }


def test_netinfo_of_a_map_without_stun_and_of_ipv6_alone():
    assert netinfo(Netcheck(), 900) == {"PreferredDERP": 900, "DERPLatency": {}}
    alone = report(mapped6=[("[2001:db8::9]:1", 1)])
    assert netinfo(alone, 900) == {
        "PreferredDERP": 900,
        "WorkingIPv6": True,
        "WorkingUDP": True,
        "DERPLatency": {},
    }


def test_netinfo_tells_a_hard_nat_and_ipv6():
    made = report(("203.0.113.9:1", 1), ("203.0.113.9:2", 1), varies=True, mapped6=[("[2001:db8::9]:1", 1)])
    made.latencies_ms = {(900, 4): 30, (900, 6): 12}
    assert netinfo(made, 900) == {
        "PreferredDERP": 900,
        "MappingVariesByDestIP": True,
        "WorkingIPv6": True,
        "WorkingUDP": True,
        "DERPLatency": {"900-v4": 0.03, "900-v6": 0.012},
    }
