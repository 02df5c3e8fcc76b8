"""What a plan turns into: routes, files and commands."""

from wayhome.lab import layout, plan


def routes(plan_name, host):
    loaded = plan.load(plan_name)
    return layout.routes(loaded, loaded.host(host))


def test_a_host_sends_everything_to_its_lans_gateway():
    assert routes("story", "nas") == ["default via 192.168.1.1 dev eth0"]
    assert routes("story", "home-router") == ["default via 100.64.18.1 dev wan"]


def test_nothing_leads_out_of_the_backbone():
    for host in ("coordinator", "laptop", "carrier", "cafe-router"):
        assert routes("story", host) == []


def test_ipv6_prefixes_behind_routers_are_known_on_the_way_to_them():
    assert "2001:db8:18:1001::/64 via 2001:db8:0:1::20 dev eth0" in routes("story-ipv6", "coordinator")
    assert "2001:db8:18:1001::/64 via 2001:db8:18::20 dev lan" in routes("story-ipv6", "carrier")
    # the LAN's own gateway knows the rest
    assert routes("story-ipv6", "nas") == [
        "default via 192.168.1.1 dev eth0",
        "default via 2001:db8:18:1001::1 dev eth0",
    ]


def test_private_prefixes_are_known_to_nobody_outside():
    for host in plan.load("story-ipv6").hosts:
        assert not any(route.startswith(("192.168.", "100.64.")) for route in routes("story-ipv6", host))


def test_public_names_stand_in_the_hosts_file_of_every_host():
    loaded = plan.load("story-ipv6")
    for host in loaded.hosts.values():
        lines = layout.hosts_file(loaded, host).splitlines()
        assert "203.0.113.10 wayhome.example" in lines
        assert "2001:db8:0:1::10 wayhome.example" in lines


def test_home_devices_have_no_public_name():
    loaded = plan.load("story")
    assert "nas" not in layout.hosts_file(loaded, loaded.host("traveller"))


def test_every_link_is_made_inside_the_hosts_namespace():
    loaded = plan.load("story")
    script = layout.switch_script(loaded, lambda host: f"/ns/{host}")
    assert "type veth peer name eth0 netns /ns/nas" in script
    assert "type veth peer name wan netns /ns/home-router" in script


def test_interface_names_in_the_switch_are_unique_and_short_enough():
    for name in plan.shipped():
        loaded = plan.load(name)
        script = layout.switch_script(loaded, lambda host: "x")
        names = [line.split()[3] for line in script.splitlines() if line.startswith("link add name")]
        names += [port.shaper_side for port in layout.ports(loaded) if port.shaped]
        assert len(names) == len(set(names))
        assert all(len(one) <= 15 for one in names)


def test_a_lan_may_be_called_like_a_port():
    text = """
    [lans.p1]
    ipv4 = "203.0.113.0/24"
    [hosts.a]
    links.eth0 = { lan = "p1", ipv4 = "203.0.113.1" }
    """
    script = layout.switch_script(plan.parse("test", text), lambda host: "x")
    assert "link add name lan-p1 type bridge" in script
    assert "link set dev p1 master lan-p1 up" in script


def test_a_link_with_a_shape_is_cut_in_two():
    port = next(port for port in layout.ports(plan.load("story-slow")) if port.host == "cafe-router")
    assert port.shaped
    assert len({port.host_side, port.shaper_side, port.bridge_side}) == 3


def test_a_port_is_idle_until_it_sends_and_forwards():
    def port(name, operstate="UP", qdisc="noqueue", state="forwarding"):
        info = {"info_kind": "veth", "info_slave_kind": "bridge", "info_slave_data": {"state": state}}
        return {"ifname": name, "operstate": operstate, "qdisc": qdisc, "linkinfo": info}

    links = [
        {"ifname": "lo", "operstate": "DOWN", "qdisc": "noop"},
        {"ifname": "home", "operstate": "DOWN", "qdisc": "noqueue", "linkinfo": {"info_kind": "bridge"}},
        port("p1"),
        port("p2", operstate="LOWERLAYERDOWN"),
        port("p3", qdisc="noop"),
        port("p4", state="disabled"),
        {"ifname": "q1", "operstate": "UP", "qdisc": "noqueue", "linkinfo": {"info_kind": "veth"}},
    ]
    assert layout.idle_ports(links) == ["p2", "p3", "p4"]
