import struct

from shared import bpf
from wayhomed.linux import proxy
from wayhomed.wire.address import ip_from_text as ip
from wayhomed.wire.address import ip_text

GOOD = ("127.0.0.1", 41641, "127.64.3.9", 41642)


def packet(source, source_port, target, target_port, options=0):
    head = struct.pack(">BBHHHBBH", 0x45 + options, 0, 28 + 4 * options, 0, 0, 64, 17, 0) + ip(source) + ip(target)
    return head + bytes(4 * options) + struct.pack(">HHHH", source_port, target_port, 8, 0)


def accepted(data, wireguard_port=41641, proxy_port=41642):
    return bpf.accepts(proxy.proxy_filter(wireguard_port, proxy_port), data)


def test_each_index_has_an_address_of_its_own():
    assert [ip_text(proxy.address_of(index)) for index in (1, 256, proxy.MAX_INDEX)] == [
        "127.64.0.1",
        "127.64.1.0",
        "127.64.255.254",
    ]


def test_the_filter_accepts_what_wireguard_sends_to_a_peer():
    assert accepted(packet(*GOOD))
    assert accepted(packet(*GOOD, options=3))


def test_the_filter_rejects_every_other_source_and_destination():
    for other in (
        ("127.0.0.2", 41641, "127.64.3.9", 41642),
        ("192.168.1.2", 41641, "127.64.3.9", 41642),
        ("127.0.0.1", 41640, "127.64.3.9", 41642),
        ("127.0.0.1", 41641, "127.65.3.9", 41642),
        ("127.0.0.1", 41641, "127.0.0.1", 41642),
        ("127.0.0.1", 41641, "127.64.3.9", 41641),
        ("127.64.3.9", 41642, "127.0.0.1", 41641),  # what we inject ourselves
    ):
        assert not accepted(packet(*other)), other


def test_the_filter_rejects_what_is_cut_short():
    whole = packet(*GOOD)
    for length in range(24):
        assert not accepted(whole[:length])
