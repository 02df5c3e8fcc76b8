import struct

from shared.expect import raises
from wayhomed.linux import netlink
from wayhomed.wire.errors import BadWire


def test_an_attribute_is_padded_to_four_bytes():
    assert netlink.attribute(3, b"") == struct.pack("HH", 4, 3)
    assert netlink.attribute(3, b"abcde") == struct.pack("HH", 9, 3) + b"abcde\0\0\0"
    assert netlink.attribute_u32(4, 1280) == struct.pack("HHI", 8, 4, 1280)


def test_attributes_come_back_as_they_were_put():
    nest = netlink.nested(18, netlink.attribute(1, b"wireguard"))
    data = b"head" + netlink.attribute(1, b"a") + nest + netlink.attribute_u32(7, 9)
    found = netlink.decode_attributes(data, 4)
    assert sorted(found) == [1, 7, 18]
    assert found[1] == b"a" and netlink.decode_attributes(found[18]) == {1: b"wireguard"}


def test_attributes_that_lie_about_their_length_are_refused():
    for length in (0, 3, 13, 65535):
        raises(BadWire, netlink.decode_attributes, struct.pack("HH", length, 1) + bytes(8))


def test_messages_come_back_as_they_were_put():
    data = netlink.encode_message(16, netlink.REQUEST, 1, b"abc") + netlink.encode_message(3, 0, 2, b"")
    assert netlink.decode_messages(data) == [(16, netlink.REQUEST, 1, b"abc"), (3, 0, 2, b"")]


def test_a_message_that_lies_about_its_length_is_refused():
    for length in (0, 15, 33, 1 << 31):
        raises(BadWire, netlink.decode_messages, struct.pack("IHHII", length, 2, 0, 1, 0) + bytes(16))
