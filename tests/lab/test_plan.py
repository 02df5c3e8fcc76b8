"""Plans: what is accepted, and what is refused with which words."""

import pytest

from wayhome.lab import nat, plan
from wayhome.lab.pairs import two_homes
from wayhome.lab.plan import PlanError

HOME = """
title = "A home"

[lans.internet]
ipv4 = "203.0.113.0/24"

[lans.home]
ipv4 = "192.168.1.0/24"
ipv6 = "2001:db8:7::/64"
gateway = "router"

[hosts.router]
links.wan = { lan = "internet", ipv4 = "203.0.113.30" }
links.lan = { lan = "home", ipv4 = "192.168.1.1" }
nat = { kind = "linux" }

[hosts.nas]
links.eth0 = { lan = "home", ipv4 = "192.168.1.10" }
"""


def test_a_plan_becomes_records():
    home = plan.parse("home", HOME)
    assert home.title == "A home"
    assert list(home.hosts) == ["router", "nas"]
    assert home.hosts["router"].nat.kind is nat.KINDS["linux"]
    assert home.hosts["router"].forwards
    assert str(home.hosts["nas"].link("eth0").ipv4[0]) == "192.168.1.10"


def test_the_uplink_leads_towards_another_hosts_gateway():
    home = plan.parse("home", HOME)
    assert home.uplink(home.host("nas")).interface == "eth0"
    assert home.uplink(home.host("router")).interface == "wan"


def test_a_host_on_the_backbone_has_no_uplink():
    story = plan.load("story")
    assert story.uplink(story.host("coordinator")) is None


@pytest.mark.parametrize("name", plan.shipped())
def test_every_plan_that_comes_along_can_be_read_and_says_what_it_is(name):
    assert plan.load(name).title


def test_the_story_has_its_people_where_the_story_has_them():
    story = plan.load("story")
    where = {name: [str(a) for link in host.links for a in link.addresses] for name, host in story.hosts.items()}
    assert where["coordinator"] == ["203.0.113.10", "203.0.113.11"]
    assert where["board"] == ["192.168.1.2"]
    assert where["nas"] == ["192.168.1.10"]
    assert where["traveller"] == ["192.168.1.50"]
    assert where["board2"] == ["192.168.2.2"]
    assert {"laptop", "friend"} <= set(where)


def test_a_pair_of_homes_can_be_made_of_any_two_kinds():
    for left in nat.KINDS:
        for right in nat.KINDS:
            assert two_homes(left, right).host("right-router").nat.kind.name == right


def test_a_pair_of_homes_may_have_ipv6_beside():
    homes = two_homes("linux", "symmetric", ipv6=True)
    assert all(link.ipv4 and link.ipv6 for host in homes.hosts.values() for link in host.links)
    assert not any(link.ipv6 for host in two_homes("linux", "linux").hosts.values() for link in host.links)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('title = "A home"', "title = 5", "plan home: title must be a text"),
        ('title = "A home"', "titel = 'x'", "unknown entry titel"),
        ('"203.0.113.0/24"', '"203.0.113.1/24"', "lans.internet: '203.0.113.1/24' is no network"),
        ('"203.0.113.0/24"', '"2001:db8::/64"', "of the other address family"),
        ('gateway = "router"', 'gateway = "roter"', "the gateway roter is no host"),
        ('gateway = "router"', 'gateway = "nas"', "nas neither has a nat nor forwards"),
        ('kind = "linux"', 'kind = "linus"', "there is no NAT kind linus (there are linux, full-cone"),
        ('kind = "linux"', 'kind = "linux", udp = "shut"', 'udp must be "open" or "blocked"'),
        ('kind = "linux"', 'kind = "linux", udp_timeout_s = 0', "udp_timeout_s must be a number from 1"),
        ('kind = "linux"', 'kind = "linux", hairpin = 1', "hairpin must be true or false"),
        ('lan = "home", ipv4 = "192.168.1.10"', 'lan = "hone", ipv4 = "192.168.1.10"', "there is no LAN hone"),
        ('"192.168.1.10"', '"192.168.2.10"', "192.168.2.10 is not in the LAN home"),
        ('"192.168.1.10"', '"192.168.1.1"', "192.168.1.1 on the LAN home is router's already"),
        ('"192.168.1.10"', '"192.168.1.300"', "is no IP address"),
        ('"192.168.1.10" }', '"192.168.1.10", ipv6 = "192.168.1.11" }', "of the other address family"),
        ('"203.0.113.30" }', '"203.0.113.30", ipv6 = "2001:db8::1" }', "which has no such family"),
        ('"192.168.1.10" }', '"192.168.1.10", shape = { loss = 2 } }', "loss must be a number from 0 to 1"),
        ('"192.168.1.10" }', '"192.168.1.10", up = { rate_mbit = 0 } }', "rate_mbit must be a number from 0.001"),
        ('"192.168.1.10" }', '"192.168.1.10", up = { rate = 1 } }', "unknown entry rate"),
        ("links.eth0", "links.a-very-long-interface", "an interface name must be 1 to 15"),
        ("links.eth0", "links.lo", "not lo"),
        ("[hosts.nas]", "[hosts.NAS]", "the name must be 1 to 30"),
        ("[hosts.nas]", "[hosts.nas]\nweb = 70000", "web must be a number from 1 to 65535"),
        ("[hosts.nas]", "[hosts.nas]\nnames = ['a b']", "'a b' is no host name"),
        ("[lans.home]", "[lans.the-home-of-the-nas]", "the name must be 1 to 15"),
    ],
)
def test_a_wrong_plan_is_refused_with_the_place_and_the_reason(old, new, words):
    assert old in HOME
    with pytest.raises(PlanError) as caught:
        plan.parse("home", HOME.replace(old, new, 1))
    assert words in str(caught.value)
    assert "plan home" in str(caught.value)


