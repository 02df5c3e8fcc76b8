"""The local ceiling: what the owner allows, ANDed with whatever a coordinator pushes."""

from core.test_dataplane import OWN4, accepting, advertising, home, netmap, opened, peer, reasons, routes, rule
from wayhomed.core import ceiling as ceilings
from wayhomed.core.ceiling import ANY, NONE, Ceiling, from_config
from wayhomed.core.config import parse
from wayhomed.core.dataplane import Preferences, plan
from wayhomed.wire.address import ip_from_text as ip
from wayhomed.wire.address import prefix_from_text

HTTP = {"First": 80, "Last": 80}


def prefixes(*texts):
    return [prefix_from_text(text) for text in texts]


def services(made, ip_address=OWN4):
    """Return sorted (protocol, first, last) of all that the rules open of an address of ours."""
    found = []
    for each in made.firewall.rules:
        for opening in each.openings:
            if opening.destinations.contains(ip(ip_address)):
                found.extend([(protocol, opening.first, opening.last) for protocol in each.protocols])
    return sorted(found)


def test_without_a_ceiling_the_policy_has_its_way():
    rules = [rule([OWN4], ports=HTTP)]
    made = plan(netmap(rules=rules), Preferences(), home())
    assert services(made) == [(1, 80, 80), (6, 80, 80), (17, 80, 80), (58, 80, 80)]
    assert not made.denied


def test_services_of_this_machine_are_what_policy_and_ceiling_both_open():
    preferences = Preferences(ceiling=Ceiling(services=[(6, 22, 22), (6, 8000, 8010), (17, 53, 53)]))
    made = plan(netmap(rules=[rule(["*"])]), preferences, home())
    echo = [(1, 0, 65535), (58, 0, 65535)]
    assert services(made) == sorted(echo + [(6, 22, 22), (6, 8000, 8010), (17, 53, 53)])
    assert "tcp:22, tcp:8000-8010, udp:53" in made.denied[0]
    made = plan(netmap(rules=[rule([OWN4], ports={"First": 8005, "Last": 9000}, IPProto=[6])]), preferences, home())
    assert services(made) == sorted(echo + [(6, 8005, 8010)])
    made = plan(netmap(rules=[rule([OWN4], ports=HTTP)]), preferences, home())
    assert services(made) == echo
    assert made.denied


def test_a_policy_that_stays_below_the_ceiling_is_not_complained_about():
    preferences = Preferences(ceiling=Ceiling(services=[(6, 1, 100), (6, 101, 65535)]))
    made = plan(netmap(rules=[rule([OWN4], IPProto=[6])]), preferences, home())
    assert not made.denied
    assert plan(netmap(rules=[rule([OWN4], IPProto=[6, 17])]), preferences, home()).denied


def test_no_service_at_all_still_answers_a_ping():
    made = plan(netmap(rules=[rule(["*"])]), Preferences(ceiling=Ceiling(services=[])), home())
    assert services(made) == [(1, 0, 65535), (58, 0, 65535)]
    assert not plan(netmap(), Preferences(ceiling=Ceiling(services=[])), home()).firewall.rules


def test_the_lan_side_address_of_this_machine_is_under_the_same_ceiling():
    rules = [rule(["192.168.1.2", "192.168.1.10"])]
    preferences = advertising("192.168.1.0/24", ceiling=Ceiling(services=[(6, 443, 443)]))
    made = plan(netmap(rules=rules), preferences, home())
    assert services(made, "192.168.1.2") == [(1, 0, 65535), (6, 443, 443), (58, 0, 65535)]
    assert services(made, "192.168.1.10") == [(number, 0, 65535) for number in (1, 6, 17, 58)]


def test_services_of_the_lan_are_not_the_services_of_this_machine():
    preferences = advertising("192.168.1.0/24", ceiling=Ceiling(services=[]))
    made = plan(netmap(rules=[rule(["192.168.1.0/24"], ports=HTTP)]), preferences, home())
    assert services(made, "192.168.1.10") == [(number, 80, 80) for number in (1, 6, 17, 58)]
    assert not made.denied


def test_of_an_advertised_network_only_the_allowed_part_is_served():
    preferences = advertising("192.168.1.0/24", ceiling=Ceiling(lans=prefixes("192.168.1.8/30", "10.0.0.0/8")))
    made = plan(netmap(rules=[rule(["*"])]), preferences, home())
    assert ["192.168.1.8-192.168.1.11" in each for each in opened(made)] == [True]
    assert services(made, "192.168.1.12") == []
    assert made.denied == ["of 192.168.1.0/24 only what allow-lans leaves is served"]


def test_a_network_that_the_ceiling_leaves_out_is_not_served_at_all():
    preferences = advertising("192.168.1.0/24", "10.1.0.0/16", ceiling=Ceiling(lans=prefixes("10.0.0.0/8")))
    made = plan(netmap(rules=[rule(["*"])]), preferences, home())
    assert reasons(made) == {"192.168.1.0/24": "allow-lans in this machine's configuration leaves it out"}
    assert services(made, "192.168.1.10") == [] and services(made, "10.1.2.3")
    made = plan(netmap(rules=[rule(["*"])]), advertising("10.1.0.0/16", ceiling=Ceiling(lans=[])), home())
    assert not made.forwarding and "allows none" in reasons(made)["10.1.0.0/16"]


