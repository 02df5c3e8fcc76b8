import struct
from binascii import crc32, unhexlify

from shared.expect import raises
from wayhomed.wire import stun
from wayhomed.wire.errors import BadWire

TXID = bytes(range(12))
REQUEST = unhexlify("000100142112a442000102030405060708090a0b802200087461696c6e6f6465802800048aabad90")
RESPONSE = unhexlify("0101000c2112a442000102030405060708090a0b00200008000183bbe721c045")
SEEN = b"\xc6\x33\x64\x07"
SEEN_V6 = unhexlify("20010db8000000000000000000000007")


def request_of(*attributes, message_type=1, longer=0):
    """Return a Binding request with these (type, value) attributes and a right FINGERPRINT last."""
    body = b""
    for attribute, value in attributes:
        body += struct.pack(">HH", attribute, len(value)) + value + bytes(-len(value) % 4)
    start = struct.pack(">HH4s12s", message_type, len(body) + 8 + longer, stun.MAGIC, TXID) + body
    return start + struct.pack(">HHI", stun.ATTRIBUTE_FINGERPRINT, 4, crc32(start) ^ 0x5354554E)


def response_of(*attributes):
    """Return a Binding success response with these (type, value) attributes."""
    body = b""
    for attribute, value in attributes:
        body += struct.pack(">HH", attribute, len(value)) + value + bytes(-len(value) % 4)
    return struct.pack(">HH4s12s", 0x101, len(body), stun.MAGIC, TXID) + body


def test_the_request_is_the_one_of_the_vectors():
    assert stun.encode_binding_request(TXID) == REQUEST
    assert stun.decode_binding_request(REQUEST) == TXID
    assert stun.is_stun(REQUEST)


def test_the_response_is_the_one_of_the_vectors():
    assert stun.encode_binding_response(TXID, SEEN, 41641) == RESPONSE
    assert stun.decode_binding_response(RESPONSE) == (TXID, SEEN, 41641)
    assert stun.is_stun(RESPONSE)


def test_an_answer_is_not_much_larger_than_its_question():
    assert len(stun.encode_binding_response(TXID, SEEN, 1)) == 32
    assert len(stun.encode_binding_response(TXID, SEEN_V6, 1)) == 44


def test_ipv6_and_mapped_ipv4_come_back_as_themselves():
    response = stun.encode_binding_response(TXID, SEEN_V6, 65535)
    assert stun.decode_binding_response(response) == (TXID, SEEN_V6, 65535)
    mapped = b"\0" * 10 + b"\xff\xff" + SEEN
    assert stun.encode_binding_response(TXID, mapped, 41641) == RESPONSE


def test_a_request_of_which_any_byte_is_changed_or_missing_gets_no_answer():
    for length in range(len(REQUEST)):
        raises(BadWire, stun.decode_binding_request, REQUEST[:length])
    for i in range(len(REQUEST)):
        changed = REQUEST[:i] + bytes((REQUEST[i] ^ 1,)) + REQUEST[i + 1 :]
        raises(BadWire, stun.decode_binding_request, changed)
    raises(BadWire, stun.decode_binding_request, REQUEST + b"\0")
    raises(BadWire, stun.decode_binding_request, RESPONSE)


def test_a_request_of_other_software_gets_no_answer():
    raises(BadWire, stun.decode_binding_request, request_of())
    raises(BadWire, stun.decode_binding_request, request_of((stun.ATTRIBUTE_SOFTWARE, b"scanners")))
    raises(BadWire, stun.decode_binding_request, request_of((stun.ATTRIBUTE_SOFTWARE, b"tailnode2")))
    raises(BadWire, stun.decode_binding_request, request_of((0x0003, bytes(4))))
    assert stun.decode_binding_request(request_of((stun.ATTRIBUTE_SOFTWARE, b"tailnode"))) == TXID
    assert stun.decode_binding_request(request_of((0x8099, b"abc"), (stun.ATTRIBUTE_SOFTWARE, b"tailnode"))) == TXID


def test_a_request_whose_attributes_run_over_its_end_gets_no_answer():
    software = (stun.ATTRIBUTE_SOFTWARE, b"tailnode")
    for lying_length in (0, 4, 9, 13, 60, 65535):
        start = struct.pack(">HH4s12s", 1, 20, stun.MAGIC, TXID)
        start += struct.pack(">HH", software[0], lying_length) + software[1]
        raises(
            BadWire,
            stun.decode_binding_request,
            start + struct.pack(">HHI", stun.ATTRIBUTE_FINGERPRINT, 4, crc32(start) ^ 0x5354554E),
        )


