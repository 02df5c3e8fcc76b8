from shared.expect import raises
from wayhomed.linux import uapi
from wayhomed.linux.wireguard import PeerChange, changes_between
from wayhomed.wire.address import ip_from_text, prefix_from_text
from wayhomed.wire.errors import BadWire

A, B, C = b"\x0a" * 32, b"\x0b" * 32, b"\x0c" * 32
ANSWER = b"""private_key=aa
listen_port=41641
fwmark=524288
public_key=%s
endpoint=127.64.0.1:41642
last_handshake_time_sec=1700000000
last_handshake_time_nsec=5
tx_bytes=12
rx_bytes=34
allowed_ip=100.64.0.2/32
allowed_ip=fd7a::2/128
public_key=%s
endpoint=[2001:db8::1]:41641
protocol_version=1
errno=0

""" % (b"0a" * 32, b"0b" * 32)


def prefixes(*texts):
    return {prefix_from_text(text) for text in texts}


def steps(old, new):
    """Return (remove, new peer, replace, prefixes) of each change."""
    endpoints = {key: (ip_from_text("127.64.0.9"), 41642) for key in new}
    return [
        (change.public_key, change.remove, change.endpoint is not None, change.replace_allowed, set(change.allowed))
        for change in changes_between(old, new, endpoints)
    ]


def apply(old, changes):
    """Do what WireGuard does: one owner a prefix, the last one wins."""
    peers = {key: set(old[key]) for key in old}
    for change in changes:
        if change.remove:
            del peers[change.public_key]
            continue
        if change.update_only:
            assert change.public_key in peers
        allowed = peers.setdefault(change.public_key, set())
        if change.replace_allowed:
            allowed.clear()
        for prefix in change.allowed:
            for other in peers.values():
                assert prefix not in other, "given before it was taken away"
            allowed.add(prefix)
    return peers


def test_device_settings_as_text():
    assert uapi.encode_device(A, 41641, 0x80000) == (
        b"set=1\nprivate_key=" + b"0a" * 32 + b"\nlisten_port=41641\nfwmark=524288\n\n"
    )


def test_peer_changes_as_text():
    added = PeerChange(A)
    added.endpoint = (ip_from_text("127.64.0.1"), 41642)
    added.allowed = [prefix_from_text("100.64.0.2/32")]
    gone = PeerChange(B)
    gone.remove = True
    changed = PeerChange(C)
    changed.update_only = changed.replace_allowed = True
    assert uapi.encode_peers([added, gone, changed]).decode() == (
        "set=1\npublic_key=" + "0a" * 32 + "\nendpoint=127.64.0.1:41642\nallowed_ip=100.64.0.2/32"
        "\npublic_key=" + "0b" * 32 + "\nremove=true"
        "\npublic_key=" + "0c" * 32 + "\nupdate_only=true\nreplace_allowed_ips=true\n\n"
    )


def test_no_keepalive_is_ever_configured():
    changes = changes_between({}, {A: prefixes("100.64.0.2/32")}, {A: (ip_from_text("127.64.0.1"), 1)})
    assert b"keepalive" not in uapi.encode_peers(changes)


def test_an_answer_is_read_into_a_device():
    device = uapi.decode_device(ANSWER)
    assert (device.port, device.fwmark, sorted(device.peers)) == (41641, 0x80000, [A, B])
    peer = device.peers[A]
    assert peer.endpoint == (ip_from_text("127.64.0.1"), 41642)
    assert set(peer.allowed) == prefixes("100.64.0.2/32", "fd7a::2/128")
    assert (peer.received_bytes, peer.sent_bytes, peer.handshake_s) == (34, 12, 1700000000)
    assert device.peers[B].allowed == [] and device.peers[B].endpoint[1] == 41641


def test_an_answer_is_whole_at_its_empty_line():
    for cut in range(len(ANSWER)):
        assert not uapi.is_whole(ANSWER[:cut])
    assert uapi.is_whole(ANSWER)


def test_a_refusal_is_an_oserror_with_its_number():
    assert uapi.decode_errno(b"errno=-98\n\n") == 98
    assert raises(OSError, uapi.decode_device, b"errno=98\n\n").errno == 98


def test_an_answer_that_makes_no_sense_is_bad_wire():
    for bad in (b"", b"\n\n", b"errno=x\n\n", b"listen_port=1\n\n", b"public_key=zz\nerrno=0\n\n"):
        raises(BadWire, uapi.decode_device, bad)
    for line in (b"public_key=0a0b", b"listen_port=", b"public_key=" + b"0a" * 32 + b"\nallowed_ip=1.2.3.4/33"):
        raises(BadWire, uapi.decode_device, line + b"\nerrno=0\n\n")


def test_peers_are_added_removed_and_left_alone():
    one, two = prefixes("100.64.0.1/32"), prefixes("100.64.0.2/32")
    assert steps({}, {A: one}) == [(A, False, True, False, one)]
    assert steps({A: one}, {}) == [(A, True, False, False, set())]
    assert steps({A: one, B: two}, {A: set(one), B: set(two)}) == []


def test_new_prefixes_are_added_without_touching_the_others():
    one, both = prefixes("100.64.0.1/32"), prefixes("100.64.0.1/32", "10.0.0.0/8")
    assert steps({A: one}, {A: both}) == [(A, False, False, False, prefixes("10.0.0.0/8"))]
    assert steps({A: both}, {A: one}) == [(A, False, False, True, one)]


def test_a_prefix_leaves_its_old_peer_before_it_comes_to_the_new_one():
    x, y, z = "10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"
    old = {A: prefixes("100.64.0.1/32", x), B: prefixes("100.64.0.2/32", y), C: prefixes(z)}
    for new in (
        {A: prefixes("100.64.0.1/32"), B: prefixes("100.64.0.2/32", x, y), C: prefixes(z)},
        {A: prefixes("100.64.0.1/32", y), B: prefixes("100.64.0.2/32", x), C: prefixes(z)},
        {A: prefixes("100.64.0.1/32", z), B: prefixes("100.64.0.2/32", x, y)},
        {b"\x0d" * 32: prefixes(x, y, z), A: prefixes("100.64.0.1/32")},
    ):
        endpoints = {key: (ip_from_text("127.64.0.9"), 41642) for key in new}
        assert apply(old, changes_between(old, new, endpoints)) == new
