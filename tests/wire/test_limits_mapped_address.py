from shared.expect import raises
from wayhomed.wire.errors import BadWire
from wayhomed.wire.mapped_address import mapped, unmapped

IPV4 = b"\xc0\x00\x02\x01"
IPV6 = bytes(range(16))


def test_addresses_come_back_as_they_were():
    assert mapped(IPV4) == bytes(10) + b"\xff\xff" + IPV4
    assert mapped(IPV6) == IPV6
    for ip in (IPV4, IPV6, bytes(4), bytes(16)):
        assert unmapped(mapped(ip)) == ip


def test_an_address_of_another_length_is_a_bug_to_write_and_refused_to_read():
    for length in (0, 3, 5, 15, 17):
        raises(ValueError, mapped, bytes(length))
        raises(BadWire, unmapped, bytes(length))
    raises(BadWire, unmapped, IPV4)
