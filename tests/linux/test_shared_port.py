import struct

from shared import bpf
from wayhomed.linux.shared_port import checksum, encode_ip4, encode_udp, shared_filter
from wayhomed.wire.address import ip_from_text as ip

PORT = 41641
TUNNEL = 7
HERE, THERE = ip("192.0.2.1"), ip("198.51.100.9")
DISCO = b"TS\xf0\x9f\x92\xac" + bytes(56)
STUN = b"\x01\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)
WIREGUARD = [
    b"\x01\0\0\0" + bytes(144),
    b"\x02\0\0\0" + bytes(88),
    b"\x03\0\0\0" + bytes(60),
    b"\x04\0\0\0" + bytes(28),
]


def udp(datagram, port=PORT):
    return struct.pack(">HHHH", 3478, port, 8 + len(datagram), 0) + datagram


def packet4(payload, options=0, fragment=0):
    head = struct.pack(">BBHHHBBH", 0x45 + options, 0, 20 + 4 * options + len(payload), 7, fragment, 64, 17, 0)
    return head + THERE + HERE + b"\x01" * (4 * options) + payload


def accepted4(packet):
    return bpf.accepts(shared_filter(PORT, True, TUNNEL), packet)


def accepted6(payload):
    return bpf.accepts(shared_filter(PORT, False, TUNNEL), payload)


def accepted(datagram, port=PORT):
    """Tell what both families' programs say, which must be the same."""
    by4, by6 = accepted4(packet4(udp(datagram, port))), accepted6(udp(datagram, port))
    assert by4 == by6
    return by4


def test_the_programs_end_where_they_should():
    bpf.check(shared_filter(PORT, True, TUNNEL))
    bpf.check(shared_filter(PORT, False, TUNNEL))


def test_disco_and_stun_pass():
    for datagram in (DISCO, DISCO + bytes(1400), STUN, STUN + bytes(80)):
        assert accepted(datagram)


def test_what_comes_out_of_the_tunnel_does_not_pass():
    for datagram in (DISCO, STUN):
        for interface in (1, 6, 8):
            assert bpf.accepts(shared_filter(PORT, True, TUNNEL), packet4(udp(datagram)), interface)
            assert bpf.accepts(shared_filter(PORT, False, TUNNEL), udp(datagram), interface)
        assert not bpf.accepts(shared_filter(PORT, True, TUNNEL), packet4(udp(datagram)), TUNNEL)
        assert not bpf.accepts(shared_filter(PORT, False, TUNNEL), udp(datagram), TUNNEL)


def test_every_other_port_is_somebody_elses():
    for datagram in (DISCO, STUN):
        for port in (0, 1, PORT - 1, PORT + 1, 3478, 65535):
            assert not accepted(datagram, port)


def test_wireguards_own_datagrams_do_not_pass():
    for datagram in WIREGUARD:
        assert not accepted(datagram)
        # whatever session index and ciphertext happen to be
        assert not accepted(datagram[:4] + b"\x21\x12\xa4\x42" + datagram[8:])
        assert not accepted(datagram[:4] + DISCO[:6] + datagram[10:])


def test_what_only_resembles_disco_or_stun_does_not_pass():
    for at in range(6):
        for other in (0, 255):
            assert not accepted(DISCO[:at] + bytes([other]) + DISCO[at + 1 :])
    for at in range(4, 8):
        assert not accepted(STUN[:at] + b"\xee" + STUN[at + 1 :])
    for first, second in ((0x41, 1), (0x81, 1), (0x01, 0), (0x01, 0x11), (0x01, 0x02)):
        assert not accepted(bytes([first, second]) + STUN[2:])


def test_what_is_cut_short_does_not_pass():
    for whole in (DISCO, STUN):
        for length in range(len(whole)):
            assert not accepted(whole[:length]), length
        for length in range(28 + len(whole)):
            assert not accepted4(packet4(udp(whole))[:length])


def test_an_ipv4_header_with_options_is_measured():
    for options in range(11):
        for datagram in (DISCO, STUN):
            assert accepted4(packet4(udp(datagram), options))
            assert not accepted4(packet4(udp(datagram, 9), options))
    # options that look like our port where it would stand without them
    disguised = packet4(struct.pack(">HHHH", 1, 9, 70, 0) + DISCO, 2)
    assert not accepted4(disguised[:20] + struct.pack(">HHHH", 1, PORT, 70, 0) + disguised[28:])


def test_no_piece_of_a_fragmented_packet_passes():
    for fragment in (0x2000, 0x2001, 1, 0x1FFF):
        assert not accepted4(packet4(udp(DISCO), fragment=fragment))
    assert accepted4(packet4(udp(DISCO), fragment=0x4000))  # "don't fragment" is no fragment


def test_the_checksum_is_that_of_rfc_1071():
    assert checksum(bytes((0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7))) == 0x220D  # its example, complemented
    assert checksum(b"\xff\xff") == 0xFFFF  # 0 would say "none"
    assert checksum(b"\x12") == 0xFFFF - 0x1200


def test_a_udp_header_adds_up_to_nothing_with_its_pseudo_header():
    for length in range(5):
        for source, target in ((HERE, THERE), (ip("2001:db8::1"), ip("2001:db8::2"))):
            made = encode_udp((source, PORT), (target, 3478), b"\xa5" * length)
            assert made[:6] == struct.pack(">HHH", PORT, 3478, 8 + length)
            summed = source + target + struct.pack(">II", len(made), 17) + made + bytes(len(made) & 1)
            assert int.from_bytes(summed, "big") % 0xFFFF == 0


def test_an_ipv4_packet_leaves_to_the_kernel_what_it_fills_in():
    made = encode_ip4(HERE, THERE, b"payload")
    assert made[12:] == HERE + THERE + b"payload"
    assert made[:12] == b"\x45\0\0\0\0\0\0\0\x40\x11\0\0"
