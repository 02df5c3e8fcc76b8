"""What goes wrong between WireGuard and direct paths, each trap of wireguard.md section 3.1 by its name.

WireGuard is wireguard-go here. The network stands in direct_network, and the relay is a task of the test.
"""

import asyncio
import random
import socket
import time

import pytest
from scapy.layers.inet import IP, UDP

from linux.direct_network import (
    BOARD_AT,
    BOARD_MOVED,
    PORT,
    TRAVELLER_AT,
    DirectHome,
    Echo,
    drop_on_the_way,
    kind_of,
    packets_of,
    until,
    until_answer,
)
from linux.home_network import TRAVELLER, home_network
from wayhomed import port
from wayhomed.linux import dataplane, userspace_wireguard
from wayhomed.linux.proxy import FIRST_PROXY_PORT
from wayhomed.wire.address import ip_from_text, ip_text

pytestmark = [pytest.mark.lab, pytest.mark.both_pythons]
FAMILIES = pytest.mark.parametrize("family", [4, 6])
DISCO = b"TS\xf0\x9f\x92\xac" + bytes(80)
DATA = b"\x04\0\0\0" + bytes(44)
STUN_REQUEST = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)
RETRY_S = 5  # after which WireGuard sends a lost initiation again, whatever packets there are for the peer


@FAMILIES
async def test_a_path_that_is_dead_in_one_direction_only_needs_the_hold(tmp_path, family):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await echo.all_return(1)
        await home.traveller_path(BOARD_AT[family])
        protocol = "ip" if family == 4 else "ip6"
        dropped = drop_on_the_way(home.carrier, f"{protocol} daddr {ip_text(TRAVELLER_AT[family][0])} udp sport {PORT}")

        # The traveller's packets arrive, WireGuard takes their source for its endpoint, and that way is dead.
        lost = await echo.send(30)
        await until(lambda: lost <= echo.heard and dropped() >= 30)
        assert not lost & echo.answered

        # Setting the endpoint back does not last.
        await home.board_path(None)
        lost = await echo.send(30)
        await until(lambda: lost <= echo.heard and dropped() >= 60 - 1)
        assert len(lost & echo.answered) <= 1

        home.board_holds(family)
        await home.board_path(None)
        await until(lambda: lost <= echo.heard)
        before = dropped()
        await echo.all_return(100)
        assert dropped() == before
        assert await home.held() > 0

        # The same for a peer that sends each of its packets by both ways.
        home.traveller_holds(family)
        await home.traveller_path(None)
        home.by_both = BOARD_AT[family]
        before = await home.held()
        await echo.all_return(100)
        await until_answer(home.held, lambda count: count >= before + 100)  # some copies are still on their way


async def test_an_initiation_lost_on_a_dead_path_is_not_waited_for(tmp_path):
    async with home_network(tmp_path, DirectHome) as home:
        drop_on_the_way(home.carrier, f"udp sport {PORT}")
        on_wan = home.board.sniffer("wan0")
        asking = home.board.open(socket.SOCK_DGRAM)
        home.held_back = True  # what the relay is given is kept in home.read
        await home.board_path(TRAVELLER_AT[4])
        lost_at = time.monotonic()
        asking.sendto(b"x", (TRAVELLER, 9))
        await until(lambda: [packet for packet in packets_of(on_wan) if kind_of(packet) == 1])

        # With the relay as the endpoint, and nothing more, no number of packets makes WireGuard begin again.
        status = await home.board_plane.status()
        assert status["peers"][home.traveller_public]["endpoint"] == "198.51.100.20:41641"
        proxy = f"127.64.0.1:{FIRST_PROXY_PORT}"
        peer = home.board.run("wg", "show", home.board_interface, "peers").strip()
        home.board.run("wg", "set", home.board_interface, "peer", peer, "endpoint", proxy)
        # seen on their way in: what the kernel's WireGuard keeps for a session to come, it does not count as sent
        into_tunnel = home.board.sniffer(home.board_interface)
        for _ in range(20):
            asking.sendto(b"x", (TRAVELLER, 9))
        seen: list = []
        await until(lambda: len(seen.extend(packets_of(into_tunnel)) or seen) >= 20)
        await asyncio.sleep(0.05)
        assert not home.read

        await home.board_path(None)
        asking.sendto(b"x", (TRAVELLER, 9))
        await until(lambda: home.read)
        assert [datagram[0] for datagram in home.read] == [1]
        assert time.monotonic() - lost_at < RETRY_S, "it may have been WireGuard's own retry"
        # and it is one that the traveller answers
        home.held_back = False
        home.traveller_plane.inject(home.board_public, home.read[0])
        on_tunnel = home.traveller.sniffer(home.traveller_interface)
        asking.sendto(b"x", (TRAVELLER, 9))
        await until(lambda: [packet for packet in packets_of(on_tunnel) if packet[UDP].dport == 9])
        allowed = (await home.board_plane.status())["peers"][home.traveller_public]["allowed_ips"]
        assert allowed == status["peers"][home.traveller_public]["allowed_ips"]


