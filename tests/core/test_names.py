"""What a question is answered, by the netmap alone."""

import struct

from shared.map_message import take
from wayhomed.core import names
from wayhomed.core.names import Answer, Forward, look_up, names_of
from wayhomed.core.netmap import Netmap
from wayhomed.wire import dns
from wayhomed.wire.address import ip_from_text as ip
from wayhomed.wire.address import ip_text

SUFFIX = "wayhome.internal"


def node(number, name, *addresses, **fields):
    made = {"ID": number, "Name": name, "Key": f"nodekey:{number:064x}", "Addresses": list(addresses)}
    made["AllowedIPs"] = list(addresses)
    made.update(fields)
    return made


def made(dns_config=None, allowed=names.ANY, peers=(), **own):
    netmap = Netmap()
    self_node = node(1, f"board.{SUFFIX}.", "100.64.0.1/32", "fd7a:115c:a1e0::1/128", **own)
    laptop = node(2, f"laptop.{SUFFIX}.", "100.64.0.2/32", "fd7a:115c:a1e0::2/128")
    config = {"Proxied": True, "Domains": [SUFFIX], "Routes": {SUFFIX: []}}
    config.update(dns_config or {})
    take(netmap, {"Node": self_node, "Peers": [laptop] + list(peers), "DNSConfig": config})
    return names_of(netmap, allowed)


def asked(name, kind=dns.A, class_=dns.IN, flags=0x100):
    question = dns.encode_name(dns.labels_from_text(name)) + struct.pack(">HH", kind, class_)
    return dns.decode_query(struct.pack(">HHHHHH", 1, flags, 1, 0, 0, 0) + question)


def ask(known, name, kind=dns.A, **fields):
    return look_up(known, asked(name, kind, **fields))


def addresses(found):
    assert isinstance(found, Answer) and found.code == dns.NOERROR, found
    return [ip_text(record.data) for record in found.records]


def is_empty(found):
    return isinstance(found, Answer) and found.code == dns.NOERROR and not found.records and found.zone is not None


def is_no_such_name(found):
    return isinstance(found, Answer) and found.code == dns.NXDOMAIN


def test_nodes_are_known_by_name_without_regard_to_case():
    for name in ("laptop." + SUFFIX, "LapTop.WAYHOME.internal."):
        assert addresses(ask(made(), name)) == ["100.64.0.2"]
    assert addresses(ask(made(), "board." + SUFFIX)) == ["100.64.0.1"]
    record = ask(made(), "LapTop." + SUFFIX).records[0]
    assert (record.labels[0], record.kind, record.ttl_s) == (b"LapTop", dns.A, 5)


def test_ipv6_is_told_only_of_who_has_nothing_else_or_to_who_wants_it():
    assert is_empty(ask(made(), "laptop." + SUFFIX, dns.AAAA))
    only6 = node(3, f"six.{SUFFIX}.", "fd7a:115c:a1e0::3/128")
    assert addresses(ask(made(peers=[only6]), "six." + SUFFIX, dns.AAAA)) == ["fd7a:115c:a1e0::3"]
    assert is_empty(ask(made(peers=[only6]), "six." + SUFFIX))
    wanting = made(CapMap={"magicdns-aaaa": None})
    assert addresses(ask(wanting, "laptop." + SUFFIX, dns.AAAA)) == ["fd7a:115c:a1e0::2"]
    assert addresses(ask(wanting, "laptop." + SUFFIX, dns.ANY)) == ["100.64.0.2", "fd7a:115c:a1e0::2"]
    alone = made(Addresses=["fd7a:115c:a1e0::1/128"])
    assert addresses(ask(alone, "laptop." + SUFFIX, dns.AAAA)) == ["fd7a:115c:a1e0::2"]


def test_other_types_of_a_host_are_empty_or_not_implemented():
    assert is_empty(ask(made(), "laptop." + SUFFIX, 16))
    for kind in (dns.NS, dns.SOA, dns.HINFO, dns.AXFR):
        assert ask(made(), "laptop." + SUFFIX, kind).code == dns.NOTIMP


def test_published_devices_and_other_records_are_known():
    records = [
        {"Name": "nas." + SUFFIX, "Value": "fd7a:115c:a1e0::50"},
        {"Name": "nas." + SUFFIX, "Value": "100.64.0.50"},
        {"Name": "nas." + SUFFIX, "Value": "100.64.0.50"},
        {"Name": "nas", "Value": "100.64.0.50"},
        {"Name": "shop.example.org.", "Type": "A", "Value": "100.64.0.2"},
    ]
    known = made({"ExtraRecords": records})
    assert addresses(ask(known, "nas." + SUFFIX)) == ["100.64.0.50"]
    assert addresses(ask(known, "shop.example.org")) == ["100.64.0.2"]
    assert isinstance(ask(known, "nas"), Forward)
    assert isinstance(ask(known, "example.org"), Forward)  # for exactly that name, not for its zone


