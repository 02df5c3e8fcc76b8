"""What reaches the ports beside WireGuard's from those who must not have a say: neighbours, and peers that lie."""

import asyncio

import pytest

from linux.direct_network import BOARD_AT, PORT, TRAVELLER_AT, DirectHome, Echo, until
from linux.home_network import LAN, allow, home_network
from wayhomed.linux.proxy import FIRST_PROXY_PORT, address_of
from wayhomed.wire.address import ip_text

pytestmark = [pytest.mark.lab, pytest.mark.both_pythons]
FAMILIES = pytest.mark.parametrize("family", [4, 6])
DATA = b"\x04\0\0\0" + bytes(44)
LIAR = b"\x09" * 32


def held_port(home: DirectHome) -> int:
    return next(
        int(line.split()[-1].strip('";'))
        for line in home.board.run("nft", "list", "chain", "inet", "wayhome", "hold").splitlines()
        if "dport set" in line
    )


@FAMILIES
async def test_the_port_of_held_packets_takes_only_what_was_sent_to_wireguards(tmp_path, family):
    async with home_network(tmp_path, DirectHome) as home:
        await home.apply_board([allow(LAN)])
        home.board_holds(family)
        board = BOARD_AT[family][0]
        for port in (held_port(home), PORT):
            home.traveller_plane.shared_port.send((board, port), DATA)
        while await home.held() == 0:
            await asyncio.sleep(0.01)
        assert await home.held() == 1


@FAMILIES
async def test_what_is_held_in_a_liars_name_does_not_leave_its_true_senders_packets_with_the_liar(tmp_path, family):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        peers = [{"ID": 9, "Key": "nodekey:" + LIAR.hex(), "Addresses": ["100.64.3.9/32"]}]
        await home.apply_board([allow("100.64.0.1", ports={"First": 7000, "Last": 7000})], peers=peers)
        await echo.all_return(1)
        with home.board.inside():
            home.board_plane.hold({TRAVELLER_AT[family]: LIAR})
        await home.traveller_path(BOARD_AT[family])
        home.held_back = True  # an answer that came would have the traveller send by the relay again
        numbers = await echo.send(3)
        await until(lambda: numbers <= echo.heard)

        def proxies() -> dict:
            lines = home.board.run("wg", "show", home.board_interface, "endpoints").splitlines()
            return dict(line.split() for line in lines)

        own, liars = (f"{ip_text(address_of(index))}:{FIRST_PROXY_PORT}" for index in (1, 2))
        assert sorted(proxies().values()) == [liars, liars]
        await home.board_plane.traffic()  # as every poll does
        await until(lambda: sorted(proxies().values()) == [own, liars])
