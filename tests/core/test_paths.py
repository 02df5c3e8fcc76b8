"""Sealed messages from peers and from strangers: who is believed, what follows, and what is left alone."""

from shared.expect import raises
from shared.simulated_mesh import Random
from wayhomed.core.candidates import Own
from wayhomed.core.node import Node
from wayhomed.core.path import MAX_CANDIDATES, PathState, Reason
from wayhomed.core.paths import (
    PING_TIMEOUT_MS,
    PONGED,
    REFRESH_ENDPOINTS,
    RELAY_ADDRESS,
    SEND_RELAY,
    SEND_UDP,
    SET_PATH,
    Paths,
)
from wayhomed.wire import disco, keys
from wayhomed.wire.errors import BadWire

OWN_KEY = b"o" * 32
HERE = (b"\xc0\xa8\x01\x05", 41641)
THERE = (b"\xc6\x33\x64\x07", 41641)
ELSEWHERE = (b"\xcb\x00\x71\x09", 5555)
VICTIM = (b"\xc0\x00\x02\x63", 53)
MESH_IP = b"\x64\x40\x00\x07"
OWN = Own([HERE[0]], [(b"\xc0\xa8\x01\x00", 24)], [MESH_IP])
FORBIDDEN = [
    (b"\x7f\x00\x00\x01", 41641),
    (b"\xe0\x00\x00\xfb", 5353),
    (b"\xff\xff\xff\xff", 41641),
    (b"\xc0\xa8\x01\xff", 41641),
    (b"\x00\x00\x00\x00", 41641),
    (MESH_IP, 41641),
    HERE,
    (THERE[0], 0),
    (bytes(15) + b"\x01", 41641),
    (b"\xff\x02" + bytes(13) + b"\x01", 41641),
    (b"\xfd\x7a\x11\x5c\xa1\xe0" + bytes(9) + b"\x01", 41641),
]


def txid(number):
    return b"%12d" % number


class Peer:
    """A peer played by hand, with a disco key of its own."""

    def __init__(self, number, endpoints=(), disco_private=None):
        self.random = Random(number)
        self.private = disco_private or keys.new_private(self.random.bytes(32))
        self.node = Node()
        self.node.id = number
        self.node.key = bytes([number]) * 32
        self.node.disco_key = keys.public_of(self.private)
        self.node.endpoints = list(endpoints)
        self.node.home_derp = 900

    def seal(self, to, plaintext):
        shared = disco.shared_key(to.disco_public, self.private)
        return disco.seal_message(shared, self.node.disco_key, self.random.bytes(24), plaintext)

    def open(self, sender, datagram):
        assert disco.sender_of(datagram) == sender.disco_public
        return disco.decode_message(disco.open_message(disco.shared_key(sender.disco_public, self.private), datagram))

    def ping(self, to, number, node_key=None):
        return self.seal(to, disco.encode_ping(txid(number), self.node.key if node_key is None else node_key))

    def call(self, to, endpoints):
        return self.seal(to, disco.encode_call_me_maybe(endpoints))


def board(*peers, own=OWN, seed=99):
    """Return the Paths of a board that has these peers, at time 0, with endpoints of its own just found."""
    random = Random(seed)
    paths = Paths(keys.new_private(random.bytes(32)), random.bytes)
    netmap(paths, 0, *peers, own=own)
    paths.own_endpoints([HERE], 0)
    return paths


def netmap(paths, now_ms, *peers, own=OWN):
    paths.peers_changed(OWN_KEY, [peer.node for peer in peers], own, now_ms)


def datagrams_raw(paths):
    return [output[2] for output in paths.take() if output[0] == SEND_UDP]


def datagrams(paths, peer):
    """Return [(endpoint, message)] of what the board sends to a peer by UDP; the rest is dropped."""
    return [(output[1], peer.open(paths, output[2])) for output in paths.take() if output[0] == SEND_UDP]


def pings(paths, peer):
    return [sent for sent in datagrams(paths, peer) if isinstance(sent[1], disco.Ping)]


def go_direct(paths, peer, now_ms, endpoint=THERE):
    """Have the peer answer our ping to its endpoint."""
    paths.packet_sent(peer.node.key, now_ms)
    for destination, message in pings(paths, peer):
        if destination == endpoint:
            pong = peer.seal(paths, disco.encode_pong(message.txid, *HERE))
            paths.udp_received(pong, endpoint, now_ms + 20)
    assert paths.view(peer.node.key, now_ms + 20).best == endpoint
    assert (SET_PATH, peer.node.key, endpoint, False) in paths.take()


def nothing_happened(paths, peer, reason):
    """Tell whether one datagram was refused for this reason and left no trace."""
    view = paths.view(peer.node.key, 0)
    return (
        paths.take() == []
        and paths.refused == {reason: 1}
        and view.state == PathState.RELAYED
        and view.candidates == len(peer.node.endpoints)
        and paths.held() == {}
        and not paths.polling_wanted(0)
        and paths.next_timer_ms() is None
    )


# --- Pings and pongs of honest peers ---


def test_a_ping_is_answered_at_once_to_where_it_came_from():
    peer = Peer(1)
    paths = board(peer)
    paths.udp_received(peer.ping(paths, 7), THERE, 0)
    outputs = paths.take()
    assert [output[:2] for output in outputs] == [(SEND_UDP, THERE)]
    assert len(outputs[0][2]) == 110 < len(peer.ping(paths, 7)) == 124
    assert peer.open(paths, outputs[0][2]) == disco.Pong(txid(7), *THERE)


def test_a_ping_by_a_relay_is_answered_by_the_same_relay_with_the_region_as_its_source():
    peer = Peer(1)
    paths = board(peer)
    paths.relay_received(peer.node.key, peer.ping(paths, 7), 901, 0)
    ((kind, key, region_id, datagram),) = paths.take()
    assert (kind, key, region_id) == (SEND_RELAY, peer.node.key, 901)
    assert peer.open(paths, datagram) == disco.Pong(txid(7), RELAY_ADDRESS, 901)


def test_a_ping_without_a_node_key_is_answered_by_the_relay_only():
    # By UDP its answer is longer than itself: replayed with a victim's source it would multiply.
    peer = Peer(1)
    paths = board(peer)
    short = peer.seal(paths, bytes((disco.PING, 0)) + txid(1))
    paths.relay_received(peer.node.key, short, 900, 0)
    assert len(paths.take()) == 1
    assert len(short) < 110
    paths.udp_received(short, THERE, 0)
    assert nothing_happened(paths, peer, "wrong node key")


def test_pings_carry_our_node_key_and_their_pong_makes_the_path_direct():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 1_000)
    ((endpoint, ping),) = pings(paths, peer)
    assert (endpoint, ping.node_key) == (THERE, OWN_KEY)
    pong = peer.seal(paths, disco.encode_pong(ping.txid, HERE[0], 5))
    paths.udp_received(pong, THERE, 1_030)
    assert paths.take() == [(SET_PATH, peer.node.key, THERE, False)]
    view = paths.view(peer.node.key, 1_030)
    assert view[:5] == (PathState.DIRECT, THERE, 30, 1_030, Reason.DIRECT)