async def test_a_session_that_lasts_is_kept_when_falling_back_and_one_that_ends_is_not(tmp_path, monkeypatch):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await echo.all_return(1)
        for later_s, clock_is_set, renewed in ((60, False, False), (175, False, True), (175, True, False)):
            await home.both_direct(4)
            await echo.all_return(5)
            await home.traveller_path(None)
            home.traveller_holds(4)
            session = (await home.board_plane.traffic())[home.traveller_public][3]
            # for the board alone: if both ends began anew in the same moment, their initiations could cross
            with monkeypatch.context() as clocks:
                clocks.setattr(home.place.module(dataplane), "wall_clock_s", lambda now_s=session + later_s: now_s)
                if not clock_is_set:
                    passed_ms = home.place.module(port).monotonic_ms() + 1000 * later_s
                    clocks.setattr(home.place.module(dataplane), "monotonic_ms", lambda now_ms=passed_ms: now_ms)
                await home.board_path(None)
            begun = (await home.board_plane.traffic())[home.traveller_public][3]
            assert session > 0 and begun == (0 if renewed else session)
            if not renewed:
                await echo.all_return(5)
            else:
                await echo.answer_to(TRAVELLER, 9)  # the board speaks first: the traveller trusts the old session
                await until_answered(echo)
            home.traveller_holds()


async def until_answered(echo: Echo) -> None:
    """Send until something comes back: what the old session carried is lost, as it would be."""
    before = len(echo.answered)
    for _ in range(1000):
        await echo.send(1, 0.05)
        if len(echo.answered) > before:
            return
    raise AssertionError("no new session")


@FAMILIES
async def test_direct_traffic_leaves_from_the_new_address_after_the_uplink_moved(tmp_path, family):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await home.both_direct(family)
        await echo.all_return(5)
        home.board_plane.shared_port.send(TRAVELLER_AT[family], DISCO)  # it remembers where from
        home.move_uplink()
        on_road = home.traveller.sniffer("eth0")
        # WireGuard goes on with the address that the traveller's packets last came to, in IPv6 for good
        await home.board_plane.uplink_changed()
        packets_of(on_road)
        await echo.answer_to(TRAVELLER, 9)
        home.board_plane.shared_port.send(TRAVELLER_AT[family], DISCO)
        seen = []

        def both_seen() -> bool:
            seen.extend(packet for packet in packets_of(on_road) if packet[UDP].sport == PORT == packet[UDP].dport)
            return {kind_of(packet) for packet in seen} >= {0, 4}

        await until(both_seen)
        assert {packet.src for packet in seen if packet.dst == ip_text(TRAVELLER_AT[family][0])} == {
            BOARD_MOVED[family]
        }
        # that packet is on the wire: what the traveller sends until it has read it still goes to the old address
        moved = ip_from_text(BOARD_MOVED[family]), PORT
        await until_answer(home.travellers_endpoint, lambda endpoint: endpoint == moved)
        before = home.relayed
        await echo.all_return(20)
        assert home.relayed == before


async def test_an_injected_packet_does_not_steal_the_way_back_of_a_direct_peer(tmp_path):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await home.both_direct(4)
        await echo.all_return(5)
        await home.traveller_path(None)
        home.traveller_holds(4)
        before = home.relayed
        await echo.all_return(200)
        assert home.relayed >= before + 200  # they did come by the relay
        # it is direct again, with no more packets to remind of it
        await until_answer(home.endpoint, lambda endpoint: endpoint == TRAVELLER_AT[4])
        home.traveller_holds()
        await home.traveller_path(BOARD_AT[4])
        before = home.relayed
        await echo.all_return(50)
        assert home.relayed == before


@FAMILIES
async def test_a_wireguard_that_takes_a_fake_source_is_given_the_peers_endpoint(tmp_path, monkeypatch, family):
    async with home_network(tmp_path, DirectHome) as home:
        back_end = home.place.module(userspace_wireguard).UserspaceWireGuard
        with monkeypatch.context() as patched:
            patched.setattr(back_end, "takes_fake_source", True)  # as the kernel's is; it need not answer here
            on_lo = home.board.sniffer("lo")
            await home.board_path(TRAVELLER_AT[family])
            with home.board.inside():
                assert home.board_plane.inject(home.traveller_public, DATA)
            await until(lambda: [packet for packet in packets_of(on_lo) if is_fake(packet, family)])
            # where no way leads to the endpoint, the relay's loopback address is better than nothing
            home.board.run("ip", f"-{family}", "route", "del", "default")
            await home.board_plane.uplink_changed()
            with home.board.inside():
                assert home.board_plane.inject(home.traveller_public, DATA)