def test_what_the_mesh_does_not_know_does_not_exist_and_is_asked_of_nobody():
    found = ask(made(), "nobody." + SUFFIX)
    assert is_no_such_name(found) and found.zone == (b"wayhome", b"internal")
    assert is_no_such_name(ask(made(), "a.laptop." + SUFFIX))
    assert is_no_such_name(ask(made({"Routes": {SUFFIX: [], "off.example.org": None}}), "x.off.example.org"))
    assert is_no_such_name(ask(made(), "x.onion"))
    assert is_empty(ask(made(), SUFFIX))
    soa = ask(made(), SUFFIX, dns.SOA)
    assert soa.code == dns.NOERROR and soa.records[0].kind == dns.SOA


def test_a_node_may_answer_for_all_below_its_name():
    web = node(3, f"web.{SUFFIX}.", "100.64.0.3/32", CapMap={"dns-subdomain-resolve": None})
    known = made(peers=[web])
    assert addresses(ask(known, "a.b.web." + SUFFIX)) == ["100.64.0.3"]
    assert is_no_such_name(ask(known, "a.laptop." + SUFFIX))


def test_addresses_of_the_mesh_have_names():
    for name in ("2.0.64.100.in-addr.arpa", "2." + "0." * 19 + "0.e.1.a.c.5.1.1.a.7.d.f.ip6.arpa"):
        found = ask(made(), name, dns.PTR)
        assert found.code == dns.NOERROR
        assert dns.decode_name(found.records[0].data, 0)[0] == (b"laptop", b"wayhome", b"internal")
    assert is_no_such_name(ask(made(), "9.0.64.100.in-addr.arpa", dns.PTR))
    assert is_no_such_name(ask(made(), "1.127.100.in-addr.arpa", dns.PTR))
    assert isinstance(ask(made(), "1.128.100.in-addr.arpa", dns.PTR), Forward)
    for name in ("1.1.168.192.in-addr.arpa", "x.0.64.1.in-addr.arpa", "1.2.ip6.arpa", ".".join("g" * 32) + ".ip6.arpa"):
        assert isinstance(ask(made(), name, dns.PTR), Forward)
    wide = ".".join(["01"] * 32) + ".ip6.arpa"
    assert isinstance(ask(made(), wide, dns.PTR), Forward)


def test_a_subnet_by_4via6_has_names():
    for name in ("192-168-10-20-via-7", "192-168-10-20-via-7." + SUFFIX):
        assert addresses(ask(made(), name, dns.AAAA)) == ["fd7a:115c:a1e0:b1a:0:7:c0a8:a14"]
        assert is_empty(ask(made(), name))
    assert addresses(ask(made(), "1-2-3-4-via-65535", dns.AAAA)) == ["fd7a:115c:a1e0:b1a:0:ffff:102:304"]
    for name in ("1-2-3-4-via-65536", "1-2-3-256-via-7", "1-2-3-via-7", "1-2-3-4-via-x", "1-2-3-4-via-", "-via-7"):
        assert is_no_such_name(ask(made(), name + "." + SUFFIX, dns.AAAA)), name
    assert isinstance(ask(made(), "1-2-3-4-via-7.example.org", dns.AAAA), Forward)


def test_the_longest_suffix_says_who_is_asked():
    routes = {
        SUFFIX: [],
        "home.example": [{"Addr": "192.168.1.1"}, {"Addr": "192.168.1.1:53"}, {"Addr": "[fd00::1]:5353"}],
        "Lab.Home.Example.": [{"Addr": "10.0.0.1"}],
        "sub." + SUFFIX: [{"Addr": "10.0.0.2"}],
    }
    known = made({"Routes": routes})
    assert ask(known, "nas.home.example").upstreams == [(ip("192.168.1.1"), 53), (ip("fd00::1"), 5353)]
    assert ask(known, "home.example").upstreams == ask(known, "nas.home.example").upstreams
    assert ask(known, "x.lab.home.example").upstreams == [(ip("10.0.0.1"), 53)]
    assert ask(known, "x.sub." + SUFFIX).upstreams == [(ip("10.0.0.2"), 53)]
    assert ask(known, "nothome.example").upstreams is None
    assert not known.problems