def test_another_type_or_length_with_a_right_fingerprint_gets_no_answer():
    software = (stun.ATTRIBUTE_SOFTWARE, b"tailnode")
    assert stun.decode_binding_request(request_of(software)) == TXID
    for message_type in (0x0002, 0x0003, 0x0011, 0x0101, 0x0111):
        raises(BadWire, stun.decode_binding_request, request_of(software, message_type=message_type))
    for longer in (-4, 4):
        raises(BadWire, stun.decode_binding_request, request_of(software, longer=longer))


def test_a_header_that_holds_its_own_fingerprint_gets_no_answer():
    for length in (0, 4):
        start = struct.pack(">HH4s", 1, length, stun.MAGIC) + bytes(length)
        forged = start + struct.pack(">HHI", stun.ATTRIBUTE_FINGERPRINT, 4, crc32(start) ^ 0x5354554E)
        raises(BadWire, stun.decode_binding_request, forged + bytes(20 + length - len(forged)))


def test_the_fingerprint_counts_only_as_last_attribute():
    whole = REQUEST[:20] + REQUEST[32:] + REQUEST[20:32]
    raises(BadWire, stun.decode_binding_request, whole)


def test_all_forms_of_mapped_address_are_understood_and_xor_wins():
    xored = RESPONSE[24:]
    plain = b"\0\x01\xa2\xa9\x0a\0\0\x01"
    expected = (TXID, SEEN, 41641)
    assert stun.decode_binding_response(response_of((0x8020, xored))) == expected
    assert stun.decode_binding_response(response_of((0x0001, plain))) == (TXID, b"\x0a\0\0\x01", 41641)
    assert stun.decode_binding_response(response_of((0x0001, plain), (0x0020, xored))) == expected
    assert stun.decode_binding_response(response_of((0x0001, plain), (0x0001, plain[:4] + bytes(4)))) == (
        TXID,
        b"\x0a\0\0\x01",
        41641,
    )
    assert stun.decode_binding_response(response_of((0x8022, b"odd"), (0x0020, xored))) == expected
    assert stun.decode_binding_response(response_of((0x0020, xored)) + b"trailing") == expected


def test_a_broken_response_is_refused():
    for length in range(len(RESPONSE)):
        raises(BadWire, stun.decode_binding_response, RESPONSE[:length])
    raises(BadWire, stun.decode_binding_response, REQUEST)
    raises(BadWire, stun.decode_binding_response, response_of())
    raises(BadWire, stun.decode_binding_response, response_of((0x0020, b"")))
    raises(BadWire, stun.decode_binding_response, response_of((0x0020, b"\0\x01\0\0\0\0\0")))
    raises(BadWire, stun.decode_binding_response, response_of((0x0020, b"\0\x02\0\0\0\0\0\0")))
    raises(BadWire, stun.decode_binding_response, response_of((0x0020, b"\0\x03\0\0\0\0\0\0")))
    raises(BadWire, stun.decode_binding_response, response_of((0x0020, b"\0\x03\0\0" + bytes(16))))
    raises(BadWire, stun.decode_binding_response, response_of((0x0001, b"\0\x01\0\0\0\0\0\0\0")))
    raises(BadWire, stun.decode_binding_response, b"\x01\x11" + RESPONSE[2:])


def test_a_response_whose_attributes_run_over_its_end_is_refused():
    plain = struct.pack(">HH", 0x0001, 8) + b"\0\x01\xa2\xa9\x0a\0\0\x01"
    for tail in (b"\0", b"\0\0", b"\x80\x22\0", b"\x80\x22\0\x01", b"\x80\x22\xff\xff" + bytes(8)):
        header = struct.pack(">HH4s12s", 0x101, len(plain + tail), stun.MAGIC, TXID)
        raises(BadWire, stun.decode_binding_response, header + plain + tail)


def test_what_is_not_stun_is_told_apart():
    assert not stun.is_stun(b"")
    assert not stun.is_stun(REQUEST[:19])
    assert not stun.is_stun(b"\x40" + REQUEST[1:])
    assert not stun.is_stun(b"\x80" + REQUEST[1:])
    assert not stun.is_stun(REQUEST[:4] + b"\x21\x12\xa4\x43" + REQUEST[8:])
    # a WireGuard initiation and a disco message
    assert not stun.is_stun(b"\x01\0\0\0" + bytes(144))
    assert not stun.is_stun(b"TS\xf0\x9f\x92\xac" + bytes(60))
