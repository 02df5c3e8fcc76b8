from shared.expect import raises
from wayhomed.wire import wireguard
from wayhomed.wire.errors import BadWire
from wayhomed.wire.wireguard import COOKIE, DATA, INITIATION, NOT_WIREGUARD, RESPONSE

LENGTHS = ((INITIATION, 148), (RESPONSE, 92), (COOKIE, 64))


def datagram(kind, length, reserved=b"\0\0\0"):
    return (bytes([kind]) + reserved + bytes(range(4, 255)) + bytes(2000))[:length]


def test_messages_of_the_handshake_have_one_length():
    for kind, right in LENGTHS:
        for length in range(0, 200):
            expected = kind if length == right else NOT_WIREGUARD
            assert wireguard.classify(datagram(kind, length)) == expected


def test_data_has_32_bytes_or_more():
    for length in range(0, 100):
        assert wireguard.classify(datagram(DATA, length)) == (DATA if length >= 32 else NOT_WIREGUARD)
    assert wireguard.classify(datagram(DATA, 1452)) == DATA


def test_other_kinds_are_not_wireguards():
    for kind in range(256):
        if kind not in (1, 2, 3, 4):
            for length in (32, 64, 92, 148, 1000):
                assert wireguard.classify(datagram(kind, length)) == NOT_WIREGUARD


def test_the_reserved_bytes_are_zero():
    for reserved in (b"\1\0\0", b"\0\1\0", b"\0\0\1", b"\xff\xff\xff"):
        for kind, length in LENGTHS + ((DATA, 32),):
            assert wireguard.classify(datagram(kind, length, reserved)) == NOT_WIREGUARD


def test_headers_are_little_endian():
    header = wireguard.decode_header(datagram(DATA, 32))
    assert (header.kind, header.sender, header.receiver) == (DATA, None, 0x07060504)
    assert header.counter == 0x0F0E0D0C0B0A0908
    header = wireguard.decode_header(datagram(INITIATION, 148))
    assert (header.kind, header.sender, header.receiver, header.counter) == (INITIATION, 0x07060504, None, None)
    header = wireguard.decode_header(datagram(RESPONSE, 92))
    assert (header.kind, header.sender, header.receiver, header.counter) == (RESPONSE, 0x07060504, 0x0B0A0908, None)
    header = wireguard.decode_header(datagram(COOKIE, 64))
    assert (header.kind, header.sender, header.receiver, header.counter) == (COOKIE, None, 0x07060504, None)


def test_what_is_not_wireguard_has_no_header():
    for other in (b"", b"\4", datagram(DATA, 31), datagram(INITIATION, 147), datagram(5, 148), datagram(0, 32)):
        raises(BadWire, wireguard.decode_header, other)


def test_a_datagram_cut_anywhere_is_refused_except_data_that_is_long_enough():
    for kind, length in LENGTHS:
        for cut in range(length):
            raises(BadWire, wireguard.decode_header, datagram(kind, length)[:cut])
