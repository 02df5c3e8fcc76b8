"""What reads bytes or JSON of others raises its one error and no other, whatever comes."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from shared.map_message import take
from wayhomed.core import ranges
from wayhomed.core.dataplane import Facts, Preferences, plan
from wayhomed.core.filter import read_filter
from wayhomed.core.netmap import Netmap
from wayhomed.core.published import KEY, read_published
from wayhomed.linux import facts, netlink, uapi
from wayhomed.linux.firewall import ruleset
from wayhomed.linux.kernel_wireguard import read_device
from wayhomed.linux.wireguard import Device
from wayhomed.wire import wireguard
from wayhomed.wire.errors import BadWire

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
addresses = st.sampled_from(
    [
        "*",
        "100.64.0.2",
        "192.168.1.0/24",
        "192.168.1.2",
        "100.64.0.1",
        "10.0.0.1-10.0.0.9",
        "fd00::/8",
        "cap:x",
        "::1",
        "x",
    ]
)
ports = st.builds(lambda a, b: {"First": a, "Last": b}, st.integers(0, 65535), st.integers(0, 65535))
entries = st.fixed_dictionaries({"IP": addresses | plain, "Ports": ports | plain})
rules = st.fixed_dictionaries(
    {"SrcIPs": st.lists(addresses, max_size=4) | plain, "DstPorts": st.lists(entries, max_size=4) | plain},
    optional={"IPProto": st.lists(st.integers(-1, 260), max_size=3) | plain, "SrcBits": plain, "CapGrant": plain},
)
published = st.fixed_dictionaries(
    {"Name": st.text(max_size=5) | plain},
    optional={
        "Address4": st.sampled_from(["100.64.0.50", "100.64.0.51"]) | plain,
        "Target4": st.sampled_from(["192.168.1.10", "192.168.1.2"]) | plain,
        "Ports": st.lists(st.sampled_from(["tcp:80", "udp:1-9", "x"]), max_size=3) | plain,
    },
)


@given(st.binary(max_size=200))
def test_any_datagram_is_classified(data):
    kind = wireguard.classify(data)
    assert kind in range(5)
    if kind:
        assert wireguard.decode_header(data).kind == kind
    else:
        with contextlib.suppress(BadWire):
            wireguard.decode_header(data)
            raise AssertionError("read what is none")


@given(st.binary(max_size=300))
def test_any_netlink_bytes_are_read_or_refused(data):
    for read in (netlink.decode_messages, netlink.decode_attributes):
        with contextlib.suppress(BadWire):
            read(data)


def nests(inner):
    """Return attributes that hold attributes, of the kinds that a listing of WireGuard's is made of."""
    return st.lists(st.builds(netlink.attribute, st.integers(0, 10), st.binary(max_size=40) | inner), max_size=5).map(
        b"".join
    )


@given(st.binary(max_size=300) | nests(nests(nests(nests(st.binary(max_size=40))))), st.booleans())
def test_any_listing_of_the_kernels_wireguard_is_read_or_refused(data, with_allowed):
    peers: list = []
    with contextlib.suppress(BadWire):
        read_device(Device(), peers.append, data, 0, len(data), with_allowed)
    for peer in peers:
        assert len(peer.public_key) == 32


@given(
    st.lists(
        st.sampled_from([b"errno=0", b"listen_port=", b"public_key=" + b"0a" * 32, b"endpoint=1", b"="]) | st.binary()
    )
)
def test_any_uapi_answer_is_read_or_refused(lines):
    with contextlib.suppress(BadWire, OSError):
        uapi.decode_device(b"\n".join(lines) + b"\n\n")


@given(st.text())
def test_any_system_file_is_read(text):
    facts.resolvers_from_text(text)
    facts.servers_from_lease(text, "SERVER_ADDRESS=", "\n")


@given(st.lists(rules | plain, max_size=5) | plain)
def test_any_filter_is_read_and_what_is_left_makes_a_ruleset(given_rules):
    read = read_filter(given_rules, lambda capability: [b"\x64\x40\x00\x07"])
    for rule in read.rules:
        assert rule.sources and rule.openings and all(0 < number < 256 for number in rule.protocols)


@given(st.lists(published | plain, max_size=4) | plain)
def test_any_list_of_published_devices_is_read(value):
    for device in read_published({KEY: value})[0]:
        assert device.pairs


@given(st.lists(rules, max_size=4), st.lists(published, max_size=3))
def test_no_plan_opens_the_routers_lan_address_without_its_name(given_rules, given_published):
    netmap = Netmap()
    key = "nodekey:" + "01" * 32
    take(netmap, {"Node": {"ID": 1, "Key": key, "Addresses": ["100.64.0.1/32"], "CapMap": {KEY: given_published}}})
    netmap.filter_rules = lambda: given_rules
    here = Facts()
    here.own = [b"\xc0\xa8\x01\x02"]
    here.connected = [(b"\xc0\xa8\x01\x00", 24)]
    made = plan(netmap, Preferences(advertise_routes=[(b"\xc0\xa8\x01\x00", 24)]), here)
    named = '"192.168.1.2"' in str(given_rules).replace("'", '"')
    for rule in made.firewall.rules:
        assert named or not rule.destinations().contains(b"\xc0\xa8\x01\x02")
    for device in made.firewall.published:
        assert all(target != b"\xc0\xa8\x01\x02" for _mesh_ip, target in device.pairs)
    ruleset("wayhome0", made.firewall)


spans = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=6)


def from_spans(items):
    return ranges.Ranges([(low.to_bytes(4, "big"), (low + more).to_bytes(4, "big")) for low, more in items])


def members(made):
    return {number for number in range(350) if made.contains(number.to_bytes(4, "big"))}


@given(spans, spans, st.integers(0, 349))
def test_ranges_behave_as_sets(a, b, hole):
    first, second = from_spans(a), from_spans(b)
    assert members(first) == {low + i for low, more in a for i in range(more + 1)}
    assert members(first.intersection(second)) == members(first) & members(second)
    assert members(first.without(hole.to_bytes(4, "big"))) == members(first) - {hole}
    assert all(first.v4[i][1] < first.v4[i + 1][0] for i in range(len(first.v4) - 1))
