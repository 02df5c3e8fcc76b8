from shared.expect import raises
from wayhomed.wire import wireguard
from wayhomed.wire.errors import BadWire

INITIATION = b"\x01\0\0\0" + b"\x11\x22\x33\x44" + bytes(140)
RESPONSE = b"\x02\0\0\0" + b"\x11\x22\x33\x44" + b"\x55\x66\x77\x88" + bytes(80)
COOKIE = b"\x03\0\0\0" + b"\x11\x22\x33\x44" + bytes(56)
KEEPALIVE = b"\x04\0\0\0" + b"\x11\x22\x33\x44" + b"\x09" + bytes(7) + bytes(16)


def test_each_kind_is_told_by_type_and_length():
    assert wireguard.classify(INITIATION) == wireguard.INITIATION
    assert wireguard.classify(RESPONSE) == wireguard.RESPONSE
    assert wireguard.classify(COOKIE) == wireguard.COOKIE
    assert wireguard.classify(KEEPALIVE) == wireguard.DATA
    assert wireguard.classify(KEEPALIVE + bytes(1296)) == wireguard.DATA


def test_a_wrong_length_is_no_wireguard():
    for whole in (INITIATION, RESPONSE, COOKIE, KEEPALIVE):
        for length in range(len(whole)):
            assert wireguard.classify(whole[:length]) == wireguard.NOT_WIREGUARD
        if whole != KEEPALIVE:
            assert wireguard.classify(whole + b"\0") == wireguard.NOT_WIREGUARD


def test_data_has_any_length_from_a_keepalive_on():
    # Senders pad to 16 bytes, but not beyond their MTU, which need not be a multiple.
    for more in range(50):
        assert wireguard.classify(KEEPALIVE + bytes(more)) == wireguard.DATA


def test_the_three_bytes_behind_the_type_are_zero():
    for at in (1, 2, 3):
        bad = bytearray(KEEPALIVE)
        bad[at] = 1
        assert wireguard.classify(bytes(bad)) == wireguard.NOT_WIREGUARD


def test_types_beyond_1_to_4_are_no_wireguard():
    for kind in (0, 5, 0x54, 255):
        for whole in (INITIATION, RESPONSE, COOKIE, KEEPALIVE):
            assert wireguard.classify(bytes((kind,)) + whole[1:]) == wireguard.NOT_WIREGUARD


def test_disco_and_stun_are_no_wireguard():
    assert wireguard.classify(b"TS\xf0\x9f\x92\xac" + bytes(90)) == wireguard.NOT_WIREGUARD
    assert wireguard.classify(b"\x01\x01\x00\x0c\x21\x12\xa4\x42" + bytes(24)) == wireguard.NOT_WIREGUARD


def test_header_fields_are_little_endian():
    header = wireguard.decode_header(INITIATION)
    assert (header.kind, header.sender, header.receiver, header.counter) == (1, 0x44332211, None, None)
    header = wireguard.decode_header(RESPONSE)
    assert (header.kind, header.sender, header.receiver, header.counter) == (2, 0x44332211, 0x88776655, None)
    header = wireguard.decode_header(COOKIE)
    assert (header.kind, header.sender, header.receiver, header.counter) == (3, None, 0x44332211, None)
    header = wireguard.decode_header(KEEPALIVE)
    assert (header.kind, header.sender, header.receiver, header.counter) == (4, None, 0x44332211, 9)


def test_a_header_of_something_else_is_refused():
    raises(BadWire, wireguard.decode_header, b"")
    raises(BadWire, wireguard.decode_header, b"\x04\0\0\0" + bytes(27))