def test_a_call_me_maybe_has_its_addresses_pinged_at_once_without_traffic_of_ours():
    peer = Peer(1)
    paths = board(peer)
    paths.relay_received(peer.node.key, peer.call(paths, [THERE, ELSEWHERE]), 900, 0)
    assert sorted([endpoint for endpoint, _ in pings(paths, peer)]) == sorted([THERE, ELSEWHERE])


def test_a_call_goes_out_by_the_relay_after_the_pings_if_our_endpoints_are_fresh():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 100)
    ping, call = paths.take()
    assert ping[0] == SEND_UDP
    assert call[:3] == (SEND_RELAY, peer.node.key, 0)
    assert peer.open(paths, call[3]) == disco.CallMeMaybe([HERE])


def test_old_endpoints_are_found_anew_before_a_call_and_one_search_serves_all():
    peer, other = Peer(1, [THERE]), Peer(2, [ELSEWHERE])
    paths = board(peer, other)
    for each in (peer, other):
        paths.packet_sent(each.node.key, 27_000)
    outputs = paths.take()
    assert outputs.count((REFRESH_ENDPOINTS,)) == 1
    assert not [output for output in outputs if output[0] == SEND_RELAY]
    paths.own_endpoints([HERE, ELSEWHERE], 27_300)
    calls = {output[1]: output[3] for output in paths.take()}
    for each in (peer, other):
        assert each.open(paths, calls[each.node.key]) == disco.CallMeMaybe([HERE, ELSEWHERE])


def test_after_a_direct_path_broke_our_endpoints_are_found_anew_before_the_call():
    peer = Peer(1, [THERE])
    paths = board(peer)
    go_direct(paths, peer, 0)
    now_ms = 0
    while paths.view(peer.node.key, now_ms).state == PathState.DIRECT:
        now_ms = paths.next_timer_ms()
        paths.timer_fired(now_ms)
        if now_ms < 10_000:
            for endpoint, message in pings(paths, peer):
                paths.udp_received(peer.seal(paths, disco.encode_pong(message.txid, *HERE)), endpoint, now_ms)
    outputs = paths.take()
    assert (REFRESH_ENDPOINTS,) in outputs
    assert not [output for output in outputs if output[0] == SEND_RELAY]
    paths.own_endpoints([ELSEWHERE], now_ms + 50)
    calls = [output for output in paths.take() if output[0] == SEND_RELAY]
    assert [peer.open(paths, call[3]) for call in calls] == [disco.CallMeMaybe([ELSEWHERE])]


def test_who_asks_in_vain_calls_again_once_it_is_found_to_be_elsewhere():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 100)
    paths.take()
    paths.own_endpoints([HERE], 3_000)
    assert paths.take() == []
    paths.own_endpoints([ELSEWHERE], 3_100)
    calls = [output for output in paths.take() if output[0] == SEND_RELAY]
    assert [peer.open(paths, call[3]) for call in calls] == [disco.CallMeMaybe([ELSEWHERE])]


FORMER = (b"\xcb\x00\x71\x14", 20_000)
NOW_AT = (b"\xcb\x00\x71\x14", 20_001)


def answer(paths, peer, ours, now_ms):
    """Answer the pings that were sent, as a peer that sees us there."""
    for endpoint, message in pings(paths, peer):
        paths.udp_received(peer.seal(paths, disco.encode_pong(message.txid, *ours)), endpoint, now_ms)


def calls(paths, peer):
    return [peer.open(paths, output[3]).endpoints for output in paths.take() if output[0] == SEND_RELAY]


def test_over_a_new_uplink_a_peer_is_told_where_we_were_and_then_without_it():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    answer(paths, peer, FORMER, 20)
    paths.uplink_changed(5_000)
    answer(paths, peer, NOW_AT, 5_020)
    paths.own_endpoints([ELSEWHERE], 5_100)
    # The first call makes a stock client take the address for one that was called, the second takes it back.
    assert calls(paths, peer) == [[FORMER, ELSEWHERE], [ELSEWHERE]]


def test_a_former_address_that_is_one_of_ours_is_not_taken_back():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    answer(paths, peer, HERE, 20)
    paths.uplink_changed(5_000)
    paths.own_endpoints([HERE, ELSEWHERE], 5_100)
    assert calls(paths, peer) == [[HERE, ELSEWHERE]]


def test_a_peer_that_sees_us_elsewhere_has_us_look_for_ourselves_and_is_called():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    answer(paths, peer, FORMER, 20)
    paths.timer_fired(3_000)
    answer(paths, peer, NOW_AT, 3_020)
    outputs = paths.take()
    assert (REFRESH_ENDPOINTS,) in outputs and not [output for output in outputs if output[0] == SEND_RELAY]
    assert paths.view(peer.node.key, 3_020).state == PathState.DIRECT
    paths.own_endpoints([NOW_AT], 3_100)
    assert calls(paths, peer) == [[FORMER, NOW_AT], [NOW_AT]]


def test_a_peer_that_sees_us_elsewhere_each_time_has_us_look_every_10_seconds_at_most():
    peer = Peer(1, [THERE])
    paths = board(peer)
    times = []
    for now_ms in range(0, 120_000, 500):
        paths.packet_sent(peer.node.key, now_ms)
        paths.timer_fired(now_ms)
        outputs = paths.take()
        for output in outputs:
            if output[0] == SEND_UDP:
                message = peer.open(paths, output[2])
                pong = disco.encode_pong(message.txid, HERE[0], 1 + now_ms // 500)
                paths.udp_received(peer.seal(paths, pong), output[1], now_ms)
        outputs += paths.take()
        if (REFRESH_ENDPOINTS,) in outputs:
            times.append(now_ms)
            paths.own_endpoints([HERE], now_ms)
            paths.take()
    assert len(times) > 5 and min([times[i + 1] - times[i] for i in range(len(times) - 1)]) >= 10_000


def test_a_peer_that_restarted_is_told_nothing_of_former_addresses():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    answer(paths, peer, FORMER, 20)
    paths.uplink_changed(5_000)
    again = Peer(2, [THERE])
    again.node.key = peer.node.key
    netmap(paths, 5_010, again)
    paths.take()
    paths.own_endpoints([ELSEWHERE], 5_100)
    assert calls(paths, again) == [[ELSEWHERE]]


def test_a_direct_peer_that_sends_by_the_relay_is_called():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    answer(paths, peer, HERE, 20)
    for now_ms in range(0, 4_300, 100):
        paths.relayed_data_received(peer.node.key, now_ms)
        if now_ms < 4_000:
            paths.timer_fired(now_ms)
            answer(paths, peer, HERE, now_ms)
            assert calls(paths, peer) == []
    assert calls(paths, peer) == [[HERE]]


def test_who_stays_with_a_silent_address_of_ours_is_then_called_to_the_one_that_works_alone():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    answer(paths, peer, ELSEWHERE, 20)
    paths.own_endpoints([HERE, ELSEWHERE], 30)
    for now_ms in range(0, 4_300, 100):
        paths.relayed_data_received(peer.node.key, now_ms)
        paths.timer_fired(now_ms)
        if now_ms < 4_000:
            answer(paths, peer, ELSEWHERE, now_ms)
    assert calls(paths, peer) == [[HERE, ELSEWHERE], [ELSEWHERE]]


def test_data_by_the_relay_of_strangers_and_idle_peers_changes_nothing():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.relayed_data_received(peer.node.key, 1_000)
    paths.relayed_data_received(bytes(32), 1_000)
    assert paths.take() == [] and paths.next_timer_ms() is None


def test_a_call_does_not_wait_for_ever_for_endpoints():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 30_000)
    paths.take()
    paths.timer_fired(33_999)
    assert not [output for output in paths.take() if output[0] == SEND_RELAY]
    assert paths.next_timer_ms() == 34_000
    paths.timer_fired(34_000)
    calls = [output for output in paths.take() if output[0] == SEND_RELAY]
    assert [peer.open(paths, call[3]) for call in calls] == [disco.CallMeMaybe([HERE])]


