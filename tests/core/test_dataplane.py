from shared.map_message import take
from wayhomed.core import dataplane
from wayhomed.core.ceiling import Ceiling
from wayhomed.core.dataplane import Facts, Preferences, plan
from wayhomed.core.netmap import Netmap
from wayhomed.core.published import KEY
from wayhomed.wire.address import ip_from_text as ip
from wayhomed.wire.address import ip_text, prefix_from_text, prefix_text

ALL = {"First": 0, "Last": 65535}
OWN4, OWN6 = "100.64.0.1", "fd7a:115c:a1e0::1"


def key_text(number):
    return f"nodekey:{number:064x}"


def peer(node_id, *allowed, **more):
    fields = {"ID": node_id, "Name": f"p{node_id}.x.", "Key": key_text(node_id), "Addresses": list(allowed[:1])}
    fields["AllowedIPs"] = list(allowed)
    fields.update(more)
    return fields


def netmap(peers=(), rules=(), published=None, addresses=(OWN4 + "/32", OWN6 + "/128")):
    made = Netmap()
    node = {"ID": 1, "Key": key_text(1), "Addresses": list(addresses)}
    if published:
        node["CapMap"] = {KEY: published}
    take(made, {"Node": node, "Peers": list(peers), "PacketFilter": list(rules)})
    return made


def home():
    """A one-armed board in a home: 192.168.1.2/24, its gateway also its resolver, the coordinator far away."""
    facts = Facts()
    facts.own = [ip("127.0.0.1"), ip("192.168.1.2"), ip("fd00:1::2")]
    facts.connected = [prefix_from_text("192.168.1.0/24"), prefix_from_text("fd00:1::/64")]
    facts.gateways = [ip("192.168.1.1")]
    facts.resolvers = [ip("192.168.1.1"), ip("9.9.9.9")]
    facts.remotes = [ip("203.0.113.10")]
    return facts


def carrier():
    """A board whose WAN has an address of the mesh's range: 100.64.8.2/22."""
    facts = home()
    facts.own.append(ip("100.64.8.2"))
    facts.connected.append(prefix_from_text("100.64.8.0/22"))
    facts.gateways = [ip("100.64.8.1")]
    facts.resolvers = [ip("100.64.8.3"), ip("100.64.200.3")]
    return facts


def accepting(**more):
    return Preferences(accept_routes=True, **more)


def advertising(*texts, **more):
    return Preferences(advertise_routes=[prefix_from_text(text) for text in texts], **more)


def rule(destinations, sources=("100.64.0.2",), ports=ALL, **more):
    made = {"SrcIPs": list(sources), "DstPorts": [{"IP": text, "Ports": ports} for text in destinations]}
    made.update(more)
    return made


def routes(made):
    return sorted([prefix_text(prefix) for prefix in made.routes])


def reasons(made):
    return {prefix_text(prefix): reason for prefix, _node, reason in made.refused}


def texts(content):
    return [ip_text(low) if low == high else ip_text(low) + "-" + ip_text(high) for low, high in content.items()]


def opened(made):
    return [texts(each.destinations()) for each in made.firewall.rules]


def test_without_a_netmap_everything_is_closed():
    made = plan(Netmap(), accepting(), home())
    assert not made.addresses and not made.peers and not made.routes and not made.forwarding
    assert not made.firewall.rules and not made.firewall.allowed


def test_own_addresses_are_those_of_the_mesh():
    made = plan(netmap(addresses=[OWN4 + "/32", OWN6 + "/128", "8.8.8.8/32", "100.64.3.0/24"]), Preferences(), home())
    assert [ip_text(each) for each in made.addresses] == [OWN4, OWN6]
    assert set(reasons(made)) == {"8.8.8.8/32", "100.64.3.0/24"}


def test_an_own_address_that_the_uplink_has_too_is_refused():
    made = plan(netmap(addresses=["100.64.8.2/32", OWN6 + "/128"]), Preferences(), carrier())
    assert [ip_text(each) for each in made.addresses] == [OWN6]
    assert "own network" in reasons(made)["100.64.8.2/32"]
    facts = home()
    facts.remotes.append(ip(OWN4))  # a relay whose address we would take over
    made = plan(netmap(addresses=[OWN4 + "/32", OWN6 + "/128"]), Preferences(), facts)
    assert [ip_text(each) for each in made.addresses] == [OWN6]


