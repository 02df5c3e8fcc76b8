from wayhomed.linux import facts, link, routes, time_servers
from wayhomed.wire.address import ip_text


def test_resolvers_are_read_from_a_resolv_conf():
    text = "# by hand\nnameserver 9.9.9.9\nsearch home\nnameserver fe80::1%eth0\n nameserver 9.9.9.9\n"
    text += "nameserver x\nnameserver"
    assert [ip_text(each) for each in facts.resolvers_from_text(text)] == ["9.9.9.9", "fe80::1"]


def test_dhcp_servers_are_read_from_leases():
    networkd = "# private\nADDRESS=100.64.8.2\nSERVER_ADDRESS=100.64.9.9\nDNS=1.1.1.1\n"
    dhclient = 'lease {\n  interface "eth0";\n  option dhcp-server-identifier 100.64.9.7;\n}\n'
    assert [ip_text(each) for each in facts.servers_from_lease(networkd, "SERVER_ADDRESS=", "\n")] == ["100.64.9.9"]
    found = facts.servers_from_lease(dhclient, "dhcp-server-identifier ", ";")
    assert [ip_text(each) for each in found] == ["100.64.9.7"]
    assert facts.servers_from_lease("SERVER_ADDRESS=nonsense", "SERVER_ADDRESS=", "\n") == []


class Kernel:
    """A machine's interfaces, addresses and routes, in the place of what rtnetlink lists."""

    def __init__(self):
        self.without_link = []
        self.addresses = [
            link.Address(1, b"\x7f\0\0\x01", 8, False),
            link.Address(2, b"\xc0\xa8\x01\x02", 24, False),
            link.Address(2, b"\xfe\x80" + bytes(14), 64, True),
            link.Address(3, b"\x0a\0\0\x01", 24, False),
            link.Address(9, b"\x64\x40\0\x01", 32, False),
        ]
        self.routes = [
            routes.Route(routes.MAIN, (bytes(4), 0), 2, b"\xc0\xa8\x01\x01"),
            routes.Route(routes.MAIN, (b"\x0a\0\0\0", 24), 3, None),
            routes.Route(routes.MAIN, (bytes(4), 0), 9, None),
            routes.Route(routes.TABLE, (bytes(4), 0), 3, None),
        ]

    def uplinks(self):
        kept = link.links, link.addresses, routes.routes
        link.links = lambda _kernel: [
            link.Link(index, name, 1500, True, "", index not in self.without_link)
            for index, name in ((1, "lo"), (2, "eth0"), (3, "eth1"), (9, "wayhome0"))
        ]
        link.addresses = lambda _kernel: self.addresses
        routes.routes = lambda _kernel: self.routes
        try:
            return facts.gather(None, "wayhome0", []).uplinks
        finally:
            link.links, link.addresses, routes.routes = kept


def test_an_uplink_is_a_default_route_with_its_interfaces_addresses_and_the_tunnel_is_none():
    assert Kernel().uplinks() == [(2, b"\xc0\xa8\x01\x01", [b"\xc0\xa8\x01\x02"])]


def test_another_gateway_or_address_of_the_uplink_is_another_uplink_and_other_interfaces_are_none_of_it():
    before = Kernel().uplinks()
    elsewhere = Kernel()
    elsewhere.addresses.append(link.Address(3, b"\x0a\0\0\x02", 24, False))
    elsewhere.routes.append(routes.Route(routes.MAIN, (b"\x0b\0\0\0", 8), 3, b"\x0a\0\0\xfe"))
    assert elsewhere.uplinks() == before
    moved = Kernel()
    moved.addresses[1] = link.Address(2, b"\xc0\xa8\x01\x4d", 24, False)
    assert moved.uplinks() != before
    rerouted = Kernel()
    rerouted.routes[0] = routes.Route(routes.MAIN, (bytes(4), 0), 2, b"\xc0\xa8\x01\xfe")
    assert rerouted.uplinks() != before
    lost = Kernel()
    del lost.routes[0]
    assert lost.uplinks() == []


def test_the_order_in_which_the_kernel_lists_is_no_change():
    one, other = Kernel(), Kernel()
    for each in (one, other):
        each.addresses.append(link.Address(2, b"\xc0\xa8\x01\x03", 24, False))
        each.routes.append(routes.Route(routes.MAIN, (bytes(16), 0), 2, b"\xfe\x80" + bytes(14)))
    other.addresses.reverse()
    other.routes.reverse()
    assert one.uplinks() == other.uplinks()


def test_a_default_route_over_a_cable_that_is_out_is_no_uplink():
    unplugged = Kernel()
    unplugged.without_link = [2]
    assert unplugged.uplinks() == []


def test_a_machines_time_servers_are_read_from_leases():
    networkd = "# private\nADDRESS=100.64.8.2\nNTP=192.168.1.1 time.example.net fd00::1\nNTPX=1.2.3.4\n"
    dhclient = "lease {\n  option ntp-servers 192.168.1.1, 192.168.1.5;\n  option routers 192.168.1.9;\n}\n"
    found = time_servers.servers_from_lease(networkd, "\nNTP=", "\n")
    assert [ip_text(each) for each in found] == ["192.168.1.1", "fd00::1"]
    found = time_servers.servers_from_lease(dhclient, "option ntp-servers ", ";")
    assert [ip_text(each) for each in found] == ["192.168.1.1", "192.168.1.5"]
    assert time_servers.servers_from_lease("NTP=", "\nNTP=", "\n") == []
