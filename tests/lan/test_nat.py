"""NAT between tunnel and LAN, and whose sources are believed: docs/lan/nat.md and docs/lan/site-to-site.md."""

import asyncio
import socket
from collections.abc import Callable

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from lan.two_sites import FAR_LAN, FAR_LAN6, FAR_LAN_IP, PRINTER, PRINTER6, TwoSites, prefixes
from linux.home_network import (
    BOARD,
    BOARD6,
    LAN,
    LAN6,
    NAS,
    NAS6,
    ROUTER_LAN,
    TRAVELLER,
    TRAVELLER6,
    Listener,
    Namespace,
    allow,
    call,
    home_network,
)

pytestmark = [pytest.mark.lab, pytest.mark.both_pythons]
STRANGERS = ("100.64.9.9", "100.99.1.2", "100.127.255.254", "fd7a:115c:a1e0::9:9")
FROM_NAS = allow(FAR_LAN, FAR_LAN6, sources=(LAN, LAN6))


def send(space: Namespace, ip: str, data: bytes = b"x") -> None:
    with space.open(socket.SOCK_DGRAM, socket.AF_INET6 if ":" in ip else socket.AF_INET) as sender:
        sender.sendto(data, (ip, 9))


def forge(space: Namespace, interface: str, source: str, target: str, data: bytes = b"forged") -> None:
    """Send a datagram with any source out of an interface; on Ethernet to the board's own address there."""
    layer: Packet = IPv6(src=source, dst=target) if ":" in target else IP(src=source, dst=target)
    packet = bytes(layer / UDP(sport=5, dport=9) / data)
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    forger = space.open(socket.SOCK_RAW, family, socket.IPPROTO_RAW)
    with forger:
        forger.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        forger.sendto(packet, (target, 0))


async def counted(home: TwoSites, name: str, act: Callable[..., None], *given: str | bytes | Namespace) -> None:
    """Send something until a counter of the board rises: the first packet may be lost while neighbours are asked."""
    before = await home.dropped(name)
    async with asyncio.timeout(60):
        while await home.dropped(name) <= before:
            act(*given)
            await asyncio.sleep(0.1)


def datagrams(sniffer: socket.socket) -> list[bytes]:
    """Return what the UDP datagrams seen so far carry, the kernel's own left out."""
    seen = []
    while True:
        try:
            data = sniffer.recv(65536)
        except BlockingIOError:
            return seen
        if data[0] >> 4 not in (4, 6):
            continue  # ARP
        packet = IP(data) if data[0] >> 4 == 4 else IPv6(data)
        if UDP in packet and packet[UDP].dport == 9:
            seen.append(bytes(packet[UDP].payload))


async def until_seen(sniffer: socket.socket, data: bytes) -> list[bytes]:
    """Return all that is seen before this datagram."""
    seen: list[bytes] = []
    async with asyncio.timeout(60):
        while True:
            for one in datagrams(sniffer):
                if one == data:
                    return seen
                seen.append(one)
            await asyncio.sleep(0.02)


async def test_mesh_addresses_are_kept_towards_single_networks_and_hidden_from_others(tmp_path):
    async with home_network(tmp_path) as home, Listener(home.nas, NAS, 80) as nas, Listener(home.nas, NAS6, 80) as nas6:
        home.nas.ip("route", "add", "100.64.0.0/10", "via", ROUTER_LAN)
        home.nas.ip("-6", "route", "add", "fd7a:115c:a1e0::/48", "via", "fd00:1::2")
        for kept, seen4, seen6 in ((LAN, TRAVELLER, "fd00:1::2"), (LAN6, ROUTER_LAN, TRAVELLER6)):
            await home.apply_board([allow(LAN, LAN6)], snat_except=prefixes(kept))
            (await call(home.traveller, NAS, 80)).close()
            (await call(home.traveller, NAS6, 80)).close()
            assert (nas.callers.pop(), nas6.callers.pop()) == (seen4, seen6)


@pytest.mark.parametrize("snat", [True, False])
async def test_a_lan_device_that_sends_to_mesh_addresses_causes_no_handshake(tmp_path, snat):
    async with home_network(tmp_path, TwoSites) as home:
        await home.apply_board([allow(LAN, LAN6)], snat=snat, accept_routes=True)
        home.held_back = True
        on_tunnel = home.board.sniffer(home.board_interface)
        for ip in (TRAVELLER, TRAVELLER6, PRINTER, PRINTER6):
            await counted(home, "unsolicited", send, home.nas, ip)
        for ip in STRANGERS:
            before = await home.dropped("contained")  # they have no way but the uplink, and this machine is no router
            send(home.nas, ip)
            if ":" not in ip:  # no uplink over IPv6 here: the kernel says that there is no way
                await home.rises("contained", before)
        # a packet of the board itself does begin one: the first of all that WireGuard gave for anybody
        send(home.board, TRAVELLER, b"own")
        assert await until_seen(on_tunnel, b"own") == []
        async with asyncio.timeout(60):
            while not home.read:
                await asyncio.sleep(0.02)
        assert [datagram[0] for datagram in home.read] == [1]