def test_a_peers_own_addresses_are_always_taken():
    made = plan(netmap([peer(2, "100.64.0.2/32", "fd7a:115c:a1e0::2/128")]), Preferences(), home())
    assert routes(made) == ["100.64.0.2/32", "fd7a:115c:a1e0::2/128"]
    assert list(made.peers.values()) == [made.routes]
    assert texts(made.firewall.peers) == texts(made.firewall.allowed) == ["100.64.0.2", "fd7a:115c:a1e0::2"]


def test_subnets_are_taken_only_if_the_owner_accepts_routes():
    given = netmap([peer(2, "100.64.0.2/32", "10.9.0.0/16")])
    assert routes(plan(given, Preferences(), home())) == ["100.64.0.2/32"]
    assert routes(plan(given, accepting(), home())) == ["10.9.0.0/16", "100.64.0.2/32"]


def test_a_public_address_is_a_subnet_however_it_is_dressed():
    given = netmap([peer(2, "100.64.0.2/32", "9.9.9.9/32", Addresses=["100.64.0.2/32", "9.9.9.9/32"])])
    assert routes(plan(given, Preferences(), home())) == ["100.64.0.2/32"]


def test_the_own_lan_beats_an_accepted_route():
    given = netmap([peer(2, "100.64.0.2/32", "192.168.1.0/24", "192.168.0.0/16", "192.168.1.128/25", "fd00:1::/64")])
    made = plan(given, accepting(), home())
    assert routes(made) == ["100.64.0.2/32"]
    assert sorted(reasons(made)) == ["192.168.0.0/16", "192.168.1.0/24", "192.168.1.128/25", "fd00:1::/64"]
    for reason in reasons(made).values():
        assert "connected to" in reason


def test_a_route_that_would_swallow_what_the_machine_needs_is_refused():
    given = netmap([peer(2, "100.64.0.2/32", "203.0.113.0/24", "9.9.9.9/32", "203.0.112.0/24")])
    made = plan(given, accepting(), home())
    assert routes(made) == ["100.64.0.2/32", "203.0.112.0/24"]
    assert "coordinator" in reasons(made)["203.0.113.0/24"] and "DNS" in reasons(made)["9.9.9.9/32"]


def test_a_route_that_this_node_serves_is_not_taken_from_others():
    given = netmap([peer(2, "100.64.0.2/32", "10.1.0.0/16", "10.2.0.0/16")])
    made = plan(given, advertising("10.1.2.0/24", accept_routes=True), home())
    assert routes(made) == ["10.2.0.0/16", "100.64.0.2/32"]


