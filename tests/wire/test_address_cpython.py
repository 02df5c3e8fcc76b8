"""The standard library's ipaddress as second opinion."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from wayhomed.wire import address
from wayhomed.wire.errors import BadWire

IPS = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))
ADDRESS_LIKE = st.text(alphabet="0123456789abcfF:./[]% ", max_size=50)


@given(IPS)
def test_written_addresses_are_read_back_by_both(ip):
    text = address.ip_text(ip)
    assert address.ip_from_text(text) == ip
    assert ipaddress.ip_address(text).packed == ip


@given(IPS)
def test_addresses_written_by_ipaddress_are_read(ip):
    assert address.ip_from_text(str(ipaddress.ip_address(ip))) == ip


@given(ADDRESS_LIKE)
def test_any_text_is_read_as_ipaddress_reads_it(text):
    try:
        expected = None if "%" in text else ipaddress.ip_address(text).packed
    except ValueError:
        expected = None
    try:
        got = address.ip_from_text(text)
    except BadWire:
        got = None
    assert got == expected


@given(ADDRESS_LIKE | st.text(max_size=50))
def test_no_text_breaks_the_readers(text):
    for read in (address.ip_from_text, address.prefix_from_text, address.endpoint_from_text):
        try:
            read(text)
        except BadWire:
            pass


@given(IPS, st.integers(0, 128), IPS)
def test_prefixes_agree_with_ipaddress(ip, length, other):
    length = min(length, 8 * len(ip))
    network = ipaddress.ip_network((ip, length), strict=False)
    ours = address.prefix_from_text(str(network))
    assert ours == (network.network_address.packed, length)
    assert address.contains(ours, ip)
    assert address.contains(ours, other) == (ipaddress.ip_address(other) in network)


@given(IPS, IPS, st.integers(0, 32), st.integers(0, 32))
def test_overlaps_agrees_with_ipaddress(a, b, a_length, b_length):
    x, y = (ipaddress.ip_network(pair, strict=False) for pair in ((a, a_length), (b, b_length)))
    got = address.overlaps((x.network_address.packed, a_length), (y.network_address.packed, b_length))
    assert got == (x.version == y.version and x.overlaps(y))