async def test_devices_of_one_site_reach_those_of_another_where_the_policy_there_opens_it(tmp_path):
    async with (
        home_network(tmp_path, TwoSites) as home,
        Listener(home.printer, PRINTER, 80) as printer,
        Listener(home.printer, PRINTER6, 80) as printer6,
    ):
        await home.apply_board([], accept_routes=True, lan_to_mesh=True)
        # the policy there is closed
        with home.traveller.inside():
            before = (await home.traveller_plane.status())["dropped"]["closed"]["packets"]
        attempt = asyncio.create_task(call(home.nas, PRINTER, 80))
        async with asyncio.timeout(60):
            while True:
                with home.traveller.inside():
                    if (await home.traveller_plane.status())["dropped"]["closed"]["packets"] > before:
                        break
                await asyncio.sleep(0.02)
        attempt.cancel()
        await asyncio.gather(attempt, return_exceptions=True)

        await home.apply_far([FROM_NAS])
        (await call(home.nas, PRINTER, 80)).close()
        (await call(home.nas, PRINTER6, 80)).close()
        assert (printer.callers.pop(), printer6.callers.pop()) == (FAR_LAN_IP, "fd00:20::2")
        # with SNAT off at both ends each sees the other as it is
        home.printer_knows_the_way_back()
        await home.apply_board([], accept_routes=True, lan_to_mesh=True, snat=False)
        await home.apply_far([FROM_NAS], snat=False)
        (await call(home.nas, PRINTER, 80)).close()
        (await call(home.nas, PRINTER6, 80)).close()
        assert (printer.callers.pop(), printer6.callers.pop()) == (NAS, NAS6)


async def test_a_lan_that_may_call_no_more_has_its_connections_cut(tmp_path):
    async with home_network(tmp_path, TwoSites) as home, Listener(home.printer, PRINTER, 80) as printer:
        await home.apply_far([FROM_NAS])
        await home.apply_board([], accept_routes=True, lan_to_mesh=True)
        connection = await call(home.nas, PRINTER, 80)
        await home.apply_board([], accept_routes=True)
        before = await home.dropped("closed")
        printer.writers[0].write(b"still there?\n")
        await home.rises("closed", before)
        before = await home.dropped("unsolicited")
        connection.send(b"and here?")
        await home.rises("unsolicited", before)
        connection.close()


async def test_only_served_networks_may_call_and_only_what_a_peer_has(tmp_path):
    async with home_network(tmp_path, TwoSites) as home:
        await home.apply_board([], accept_routes=True, lan_to_mesh=True)
        on_tunnel = home.board.sniffer(home.board_interface)
        for source, target in (("192.168.77.5", PRINTER), ("fd00:77::5", PRINTER6), ("192.168.77.5", TRAVELLER)):
            await counted(home, "unsolicited", forge, home.nas, "eth0", source, target)
        # nor may the carrier's side call in a LAN device's name
        home.carrier.ip("route", "add", FAR_LAN, "via", "100.64.8.2")
        await counted(home, "unsolicited", forge, home.carrier, "eth0", NAS, PRINTER)
        for target in STRANGERS:
            send(home.nas, target, b"stranger")
        send(home.nas, PRINTER, b"sound")
        assert await until_seen(on_tunnel, b"sound") == []


async def test_nobody_but_the_tunnel_brings_sources_of_the_mesh_or_of_another_site(tmp_path):
    async with home_network(tmp_path, TwoSites) as home:
        await home.apply_board([allow(LAN, LAN6)], accept_routes=True, lan_to_mesh=True)
        on_tunnel, on_lan = home.board.sniffer(home.board_interface), home.nas.sniffer("eth0")
        for source, target in (
            (TRAVELLER, ROUTER_LAN),
            (TRAVELLER, PRINTER),
            (BOARD, PRINTER),
            (PRINTER, ROUTER_LAN),
            (PRINTER, TRAVELLER),
            ("10.20.0.99", PRINTER),
            (TRAVELLER6, "fd00:1::2"),
            (TRAVELLER6, PRINTER6),
            (BOARD6, PRINTER6),
            (PRINTER6, "fd00:1::2"),
            (PRINTER6, TRAVELLER6),
        ):
            await counted(home, "forged", forge, home.nas, "eth0", source, target)
        home.carrier.ip("route", "add", LAN, "via", "100.64.8.2")
        await counted(
            home, "forged", forge, home.carrier, "eth0", PRINTER, NAS, b"from the carrier"
        )  # as if from the other site
        send(home.nas, PRINTER, b"sound")
        assert await until_seen(on_tunnel, b"sound") == []
        send(home.traveller, NAS, b"also sound")
        assert b"from the carrier" not in await until_seen(on_lan, b"also sound")


async def test_a_peer_brings_no_source_but_its_own(tmp_path):
    others = [{"ID": 9, "Key": "nodekey:" + "09" * 32, "Addresses": ["100.64.3.9/32", "fd7a:115c:a1e0::3:9/128"]}]
    async with home_network(tmp_path, TwoSites) as home:
        await home.apply_board(
            [allow(LAN, LAN6, sources=("*",))], accept_routes=True, lan_to_mesh=True, snat=False, peers=others
        )
        on_tunnel, on_lan = home.board.sniffer(home.board_interface), home.nas.sniffer("eth0")
        for source in ("100.64.3.9", BOARD, NAS, "192.168.1.77", ROUTER_LAN, "10.21.0.1", "203.0.113.9"):
            forge(home.traveller, home.traveller_interface, source, NAS)
        for source in ("fd7a:115c:a1e0::3:9", BOARD6, NAS6, "fd00:1::77", "fd00:21::1", "2001:db8::1"):
            forge(home.traveller, home.traveller_interface, source, NAS6)
        for target in (NAS, NAS6):
            send(home.traveller, target, b"sound " + target.encode())
        assert await until_seen(on_lan, b"sound " + NAS.encode()) == []
        assert await until_seen(on_tunnel, b"sound " + NAS6.encode()) == [b"sound " + NAS.encode()]
        # its own network is its own
        forge(home.traveller, home.traveller_interface, PRINTER, NAS, b"from my network")
        assert b"forged" not in await until_seen(on_lan, b"from my network")
