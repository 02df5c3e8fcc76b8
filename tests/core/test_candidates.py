"""Which addresses a peer may send us to."""

from wayhomed.core.candidates import Own, refusal
from wayhomed.wire.address import ip_from_text, prefix_from_text

OWN = Own(
    [ip_from_text("192.168.1.7"), ip_from_text("2001:db8:1::7")],
    [prefix_from_text("192.168.1.0/24"), prefix_from_text("2001:db8:1::/64"), prefix_from_text("198.51.100.4/31")],
    [ip_from_text("100.64.0.1"), ip_from_text("fd7a:115c:a1e0::1"), ip_from_text("2001:db8:99::1")],
)


def refused(text, port=41641):
    return refusal((ip_from_text(text), port), OWN)


def test_addresses_of_the_internet_may_be_pinged():
    for text in ("203.0.113.9", "2001:db8:2::1", "223.255.255.255", "192.0.2.255"):
        assert refused(text) == "", text


def test_neighbours_on_a_lan_may_be_pinged():
    for text in ("192.168.1.1", "192.168.1.254", "10.0.0.1", "172.16.9.9", "2001:db8:1::8", "fd00::1", "169.254.3.4"):
        assert refused(text) == "", text


def test_a_carriers_addresses_may_be_pinged_but_not_the_meshs():
    assert refused("100.127.3.3") == ""
    assert refused("100.64.0.1") == "an address of the mesh"
    assert refused("100.100.100.100") == "an address of the mesh"
    assert refused("fd7a:115c:a1e0::99") == "an address of the mesh"
    assert refused("2001:db8:99::1") == "an address of the mesh"
    assert refused("fd7a:115c:a1e1::99") == ""


def test_port_0_is_refused_and_what_is_no_port():
    assert refused("203.0.113.9", 0) == "no port"
    assert refused("203.0.113.9", 65536) == "no port"
    assert refused("203.0.113.9", -1) == "no port"
    assert refused("203.0.113.9", 1) == ""
    assert refused("203.0.113.9", 65535) == ""


def test_this_machine_is_refused():
    for text, reason in (
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("127.0.0.1", "loopback"),
        ("127.64.0.9", "loopback"),
        ("::1", "loopback"),
        ("192.168.1.7", "an address of this machine"),
        ("2001:db8:1::7", "an address of this machine"),
    ):
        assert refused(text) == reason, text


def test_what_reaches_many_is_refused():
    for text, reason in (
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("ff02::1", "multicast"),
        ("240.0.0.1", "broadcast or reserved"),
        ("255.255.255.255", "broadcast or reserved"),
        ("192.168.1.255", "broadcast of a connected network"),
        ("192.168.1.0", "broadcast of a connected network"),
    ):
        assert refused(text) == reason, text


def test_the_smallest_network_with_a_broadcast_has_four_addresses():
    own = Own([], [prefix_from_text("198.51.100.8/30")])
    refusals = [bool(refusal((ip_from_text("198.51.100." + str(i)), 1), own)) for i in range(7, 13)]
    assert refusals == [False, True, False, False, True, False]


def test_a_network_of_two_addresses_has_no_broadcast():
    assert refused("198.51.100.4") == ""
    assert refused("198.51.100.5") == ""


def test_link_local_ipv6_needs_an_interface_and_is_refused():
    assert refused("fe80::1") == "link-local"
    assert refused("febf::1") == "link-local"
    assert refused("fec0::1") == ""


def test_ipv4_written_as_ipv6_is_refused_or_it_would_go_round_the_other_rules():
    assert refused("::ffff:127.0.0.1") == "IPv4 written as IPv6"
    assert refused("::ffff:203.0.113.9") == "IPv4 written as IPv6"


def test_bytes_that_are_no_address_are_refused():
    for length in (0, 3, 5, 15, 17):
        assert refusal((bytes(length), 1), OWN) == "no address"


def test_a_machine_that_knows_nothing_of_itself_still_refuses_what_is_never_right():
    assert refusal((b"\x7f\x00\x00\x01", 1), Own())
    assert not refusal((b"\xc0\xa8\x01\x07", 1), Own())
