"""The ceiling under hypothesis: what passes is exactly what policy and ceiling both open, never more."""

from hypothesis import given
from hypothesis import strategies as st

from wayhomed.core import ranges
from wayhomed.core.ceiling import Ceiling
from wayhomed.core.dataplane import Preferences, plan
from wayhomed.core.filter import ICMP, ICMPV6, Opening, Rule
from wayhomed.wire.address import contains, prefix_text

from core.test_dataplane import home, netmap, peer  # isort: skip

HERE = [bytes((100, 64, 0, 1)), bytes((192, 168, 1, 2))]
ELSEWHERE = [bytes((192, 168, 1, 9)), bytes((192, 168, 1, 3))]
PORTS = st.integers(0, 40)
STRETCHES = st.tuples(PORTS, PORTS).map(sorted)
SERVICES = st.lists(
    st.tuples(st.sampled_from([6, 17]), STRETCHES).map(lambda one: (one[0], max(1, one[1][0]), one[1][1]))
)
RANGES = st.lists(st.sampled_from(HERE + ELSEWHERE), min_size=1).map(lambda ips: [(ip, ip) for ip in ips]) | st.just(
    [(bytes((100, 64, 0, 0)), bytes((192, 168, 1, 255)))]
)
OPENINGS = st.lists(st.tuples(STRETCHES, RANGES), min_size=1, max_size=4)
PROTOCOLS = st.sets(st.sampled_from([1, 6, 17, 58, 132]), min_size=1).map(lambda found: tuple(sorted(found)))


def is_open(rules, ip, protocol, port):
    return any(
        protocol in rule.protocols and opening.first <= port <= opening.last and opening.destinations.contains(ip)
        for rule in rules
        for opening in rule.openings
    )


def is_named(rules, ip):
    return any(rule.destinations().contains(ip) for rule in rules)


@given(SERVICES, OPENINGS, PROTOCOLS)
def test_of_this_machine_that_is_open_which_both_open_and_elsewhere_all(services, openings, protocols):
    services = [one for one in services if one[1] <= one[2]]

    def policy():
        made = [Opening(first, last, found) for (first, last), found in openings]
        return Rule(ranges.Ranges([(bytes(4), b"\xff" * 4)]), made, protocols)

    here = ranges.Ranges([ranges.single(ip) for ip in HERE])
    rules, was_cut = Ceiling(services=services).cut_services(policy(), here)
    cut = False
    for port in range(0, 42):
        for protocol in (6, 17, 132):
            allowed = any(one[0] == protocol and one[1] <= port <= one[2] for one in services)
            for ip in HERE:
                wanted = is_open([policy()], ip, protocol, port)
                assert is_open(rules, ip, protocol, port) == (wanted and allowed), (ip, protocol, port)
                cut = cut or (wanted and not allowed and port > 0)
            for ip in ELSEWHERE:
                assert is_open(rules, ip, protocol, port) == is_open([policy()], ip, protocol, port)
    for ip in HERE + ELSEWHERE:
        # the firewall lets those ping who may reach anything
        assert is_named(rules, ip) == is_named([policy()], ip)
        for protocol in (ICMP, ICMPV6):
            assert is_open(rules, ip, protocol, 5) or not is_open([policy()], ip, protocol, 5)
    assert was_cut == cut


NETWORKS = st.tuples(st.binary(min_size=4, max_size=4), st.integers(0, 32)).map(
    lambda one: ((int.from_bytes(one[0], "big") >> (32 - one[1]) << (32 - one[1])).to_bytes(4, "big"), one[1])
)
PRIVATE = st.tuples(st.integers(0, 255), st.integers(8, 32)).map(
    lambda one: (
        (int.from_bytes(bytes((10, one[0], 0, 0)), "big") >> (32 - one[1]) << (32 - one[1])).to_bytes(4, "big"),
        one[1],
    )
)
SOME = st.lists(NETWORKS | PRIVATE, max_size=6)


@given(SOME, SOME, SOME, SOME, st.booleans())
def test_whatever_is_pushed_nothing_passes_the_ceiling(advertised, lans, pushed, allowed, accept):
    rules = [{"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}]}]
    given_map = netmap([peer(2, "100.64.0.2/32", *[prefix_text(one) for one in pushed])], rules)
    limit = Ceiling(lans=lans, peers_routes=allowed)
    made = plan(given_map, Preferences(advertised, accept, ceiling=limit), home())
    for rule in made.firewall.rules:
        for low, high in rule.destinations().items():
            if not made.firewall.own.contains(low):
                for ip in (low, high):
                    assert any(contains(one, ip) for one in lans) and any(contains(one, ip) for one in advertised)
    for ip, length in made.routes:
        if length < 32:
            assert accept and any(outer[1] <= length and contains(outer, ip) for outer in allowed)
