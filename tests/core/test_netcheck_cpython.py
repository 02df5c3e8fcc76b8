"""A measurement against anything at all: what strangers send, clocks that jump, and any relay map."""

from hypothesis import given, settings
from hypothesis import strategies as st

from core.test_netcheck import Txids
from wayhomed.core import netcheck
from wayhomed.core.endpoints import MAX_ENDPOINTS, OwnEndpoints
from wayhomed.core.netcheck import BUDGET_MS, MAX_SERVERS, TRIES, StunRound, StunServer
from wayhomed.wire import stun

ips = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
near_ips = st.integers(0, 5).map(lambda last: bytes((192, 0, 2, last))) | st.integers(0, 5).map(
    lambda last: b"\x20\x01\x0d\xb8" + bytes(11) + bytes((last,))
)
ports = st.integers(0, 65535)
endpoints = st.tuples(ips | near_ips, ports)
servers = st.lists(
    st.builds(StunServer, st.integers(1, 4), st.just("n"), near_ips, st.sampled_from([3478, 3479])), max_size=80
)
times = st.integers(-(2**40), 2**40) | st.integers(0, 2 * BUDGET_MS)
# What happens in a round: (what, which request or server, an endpoint or bytes, when)
events = st.lists(
    st.tuples(
        st.sampled_from(["answer", "elsewhere", "bytes", "failed", "send"]), st.integers(0, 40), endpoints, times
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=400)
@given(servers, events, st.binary(max_size=60))
def test_whatever_comes_a_round_stays_bounded_ends_and_believes_only_those_it_asked(named, happened, noise):
    one = StunRound(named, Txids(), 0)
    sent: list = []
    believed: dict = {}
    now_ms = 0
    for what, which, endpoint, at_ms in happened:
        now_ms = max(now_ms, at_ms)
        if what == "send":
            sent += one.take_requests(at_ms)
        elif what == "bytes":
            assert not one.answer_received(noise, endpoint, at_ms)
        elif what == "failed" and named:
            one.send_failed(named[which % len(named)], at_ms)
        elif sent:
            server, request = sent[which % len(sent)]
            datagram = stun.encode_binding_response(stun.decode_binding_request(request), *endpoint)
            if what == "elsewhere":
                if endpoint != (server.ip, server.port):
                    assert not one.answer_received(datagram, endpoint, at_ms)
            elif one.answer_received(datagram, (server.ip, server.port), at_ms):
                assert server not in believed
                believed[server] = endpoint
    report = one.report(now_ms)
    assert report.asked4 + report.asked6 <= MAX_SERVERS
    assert report.answered4 + report.answered6 == len(believed)
    for mapped, size in ((report.mapped4, 4), (report.mapped6, 16)):
        for endpoint, times_seen in mapped:
            assert netcheck.is_believable(endpoint, size)
            assert 0 < times_seen <= len(believed)
    assert all(latency_ms > 0 for latency_ms in report.latencies_ms.values())
    assert all(
        sentence.endswith(".")
        for sentence in netcheck.describe(report, [endpoint[0] for endpoint in believed.values()])
    )

    # left to itself it ends, and its timer never stands still
    steps = 0
    while (due_ms := one.next_timer_ms()) is not None:
        assert due_ms > now_ms or one.take_requests(now_ms) or one.done(now_ms)
        now_ms = max(now_ms, due_ms)
        sent += one.take_requests(now_ms)
        one.done(now_ms)
        steps += 1
        assert steps <= TRIES * MAX_SERVERS + 2
    assert len(sent) <= TRIES * MAX_SERVERS
    assert one.done(now_ms)


def reports(mapped):
    report = netcheck.Netcheck()
    report.asked4 = report.answered4 = len(mapped)
    report.mapped4 = [(endpoint, times_seen) for endpoint, times_seen in mapped if len(endpoint[0]) == 4]
    report.mapped6 = [(endpoint, times_seen) for endpoint, times_seen in mapped if len(endpoint[0]) == 16]
    report.mapping_varies = len(report.mapped4) > 1
    return report


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(endpoints, st.integers(1, 5)), max_size=20).map(reports)
            | st.lists(ips | near_ips, max_size=30),
            times,
        ),
        max_size=20,
    )
)
def test_what_is_told_is_bounded_and_each_endpoint_stands_once(happened):
    one = OwnEndpoints(41641, lambda size: bytes(size))
    for news, at_ms in happened:
        if isinstance(news, list):
            one.interfaces_changed(news)
        else:
            one.report_received(news, at_ms)
            assert one.is_fresh(at_ms)
        told = [endpoint for endpoint, _ in one.current(at_ms)]
        assert len(told) == len(set(told)) <= MAX_ENDPOINTS
        local = one.local_ips()
        # our own addresses are never crowded out by what was seen from outside
        assert sum(ip in local for ip, _ in told) >= min(len(local), MAX_ENDPOINTS // 2)