def test_text_that_is_not_toml_is_refused():
    with pytest.raises(PlanError, match="plan home: not TOML"):
        plan.parse("home", "[lans")


def test_an_unknown_plan_is_refused_with_the_known_ones():
    with pytest.raises(PlanError, match=r"no plan stroy; those that come along: .*story"):
        plan.load("stroy")


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(PlanError, match=r"missing\.toml cannot be read"):
        plan.load(tmp_path / "missing.toml")


def test_a_plan_can_be_read_from_a_file(tmp_path):
    path = tmp_path / "home.toml"
    path.write_text(HOME)
    assert plan.load(path).name == "home"


def test_an_address_can_be_changed_within_its_lan():
    home = plan.with_address(plan.parse("home", HOME), "router", "wan", "203.0.113.77")
    assert str(home.host("router").link("wan").ipv4[0]) == "203.0.113.77"
    with pytest.raises(PlanError, match=r"198\.51\.100\.1 cannot take the place"):
        plan.with_address(home, "router", "wan", "198.51.100.1")
    with pytest.raises(PlanError, match="is router's already"):
        plan.with_address(home, "nas", "eth0", "192.168.1.1")
    with pytest.raises(PlanError, match="2001:db8:7::5 cannot take the place of an address there"):
        plan.with_address(home, "nas", "eth0", "2001:db8:7::5")


def test_addresses_of_both_families_can_be_changed_and_are_kept_apart():
    before = plan.load("story-ipv6")
    moved = plan.with_address(before, "board", "eth0", "2001:db8:18:1001::77")
    moved = plan.with_address(moved, "board", "eth0", "192.168.1.77")
    assert plan.addresses(moved)["board"]["eth0"] == ["192.168.1.77", "2001:db8:18:1001::77"]
    assert plan.with_addresses(before, plan.addresses(moved)).hosts == moved.hosts


CIRCLE = """
[lans.net]
ipv4 = "203.0.113.0/24"
[lans.a]
ipv4 = "10.1.0.0/24"
gateway = "one"
[lans.b]
ipv4 = "10.2.0.0/24"
gateway = "two"
[hosts.one]
forwards = true
links.wan = { lan = "net", ipv4 = "203.0.113.2" }
links.a = { lan = "a", ipv4 = "10.1.0.1" }
links.b = { lan = "b", ipv4 = "10.2.0.2" }
[hosts.two]
forwards = true
links.a = { lan = "a", ipv4 = "10.1.0.2" }
links.b = { lan = "b", ipv4 = "10.2.0.1" }
"""


def test_gateways_that_lead_in_a_circle_are_refused():
    with pytest.raises(PlanError, match=r"lans\.a: its gateways lead in a circle \(a, b\)"):
        plan.parse("circle", CIRCLE)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"192.168.1.10"', '["192.168.1.10", "192.168.1.10"]', "is nas's already"),
        ('"192.168.1.10"', '"192.168.1.0"', r"192\.168\.1\.0 cannot be a host's address"),
        ('"192.168.1.10"', '"192.168.1.255"', r"192\.168\.1\.255 cannot be a host's address"),
        ("192.168.1.", "224.0.1.", "cannot be a host's address"),
        ("lans.internet]", "lans.lo]", r"lans\.lo: the name must be"),
        ("lans.internet]", "lans.all]", r"lans\.all: the name must be"),
        ("links.eth0", "links.default", r"links\.default: an interface name must be"),
        ("[hosts.nas]", "[hosts.nas]\nweb = 80.5", "web must be a whole number"),
        ("[hosts.nas]", "[hosts.nas]\nweb = nan", "web must be a number from 1 to 65535"),
    ],
)
def test_what_the_kernel_would_refuse_is_refused_with_its_place(old, new, words):
    with pytest.raises(PlanError, match=words):
        plan.parse("home", HOME.replace(old, new))
