"""STUN's limits at their very edges, each with all the rest of the datagram right."""

import struct
from binascii import crc32

from shared.expect import raises
from wayhomed.wire import stun
from wayhomed.wire.errors import BadWire

TXID = bytes(range(12))
XOR_MAPPED = b"\x00\x20\x00\x08\x00\x01\x83\xbb\xe7\x21\xc0\x45"  # 198.51.100.7:41641
SOFTWARE = b"\x80\x22\x00\x08tailnode"


def request(kind=0x0001, attributes=SOFTWARE, length=None):
    """A request that ends in its right FINGERPRINT, whatever else is wrong with it."""
    length = len(attributes) + 8 if length is None else length
    start = struct.pack(">HH", kind, length) + stun.MAGIC + TXID + attributes
    return start + struct.pack(">HHI", 0x8028, 4, crc32(start) ^ 0x5354554E)


def response(attributes, kind=0x0101):
    return struct.pack(">HH", kind, len(attributes)) + stun.MAGIC + TXID + attributes


def test_the_helpers_of_this_file_make_what_is_right():
    assert request() == stun.encode_binding_request(TXID)
    assert stun.decode_binding_response(response(XOR_MAPPED)) == (TXID, b"\xc6\x33\x64\x07", 41641)


def test_only_a_binding_request_gets_an_answer():
    assert stun.decode_binding_request(request()) == TXID
    for kind in (0x0101, 0x0111, 0x0002, 0x0011):
        raises(BadWire, stun.decode_binding_request, request(kind))


def test_a_request_that_announces_another_length_gets_no_answer():
    for length in (0, 8, 16, 24, 0xFFFF):
        raises(BadWire, stun.decode_binding_request, request(length=length))


def test_a_request_too_short_for_a_fingerprint_is_told_from_one_that_has_nothing_else():
    bare = struct.pack(">HH", 1, 0) + stun.MAGIC + TXID
    assert "without its FINGERPRINT" in str(raises(BadWire, stun.decode_binding_request, bare))
    assert "other software" in str(raises(BadWire, stun.decode_binding_request, request(attributes=b"")))


def test_only_a_success_response_is_read():
    for kind in (0x0001, 0x0111, 0x0100):
        raises(BadWire, stun.decode_binding_response, response(XOR_MAPPED, kind))


def test_an_attribute_may_be_empty():
    empty = b"\x80\x99\x00\x00"
    assert stun.decode_binding_response(response(XOR_MAPPED + empty))[2] == 41641
    assert stun.decode_binding_response(response(empty + XOR_MAPPED))[2] == 41641


def test_a_response_with_a_stray_end_is_refused():
    for stray in (b"\0", b"\0\0", b"\0\0\0"):
        raises(BadWire, stun.decode_binding_response, response(XOR_MAPPED + stray))
        # also if the datagram goes on behind what the header counts
        datagram = bytearray(response(XOR_MAPPED + stray + bytes(8)))
        datagram[2:4] = struct.pack(">H", len(XOR_MAPPED + stray))
        raises(BadWire, stun.decode_binding_response, bytes(datagram))


def test_an_attribute_that_runs_over_the_end_is_refused():
    raises(BadWire, stun.decode_binding_response, response(XOR_MAPPED + b"\x80\x99\x00\x01"))
    raises(BadWire, stun.decode_binding_response, response(XOR_MAPPED + b"\x80\x99\xff\xff"))
    assert stun.decode_binding_response(response(XOR_MAPPED + b"\x80\x99\x00\x01\0\0\0\0"))[2] == 41641


def test_an_address_of_an_unknown_family_is_refused():
    for family in (0, 3, 255):
        raises(BadWire, stun.decode_binding_response, response(b"\0\x20\0\x14\0" + bytes([family]) + bytes(18)))
        raises(BadWire, stun.decode_binding_response, response(b"\0\x20\0\x08\0" + bytes([family]) + bytes(6)))


def test_an_address_of_the_wrong_length_is_refused():
    error = raises(BadWire, stun.decode_binding_response, response(b"\0\x20\0\x04\0\x01\x83\xbb"))
    assert "wrong length" in str(error)
    error = raises(BadWire, stun.decode_binding_response, response(b"\0\x20\0\x03\0\x01\x83\xbb"))
    assert "cut short" in str(error)