def test_of_very_many_own_endpoints_the_first_are_told():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.own_endpoints([(bytes([10, 0, number, 1]), 1) for number in range(200)], 0)
    paths.packet_sent(peer.node.key, 100)
    call = paths.take()[1][3]
    assert len(call) == 80 + 18 * 64


def test_a_call_that_waits_is_forgotten_with_its_peer():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 30_000)
    netmap(paths, 30_100)
    paths.take()
    paths.own_endpoints([HERE], 30_200)
    assert paths.take() == []
    assert paths.next_timer_ms() is None


# --- A user's ping ---


def test_a_users_ping_by_the_relay_is_answered_once_and_by_the_relay_only():
    peer = Peer(1)
    paths = board(peer)
    asked = paths.user_ping(peer.node.key, 1_000)
    ((kind, key, region_id, datagram),) = paths.take()
    assert (kind, key, region_id) == (SEND_RELAY, peer.node.key, 0)
    assert peer.open(paths, datagram) == disco.Ping(asked, OWN_KEY, 0)
    pong = peer.seal(paths, disco.encode_pong(asked, RELAY_ADDRESS, 900))
    paths.udp_received(pong, THERE, 1_040)
    assert paths.take() == []
    paths.relay_received(peer.node.key, pong, 900, 1_042)
    assert paths.take() == [(PONGED, peer.node.key, asked, None, 900)]
    paths.relay_received(peer.node.key, pong, 900, 1_043)
    assert paths.take() == []


def test_a_users_ping_of_one_peer_is_not_answered_by_another():
    peer, other = Peer(1), Peer(2)
    paths = board(peer, other)
    asked = paths.user_ping(peer.node.key, 0)
    paths.take()
    pong = other.seal(paths, disco.encode_pong(asked, RELAY_ADDRESS, 900))
    paths.relay_received(other.node.key, pong, 900, 5)
    assert paths.take() == []
    assert paths.refused == {"pong to no ping": 1}


def test_a_users_ping_that_is_answered_late_is_not_answered():
    peer = Peer(1)
    paths = board(peer)
    asked = paths.user_ping(peer.node.key, 0)
    paths.take()
    pong = peer.seal(paths, disco.encode_pong(asked, RELAY_ADDRESS, 900))
    paths.relay_received(peer.node.key, pong, 900, PING_TIMEOUT_MS + 1)
    assert not [output for output in paths.take() if output[0] == PONGED]


def test_of_very_many_user_pings_the_newest_are_kept():
    peer = Peer(1)
    paths = board(peer)
    asked = [paths.user_ping(peer.node.key, now_ms) for now_ms in range(100)]
    paths.take()
    answered = 0
    for one in asked:
        pong = peer.seal(paths, disco.encode_pong(one, RELAY_ADDRESS, 900))
        paths.relay_received(peer.node.key, pong, 900, 200)
        answered += len([output for output in paths.take() if output[0] == PONGED])
    assert answered == 64
    assert not [output for output in paths.take() if output[0] == PONGED]


def test_who_has_no_disco_key_or_is_no_peer_can_not_be_pinged():
    peer = Peer(1)
    peer.node.disco_key = keys.ZERO
    paths = board(peer)
    raises(BadWire, paths.user_ping, peer.node.key, 0)
    raises(BadWire, paths.user_ping, b"x" * 32, 0)


# --- Bad input ---


def test_garbage_of_any_length_is_refused():
    peer = Peer(1)
    paths = board(peer)
    for length in (0, 1, 5, 6, 37, 38, 61, 62, 63, 100, 1500, 9_216, 65_507):
        for datagram in (bytes(length), (disco.MAGIC + bytes(length))[:length]):
            paths.udp_received(datagram, THERE, 0)
            paths.relay_received(peer.node.key, datagram, 900, 0)
    assert paths.take() == []
    assert paths.refused == {"not disco": 38, "not a peer": 10, "too long": 4}


def test_what_is_longer_than_any_ping_is_not_even_opened():
    peer = Peer(1)
    paths = board(peer)
    long = peer.seal(paths, disco.encode_ping(txid(1), peer.node.key, 9_217 - 124))
    assert len(long) == 9_217
    paths.udp_received(long, THERE, 0)
    assert nothing_happened(paths, peer, "too long")
    paths.udp_received(peer.seal(paths, disco.encode_ping(txid(1), peer.node.key, 9_216 - 124)), THERE, 0)
    assert len(paths.take()) == 1


def test_a_forged_message_in_a_peers_name_does_not_open():
    peer, forger = Peer(1), Peer(2)
    paths = board(peer)
    forged = bytearray(forger.ping(paths, 1, peer.node.key))
    forged[6:38] = peer.node.disco_key
    paths.udp_received(bytes(forged), THERE, 0)
    assert nothing_happened(paths, peer, "does not open")


def test_a_message_with_any_byte_changed_is_refused():
    peer = Peer(1)
    paths = board(peer)
    whole = peer.ping(paths, 1)
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1
        paths.udp_received(bytes(changed), THERE, 0)
    assert paths.take() == []
    assert paths.refused == {"not disco": 6, "not a peer": 32, "does not open": 86}


def test_a_message_for_a_former_key_of_ours_is_refused():
    peer = Peer(1)
    paths, before = board(peer), board(peer, seed=98)
    paths.udp_received(peer.ping(before, 1), THERE, 0)
    assert nothing_happened(paths, peer, "does not open")


def test_a_removed_peer_is_a_stranger():
    peer, gone = Peer(1), Peer(2)
    paths = board(peer, gone)
    ping = gone.ping(paths, 1)
    netmap(paths, 0, peer)
    paths.udp_received(ping, THERE, 0)
    assert nothing_happened(paths, peer, "not a peer")
    paths.relay_received(gone.node.key, ping, 900, 0)
    assert paths.take() == []


def test_a_node_of_another_mesh_is_a_stranger():
    peer, stranger = Peer(1), Peer(2)
    paths = board(peer)
    paths.udp_received(stranger.ping(paths, 1), THERE, 0)
    assert nothing_happened(paths, peer, "not a peer")


