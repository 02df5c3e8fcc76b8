"""A thousand peers by the relay, on whichever WireGuard this kernel has."""

import asyncio
import contextlib
import os
import socket

import pytest

from linux.home_network import BOARD, TRAVELLER, Listener, allow, call, home_network
from wayhomed.wire import address, keys

pytestmark = [pytest.mark.lab, pytest.mark.both_pythons]

MANY = 1000
AT_ONCE = 100
AGAIN_S = 3
LIMIT_S = 300  # only ends a test that has failed


def many_peers() -> list[dict]:
    return [
        {
            "ID": 100 + number,
            "Name": f"peer{number}.example.",
            "Key": keys.key_text(keys.NODE, keys.public_of(keys.new_private(number.to_bytes(16, "big") + bytes(16)))),
            "Addresses": [f"100.80.{number >> 8}.{number & 255}/32", f"fd7a:115c:a1e0::{number + 1:x}:1/128"],
        }
        for number in range(MANY)
    ]


def descriptors(process_id: int) -> int:
    return len(os.listdir(f"/proc/{process_id}/fd"))


async def test_a_thousand_relayed_peers_are_served_by_one_socket(tmp_path):
    async with home_network(tmp_path) as home:
        before = descriptors(home.place.process_id)
        peers = many_peers()
        await home.apply_board([allow(BOARD)], peers=peers)
        assert descriptors(home.place.process_id) == before
        traffic = await home.board_plane.traffic()
        assert len(traffic) == MANY + 1
        assert all(endpoint is None for _sent, _received, endpoint, _handshake_s in traffic.values())

        home.carried[0].cancel()  # the board's packets are counted here instead of being carried
        await asyncio.wait(home.carried[:1])
        unheard = {
            keys.key_from_text(keys.NODE, peer["Key"]): (peer["Addresses"][0].split("/")[0], 9) for peer in peers
        }
        with home.board.open(socket.SOCK_DGRAM) as sender:
            async with asyncio.timeout(LIMIT_S):
                while unheard:
                    # The tunnel's own queue drops what is beyond 500 packets, and on a busy machine nobody empties it
                    # meanwhile: a few at a time, and again those that were lost all the same.
                    under_way = list(unheard)[:AT_ONCE]
                    for key in under_way:
                        sender.sendto(b"hello", unheard[key])
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(AGAIN_S):
                            while any(key in unheard for key in under_way):
                                key, datagram = await home.board_plane.receive()
                                # A handshake begins, with each of them by its own name.
                                assert datagram[:4] == b"\x01\0\0\0"
                                unheard.pop(key, None)


async def test_among_a_thousand_peers_one_is_heard_and_answered_by_the_relay(tmp_path):
    async with home_network(tmp_path) as home:
        await home.apply_board([allow(BOARD)], peers=many_peers())
        async with Listener(home.board, BOARD, 7000) as listener:
            (await call(home.traveller, BOARD, 7000)).close()
            assert listener.callers == [TRAVELLER]


async def test_a_thousand_peers_come_and_go_by_difference(tmp_path):
    async with home_network(tmp_path) as home:
        peers = many_peers()
        await home.apply_board([], peers=peers)
        await home.apply_board([], peers=peers[::2])
        status = (await home.board_plane.status())["peers"]
        assert len(status) == MANY // 2 + 1
        for peer in peers[::2]:
            wanted = {address.prefix_text(address.prefix_from_text(text)) for text in peer["Addresses"]}
            assert set(status[keys.key_from_text(keys.NODE, peer["Key"])]["allowed_ips"]) == wanted


async def test_a_peer_with_a_thousand_prefixes_has_all_of_them(tmp_path):
    async with home_network(tmp_path) as home:
        prefixes = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(1022)]
        peer = many_peers()[0]
        peer["AllowedIPs"] = peer["Addresses"] + prefixes
        await home.apply_board([], peers=[peer], accept_routes=True)
        status = (await home.board_plane.status())["peers"]
        assert set(prefixes) <= set(status[keys.key_from_text(keys.NODE, peer["Key"])]["allowed_ips"])
        await home.apply_board([], peers=[peer], accept_routes=False)
        status = (await home.board_plane.status())["peers"]
        assert len(status[keys.key_from_text(keys.NODE, peer["Key"])]["allowed_ips"]) == 2
