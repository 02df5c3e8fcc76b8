"""Disco over the relay, for a board that takes no direct path yet: answer pings, send pings, ignore the rest.

Pure: fresh random bytes come as arguments. Source: disco.md sections 1 and 2 (rules 1, 2, 4, 5 and 6).
"""

from wayhomed.port import const
from wayhomed.wire import disco, keys
from wayhomed.wire.errors import BadWire

# What a pong over a relay names as the ping's source: this address, and the region as its port.
RELAY_ADDRESS = b"\x7f\x03\x03\x28"
_MAX_SHARED = const(512)
_MAX_OUTSTANDING = const(64)
PING_TIMEOUT_MS = const(5_000)


class RelayedDisco:
    """Our disco key, which lives as long as the process, and the pings that wait for their pongs."""

    def __init__(self, private_key: bytes):
        self._private_key = private_key
        self.public_key = keys.public_of(private_key)
        self._shared: dict = {}  # peer's disco key -> the box key with it
        self._outstanding: dict = {}  # txid -> (peer's node key, sent at ms)

    def message_received(self, datagram: bytes, peer, region_id: int, nonce24: bytes, now_ms: int) -> tuple:
        """Take a disco message that came by a relay from a peer (a netmap Node).

        Returns (reply, pong): the datagram to send back to the same peer by the same region, or None; and
        (peer's node key, round trip in ms) if this answered a ping of ours, else None.
        Raises BadWire for what the peer can't have sent; an old key of ours is the usual reason, nothing is wrong then.
        """
        sender = disco.sender_of(datagram)
        if sender != peer.disco_key:
            raise BadWire("a disco message with another disco key than the netmap has for " + keys.short(peer.key))
        shared = self._shared_with(sender)
        message = disco.decode_message(disco.open_message(shared, datagram))
        if isinstance(message, disco.Ping):
            if message.node_key not in (peer.key, keys.ZERO):
                raise BadWire("a disco ping that names another node's key")
            pong = disco.encode_pong(message.txid, RELAY_ADDRESS, region_id)
            return disco.seal_message(shared, self.public_key, nonce24, pong), None
        if isinstance(message, disco.Pong):
            sent = self._outstanding.get(message.txid)
            if sent is not None and sent[0] == peer.key:
                del self._outstanding[message.txid]
                return None, (peer.key, now_ms - sent[1])
        return None, None

    def ping(self, peer, own_node_key: bytes, txid12: bytes, nonce24: bytes, now_ms: int) -> bytes:
        """Return a ping for the peer, to be sent by a relay; its pong comes out of message_received().

        Raises BadWire for a peer without a usable disco key.
        """
        if peer.disco_key == keys.ZERO:
            raise BadWire("this peer has no disco key")
        for old in list(self._outstanding):
            if now_ms - self._outstanding[old][1] > PING_TIMEOUT_MS or len(self._outstanding) >= _MAX_OUTSTANDING:
                del self._outstanding[old]
        self._outstanding[txid12] = (peer.key, now_ms)
        shared = self._shared_with(peer.disco_key)
        return disco.seal_message(shared, self.public_key, nonce24, disco.encode_ping(txid12, own_node_key))

    def _shared_with(self, disco_key: bytes) -> bytes:
        shared = self._shared.get(disco_key)
        if shared is None:
            if len(self._shared) >= _MAX_SHARED:
                self._shared = {}  # keys of peers long restarted pile up; the curve operation makes them again
            shared = self._shared[disco_key] = disco.shared_key(disco_key, self._private_key)
        return shared