def test_a_peer_may_not_speak_by_the_relay_with_anothers_disco_key():
    peer, other = Peer(1), Peer(2)
    paths = board(peer, other)
    for message in (peer.ping(paths, 1), peer.call(paths, [VICTIM])):
        paths.relay_received(other.node.key, message, 900, 0)
    assert paths.take() == []
    assert paths.refused == {"wrong node key": 2}


def test_a_ping_in_another_nodes_name_is_refused():
    peer, other = Peer(1), Peer(2)
    paths = board(peer, other)
    paths.udp_received(peer.ping(paths, 1, other.node.key), THERE, 0)
    assert nothing_happened(paths, peer, "wrong node key")


def test_a_ping_in_another_nodes_name_is_refused_by_the_relay_too():
    peer, other = Peer(1), Peer(2)
    paths = board(peer, other)
    paths.relay_received(peer.node.key, peer.ping(paths, 1, other.node.key), 900, 0)
    assert nothing_happened(paths, peer, "wrong node key")


def test_our_own_message_sent_back_to_us_is_refused():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    ping = datagrams_raw(paths)[0]
    paths.udp_received(ping, THERE, 1)
    assert paths.refused == {"not a peer": 1}


def test_our_own_message_sent_back_in_the_peers_name_is_refused():
    # The box has one key for both directions, and the sender's key stands outside it: this one opens.
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    reflected = bytearray(datagrams_raw(paths)[0])
    reflected[6:38] = peer.node.disco_key
    paths.udp_received(bytes(reflected), THERE, 1)
    paths.udp_received(bytes(reflected), ELSEWHERE, 1)
    assert paths.refused == {"wrong node key": 2}
    paths.udp_received(peer.ping(paths, 1), THERE, 2)
    pong = bytearray(datagrams_raw(paths)[0])
    pong[6:38] = peer.node.disco_key
    paths.udp_received(bytes(pong), THERE, 3)
    assert paths.refused == {"wrong node key": 2, "pong to no ping": 1}
    assert paths.view(peer.node.key, 3).state == PathState.PROBING


def test_a_peer_with_our_own_disco_key_takes_no_part():
    peer = Peer(1)
    paths = board(peer)
    copy = Peer(2, [THERE])
    copy.node.disco_key = paths.disco_public
    netmap(paths, 0, peer, copy)
    paths.packet_sent(copy.node.key, 0)
    assert paths.take() == []
    assert paths.view(copy.node.key, 0).reason == Reason.NO_DISCO_KEY


class CountedSecrets:
    """Counts the curve operations that cost a small board its time."""

    def __enter__(self):
        self.count = 0
        self._function = disco.shared_key
        disco.shared_key = self._counted
        return self

    def __exit__(self, *_error):
        disco.shared_key = self._function

    def _counted(self, public, private):
        self.count += 1
        return self._function(public, private)


def test_a_secret_is_calculated_once_for_a_peer_and_forgotten_with_it():
    peer, other = Peer(1), Peer(2)
    paths = board(peer, other)
    messages = [peer.ping(paths, number) for number in range(3)]
    stranger = Peer(3).ping(paths, 1)
    with CountedSecrets() as secrets:
        for message in messages[:2]:
            paths.udp_received(message, THERE, 0)
        paths.udp_received(stranger, THERE, 0)
        assert secrets.count == 1
        netmap(paths, 0, other)
        netmap(paths, 0, peer, other)
        paths.udp_received(messages[2], THERE, 0)
        assert secrets.count == 2


def test_a_weak_disco_key_is_calculated_with_once_and_breaks_nothing():
    peer = Peer(1, [THERE])
    peer.node.disco_key = b"\x01" + bytes(31)
    paths = board(peer)
    with CountedSecrets() as secrets:
        for _ in range(3):
            paths.user_ping(peer.node.key, 0)
        assert secrets.count == 1
    paths.take()
    paths.packet_sent(peer.node.key, 0)
    paths.user_ping(peer.node.key, 0)
    datagram = disco.MAGIC + peer.node.disco_key + bytes(60)
    paths.udp_received(datagram, THERE, 0)
    paths.relay_received(peer.node.key, datagram, 900, 0)
    assert not [output for output in paths.take() if output[0] in (SEND_UDP, SEND_RELAY)]
    assert paths.refused == {"does not open": 2}


def test_a_pong_to_no_ping_of_ours_proves_nothing():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    paths.take()
    paths.udp_received(peer.seal(paths, disco.encode_pong(txid(1), HERE[0], 1)), THERE, 20)
    assert paths.take() == []
    assert paths.refused == {"pong to no ping": 1}


def test_a_pong_from_another_address_than_was_pinged_proves_nothing():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    ((_, ping),) = pings(paths, peer)
    pong = peer.seal(paths, disco.encode_pong(ping.txid, HERE[0], 1))
    paths.udp_received(pong, VICTIM, 20)
    assert paths.take() == []
    assert paths.refused == {"pong to no ping": 1}
    assert paths.view(peer.node.key, 20).state == PathState.PROBING


def test_a_pong_to_a_udp_ping_that_comes_by_a_relay_proves_nothing():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    ((_, ping),) = pings(paths, peer)
    pong = peer.seal(paths, disco.encode_pong(ping.txid, HERE[0], 1))
    paths.relay_received(peer.node.key, pong, 900, 20)
    assert paths.take() == []
    assert paths.view(peer.node.key, 20).state == PathState.PROBING


def test_a_pong_of_another_peer_proves_nothing():
    peer, other = Peer(1, [THERE]), Peer(2)
    paths = board(peer, other)
    paths.packet_sent(peer.node.key, 0)
    ((_, ping),) = pings(paths, peer)
    paths.udp_received(other.seal(paths, disco.encode_pong(ping.txid, HERE[0], 1)), THERE, 20)
    assert paths.take() == []
    assert paths.view(peer.node.key, 20).state == PathState.PROBING


def test_a_replayed_ping_from_another_address_makes_a_candidate_and_never_a_path():
    peer = Peer(1, [THERE])
    paths = board(peer)
    go_direct(paths, peer, 0)
    paths.udp_received(peer.ping(paths, 1), THERE, 100)
    paths.take()
    for now_ms in range(200, 60_000, 100):
        paths.udp_received(peer.ping(paths, 1), VICTIM, now_ms)
        paths.timer_fired(now_ms)
        for output in paths.take():
            assert not (output[0] == SET_PATH and output[2] == VICTIM)
            # A ping a few seconds and no answer to copies: less than came
            assert output[0] != SEND_UDP or output[1] != VICTIM or len(output[2]) <= 124
    assert paths.view(peer.node.key, 60_000).best != VICTIM


def test_replayed_pings_from_ever_new_addresses_are_learned_a_few_at_once_and_then_slowly():
    peer = Peer(1)
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    replayed = peer.ping(paths, 1)
    pinged, answered = 0, 0
    for number in range(1_000):
        paths.udp_received(replayed, (VICTIM[0], 1_000 + number), number)
        for _, message in datagrams(paths, peer):
            pinged += isinstance(message, disco.Ping)
            answered += isinstance(message, disco.Pong)
    assert answered == 1_000
    assert pinged <= 17
    assert paths.refused == {"too many sources": 1_000 - 16}
    assert paths.view(peer.node.key, 1_000).candidates <= 16
    # and then the peer itself, from a new address, is learned as soon as there were few pings of late
    paths.udp_received(peer.ping(paths, 2), THERE, 7_000)
    assert THERE in [endpoint for endpoint, _ in pings(paths, peer)]