def test_what_is_no_tunnels_business_is_refused():
    never = ["127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "fe80::/10", "ff00::/8", "::1/128"]
    never += ["100.64.0.0/10", "100.64.3.0/24", "100.0.0.0/8", "fd7a:115c:a1e0::/48", "100.100.100.100/32"]
    made = plan(netmap([peer(2, "100.64.0.2/32", *never)]), accepting(), home())
    assert routes(made) == ["100.64.0.2/32"]
    assert sorted(reasons(made)) == sorted(never)


def test_4via6_prefixes_are_subnets_like_any_other():
    given = netmap([peer(2, "100.64.0.2/32", "fd7a:115c:a1e0:b1a:0:7:c0a8:100/120")])
    assert len(plan(given, Preferences(), home()).routes) == 1
    assert len(plan(given, accepting(), home()).routes) == 2


def test_an_exit_node_that_nobody_chose_is_silently_not_used():
    made = plan(netmap([peer(2, "100.64.0.2/32", "0.0.0.0/0", "::/0")]), accepting(), home())
    assert routes(made) == ["100.64.0.2/32"] and not made.refused


def test_a_carriers_gateway_address_and_servers_stay_the_carriers():
    peers = [peer(2 + i, text) for i, text in enumerate(("100.64.8.1/32", "100.64.8.2/32", "100.64.8.3/32"))]
    peers += [peer(9, "100.64.200.3/32"), peer(10, "100.64.8.99/32"), peer(11, "100.64.200.9/32")]
    made = plan(netmap(peers), accepting(), carrier())
    # Of the mesh's own /32 only those that the uplink needs are refused, even inside the uplink's own prefix.
    assert routes(made) == ["100.64.200.9/32", "100.64.8.99/32"]
    assert sorted(reasons(made)) == ["100.64.200.3/32", "100.64.8.1/32", "100.64.8.2/32", "100.64.8.3/32"]


def test_an_address_belongs_to_the_first_peer_that_has_it():
    given = netmap([peer(3, "100.64.0.3/32", "100.64.0.2/32"), peer(2, "100.64.0.2/32")])
    made = plan(given, Preferences(), home())
    assert sorted([len(prefixes) for prefixes in made.peers.values()]) == [1, 1]
    assert "another node" in reasons(made)["100.64.0.2/32"]


def test_no_peer_takes_our_address_or_that_of_what_we_publish():
    published = [{"Name": "nas", "Address4": "100.64.0.50", "Target4": "192.168.1.10"}]
    made = plan(netmap([peer(2, OWN4 + "/32", "100.64.0.50/32")], published=published), Preferences(), home())
    assert not made.routes and sorted(reasons(made)) == [OWN4 + "/32", "100.64.0.50/32"]


def test_expired_plain_wireguard_and_own_keys_are_left_out():
    soon = home()
    soon.now_s = 2_000_000_000
    peers = [peer(2, "100.64.0.2/32", Expired=True), peer(3, "100.64.0.3/32", KeyExpiry="2030-01-01T00:00:00Z")]
    peers += [peer(4, "100.64.0.4/32", IsWireGuardOnly=True), peer(5, "100.64.0.5/32", Key=key_text(1))]
    assert routes(plan(netmap(peers), Preferences(), home())) == ["100.64.0.3/32"]
    assert routes(plan(netmap(peers), Preferences(), soon)) == []


def test_too_many_prefixes_leave_a_peer_out():
    given = netmap([peer(2, "100.64.0.2/32"), peer(3, "100.64.0.3/32")])
    for node_id in given.peers:
        if node_id == 3:
            given.peers[node_id].allowed_ips = [(bytes((10, i >> 8, i & 255, 0)), 24) for i in range(1025)]
    made = plan(given, accepting(), home())
    assert routes(made) == ["100.64.0.2/32"] and "left out" in made.problems[0]


def test_too_many_peers_let_nobody_in():
    given = netmap([peer(2, "100.64.0.2/32")])
    given.peers = {i: given.peers[2] for i in range(dataplane.MAX_PEERS + 1)}
    made = plan(given, Preferences(), home())
    assert not made.peers and "none is let in" in made.problems[0]


def test_a_rule_opens_no_more_than_what_is_served_here():
    rules = [rule(["*"]), rule(["10.0.0.0/8"]), rule(["192.168.1.10"])]
    made = plan(netmap(rules=rules), advertising("192.168.1.0/24"), home())
    # the LAN without the router's own address in it, and the mesh addresses; 10/8 is nobody's here
    assert opened(made) == [
        ["100.64.0.1", "192.168.1.0-192.168.1.1", "192.168.1.3-192.168.1.255", OWN6],
        ["192.168.1.10"],
    ]


def test_an_address_of_the_router_in_its_lan_opens_only_by_name():
    made = plan(netmap(rules=[rule(["192.168.1.0/24"])]), advertising("192.168.1.0/24"), home())
    assert not made.firewall.named and "192.168.1.2" not in opened(made)[0]
    made = plan(netmap(rules=[rule(["192.168.1.0/24", "192.168.1.2"])]), advertising("192.168.1.0/24"), home())
    assert texts(made.firewall.named) == ["192.168.1.2"]


def test_a_prefix_that_is_not_advertised_is_not_forwarded():
    made = plan(netmap(rules=[rule(["192.168.1.0/24"])]), Preferences(), home())
    assert not made.firewall.rules and not made.forwarding


def test_a_default_route_or_a_mesh_range_is_not_advertised():
    made = plan(netmap(), advertising("0.0.0.0/0", "100.64.0.0/10", "192.168.1.0/24"), home())
    assert sorted(reasons(made)) == ["0.0.0.0/0", "100.64.0.0/10"] and made.forwarding


def test_published_devices_lie_in_private_networks_that_we_are_connected_to():
    def published(target, preferences=None, facts=None):
        given = [{"Name": "x", "Address4": "100.64.0.50", "Target4": target}]
        made = plan(
            netmap(rules=[rule(["100.64.0.50"])], published=given), preferences or Preferences(), facts or home()
        )
        assert bool(made.firewall.published) == bool(opened(made)) == made.forwarding != bool(made.problems)
        return bool(made.firewall.published)

    assert published("192.168.1.10")
    assert not published("192.168.1.2")  # the router itself
    assert not published("192.168.2.10")  # not here
    assert not published("127.0.0.1")
    assert not published("8.8.8.8")
    assert not published("100.64.8.1", facts=carrier())  # the carrier's, not ours to give away
    assert published("192.168.2.10", advertising("192.168.2.0/24"))
    assert not published("192.168.1.10", Preferences(ceiling=Ceiling(publish=[])))
    assert published("10.0.0.1", Preferences(ceiling=Ceiling(publish=[prefix_from_text("10.0.0.0/24")])))


def test_a_device_is_published_under_an_address_of_the_mesh():
    for mesh_ip in ("192.168.1.77", "100.100.100.100", "100.115.92.1", OWN4, "8.8.8.8"):
        published = [{"Name": "x", "Address4": mesh_ip, "Target4": "192.168.1.10"}]
        made = plan(netmap(published=published), Preferences(), home())
        assert not made.firewall.published and made.problems


def test_a_published_target_is_reached_only_by_its_mesh_address():
    published = [{"Name": "nas", "Address4": "100.64.0.50", "Target4": "192.168.1.10"}]
    made = plan(netmap(rules=[rule(["192.168.1.10"])], published=published), Preferences(), home())
    assert not made.firewall.rules


def test_jailed_peers_may_only_answer():
    made = plan(netmap([peer(2, "100.64.0.2/32", IsJailed=True), peer(3, "100.64.0.3/32")]), Preferences(), home())
    assert texts(made.firewall.jailed) == ["100.64.0.2"]


def test_a_capability_as_source_is_looked_up_among_the_peers():
    peers = [peer(2, "100.64.0.2/32", CapMap={"printer": None}), peer(3, "100.64.0.3/32")]
    made = plan(netmap(peers, [rule([OWN4], ["cap:printer"])]), Preferences(), home())
    assert texts(made.firewall.rules[0].sources) == ["100.64.0.2"]


def test_forwarding_is_contained_where_the_machine_did_not_forward_before():
    router = home()
    router.forwards4 = True
    for facts, contained in ((home(), (True, True)), (router, (False, True))):
        made = plan(netmap(), advertising("192.168.1.0/24"), facts)
        assert (made.firewall.contain4, made.firewall.contain6) == contained
    made = plan(netmap(), Preferences(), home())
    assert not made.firewall.contain4 and not made.firewall.contain6


def test_faults_of_the_filter_are_reported_with_the_plan():
    made = plan(netmap(rules=[{"SrcIPs": ["nonsense"], "DstPorts": []}]), Preferences(), home())
    assert "rule 0 opens nothing" in made.problems[0]


def test_problems_do_not_grow_without_end():
    published = [None] * 1000
    assert len(plan(netmap(published=published), Preferences(), home()).problems) == 101


def test_users_of_an_exit_node_reach_its_peer_api_and_nobody_else_does():
    peers = [peer(2, "100.64.0.2/32"), peer(3, "100.64.0.3/32")]
    rules = [
        {"SrcIPs": ["100.64.0.2"], "DstPorts": [{"IP": "0.0.0.0/0", "Ports": ALL}]},
        {"SrcIPs": ["100.64.0.3"], "DstPorts": [{"IP": "192.168.1.0/24", "Ports": ALL}]},
        {"SrcIPs": ["192.168.7.0/24"], "DstPorts": [{"IP": "*", "Ports": ALL}]},
    ]
    wishes = advertising("192.168.1.0/24")
    assert not [rule for rule in plan(netmap(peers, rules), wishes, home()).firewall.rules if rule.protocols == (6,)]
    wishes.peer_api_port = 42053
    made = plan(netmap(peers, rules), wishes, home())
    (opened,) = [rule for rule in made.firewall.rules if rule.protocols == (6,)]
    assert opened.sources.items() == [(ip("100.64.0.2"), ip("100.64.0.2"))]
    (opening,) = opened.openings
    assert (opening.first, opening.last) == (42053, 42053) and ip(OWN4) in opening.singles
