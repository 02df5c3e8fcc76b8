"""ARP, echoes to all nodes and magic packets, byte by byte."""

from binascii import unhexlify

from shared.expect import raises
from wayhomed.wire import lan_frames
from wayhomed.wire.errors import BadWire

MAC = unhexlify("001132aabbcc")
OTHER = unhexlify("525400000001")
IP, ASKED = b"\xc0\xa8\x01\x02", b"\xc0\xa8\x01\x14"
IP6 = unhexlify("fd000001000000000000000000000010")


def arp(**fields):
    parts = {
        "to": b"\xff" * 6,
        "source": MAC,
        "type": "0806",
        "head": "0001" + "0800" + "06" + "04" + "0002",
        "sender": MAC,
        "ip": ASKED,
        "target": OTHER + IP,
    }
    parts.update(fields)
    head = parts["to"] + parts["source"] + unhexlify(parts["type"]) + unhexlify(parts["head"])
    return head + parts["sender"] + parts["ip"] + parts["target"]


def echo(**fields):
    parts = {
        "source": MAC,
        "type": "86dd",
        "header": "60000000" + "0008" + "3a" + "ff",
        "ip": IP6,
        "echo": "810000000102",
    }
    parts.update(fields)
    head = OTHER + parts["source"] + unhexlify(parts["type"]) + unhexlify(parts["header"])
    return head + parts["ip"] + bytes(16) + unhexlify(parts["echo"]) + b"\0\1"


def test_a_mac_is_read_in_every_usual_spelling():
    for text in ("00:11:32:aa:bb:cc", "00-11-32-AA-BB-CC", "0011.32aa.bbcc", "001132AABBCC"):
        assert lan_frames.mac_from_text(text) == MAC
    assert lan_frames.mac_text(MAC) == "00:11:32:aa:bb:cc"


def test_what_is_no_mac_is_refused():
    for text in (
        "",
        "nas",
        "00:11:32:aa:bb",
        "00:11:32:aa:bb:cc:dd",
        "00:11:32:aa:bb:cg",
        "00:11-32:aa:bb:cc",
        "0:011:32:aa:bb:cc",
        "001:132:aabbcc",
        "00.11.32.aa.bb.cc",
        "001132aabbcc" + " " * 5,
        None,
        b"001132aabbcc",
    ):
        assert "00:11:32:aa:bb:cc" in str(raises(BadWire, lan_frames.mac_from_text, text))


def test_a_text_too_long_for_a_mac_is_not_even_looked_at():
    raises(BadWire, lan_frames.mac_from_text, "00:11:32:aa:bb:cc ")


def test_the_mac_of_nobody_and_of_a_group_are_refused_with_the_reason():
    assert "zeros" in str(raises(BadWire, lan_frames.mac_from_text, "00:00:00:00:00:00"))
    assert "group" in str(raises(BadWire, lan_frames.mac_from_text, "01:00:5e:00:00:fb"))
    assert "group" in str(raises(BadWire, lan_frames.mac_from_text, "ff:ff:ff:ff:ff:ff"))


def test_an_arp_request_asks_all_for_one_address():
    assert lan_frames.encode_arp_request(MAC, IP, ASKED) == unhexlify(
        "ffffffffffff001132aabbcc08060001080006040001001132aabbccc0a80102000000000000c0a80114"
    )


def test_an_arp_frame_tells_who_has_its_senders_address():
    assert lan_frames.decode_arp(arp()) == (MAC, ASKED)
    assert lan_frames.decode_arp(lan_frames.encode_arp_request(MAC, IP, ASKED)) == (MAC, IP)
    assert lan_frames.decode_arp(arp() + bytes(18)) == (MAC, ASKED)  # padded to 60 bytes


def test_arp_that_is_cut_short_is_refused():
    for size in range(len(arp())):
        raises(BadWire, lan_frames.decode_arp, arp()[:size])


def test_what_is_not_arp_for_ipv4_over_ethernet_is_refused():
    raises(BadWire, lan_frames.decode_arp, arp(type="0800"))
    for head in ("0006080006040002", "0001080106040002", "0001080007040002", "0001080006050002"):
        raises(BadWire, lan_frames.decode_arp, arp(head=head))


def test_an_arp_frame_speaks_for_its_own_sender_alone():
    raises(BadWire, lan_frames.decode_arp, arp(source=OTHER))
    group = b"\x01" + MAC[1:]
    raises(BadWire, lan_frames.decode_arp, arp(source=group, sender=group))
    raises(BadWire, lan_frames.decode_arp, arp(source=bytes(6), sender=bytes(6)))


def test_no_device_has_the_address_0_or_a_groups():
    for ip in (b"\0\0\0\0", b"\0\1\2\3", b"\xe0\0\0\xfb", b"\xff\xff\xff\xff"):
        raises(BadWire, lan_frames.decode_arp, arp(ip=ip))
    for ip in (b"\1\0\0\1", b"\xdf\xff\xff\xfe"):
        assert lan_frames.decode_arp(arp(ip=ip)) == (MAC, ip)


def test_an_echo_request_goes_to_all_nodes_of_the_link():
    frame = lan_frames.encode_echo_request(MAC, IP6, 0x0102)
    assert frame == unhexlify(
        "333300000001" "001132aabbcc" "86dd" "60000000" "0008" "3a" "01" "fd000001000000000000000000000010"
        "ff020000000000000000000000000001" "8000" "82a4" "0102" "0001"
    )  # fmt: skip


def test_a_checksum_that_overflows_twice_is_right():
    frame = lan_frames.encode_echo_request(MAC, b"\xff" * 16, 0xFFFF)
    words = frame[22:54] + b"\0\0\0\x08\0\0\0\x3a" + frame[54:]
    total = sum([words[at] << 8 | words[at + 1] for at in range(0, len(words), 2)])
    assert total % 0xFFFF == 0


def test_an_echo_reply_tells_who_has_its_senders_address():
    assert lan_frames.decode_echo_reply(echo(), 0x0102) == (MAC, IP6)
    assert lan_frames.decode_echo_reply(echo(header="6abcdef00008" + "3a40"), 0x0102) == (MAC, IP6)


def test_an_echo_that_is_cut_short_is_refused():
    for size in range(len(echo())):
        raises(BadWire, lan_frames.decode_echo_reply, echo()[:size], 0x0102)


def test_what_is_no_answer_to_our_echo_request_is_refused():
    for fields in (
        {"type": "0800"},
        {"header": "40000000" + "0008" + "3a" + "ff"},
        {"header": "60000000" + "0008" + "11" + "ff"},
        {"echo": "800000000102"},
        {"echo": "810100000102"},
        {"echo": "810000000103"},
        {"source": b"\x01" + MAC[1:]},
        {"source": bytes(6)},
        {"ip": b"\xff\x02" + IP6[2:]},
        {"ip": bytes(16)},
        {"ip": bytes(15) + b"\1"},
    ):
        raises(BadWire, lan_frames.decode_echo_reply, echo(**fields), 0x0102)


def test_a_magic_packet_is_six_ff_and_the_mac_sixteen_times():
    assert lan_frames.encode_magic(MAC) == b"\xff" * 6 + MAC * 16
    assert lan_frames.encode_wake(OTHER, MAC) == b"\xff" * 6 + OTHER + b"\x08\x42" + b"\xff" * 6 + MAC * 16