def test_addresses_that_a_peer_is_known_by_are_heard_whatever_comes_from_others():
    peer = Peer(1)
    paths = board(peer)
    paths.udp_received(peer.ping(paths, 1), THERE, 0)
    for number in range(100):
        paths.udp_received(peer.ping(paths, 2), (VICTIM[0], 1_000 + number), 10)
    refused = paths.refused["too many sources"]
    paths.udp_received(peer.ping(paths, 3), THERE, 20)
    assert paths.refused == {"too many sources": refused}


def test_the_same_ping_again_from_the_same_address_is_not_answered():
    peer = Peer(1)
    paths = board(peer)
    ping = peer.ping(paths, 1)
    paths.udp_received(ping, THERE, 0)
    assert len(paths.take()) == 1
    paths.udp_received(ping, THERE, 1)
    assert paths.take() == []
    assert paths.refused == {"duplicate": 1}


def test_a_call_me_maybe_by_udp_is_refused():
    peer = Peer(1)
    paths = board(peer)
    paths.udp_received(peer.call(paths, [VICTIM]), THERE, 0)
    assert nothing_happened(paths, peer, "only by relay")


def test_a_call_me_maybe_with_addresses_that_may_not_be_pinged_gets_none_of_them_pinged():
    peer = Peer(1)
    paths = board(peer)
    paths.relay_received(peer.node.key, peer.call(paths, FORBIDDEN + [THERE]), 900, 0)
    assert [endpoint for endpoint, _ in pings(paths, peer)] == [THERE]
    assert paths.view(peer.node.key, 0).candidates == 1


