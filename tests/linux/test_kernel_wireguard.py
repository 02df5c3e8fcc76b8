import struct

from shared.expect import raises
from wayhomed.linux import genetlink, kernel_wireguard, netlink
from wayhomed.linux.kernel_wireguard import encode_endpoint, merge_peer, read_device
from wayhomed.linux.wireguard import Device, PeerChange
from wayhomed.wire.errors import BadWire

V4 = (bytes((192, 0, 2, 9)), 41641)
V6 = (bytes((0x20, 1, 0xD, 0xB8)) + bytes(11) + b"\x09", 7)
OWN4 = (bytes((100, 64, 0, 2)), 32)
OWN6 = (bytes((0xFD, 0x7A)) + bytes(13) + b"\x02", 128)


def key(number: int) -> bytes:
    return struct.pack(">I", number) + bytes(28)


def encode_peers(changes: list) -> list:
    return list(kernel_wireguard.encode_peers(changes))


def added(number: int, allowed: list) -> PeerChange:
    change = PeerChange(key(number))
    change.allowed = allowed
    return change


def peers_in(value: bytes) -> list:
    """Return [{attribute: value}] of the peers in the value of one WGDEVICE_A_PEERS."""
    found = []
    at = 0
    while at < len(value):
        length = struct.unpack_from("H", value, at)[0]
        found.append(netlink.decode_attributes(value[at + 4 : at + length]))
        at += length + 3 & ~3
    return found


def flags_of(peer: dict) -> int:
    return struct.unpack("I", peer[3])[0]


def read(payload: bytes, with_allowed: bool = True) -> Device:
    device = Device()
    read_device(device, lambda part: merge_peer(device.peers, part), payload, 0, len(payload), with_allowed)
    return device


def listed(public_key: bytes, *more: bytes) -> bytes:
    """Return the payload of a listing with one peer."""
    peer = netlink.nested(0, netlink.attribute(1, public_key) + b"".join(more))
    return netlink.nested(8, peer)


def test_a_generic_message_begins_with_command_and_version():
    assert genetlink.message(1, 1, b"abcd") == b"\x01\x01\0\0abcd"


def test_an_endpoint_is_a_socket_address():
    assert encode_endpoint(V4) == struct.pack("H", 2) + b"\xa2\xa9\xc0\x00\x02\x09" + bytes(8)
    assert encode_endpoint(V6) == struct.pack("H", 10) + b"\x00\x07" + bytes(4) + V6[0] + bytes(4)


def test_a_new_peer_says_key_endpoint_and_allowed_ips():
    change = added(1, [OWN4, OWN6])
    change.endpoint = V4
    (value,) = encode_peers([change])
    (peer,) = peers_in(value)
    assert peer[1] == key(1) and flags_of(peer) == 0 and peer[4] == encode_endpoint(V4)
    allowed = peers_in(peer[9])
    assert [one[2] for one in allowed] == [OWN4[0], OWN6[0]]
    assert [one[3] for one in allowed] == [b"\x20", b"\x80"]
    assert [struct.unpack("H", one[1])[0] for one in allowed] == [2, 10]
    assert 5 not in peer  # never a keepalive


def test_flags_say_what_is_done_to_a_peer():
    gone, changed = added(1, []), added(2, [OWN4])
    gone.remove = True
    changed.update_only = changed.replace_allowed = True
    (value,) = encode_peers([gone, changed])
    assert [flags_of(peer) for peer in peers_in(value)] == [1, 2 | 4]


def test_the_last_allowed_ip_can_be_taken_away():
    change = added(1, [])
    change.update_only = change.replace_allowed = True
    (peer,) = peers_in(encode_peers([change])[0])
    assert flags_of(peer) == 6 and 9 not in peer


def test_many_peers_go_in_batches_that_end_soon():
    values = encode_peers([added(number, [OWN4]) for number in range(1000)])
    assert max([len(peers_in(value)) for value in values]) == 16 and len(values) == 63
    assert [peer[1] for value in values for peer in peers_in(value)] == [key(number) for number in range(1000)]