def test_resolvers_that_nobody_can_ask_are_told_and_left_out():
    bad = ["https://dns.example/q", "127.0.0.1", "0.0.0.0", "224.0.0.251", "::1", "1.2.3.4:0", "", 5, None]
    known = made({"Routes": {"home.example": [{"Addr": text} for text in bad] + [7, {"Addr": "192.168.1.1"}]}})
    assert ask(known, "nas.home.example").upstreams == [(ip("192.168.1.1"), 53)]
    assert known.problems
    # with none left its names are not suddenly ours to deny
    known = made({"Routes": {"home.example": [{"Addr": "https://dns.example/q"}]}})
    assert ask(known, "nas.home.example").upstreams is None
    many = [{"Addr": f"10.0.0.{number}"} for number in range(1, 100)]
    assert len(ask(made({"Routes": {"home.example": many}}), "home.example").upstreams) == names.MAX_RESOLVERS


def test_a_coordinator_decides_about_no_whole_part_of_the_public_dns():
    resolver = [{"Addr": "203.0.113.66"}]
    known = made({"Routes": {".": resolver, "com": resolver, "lan": resolver}, "Resolvers": resolver})
    for name in ("bank.com", "example.org", "."):
        assert ask(known, name).upstreams is None
    assert ask(known, "nas.lan").upstreams == [(ip("203.0.113.66"), 53)]
    assert len(known.problems) == 2


def test_the_owner_says_which_names_are_left_to_the_coordinator():
    resolver = [{"Addr": "203.0.113.66"}]
    config = {
        "Routes": {"bank.example": resolver, "home.example": resolver, SUFFIX: []},
        "ExtraRecords": [
            {"Name": "www.bank.example", "Value": "203.0.113.66"},
            {"Name": "nas." + SUFFIX, "Value": "100.64.0.9"},
        ],
    }
    known = made(config, allowed=["home.example"])
    assert ask(known, "bank.example").upstreams is None and ask(known, "www.bank.example").upstreams is None
    assert ask(known, "x.home.example").upstreams == [(ip("203.0.113.66"), 53)]
    assert addresses(ask(known, "nas." + SUFFIX)) == ["100.64.0.9"]
    assert len(known.problems) == 2 and "allow-names" in known.problems[0]
    assert ask(made(config, allowed=[]), "home.example").upstreams is None
    assert ask(made(config, allowed=["."]), "bank.example").upstreams == [(ip("203.0.113.66"), 53)]


def test_a_nodes_name_outside_the_mesh_is_nobodys():
    known = made(peers=[node(3, "www.bank.example.", "100.64.0.3/32"), node(4, "", "100.64.0.4/32")])
    assert ask(known, "www.bank.example").upstreams is None
    assert len(known.problems) == 1


def test_without_magicdns_hosts_are_known_and_zones_are_not():
    known = made({"Proxied": False, "Routes": {}})
    assert addresses(ask(known, "laptop." + SUFFIX)) == ["100.64.0.2"]
    assert ask(known, "nobody." + SUFFIX).upstreams is None
    assert addresses_of_nothing() is None


def addresses_of_nothing():
    return look_up(names_of(Netmap()), asked("laptop." + SUFFIX)).upstreams


def test_a_dns_config_of_the_wrong_shape_breaks_nothing():
    for value in (5, "x", [1], {"a": 5}, {"": []}, {"a..b": []}, {"home.example": "x"}, {"home.example": [[]]}, True):
        known = made({"Routes": value, "ExtraRecords": value})
        assert addresses(ask(known, "laptop." + SUFFIX)) == ["100.64.0.2"]
    bad = [5, {}, {"Name": 5, "Value": "1.2.3.4"}, {"Name": "a.b", "Value": 5}, {"Name": "a..b", "Value": "1.2.3.4"}]
    assert addresses(ask(made({"ExtraRecords": bad}), "laptop." + SUFFIX)) == ["100.64.0.2"]
    many = {f"s{number}.example": [{"Addr": "10.0.0.1"}] for number in range(names.MAX_ROUTES + 1)}
    assert ask(made({"Routes": many}), "s1.example").upstreams is None


def test_other_classes_operations_and_transfers_are_not_done():
    assert ask(made(), "laptop." + SUFFIX, class_=3).code == dns.REFUSED
    assert ask(made(), "laptop." + SUFFIX, flags=0x2900).code == dns.NOTIMP
    for kind in (dns.AXFR, dns.IXFR):
        assert ask(made(), "example.org", kind).code == dns.NOTIMP


def test_answers_become_messages():
    query = asked("laptop." + SUFFIX)
    read = dns.decode_reply(look_up(made(), query).encoded(query))
    assert read.flags & dns.AA and read.answers[0].data == ip("100.64.0.2") and not read.authority
    query = asked("nobody." + SUFFIX)
    read = dns.decode_reply(look_up(made(), query).encoded(query))
    assert read.rcode == dns.NXDOMAIN and read.authority[0].ttl_s == 10