def published(target, limit):
    given = [{"Name": "nas", "Address4": "100.64.0.50", "Target4": target}]
    made = plan(netmap(rules=[rule(["100.64.0.50"])], published=given), Preferences(ceiling=limit), home())
    assert bool(made.firewall.published) != bool(made.problems)
    return made


def test_devices_are_published_only_where_both_limits_allow_it():
    lan, nas = prefixes("192.168.1.0/24"), prefixes("192.168.1.10/32")
    for limit in (Ceiling(), Ceiling(publish=nas), Ceiling(publish=lan, lans=nas), Ceiling(lans=nas)):
        assert published("192.168.1.10", limit).firewall.published
    for limit in (Ceiling(publish=[]), Ceiling(lans=[]), Ceiling(lans=lan, publish=[]), NONE):
        made = published("192.168.1.10", limit)
        assert not made.forwarding and "configuration allows none" in made.problems[0]
    for limit in (Ceiling(publish=nas), Ceiling(publish=lan, lans=nas)):
        assert "leaves it out" in published("192.168.1.11", limit).problems[0]


def test_other_routers_networks_are_used_only_within_the_ceiling():
    given = netmap([peer(2, "100.64.0.2/32", "10.9.0.0/16", "10.8.0.0/16", "172.16.0.0/12")])
    limit = Ceiling(peers_routes=prefixes("10.9.0.0/16", "172.16.0.0/16"))
    made = plan(given, accepting(ceiling=limit), home())
    assert routes(made) == ["10.9.0.0/16", "100.64.0.2/32"]
    assert sorted(reasons(made)) == ["10.8.0.0/16", "172.16.0.0/12"]
    assert routes(plan(given, accepting(ceiling=Ceiling(peers_routes=[])), home())) == ["100.64.0.2/32"]


def test_the_internet_is_not_drawn_into_the_tunnel_piece_by_piece():
    pieces = ["16.0.0.0/5", "32.0.0.0/3", "11.0.0.0/8", "12.0.0.0/8"] + [f"{n}.0.0.0/16" for n in range(65, 75)]
    given = netmap([peer(2, "100.64.0.2/32", "0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "2000::/3", *pieces)])
    made = plan(given, accepting(), home())
    assert routes(made) == ["100.64.0.2/32", "11.0.0.0/8"]
    assert "name it in allow-peers-routes" in reasons(made)["32.0.0.0/3"]
    made = plan(given, accepting(ceiling=Ceiling(peers_routes=prefixes("32.0.0.0/3", "2000::/3"))), home())
    assert routes(made) == ["100.64.0.2/32", "2000::/3", "32.0.0.0/3"]


def test_many_small_public_networks_are_used():
    some = [f"{number}.1.0.0/16" for number in range(11, 99)]
    given = netmap([peer(2, "100.64.0.2/32", "2001:db8::/32", *some)])
    assert len(routes(plan(given, accepting(), home()))) == 90


def test_dns_servers_that_a_coordinator_names_are_told_and_left_alone():
    given = netmap()
    given.dns = {"Resolvers": [{"Addr": "192.0.2.66"}]}
    assert "DNS stays as it is" in plan(given, Preferences(), home()).denied[0]
    for dns in ({}, {"Resolvers": []}, {"Resolvers": "x"}, {"Routes": {"corp.example": []}, "Proxied": True}):
        given.dns = dns
        assert not plan(given, Preferences(), home()).denied


def test_what_is_refused_does_not_grow_without_end():
    given = netmap([peer(2, "100.64.0.2/32")])
    for number in range(3, 60):
        given.peers[number] = given.peers[2].copy()
        given.peers[number].key = bytes([number] * 32)
        given.peers[number].allowed_ips = [(bytes((127, number, i, 0)), 24) for i in range(100)]
    made = plan(given, accepting(), home())
    assert len(made.refused) == 500
    assert "and 5200 more addresses and routes are refused" in made.problems


def ceiling_of(text):
    found = from_config(parse(text.encode()))
    return [found.lans, found.services, found.publish, found.peers_routes]


def test_the_file_makes_the_ceiling():
    assert ceiling_of("") == [ANY, ANY, ANY, ANY]
    assert ceiling_of("allow-lans = 10.0.0.0/8\nallow-services = none") == [prefixes("10.0.0.0/8"), [], ANY, ANY]


def test_a_faulty_line_closes_what_it_is_about():
    assert ceiling_of("allow-lans = 10.0.0.1/8\nallow-services = tcp:22") == [[], [(6, 22, 22)], ANY, ANY]
    assert ceiling_of("allow-services tcp:22") == [ANY, [], ANY, ANY]
    assert ceiling_of("allow-service = tcp:22") == [ANY, [], ANY, ANY]
    assert ceiling_of("Allow-Publish = none") == [ANY, ANY, [], ANY]
    assert ceiling_of("allow-lans = 10.0.0.0/8\nallow-lans = any") == [[], ANY, ANY, ANY]
    assert ceiling_of("port = none") == [ANY, ANY, ANY, ANY]


def test_a_line_that_may_have_been_meant_as_a_limit_closes_everything():
    for text in ("limit = 10.0.0.0/8", "no services please", "= none", "\0", "x" * 70_000):
        assert ceiling_of(text) == [[], [], [], []], text[:40]
    assert ceiling_of("\n".join(["port = x"] * 60)) == [[], [], [], []]


def test_the_settings_have_the_names_of_the_file():
    for name in ceilings.SETTINGS:
        assert not parse((name + " = none").encode()).faults