def test_a_peer_with_more_prefixes_than_fit_goes_on_in_the_next_message():
    prefixes = [(struct.pack(">I", 0x0A000000 + (number << 8)), 24) for number in range(1024)]
    change = added(1, prefixes)
    change.replace_allowed = True
    change.endpoint = V4
    values = encode_peers([added(7, [OWN4]), change])
    assert max([len(value) for value in values]) <= 8192
    peers = [peer for value in values for peer in peers_in(value) if peer[1] == key(1)]
    assert len(peers) > 1
    # only the first of them may replace, and only it may make the peer
    assert [flags_of(peer) for peer in peers] == [2] + [4] * (len(peers) - 1)
    assert 4 in peers[0] and 4 not in peers[1]
    assert [one[2] for peer in peers for one in peers_in(peer[9])] == [ip for ip, _length in prefixes]


def test_a_peer_that_is_removed_and_added_anew_is_so_in_one_message():
    changes = []
    for number in range(100):
        removal = added(number, [])
        removal.remove = True
        changes += [removal, added(number, [OWN4, OWN6])]
    for value in encode_peers(changes):
        assert [flags_of(peer) for peer in peers_in(value)] == [1, 0] * (len(peers_in(value)) // 2)


def test_a_device_is_read():
    head = (
        netlink.attribute_u32(1, 9)
        + netlink.attribute(4, b"p" * 32)
        + netlink.attribute(6, struct.pack("H", 41641))
        + netlink.attribute_u32(7, 0x80000)
    )
    allowed = b"".join(
        [
            netlink.nested(
                0,
                netlink.attribute(1, struct.pack("H", 2)) + netlink.attribute(2, ip) + netlink.attribute(3, bytes([n])),
            )
            for ip, n in (OWN4, OWN6)
        ]
    )
    peer = listed(
        key(1),
        netlink.attribute(2, bytes(32)),
        netlink.attribute(6, struct.pack("qq", 1_800_000_000, 5)),
        netlink.attribute(0, b""),  # the kernel's padding
        netlink.attribute(7, struct.pack("Q", 1 << 40)),
        netlink.attribute(8, struct.pack("Q", 3)),
        netlink.attribute(4, encode_endpoint(V6)),
        netlink.nested(9, allowed),
    )
    device = read(head + peer)
    assert (device.public_key, device.port, device.fwmark) == (b"p" * 32, 41641, 0x80000)
    status = device.peers[key(1)]
    assert (status.received_bytes, status.sent_bytes, status.handshake_s) == (1 << 40, 3, 1_800_000_000)
    assert status.endpoint == V6 and status.allowed == [OWN4, OWN6]
    assert read(head + peer, False).peers[key(1)].allowed == []


def test_a_peer_that_is_continued_keeps_its_counters_and_gets_all_its_prefixes():
    def one(prefix):
        return netlink.nested(9, netlink.nested(0, netlink.attribute(2, prefix[0]) + netlink.attribute(3, b"\x20")))

    device = Device()
    for payload in (
        listed(key(1), netlink.attribute(7, struct.pack("Q", 5)), one(OWN4)),
        listed(key(1), one((b"\x0a\0\0\x01", 32))),
    ):
        read_device(device, lambda part: merge_peer(device.peers, part), payload, 0, len(payload))
    assert device.peers[key(1)].received_bytes == 5
    assert device.peers[key(1)].allowed == [OWN4, (b"\x0a\0\0\x01", 32)]


def test_a_peer_without_an_endpoint_or_with_a_strange_one_has_none():
    assert read(listed(key(1))).peers[key(1)].endpoint is None
    for strange in (b"", b"\x02", bytes(16), encode_endpoint(V4)[:7], encode_endpoint(V6)[:23]):
        assert read(listed(key(1), netlink.attribute(4, strange))).peers[key(1)].endpoint is None


def test_what_no_kernel_lists_is_refused():
    for bad in (
        listed(b"short"),
        netlink.nested(8, netlink.nested(0, b"")),
        struct.pack("HH", 3, 8) + bytes(4),
        struct.pack("HH", 99, 8) + bytes(4),
        listed(key(1), netlink.nested(9, netlink.nested(0, netlink.attribute(2, b"123")))),
        listed(
            key(1),
            netlink.nested(9, netlink.nested(0, netlink.attribute(2, b"1234") + netlink.attribute(3, b"\x21"))),
        ),
    ):
        raises(BadWire, read, bad)
