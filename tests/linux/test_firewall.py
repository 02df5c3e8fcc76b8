from shared.expect import raises
from wayhomed.core.dataplane import Firewall
from wayhomed.core.filter import read_filter
from wayhomed.core.published import Published
from wayhomed.core.ranges import Ranges, single
from wayhomed.linux.firewall import COUNTERS, delete_table, is_interface_name, ruleset
from wayhomed.wire.address import ip_from_text as ip

ALL = {"First": 0, "Last": 65535}


def chain(text, name):
    """Return the rules of one chain, in their order."""
    start = "add rule inet wayhome " + name + " "
    return [line[len(start) :] for line in text.split("\n") if line[: len(start)] == start]


def opened(*rules, **parts):
    firewall = Firewall()
    firewall.rules = read_filter(list(rules), lambda capability: []).rules
    for name in parts:
        setattr(firewall, name, parts[name])
    return chain(ruleset("wayhome0", firewall), "opened")


def rule(source, destination, ports=ALL, **more):
    made = {"SrcIPs": [source], "DstPorts": [{"IP": destination, "Ports": ports}]}
    made.update(more)
    return made


def test_an_empty_firewall_opens_nothing():
    text = ruleset("wayhome0", Firewall())
    assert chain(text, "opened") == []
    assert "add element" not in text
    assert chain(text, "from_tunnel")[-1] == chain(text, "from_tunnel_here")[-1] == "counter name closed drop"
    assert chain(text, "to_tunnel")[-1] == "counter name unsolicited drop"
    assert 'iifname "wayhome0" ip saddr != @allowed4 counter name bad_source drop' in chain(text, "sources")


def test_no_other_table_is_ever_named():
    for line in (ruleset("wayhome0", Firewall()) + delete_table()).split("\n"):
        words = line.split()
        assert not words or words[0] in ("add", "flush", "delete")
        assert not words or words[2:4] == ["inet", "wayhome"], line
        assert words[:2] != ["flush", "ruleset"]


def test_counters_are_made_once_and_never_reset():
    text = ruleset("wayhome0", Firewall())
    for name in COUNTERS:
        assert "add counter inet wayhome " + name in text
    assert "delete" not in text and "reset" not in text


def test_the_usual_protocols_open_tcp_udp_and_ping():
    assert opened(rule("100.64.0.2", "192.168.1.0/24", {"First": 80, "Last": 90})) == [
        "meta nfproto ipv4 ct original ip saddr { 100.64.0.2 } ct original ip daddr { 192.168.1.0-192.168.1.255 } "
        "icmp type { echo-request, echo-reply } accept",
        "meta nfproto ipv4 ct original ip saddr { 100.64.0.2 } ct original ip daddr { 192.168.1.0-192.168.1.255 } "
        "meta l4proto 6 ct original proto-dst 80-90 accept",
        "meta nfproto ipv4 ct original ip saddr { 100.64.0.2 } ct original ip daddr { 192.168.1.0-192.168.1.255 } "
        "meta l4proto 17 ct original proto-dst 80-90 accept",
    ]


def test_a_protocol_without_ports_needs_a_rule_that_opens_all_ports():
    assert "meta l4proto { 47 } accept" in opened(rule("100.64.0.2", "10.0.0.1", IPProto=[47]))[-1]
    some = opened(rule("100.64.0.2", "10.0.0.1", {"First": 1, "Last": 9}, IPProto=[47]))
    assert len(some) == 1 and "icmp" in some[0]


def test_families_never_mix():
    assert opened(rule("100.64.0.2", "fd00::1")) == []
    for line in opened(rule("fd7a::2", "fd00::1")):
        assert "nfproto ipv6" in line and "ip6 saddr" in line and "ip saddr" not in line


def test_everybody_as_source_needs_no_set():
    for line in opened(rule("*", "10.0.0.1")):
        assert "saddr" not in line and "ct original ip daddr { 10.0.0.1 }" in line


def test_one_port_is_written_alone():
    assert "ct original proto-dst 80 accept" in opened(rule("*", "10.0.0.1", {"First": 80, "Last": 80}))[-1]


def test_jailed_peers_come_before_all_that_opens():
    lines = opened(rule("*", "10.0.0.1"), jailed=Ranges([single(ip("100.64.0.9"))]))
    assert lines[0] == "ct original ip saddr { 100.64.0.9 } return"


def test_a_published_devices_ports_are_what_is_left_of_all():
    nas = Published("nas", [(ip("100.64.0.50"), ip("192.168.1.10"))], [(6, 80, 80), (6, 443, 450), (6, 445, 445)])
    lines = opened(published=[nas])
    device = "ct original ip daddr 100.64.0.50 "
    assert lines == [
        device + "meta l4proto 6 ct original proto-dst 0-79 return",
        device + "meta l4proto 6 ct original proto-dst 81-442 return",
        device + "meta l4proto 6 ct original proto-dst 451-65535 return",
        device + "meta l4proto 17 return",
        device + "meta l4proto != { 6, 17, 1, 58 } return",
    ]
    nas.ports = None
    assert opened(published=[nas]) == []
    nas.ports = [(6, 1, 65535), (17, 0, 65534)]
    assert opened(published=[nas])[:2] == [
        device + "meta l4proto 6 ct original proto-dst 0 return",
        device + "meta l4proto 17 ct original proto-dst 65535 return",
    ]


def test_published_addresses_are_mapped_only_for_the_tunnel():
    firewall = Firewall()
    firewall.published = [
        Published("nas", [(ip("100.64.0.50"), ip("192.168.1.10")), (ip("fd7a::50"), ip("fd00::10"))], None)
    ]
    text = ruleset("wayhome0", firewall)
    assert "add element inet wayhome published4 { 100.64.0.50 : 192.168.1.10 }" in text
    assert "add element inet wayhome published6 { fd7a::50 : fd00::10 }" in text
    for line in chain(text, "publish"):
        assert line[:19] == 'iifname "wayhome0" '


def test_snat_hides_what_came_out_of_the_tunnel_and_nothing_else():
    firewall = Firewall()
    assert chain(ruleset("w0", firewall), "hide_source") == [
        'oifname != "w0" meta mark and 0xff0000 == 0x40000 masquerade'
    ]
    firewall.snat = False
    assert chain(ruleset("w0", firewall), "hide_source") == []


def test_forwarding_of_others_is_contained_where_the_plan_says_so():
    firewall = Firewall()
    assert "contained" not in " ".join(chain(ruleset("w0", firewall), "forward"))
    firewall.contain4 = True
    assert chain(ruleset("w0", firewall), "forward")[-1] == "meta nfproto ipv4 counter name contained drop"


def test_an_interface_name_can_not_smuggle_in_rules():
    for name in ("wayhome0", "w", "a" * 15, "tun-1.2_x"):
        assert is_interface_name(name)
    for name in ("", "a" * 16, 'w"', "a b", "a/b", "a;b", "a\nb", "wäg0", "{x}"):
        assert not is_interface_name(name)
        raises(ValueError, ruleset, name, Firewall())
