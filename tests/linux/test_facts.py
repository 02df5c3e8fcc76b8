from wayhomed.linux import facts
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
