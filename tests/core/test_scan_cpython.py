"""Whatever comes from the LAN, a scan goes on."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSRR, DNSRRSRV
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Ether

from wayhomed.core import leases, scan
from wayhomed.wire import address, lan_frames, mdns, ssdp
from wayhomed.wire.errors import BadWire

MAC, IP = bytes.fromhex("001132aabbcc"), bytes([192, 168, 1, 20])
IP6 = address.ip_from_text("fd00:1::14")
ANSWER = bytes(
    DNS(
        qr=1,
        an=[
            DNSRR(rrname="_http._tcp.local", type="PTR", rdata="n._http._tcp.local"),
            DNSRRSRV(rrname="n._http._tcp.local", port=80, target="nas.local"),
            DNSRR(rrname="nas.local", type="A", rdata="192.168.1.20"),
        ],
    )
)


@st.composite
def damaged(draw, whole: bytes):
    """Some bytes of a message are others, or it is cut short."""
    made = bytearray(whole)
    for at in draw(st.lists(st.integers(0, len(made) - 1), max_size=6)):
        made[at] = draw(st.integers(0, 255))
    return bytes(made[: draw(st.integers(0, len(made)))])


@given(
    st.lists(
        st.one_of(st.binary(max_size=200), damaged(ANSWER), damaged(b"HTTP/1.1 200 OK\r\nSERVER: x\r\n")), max_size=9
    )
)
def test_no_answer_breaks_a_scan(datagrams):
    found = scan.Scan(set())
    found.seen("lan0", MAC, IP, scan.NOW)
    for datagram in datagrams:
        for take in (found.mdns_received, found.ssdp_received):
            with contextlib.suppress(BadWire):
                take("lan0", IP, datagram)
    (device,) = found.devices()
    assert device.as_json()["addresses"] == ["192.168.1.20"]
    assert all(len(name) <= scan.MAX_NAME for name in [*device.names.values(), device.model])
    for datagram in found.mdns_questions() + found.name_questions("lan0"):
        assert DNS(datagram).qdcount


@given(
    st.one_of(
        st.binary(max_size=100), damaged(bytes(Ether() / ARP())), damaged(bytes(Ether() / IPv6() / ICMPv6EchoReply()))
    )
)
def test_no_frame_raises_anything_but_bad_wire(frame):
    for decode in (lan_frames.decode_arp, lambda one: lan_frames.decode_echo_reply(one, 0)):
        with contextlib.suppress(BadWire):
            mac, ip = decode(frame)
            assert len(mac) == 6
            assert len(ip) in (4, 16)


@given(st.text(max_size=300))
def test_no_text_raises_anything_but_bad_wire(text):
    leases.read_leases(text)
    with contextlib.suppress(BadWire):
        assert lan_frames.mac_from_text(lan_frames.mac_text(lan_frames.mac_from_text(text)))


def test_scapy_reads_our_frames_and_questions():
    asked = Ether(lan_frames.encode_arp_request(MAC, IP, bytes([192, 168, 1, 1])))
    assert (asked[ARP].psrc, asked[ARP].pdst, asked[ARP].op) == ("192.168.1.20", "192.168.1.1", 1)
    echo = Ether(lan_frames.encode_echo_request(MAC, IP6, 7))
    checksum = echo[ICMPv6EchoRequest].cksum
    del echo[ICMPv6EchoRequest].cksum
    assert Ether(bytes(echo))[ICMPv6EchoRequest].cksum == checksum
    question = DNS(mdns.encode_questions([mdns.service_name("_http._tcp")]))
    assert question.qd[0].qname == b"_http._tcp.local."
    assert ssdp.encode_search(1).startswith(b"M-SEARCH")


def test_we_read_scapys_frames_and_answers():
    reply = Ether(src="00:11:32:aa:bb:cc") / ARP(op=2, hwsrc="00:11:32:aa:bb:cc", psrc="192.168.1.20")
    assert lan_frames.decode_arp(bytes(reply)) == (MAC, IP)
    echo = Ether(src="00:11:32:aa:bb:cc") / IPv6(src="fd00:1::14", dst="fd00:1::2") / ICMPv6EchoReply(id=7)
    assert lan_frames.decode_echo_reply(bytes(echo), 7) == (MAC, IP6)
    answers = mdns.decode_answers(ANSWER)
    assert answers.addresses == [((b"nas", b"local"), IP)]
    assert answers.services[0][1:] == (80, (b"nas", b"local"))
