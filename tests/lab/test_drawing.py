"""The picture of a plan."""

import json

import pytest
from rich.console import Console

from wayhome.lab import drawing, plan


def draw(wanted):
    console = Console(width=120, record=True, file=None, force_terminal=False, quiet=True)
    with console.capture() as captured:
        console.quiet = False
        console.print(drawing.picture(wanted if isinstance(wanted, plan.Plan) else plan.load(wanted)))
    return captured.get()


def test_what_lies_behind_a_router_is_drawn_below_it():
    lines = draw("story").splitlines()

    def place(word):
        return next(number for number, line in enumerate(lines) if f"─ {word} " in line)

    carrier, home, nas = place("carrier"), place("home-router"), place("nas")
    assert carrier < home < nas
    assert lines[nas].index("nas") > lines[home].index("home-router") > lines[carrier].index("carrier")
    assert "192.168.1.10" in lines[nas]
    assert "web :80" in lines[nas]


def test_shapes_and_blocked_udp_are_told():
    assert "10 Mbit/s 8 ms" in draw("story-slow")
    assert "UDP blocked" in draw("story-udp-blocked")


@pytest.mark.parametrize("name", plan.shipped())
def test_every_host_of_a_plan_is_drawn_and_told_as_data(name):
    loaded = plan.load(name)
    picture = draw(name)
    data = json.loads(json.dumps(drawing.as_data(loaded)))
    for host in loaded.hosts:
        assert host in picture
    assert [host["name"] for host in data["hosts"]] == list(loaded.hosts)


def test_a_network_that_leads_nowhere_is_drawn_with_its_gateway():
    alone = """
        [lans.home]
        ipv4 = "192.168.1.0/24"
        gateway = "router"
        [hosts.router]
        forwards = true
        links.lan = { lan = "home", ipv4 = "192.168.1.1" }
        [hosts.nas]
        links.eth0 = { lan = "home", ipv4 = "192.168.1.10" }
    """
    picture = draw(plan.parse("alone", alone))
    assert "router  192.168.1.1" in picture
    assert "nas  192.168.1.10" in picture


def test_a_host_on_two_lans_has_what_is_behind_it_drawn_once():
    # host is also a guest of the LAN that lies behind its own customer
    text = """
        [lans.net]
        ipv4 = "203.0.113.0/24"
        gateway = "provider"
        [lans.near]
        ipv4 = "10.1.0.0/24"
        gateway = "host"
        [lans.far]
        ipv4 = "10.2.0.0/24"
        gateway = "customer"
        [hosts.provider]
        forwards = true
        links.net = { lan = "net", ipv4 = "203.0.113.1" }
        [hosts.host]
        forwards = true
        links.wan = { lan = "net", ipv4 = "203.0.113.2" }
        links.near = { lan = "near", ipv4 = "10.1.0.1" }
        links.far = { lan = "far", ipv4 = "10.2.0.9" }
        [hosts.customer]
        forwards = true
        links.near = { lan = "near", ipv4 = "10.1.0.2" }
        links.far = { lan = "far", ipv4 = "10.2.0.1" }
    """
    picture = draw(plan.parse("guest", text))
    assert picture.count("near  10.1.0.0/24") == 1
