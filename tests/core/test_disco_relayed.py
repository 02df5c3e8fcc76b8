"""Disco by the relay: pings are answered, ours are matched, everything else is left alone."""

from shared.expect import raises
from wayhomed.core.disco_relayed import PING_TIMEOUT_MS, RELAY_ADDRESS, RelayedDisco
from wayhomed.core.node import Node
from wayhomed.wire import disco, keys
from wayhomed.wire.errors import BadWire

NONCE = bytes(range(24))
TXID = bytes(range(12))


def private(byte):
    return keys.new_private(bytes([byte]) * 32)


class Peer:
    """A peer with a disco key of its own."""

    def __init__(self, byte):
        self.private = private(byte)
        self.node = Node()
        self.node.key = keys.public_of(private(byte + 1))
        self.node.disco_key = keys.public_of(self.private)

    def seal(self, to, plaintext):
        shared = disco.shared_key(to, self.private)
        return disco.seal_message(shared, self.node.disco_key, NONCE, plaintext)

    def open(self, sender, datagram):
        return disco.decode_message(disco.open_message(disco.shared_key(sender, self.private), datagram))


def test_a_ping_is_answered_with_the_region_as_its_source():
    ours, peer = RelayedDisco(private(1)), Peer(10)
    ping = peer.seal(ours.public_key, disco.encode_ping(TXID, peer.node.key))
    reply, pong = ours.message_received(ping, peer.node, 900, NONCE, 0)
    assert pong is None
    assert peer.open(ours.public_key, reply) == disco.Pong(TXID, RELAY_ADDRESS, 900)


def test_a_ping_without_a_node_key_is_answered_too():
    ours, peer = RelayedDisco(private(1)), Peer(10)
    ping = peer.seal(ours.public_key, bytes((disco.PING, 0)) + TXID)
    assert ours.message_received(ping, peer.node, 1, NONCE, 0)[0] is not None


def test_a_pong_tells_the_round_trip_once():
    ours, peer = RelayedDisco(private(1)), Peer(10)
    message = peer.open(ours.public_key, ours.ping(peer.node, b"n" * 32, TXID, NONCE, 1000))
    assert message.txid == TXID
    assert message.node_key == b"n" * 32
    pong = peer.seal(ours.public_key, disco.encode_pong(TXID, RELAY_ADDRESS, 900))
    assert ours.message_received(pong, peer.node, 900, NONCE, 1042) == (None, (peer.node.key, 42))
    assert ours.message_received(pong, peer.node, 900, NONCE, 1043) == (None, None)


def test_a_pong_of_another_peer_does_not_count():
    ours, peer, other = RelayedDisco(private(1)), Peer(10), Peer(20)
    ours.ping(peer.node, b"n" * 32, TXID, NONCE, 0)
    pong = other.seal(ours.public_key, disco.encode_pong(TXID, RELAY_ADDRESS, 900))
    assert ours.message_received(pong, other.node, 900, NONCE, 5) == (None, None)


def test_a_sender_that_the_netmap_does_not_know_is_refused():
    ours, peer, stranger = RelayedDisco(private(1)), Peer(10), Peer(20)
    ping = stranger.seal(ours.public_key, disco.encode_ping(TXID, peer.node.key))
    raises(BadWire, ours.message_received, ping, peer.node, 900, NONCE, 0)


def test_a_ping_in_another_nodes_name_is_refused():
    ours, peer = RelayedDisco(private(1)), Peer(10)
    ping = peer.seal(ours.public_key, disco.encode_ping(TXID, b"x" * 32))
    raises(BadWire, ours.message_received, ping, peer.node, 900, NONCE, 0)


def test_a_message_sealed_for_a_former_key_of_ours_is_refused():
    ours, peer = RelayedDisco(private(1)), Peer(10)
    ping = peer.seal(keys.public_of(private(99)), disco.encode_ping(TXID, peer.node.key))
    raises(BadWire, ours.message_received, ping, peer.node, 900, NONCE, 0)


def test_call_me_maybe_and_unknown_types_are_ignored():
    ours, peer = RelayedDisco(private(1)), Peer(10)
    for plaintext in (disco.encode_call_me_maybe([(b"\x0a\0\0\x01", 1)]), bytes((77, 0)) + b"future"):
        assert ours.message_received(peer.seal(ours.public_key, plaintext), peer.node, 900, NONCE, 0) == (None, None)


def test_old_pings_are_forgotten():
    ours, peer = RelayedDisco(private(1)), Peer(10)
    ours.ping(peer.node, b"n" * 32, TXID, NONCE, 0)
    ours.ping(peer.node, b"n" * 32, b"z" * 12, NONCE, PING_TIMEOUT_MS + 1)
    pong = peer.seal(ours.public_key, disco.encode_pong(TXID, RELAY_ADDRESS, 900))
    assert ours.message_received(pong, peer.node, 900, NONCE, PING_TIMEOUT_MS + 2) == (None, None)


def test_a_peer_without_disco_key_can_not_be_pinged():
    raises(BadWire, RelayedDisco(private(1)).ping, Node(), b"n" * 32, TXID, NONCE, 0)