def is_fake(packet, family: int) -> bool:
    here = "127.0.0.1" if family == 4 else ip_text(BOARD_AT[6][0])
    source = packet.src, packet[UDP].sport
    return source == (ip_text(TRAVELLER_AT[family][0]), PORT) and (packet.dst, packet[UDP].dport) == (here, PORT)


@pytest.mark.parametrize("direct", [False, True])
async def test_what_a_peer_sends_by_two_living_paths_arrives_whole(tmp_path, direct):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await echo.all_return(1)
        home.by_both = BOARD_AT[4]
        home.traveller_holds(4)  # or its own WireGuard would leave the relay
        if direct:
            await home.board_path(TRAVELLER_AT[4])
        on_wan = home.carrier.sniffer("eth2")
        before = home.relayed
        await echo.all_return(500)
        assert home.relayed >= before + 500
        seen = []

        def all_copied() -> bool:  # the last are still on their way
            seen.extend(packet for packet in packets_of(on_wan) if kind_of(packet) == 4)
            return len([packet for packet in seen if packet.src == "198.51.100.20"]) >= 500

        await until(all_copied)
        assert [packet for packet in seen if packet.dst == "198.51.100.20"], "the board never answered directly"


async def test_an_endpoint_that_is_set_many_times_a_second_loses_nothing(tmp_path):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await home.both_direct(4)
        await echo.all_return(5)
        home.traveller_holds(4, 6)
        sets = 0
        pauses = random.Random(1)  # of one length they may keep step with the echoes, which then go but one way

        async def toggle() -> None:
            nonlocal sets
            while True:
                for endpoint in (TRAVELLER_AT[4], None, TRAVELLER_AT[6], None):
                    await home.board_path(endpoint)
                    sets += 1
                    await asyncio.sleep(pauses.uniform(0.001, 0.008))

        toggling = asyncio.create_task(toggle())
        on_road = home.traveller.sniffer("eth0")
        before = home.relayed
        both, ways = {ip_text(BOARD_AT[4][0]), ip_text(BOARD_AT[6][0])}, set()
        async with asyncio.timeout(120):
            while sets < 100 or not both <= ways or home.relayed == before:
                await echo.all_return(100)  # no more than the sniffer's buffer holds
                seen = packets_of(on_road)
                ways |= {packet.src for packet in seen if kind_of(packet) == 4 and packet[UDP].dport == PORT}
        toggling.cancel()


@pytest.mark.parametrize("nat", ["masquerade", "masquerade random", "masquerade, the port taken"])
async def test_disco_stun_and_wireguard_leave_by_one_mapping(tmp_path, nat):
    async with home_network(tmp_path, DirectHome) as home:
        home.carrier.run("nft", "add table ip n; add chain ip n c { type nat hook postrouting priority srcnat; }")
        home.carrier.run("nft", f'add rule ip n c oifname "eth2" {nat.split(",")[0]}')
        on_road = home.traveller.sniffer("eth0")
        seen = []

        def saw(wanted: int) -> bool:
            seen.extend(packet for packet in packets_of(on_road) if packet.src == "198.51.100.1")
            return len(seen) >= wanted

        targets = ("198.51.100.20", PORT), ("198.51.100.21", 3478)
        if "taken" in nat:
            home.board.ip("address", "add", "100.64.8.77/22", "dev", "wan0")
            raw = home.board.open(socket.SOCK_RAW, protocol=socket.IPPROTO_RAW)
            for target, port in targets:
                neighbour = IP(src="100.64.8.77", dst=target) / UDP(sport=PORT, dport=port) / b"neighbour"
                raw.sendto(bytes(neighbour), (target, 0))
            await until(lambda: saw(2))
            assert {packet[UDP].sport for packet in seen} == {PORT}
            seen.clear()
        # WireGuard's first, alone: of two packets that begin a flow in the same moment on two processors, Linux may
        # map one in a way of its own.
        await home.board_path(TRAVELLER_AT[4])
        home.board.open(socket.SOCK_DGRAM).sendto(b"x", (TRAVELLER, 9))
        await until(lambda: saw(1))
        for target, port in targets:
            home.board_plane.shared_port.send((ip_from_text(target), port), DISCO)
            home.board_plane.shared_port.send((ip_from_text(target), port), STUN_REQUEST)
        await until(lambda: saw(5) and len([packet for packet in seen if kind_of(packet) == 0]) == 4)
        to_peer = [packet for packet in seen if packet.dst == "198.51.100.20"]
        assert {(kind_of(packet), len(packet[UDP].payload)) for packet in to_peer} >= {(0, 20), (0, 86), (1, 148)}
        mapped = {packet[UDP].sport for packet in to_peer}
        assert len(mapped) == 1
        if nat == "masquerade":
            assert {packet[UDP].sport for packet in seen} == {PORT}
        else:
            assert mapped != {PORT}
