"""Floods through the relay: of handshakes and of forged disco, by strangers and by a member, while others speak."""

import asyncio
import secrets

from agent.fakes import Peer, until, world
from agent.test_relay_cpython import HANDSHAKE, RelayedPeer
from wayhomed.agent import shown
from wayhomed.agent.status import full_status
from wayhomed.wire import disco

FLOOD = 3_000
HONEST = 200


def packets(w, sender) -> list:
    """Return what WireGuard was given of a peer."""
    return [packet for key, packet in w.data_plane.injected if key == sender.key]


def honest(number: int) -> bytes:
    return b"\x04\0\0\0" + number.to_bytes(4, "big") + bytes(28)


async def speak(w, friend) -> None:
    for number in range(HONEST):
        friend.send(w.node_key, honest(number))
        await asyncio.sleep(0)


async def answered(w, friend, txid: bytes) -> None:
    """Have a peer's ping answered."""
    friend.send(w.node_key, friend.seal(w.board.disco_public, disco.encode_ping(txid, friend.key)))
    while True:
        _source, datagram = await friend.packet()
        if disco.looks_like_disco(datagram) and friend.open(datagram).txid == txid:
            return


async def test_a_strangers_flood_of_handshakes_and_disco_reaches_nobody_and_stops_nobody(tmp_path):
    async with world(tmp_path) as w:
        friend, stranger = RelayedPeer(2, "friend"), RelayedPeer(9, "stranger")
        w.coordinator.peers = [friend]
        await w.joined()
        await friend.come(w.relay)
        await stranger.come(w.relay)
        speaking = asyncio.create_task(speak(w, friend))
        forged = stranger.seal(w.board.disco_public, disco.encode_ping(b"x" * 12, friend.key))
        for number in range(FLOOD):
            stranger.send(w.node_key, forged if number % 2 else HANDSHAKE)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await answered(w, friend, b"a" * 12)
        await speaking
        await until(lambda: w.board.refused_packets == FLOOD)
        await until(lambda: len(w.data_plane.injected) == HONEST)
        assert packets(w, friend) == [honest(number) for number in range(HONEST)]
        status = await full_status(w.board)
        assert status["refused_packets"] == {"by a relay, from nobody we know": FLOOD}
        assert f"refused      packets: {FLOOD} by a relay, from nobody we know" in shown.status(status)
        for one in (friend, stranger):
            one.writer.close()


async def test_a_members_flood_of_forged_disco_is_counted_by_reason_and_answered_to_nobody(tmp_path):
    async with world(tmp_path) as w:
        friend, liar = RelayedPeer(2, "friend"), RelayedPeer(3, "liar")
        w.coordinator.peers = [friend, liar]
        await w.joined()
        await friend.come(w.relay)
        await liar.come(w.relay)
        other = Peer(9, "other")
        forgeries = [
            disco.MAGIC + liar.disco_key + secrets.token_bytes(60),  # does not open
            other.seal(w.board.disco_public, disco.encode_ping(b"y" * 12, liar.key)),  # sealed by nobody we know
            liar.seal(w.board.disco_public, disco.encode_ping(b"y" * 12, friend.key)),  # in another's name
            liar.seal(w.board.disco_public, b"\x77\x00" + bytes(30)),  # of no known type
            liar.seal(w.board.disco_public, disco.encode_pong(b"z" * 12, bytes(4), 5)),  # of no ping
        ]
        speaking = asyncio.create_task(speak(w, friend))
        for number in range(FLOOD):
            liar.send(w.node_key, forgeries[number % len(forgeries)])
            if number % 100 == 0:
                await asyncio.sleep(0)
        await answered(w, friend, b"a" * 12)
        await speaking
        counted = w.board.paths.refused
        await until(lambda: sum(counted().values()) >= FLOOD * 9 // 10)
        print(counted())
        assert len(counted()) >= 4
        assert packets(w, friend) == [honest(number) for number in range(HONEST)]
        assert packets(w, liar) == []
        for one in (friend, liar):
            one.writer.close()