def test_the_netmaps_addresses_that_may_not_be_pinged_are_left_alone():
    peer = Peer(1, FORBIDDEN + [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    assert [endpoint for endpoint, _ in pings(paths, peer)] == [THERE]
    peer.node = peer.node.copy()
    peer.node.endpoints = FORBIDDEN + [ELSEWHERE]
    netmap(paths, 100, peer)
    assert [endpoint for endpoint, _ in pings(paths, peer)] == [ELSEWHERE]


def test_an_address_that_became_our_own_is_not_pinged_any_more():
    peer = Peer(1)
    paths = board(peer)
    paths.relay_received(peer.node.key, peer.call(paths, [THERE, ELSEWHERE]), 900, 0)
    paths.take()
    netmap(paths, 100, peer, own=Own([THERE[0]]))
    paths.packet_sent(peer.node.key, 6_000)
    assert [endpoint for endpoint, _ in pings(paths, peer)] == [ELSEWHERE]


def test_addresses_of_the_netmap_are_judged_anew_when_our_own_change():
    peer = Peer(1, [THERE, ELSEWHERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    paths.take()
    netmap(paths, 100, peer, own=Own([THERE[0]]))
    assert paths.view(peer.node.key, 100).candidates == 1
    netmap(paths, 200, peer, own=Own([HERE[0]]))
    assert paths.view(peer.node.key, 200).candidates == 2


def test_who_speaks_from_an_address_that_may_not_be_pinged_gets_no_answer():
    peer = Peer(1)
    paths = board(peer)
    for source in FORBIDDEN:
        paths.udp_received(peer.ping(paths, 1), source, 0)
        assert paths.take() == []
    assert paths.refused == {"forbidden source": len(FORBIDDEN)}
    assert paths.view(peer.node.key, 0).candidates == 0


def test_floods_of_calls_get_their_addresses_pinged_every_two_seconds_at_most():
    peer = Peer(1)
    paths = board(peer)
    many = [(bytes([10, 0, number, 1]), 1) for number in range(64)]
    count = 0
    for now_ms in range(0, 20_000, 10):
        paths.relay_received(peer.node.key, peer.call(paths, many), 900, now_ms)
        count += len(pings(paths, peer))
    assert paths.view(peer.node.key, 20_000).candidates <= MAX_CANDIDATES
    assert count <= 10 * MAX_CANDIDATES


def test_floods_of_ever_other_addresses_do_not_make_us_flood():
    peer = Peer(1)
    paths = board(peer)
    count = 0
    for now_ms in range(0, 20_000, 10):
        many = [(bytes([10, now_ms // 10 % 251, number, 1]), 1) for number in range(64)]
        paths.relay_received(peer.node.key, peer.call(paths, many), 900, now_ms)
        count += len(pings(paths, peer))
    assert paths.view(peer.node.key, 20_000).candidates <= MAX_CANDIDATES
    assert count <= 20_000 * 64 // 5_000 + 64


def test_of_a_thousand_addresses_in_a_netmap_a_few_are_kept():
    peer = Peer(1, [(bytes([10, number // 250, number % 250, 1]), 1) for number in range(1_000)])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    assert 0 < len(pings(paths, peer)) <= MAX_CANDIDATES
    assert paths.view(peer.node.key, 0).candidates <= MAX_CANDIDATES


def test_a_thousand_addresses_of_which_only_the_last_is_good_are_not_all_looked_at():
    peer = Peer(1, [(b"\x7f\x00\x00\x01", 1)] * 999 + [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    assert pings(paths, peer) == []


def test_cut_short_and_unknown_messages_are_counted_and_left_alone():
    for plaintext, reason in (
        (b"", "malformed"),
        (b"\x01", "malformed"),
        (bytes((disco.PING, 0)) + bytes(11), "malformed"),
        (bytes((disco.PONG, 0)) + bytes(29), "malformed"),
        (bytes((4, 0)) + bytes(72), "unknown type"),
        (bytes((77, 0)) + b"future", "unknown type"),
    ):
        peer = Peer(1)
        paths = board(peer)
        paths.udp_received(peer.seal(paths, plaintext), THERE, 0)
        assert nothing_happened(paths, peer, reason)
        paths.relay_received(peer.node.key, peer.seal(paths, plaintext), 900, 0)
        assert paths.take() == []
        assert paths.refused == {reason: 2}


# --- Two nodes with one disco key ---


def test_of_two_nodes_with_one_disco_key_the_pings_node_key_decides():
    peer = Peer(1)
    copy = Peer(2, disco_private=peer.private)
    paths = board(peer, copy)
    paths.udp_received(peer.ping(paths, 1), THERE, 0)
    paths.udp_received(copy.ping(paths, 2), ELSEWHERE, 0)
    assert paths.held() == {THERE: peer.node.key, ELSEWHERE: copy.node.key}


def answer_all(paths, peer, now_ms):
    """Have a peer answer all that comes to it, wherever it was sent and in whose name."""
    for destination, message in pings(paths, peer):
        pong = peer.seal(paths, disco.encode_pong(message.txid, ELSEWHERE[0], 1))
        paths.udp_received(pong, destination, now_ms + 20)


def test_of_two_nodes_with_one_disco_key_the_one_that_pings_goes_direct():
    peer = Peer(1, [THERE])
    copy = Peer(2, [THERE], disco_private=peer.private)
    paths = board(copy, peer)
    paths.packet_sent(peer.node.key, 0)
    paths.packet_sent(copy.node.key, 0)
    paths.udp_received(peer.ping(paths, 1), THERE, 500)
    answer_all(paths, peer, 500)
    assert paths.view(peer.node.key, 520).best == THERE
    assert paths.view(copy.node.key, 520).state == PathState.PROBING


def test_who_names_anothers_disco_key_and_address_as_its_own_gets_no_packets_sent_there():
    victim = Peer(1)
    liar = Peer(2, [THERE])
    paths = board(victim, liar)
    # heard from there, with a key of its own and a source that may be false
    paths.udp_received(liar.ping(paths, 1), THERE, 0)
    paths.take()
    liar.node.disco_key = victim.node.disco_key
    netmap(paths, 1, victim, liar)
    for second in range(20):
        paths.packet_sent(liar.node.key, second * 1_000)
        paths.timer_fired(second * 1_000)
        answer_all(paths, victim, second * 1_000)
    assert paths.view(liar.node.key, 20_000).state == PathState.PROBING
    assert "pong to no ping" in paths.refused


def test_of_two_nodes_with_one_disco_key_each_calls_for_itself():
    peer = Peer(1)
    copy = Peer(2, disco_private=peer.private)
    paths = board(peer, copy)
    paths.relay_received(copy.node.key, peer.call(paths, [ELSEWHERE]), 900, 0)
    assert paths.view(peer.node.key, 0).state == PathState.RELAYED
    assert paths.view(copy.node.key, 0).state == PathState.PROBING


# --- Held addresses ---


def test_an_address_a_peer_was_heard_from_is_held_until_it_is_proven_and_again_after():
    peer = Peer(1)
    paths = board(peer)
    version = paths.held_version
    paths.udp_received(peer.ping(paths, 1), THERE, 0)
    assert paths.held() == {THERE: peer.node.key}
    assert paths.held_version != version
    version = paths.held_version
    go_direct(paths, peer, 10)
    assert paths.held() == {}
    assert paths.held_version != version
    version = paths.held_version
    paths.udp_received(peer.ping(paths, 2), THERE, 6_000)
    paths.timer_fired(6_530)
    assert paths.held() == {THERE: peer.node.key}
    assert paths.held_version != version


def test_an_address_that_two_peers_claim_is_held_for_neither():
    peer, other = Peer(1), Peer(2)
    paths = board(peer, other)
    paths.udp_received(peer.ping(paths, 1), THERE, 0)
    version = paths.held_version
    paths.udp_received(other.ping(paths, 2), THERE, 0)
    assert paths.held() == {}
    assert paths.held_version != version


def test_an_address_that_is_proven_another_peers_is_not_held_for_who_claims_it():
    peer, other = Peer(1, [THERE]), Peer(2)
    paths = board(peer, other)
    go_direct(paths, peer, 0)
    paths.udp_received(other.ping(paths, 1), THERE, 100)
    assert paths.held() == {}
    paths.take()
    # nor when the other has been away so long that only WireGuard's endpoint tells
    for now_ms in range(3_000, 60_000, 3_000):
        paths.timer_fired(now_ms)
        paths.packet_sent(peer.node.key, now_ms)
        for endpoint, ping in pings(paths, peer):
            pong = peer.seal(paths, disco.encode_pong(ping.txid, HERE[0], 1))
            paths.udp_received(pong, endpoint, now_ms)
    paths.udp_received(other.ping(paths, 2), THERE, 60_000)
    assert paths.view(peer.node.key, 60_000).best == THERE
    assert paths.held() == {}


def test_an_old_claim_ends_when_another_peer_moves_in():
    peer, other = Peer(1), Peer(2)
    paths = board(peer, other)
    paths.udp_received(peer.ping(paths, 1), THERE, 0)
    paths.udp_received(other.ping(paths, 2), THERE, 50_000)
    assert paths.held() == {THERE: other.node.key}


def test_what_is_held_may_differ_when_an_old_claim_ends():
    peer, other = Peer(1), Peer(2)
    paths = board(peer, other)
    paths.udp_received(peer.ping(paths, 1), THERE, 0)
    paths.udp_received(other.ping(paths, 1), THERE, 40_000)
    assert paths.held() == {}
    version = paths.held_version
    paths.udp_received(other.ping(paths, 2), THERE, 50_000)
    assert paths.held() == {THERE: other.node.key}
    assert paths.held_version != version


def test_an_address_that_is_proven_but_not_used_is_not_held_for_who_claims_it():
    near = (b"\xc0\xa8\x01\x09", 41641)
    peer, other = Peer(1, [near, THERE]), Peer(2)
    paths = board(peer, other)
    paths.udp_received(other.ping(paths, 1), THERE, 0)
    paths.packet_sent(peer.node.key, 0)
    answers = {}
    for output in paths.take():
        if output[0] == SEND_UDP and len(output[2]) == 124:
            ping = peer.open(paths, output[2])
            answers[output[1]] = peer.seal(paths, disco.encode_pong(ping.txid, HERE[0], 1))
    paths.udp_received(answers[near], near, 1)
    assert paths.held() == {THERE: other.node.key}
    version = paths.held_version
    paths.udp_received(answers[THERE], THERE, 40)
    assert paths.view(peer.node.key, 40).best == near
    assert paths.held() == {}
    assert paths.held_version != version


def test_a_peer_that_speaks_from_everywhere_claims_its_last_addresses_only():
    peer, other = Peer(1), Peer(2)
    paths = board(peer, other)
    for number in range(60):
        paths.udp_received(peer.ping(paths, number), (VICTIM[0], 1_000 + number), number * 500)
    paths.udp_received(other.ping(paths, 1), (VICTIM[0], 1_000), 30_000)
    assert paths.held().get((VICTIM[0], 1_000)) == other.node.key


def test_nothing_is_held_for_a_removed_peer():
    peer = Peer(1)
    paths = board(peer)
    paths.udp_received(peer.ping(paths, 1), THERE, 0)
    netmap(paths, 0)
    assert paths.held() == {}


def test_the_claims_of_a_removed_peer_are_gone():
    peer, other = Peer(1), Peer(2)
    paths = board(peer, other)
    for each in (peer, other):
        paths.udp_received(each.ping(paths, 1), THERE, 0)
    version = paths.held_version
    netmap(paths, 0, other)
    assert paths.held() == {THERE: other.node.key}
    assert paths.held_version != version


# --- Polls of WireGuard ---


def test_data_in_either_direction_keeps_a_path_awake_and_keepalives_and_handshakes_do_not():
    for sent_step, received_step, keeps in (
        (0, 0, False),
        (32, 32, False),
        (148, 92, False),
        (148 + 32, 92, False),
        (128, 0, True),
        (0, 96, True),
    ):
        peer = Peer(1, [THERE])
        paths = board(peer)
        go_direct(paths, peer, 0)
        sent, received = 10_000, 20_000
        for now_ms in range(1_000, 120_000, 1_000):
            paths.timer_fired(now_ms)
            for endpoint, ping in pings(paths, peer):
                pong = peer.seal(paths, disco.encode_pong(ping.txid, HERE[0], 1))
                paths.udp_received(pong, endpoint, now_ms)
            if now_ms % 3_000 == 0:
                sent, received = sent + sent_step, received + received_step
                endpoint = paths.view(peer.node.key, now_ms).best
                paths.traffic_seen(peer.node.key, sent, received, endpoint, now_ms)
        assert (paths.view(peer.node.key, 120_000).state == PathState.DIRECT) == keeps
        assert paths.polling_wanted(120_000) == keeps
        assert paths.endpoints_wanted(120_000) == keeps


def test_counters_that_begin_anew_are_no_traffic():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.traffic_seen(peer.node.key, 5_000, 5_000, None, 0)
    paths.traffic_seen(peer.node.key, 0, 0, None, 3_000)
    paths.traffic_seen(peer.node.key, 148, 92, None, 6_000)
    assert paths.view(peer.node.key, 6_000).state == PathState.RELAYED
    assert paths.take() == []


def test_an_address_that_wireguard_took_by_itself_is_set_back_and_pinged():
    peer = Peer(1)
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    paths.take()
    paths.traffic_seen(peer.node.key, 100, 100, ELSEWHERE, 1_000)
    outputs = paths.take()
    assert (SET_PATH, peer.node.key, None, False) in outputs
    assert (SEND_UDP, ELSEWHERE) in [output[:2] for output in outputs]
    assert paths.held() == {ELSEWHERE: peer.node.key}


def test_an_address_that_wireguard_took_by_itself_is_left_alone_if_it_is_proven():
    peer = Peer(1, [THERE, ELSEWHERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    for endpoint, ping in pings(paths, peer):
        paths.udp_received(peer.seal(paths, disco.encode_pong(ping.txid, HERE[0], 1)), endpoint, 20)
    told = paths.take()[-1][2]
    other = ELSEWHERE if told == THERE else THERE
    paths.traffic_seen(peer.node.key, 100, 100, other, 1_000)
    assert [output for output in paths.take() if output[0] == SET_PATH and output[2] != other] == []
    assert paths.view(peer.node.key, 1_000).best == other


def test_a_forbidden_address_that_wireguard_took_is_set_back_and_not_pinged():
    peer = Peer(1)
    paths = board(peer)
    for endpoint in FORBIDDEN:
        paths.traffic_seen(peer.node.key, 100, 100, endpoint, 1_000)
        assert paths.take() == [(SET_PATH, peer.node.key, None, False)]
    assert paths.view(peer.node.key, 1_000).candidates == 0


def test_what_wireguard_sent_to_before_we_began_is_used_on_and_pinged_at_once():
    peer = Peer(1)
    paths = board(peer)
    paths.adopted(peer.node.key, THERE, 0)
    outputs = paths.take()
    assert [output for output in outputs if output[0] == SET_PATH] == [(SET_PATH, peer.node.key, THERE, False)]
    assert (SEND_UDP, THERE) in [output[:2] for output in outputs]
    assert paths.view(peer.node.key, 0).state == PathState.DIRECT
    assert paths.polling_wanted(0)
    assert paths.held() == {}


def test_what_wireguard_sent_to_before_we_began_is_left_if_no_ping_is_answered():
    peer = Peer(1)
    paths = board(peer)
    paths.adopted(peer.node.key, THERE, 0)
    paths.take()
    outputs = []
    for now_ms in range(1_000, 8_000, 500):
        paths.timer_fired(now_ms)
        outputs += paths.take()
    assert [output for output in outputs if output[0] == SET_PATH] == [(SET_PATH, peer.node.key, None, False)]
    assert paths.held() == {THERE: peer.node.key}


def test_what_wireguard_sent_to_before_we_began_stays_if_it_answers():
    peer = Peer(1)
    paths = board(peer)
    paths.adopted(peer.node.key, THERE, 0)
    for now_ms in range(0, 30_000, 500):
        paths.timer_fired(now_ms)
        for endpoint, ping in pings(paths, peer):
            paths.udp_received(peer.seal(paths, disco.encode_pong(ping.txid, HERE[0], 1)), endpoint, now_ms)
        assert paths.view(peer.node.key, now_ms).best == THERE


def test_a_forbidden_address_is_not_adopted_and_none_of_a_peer_without_disco():
    peer, mute = Peer(1), Peer(2)
    mute.node.disco_key = keys.ZERO
    paths = board(peer, mute)
    for key, endpoint in ((peer.node.key, FORBIDDEN[0]), (mute.node.key, THERE)):
        paths.adopted(key, endpoint, 0)
        assert paths.take() == [(SET_PATH, key, None, False)]
    paths.adopted(b"x" * 32, THERE, 0)
    assert paths.take() == []


def test_a_direct_peer_whose_endpoint_fell_back_to_the_proxy_is_set_again():
    peer = Peer(1, [THERE])
    paths = board(peer)
    go_direct(paths, peer, 0)
    paths.traffic_seen(peer.node.key, 100, 100, None, 1_000)
    assert paths.take() == [(SET_PATH, peer.node.key, THERE, False)]
    paths.traffic_seen(peer.node.key, 100, 100, THERE, 2_000)
    assert paths.take() == []


def test_a_peer_without_disco_is_kept_on_the_relay_wherever_it_sends_from():
    peer = Peer(1)
    peer.node.disco_key = keys.ZERO
    paths = board(peer)
    paths.traffic_seen(peer.node.key, 100, 100, THERE, 0)
    assert paths.take() == [(SET_PATH, peer.node.key, None, False)]
    paths.traffic_seen(b"x" * 32, 100, 100, THERE, 0)
    assert paths.take() == []


def test_polls_are_wanted_while_a_peer_pings_us_though_we_are_idle():
    peer = Peer(1)
    paths = board(peer)
    assert not paths.polling_wanted(0)
    paths.udp_received(peer.ping(paths, 1), THERE, 1_000)
    assert paths.polling_wanted(10_999)
    assert not paths.polling_wanted(11_000)


# --- The netmap ---


def test_new_addresses_in_the_netmap_are_pinged_if_there_is_traffic():
    peer = Peer(1)
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    assert paths.view(peer.node.key, 0).reason == Reason.NO_ADDRESSES
    peer.node = peer.node.copy()
    peer.node.endpoints = [THERE]
    netmap(paths, 100, peer)
    assert [endpoint for endpoint, _ in pings(paths, peer)] == [THERE]


def test_a_peer_that_expired_or_lost_its_disco_key_is_sent_nothing_and_wireguard_goes_back_to_the_relay():
    for change in ("expired", "disco_key"):
        peer = Peer(1, [THERE])
        paths = board(peer)
        go_direct(paths, peer, 0)
        old = peer.node
        peer.node = old.copy()
        setattr(peer.node, change, True if change == "expired" else keys.ZERO)
        netmap(paths, 1_000, peer)
        assert paths.take() == [(SET_PATH, peer.node.key, None, False)]
        paths.packet_sent(peer.node.key, 2_000)
        paths.timer_fired(60_000)
        assert paths.take() == []
        assert paths.next_timer_ms() is None
        assert not paths.polling_wanted(60_000)
        assert paths.view(peer.node.key, 60_000).reason == Reason.NO_DISCO_KEY
        peer.node = old
        netmap(paths, 70_000, peer)
        go_direct(paths, peer, 71_000)


def test_we_are_no_peer_of_our_own():
    peer = Peer(1)
    peer.node.key = OWN_KEY
    paths = board(peer)
    assert paths.view(OWN_KEY, 0) is None


def test_of_a_removed_peer_nothing_is_left():
    peer = Peer(1, [THERE])
    paths = board(peer)
    go_direct(paths, peer, 0)
    netmap(paths, 1_000)
    assert paths.take() == []  # WireGuard does not have it any more
    assert paths.view(peer.node.key, 1_000) is None
    assert paths.next_timer_ms() is None
    paths.send_failed(THERE, 1_000)
    paths.uplink_changed(1_000)
    paths.timer_fired(100_000)
    assert paths.take() == []


def test_a_new_disco_key_of_a_peer_has_its_wireguard_session_made_anew():
    peer = Peer(1, [THERE])
    paths = board(peer)
    go_direct(paths, peer, 0)
    ping = peer.ping(paths, 5)
    again = Peer(1, [THERE], keys.new_private(b"a" * 32))
    netmap(paths, 1_000, again)
    assert (SET_PATH, peer.node.key, None, True) in paths.take()
    paths.udp_received(ping, THERE, 1_100)
    assert paths.refused == {"not a peer": 1}
    go_direct(paths, again, 7_000)


def test_a_peer_that_lost_its_disco_key_and_came_back_with_another_restarted_too():
    peer = Peer(1, [THERE])
    paths = board(peer)
    go_direct(paths, peer, 0)
    without = Peer(1, [THERE])
    without.node.disco_key = keys.ZERO
    netmap(paths, 1_000, without)
    again = Peer(1, [THERE], keys.new_private(b"a" * 32))
    netmap(paths, 2_000, again)
    assert (SET_PATH, peer.node.key, None, True) in paths.take()


def test_a_peer_we_never_spoke_with_may_change_its_key_in_silence():
    peer, again = Peer(1, [THERE]), Peer(1, [THERE], keys.new_private(b"a" * 32))
    paths = board(peer)
    netmap(paths, 1_000, again)
    assert paths.take() == []


def test_a_netmap_in_which_nothing_changed_changes_nothing():
    peer = Peer(1, [THERE])
    paths = board(peer)
    go_direct(paths, peer, 0)
    netmap(paths, 100, peer, own=Own(list(OWN.addresses), list(OWN.connected), list(OWN.mesh)))
    assert paths.take() == []
    assert paths.view(peer.node.key, 100).state == PathState.DIRECT


def test_who_is_at_no_relay_is_not_called_until_it_is():
    peer = Peer(1, [THERE])
    peer.node.home_derp = 0
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    assert [output[0] for output in paths.take()] == [SEND_UDP]
    peer.node = peer.node.copy()
    peer.node.home_derp = 900
    netmap(paths, 1_000, peer)
    paths.packet_sent(peer.node.key, 6_000)
    assert SEND_RELAY in [output[0] for output in paths.take()]


def test_who_calls_by_a_relay_can_be_called_by_it_until_it_left():
    peer = Peer(1, [THERE])
    peer.node.home_derp = 0
    paths = board(peer)
    paths.relay_received(peer.node.key, peer.call(paths, [THERE]), 900, 0)
    paths.packet_sent(peer.node.key, 6_000)
    paths.packet_sent(peer.node.key, 11_500)
    assert SEND_RELAY in [output[0] for output in paths.take()]
    paths.relay_gone(peer.node.key, 12_000)
    paths.packet_sent(peer.node.key, 17_000)
    assert SEND_RELAY not in [output[0] for output in paths.take()]


# --- The uplink and the clock ---


def test_an_uplink_that_changes_ends_what_was_proven_and_makes_our_endpoints_old():
    peer = Peer(1, [THERE])
    paths = board(peer)
    go_direct(paths, peer, 0)
    paths.uplink_changed(2_900)
    outputs = paths.take()
    assert (SET_PATH, peer.node.key, None, False) in outputs
    assert (SEND_UDP, THERE) in [output[:2] for output in outputs]
    assert (REFRESH_ENDPOINTS,) in outputs


def test_an_address_that_can_not_be_sent_to_is_left_at_once():
    peer = Peer(1, [THERE])
    paths = board(peer)
    go_direct(paths, peer, 0)
    paths.send_failed(ELSEWHERE, 1_000)
    assert paths.view(peer.node.key, 1_000).state == PathState.DIRECT
    paths.send_failed(THERE, 1_000)
    assert (SET_PATH, peer.node.key, None, False) in paths.take()


def test_packets_of_the_same_moment_are_looked_at_once():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    assert paths.take() != []
    for _ in range(1_000):
        paths.packet_sent(peer.node.key, 249)
    assert paths.take() == []
    # so the last packet is known to a quarter of a second, which costs 45 s of keeping awake nothing
    paths.timer_fired(45_000)
    assert paths.view(peer.node.key, 45_000).state == PathState.RELAYED


def test_packets_to_peers_without_disco_and_to_strangers_do_nothing():
    peer = Peer(1)
    peer.node.disco_key = keys.ZERO
    paths = board(peer)
    paths.packet_sent(peer.node.key, 0)
    paths.packet_sent(b"x" * 32, 0)
    assert paths.take() == []
    assert not paths.endpoints_wanted(0)


def test_a_clock_that_steps_back_stands_still():
    peer = Peer(1, [THERE])
    paths = board(peer)
    go_direct(paths, peer, 100_000)
    for now_ms in (99_000, 0, 50_000):
        paths.timer_fired(now_ms)
        paths.packet_sent(peer.node.key, now_ms)
        assert paths.view(peer.node.key, now_ms).state == PathState.DIRECT
    assert paths.take() == []


def test_a_clock_that_steps_back_does_not_make_the_past_present_again():
    peer = Peer(1, [THERE])
    paths = board(peer)
    paths.udp_received(peer.ping(paths, 1), THERE, 1_000)
    paths.packet_sent(peer.node.key, 1_000)
    assert paths.endpoints_wanted(1_000)
    assert not paths.endpoints_wanted(50_000)
    paths.timer_fired(50_000)
    assert not paths.endpoints_wanted(2_000)
    assert not paths.polling_wanted(2_000)


def test_a_clock_that_jumps_far_ahead_costs_one_round_of_pings():
    peer = Peer(1, [THERE, ELSEWHERE])
    paths = board(peer)
    go_direct(paths, peer, 0)
    later_ms = 400 * 86_400_000
    paths.timer_fired(later_ms)
    assert [output[0] for output in paths.take()] == [SET_PATH]
    paths.packet_sent(peer.node.key, later_ms)
    assert len(pings(paths, peer)) == 2
