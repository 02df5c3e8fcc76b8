"""The data plane against a real kernel: two WireGuards, one relay, a LAN, a carrier; see home_network."""

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import GRE

from linux.home_network import (
    BOARD,
    BOARD6,
    CARRIER,
    LAN,
    LAN6,
    NAS,
    NAS6,
    PUBLISHED,
    PUBLISHED6,
    ROUTER_LAN,
    TRAVELLER,
    TRAVELLER6,
    Listener,
    allow,
    call,
    home_network,
)
from wayhome.images import micropython
from wayhome.lab.daemon_command import wayhomed_words
from wayhomed.linux.dataplane import Settings
from wayhomed.linux.errors import DataPlaneError
from wayhomed.wire import keys

pytestmark = [pytest.mark.lab, pytest.mark.both_pythons]
NAS_PUBLISHED = {"Name": "nas", "Address4": PUBLISHED, "Target4": NAS}


async def refused(home, ip, port):
    """Try to connect; the packets must be counted as closed, not lost elsewhere."""
    before = await home.dropped("closed")
    attempt = asyncio.create_task(call(home.traveller, ip, port))
    await home.rises("closed", before)
    assert not attempt.done()
    attempt.cancel()
    await asyncio.gather(attempt, return_exceptions=True)


async def test_nothing_is_open_until_the_filter_says_so(tmp_path):
    async with home_network(tmp_path) as home, Listener(home.nas, NAS, 80), Listener(home.board, BOARD, 2222):
        for ip, port in ((NAS, 80), (BOARD, 2222), (BOARD6, 2222), (ROUTER_LAN, 2222)):
            await refused(home, ip, port)


async def test_the_nas_sees_the_boards_lan_address(tmp_path):
    async with home_network(tmp_path) as home, Listener(home.nas, NAS, 80) as nas, Listener(home.nas, NAS6, 80) as nas6:
        await home.apply_board([allow(LAN, LAN6)])
        (await call(home.traveller, NAS, 80)).close()
        (await call(home.traveller, NAS6, 80)).close()
        assert nas.callers == [ROUTER_LAN]
        assert nas6.callers == ["fd00:1::2"]


async def test_without_snat_the_nas_sees_the_traveller(tmp_path):
    async with home_network(tmp_path) as home, Listener(home.nas, NAS, 80) as nas:
        home.nas.ip("route", "add", "100.64.0.0/10", "via", ROUTER_LAN)
        await home.apply_board([allow(LAN)], snat=False)
        (await call(home.traveller, NAS, 80)).close()
        assert nas.callers == [TRAVELLER]


async def test_only_the_ports_of_a_rule_are_open(tmp_path):
    async with home_network(tmp_path) as home, Listener(home.nas, NAS, 80), Listener(home.nas, NAS, 91):
        await home.apply_board([allow(LAN, ports={"First": 80, "Last": 90})])
        (await call(home.traveller, NAS, 80)).close()
        await refused(home, NAS, 91)


async def test_the_routers_own_services_stay_closed_when_its_lan_is_opened(tmp_path):
    async with home_network(tmp_path) as home, Listener(home.board, "0.0.0.0", 2222):
        await home.apply_board([allow(LAN, LAN6)])
        await refused(home, ROUTER_LAN, 2222)
        await refused(home, BOARD, 2222)


async def test_the_routers_own_services_open_where_the_filter_names_its_address(tmp_path):
    async with home_network(tmp_path) as home, Listener(home.board, "0.0.0.0", 2222):
        await home.apply_board([allow(BOARD, ports={"First": 2222, "Last": 2222})])
        (await call(home.traveller, BOARD, 2222)).close()
        await refused(home, ROUTER_LAN, 2222)
        await home.apply_board([allow(ROUTER_LAN)])
        (await call(home.traveller, ROUTER_LAN, 2222)).close()
        await refused(home, BOARD, 2222)


async def test_a_published_device_is_reached_by_its_mesh_address_on_its_ports_alone(tmp_path):
    published = [{**NAS_PUBLISHED, "Ports": ["tcp:80", "udp:5000-5010"]}]
    async with home_network(tmp_path) as home, Listener(home.nas, NAS, 80) as nas, Listener(home.nas, NAS, 81):
        await home.apply_board([allow(PUBLISHED)], published=published, advertise_routes=[])
        (await call(home.traveller, PUBLISHED, 80)).close()
        assert nas.callers == [ROUTER_LAN]
        await refused(home, PUBLISHED, 81)
        await refused(home, NAS, 80)  # the policy opened the published address, not what is behind it


async def test_an_icmp_error_about_a_published_device_bears_its_mesh_address(tmp_path):
    async with home_network(tmp_path) as home:
        await home.apply_board([allow(PUBLISHED)], published=[NAS_PUBLISHED], advertise_routes=[])
        sniffer = home.traveller.sniffer(home.traveller_interface)
        asking = home.traveller.open(socket.SOCK_DGRAM)
        asking.connect((PUBLISHED, 9))
        asking.send(b"anybody?")
        # The kernel matches the error to this socket by the addresses in it: both translations have to be right.
        with pytest.raises(ConnectionRefusedError):
            async with asyncio.timeout(60):
                await asyncio.get_running_loop().sock_recv(asking, 100)
        error = await first(sniffer, lambda packet: ICMP in packet)
        assert error[IP].src == PUBLISHED and error[ICMP].type == 3
        assert error[ICMP].payload.dst == PUBLISHED and error[ICMP].payload.src == TRAVELLER


async def test_an_unpublished_device_is_closed_even_to_connections_that_stand(tmp_path):
    async with home_network(tmp_path) as home, Listener(home.nas, NAS, 80) as nas:
        await home.apply_board([allow(PUBLISHED)], published=[NAS_PUBLISHED])
        connection = await call(home.traveller, PUBLISHED, 80)
        await home.apply_board([])
        before = await home.dropped("closed")
        connection.send(b"still there?")
        await home.rises("closed", before)
        # and the other way: what the NAS has left to say goes nowhere
        before = await home.dropped("unsolicited")
        nas.writers[0].write(b"a secret\n")
        await home.rises("unsolicited", before)
        connection.close()


async def test_a_published_device_has_ipv6_too_and_answers_pings(tmp_path):
    device = {**NAS_PUBLISHED, "Address6": PUBLISHED6, "Target6": NAS6, "Ports": ["tcp:80"]}
    async with home_network(tmp_path) as home, Listener(home.nas, NAS6, 80) as nas:
        await home.apply_board([allow(PUBLISHED, PUBLISHED6)], published=[device], advertise_routes=[])
        (await call(home.traveller, PUBLISHED6, 80)).close()
        assert nas.callers == ["fd00:1::2"]
        for ip in (PUBLISHED, PUBLISHED6):
            # in a thread: the relay is a task of this loop
            assert "1 received" in await asyncio.to_thread(home.traveller.run, "ping", "-c", "1", "-W", "5", ip)


async def test_fragments_extension_headers_and_odd_protocols_open_nothing(tmp_path):
    async with home_network(tmp_path) as home:
        await home.apply_board([allow(LAN, LAN6, ports={"First": 80, "Last": 80})])
        on_lan = home.nas.sniffer("eth0")
        raw4 = home.traveller.open(socket.SOCK_RAW, protocol=socket.IPPROTO_RAW)
        raw6 = home.traveller.open(socket.SOCK_RAW, socket.AF_INET6, socket.IPPROTO_RAW)
        datagram = IP(src=TRAVELLER, dst=NAS, id=7) / UDP(sport=5, dport=22) / bytes(600)
        tries = [[IP(bytes(part)) for part in fragment(IP(bytes(datagram)), 256)]]  # ports in the first piece alone
        tries.append([IP(src=TRAVELLER, dst=NAS) / GRE() / b"x"])
        tries.append([IP(src=TRAVELLER, dst=NAS) / ICMP(type=13)])  # timestamp request: only echo is ping
        tries.append([IP(src=TRAVELLER, dst=NAS) / TCP(sport=5, dport=80, flags="A")])
        inner6 = IPv6(src=TRAVELLER6, dst=NAS6)
        tries.append([inner6 / IPv6ExtHdrDestOpt() / UDP(sport=5, dport=22) / b"x"])
        for packets in tries:
            before = await home.dropped("closed")
            for packet in packets:
                raw = raw6 if packet.version == 6 else raw4
                raw.sendto(bytes(packet), (packet.dst, 0))
            if TCP in packets[0]:
                continue  # an acknowledgement out of nowhere: conntrack may pick it up, as the rule opens its port
            await home.rises("closed", before)
        for packet in waiting(on_lan):
            assert packet.dst != NAS or TCP in packet


async def test_strict_reverse_path_filtering_breaks_nothing(tmp_path):
    async with home_network(tmp_path) as home, Listener(home.nas, NAS, 80):
        for interface in ("all", "default", "lan0", "wan0", home.board_interface):
            home.board.write(f"net/ipv4/conf/{interface}/rp_filter", "1")
        await home.apply_board([allow(LAN, PUBLISHED)], published=[NAS_PUBLISHED])
        (await call(home.traveller, NAS, 80)).close()
        (await call(home.traveller, PUBLISHED, 80)).close()


async def test_a_marked_socket_gets_its_answers_by_the_uplink_even_under_a_route_of_the_mesh(tmp_path):
    async with home_network(tmp_path) as home:
        for interface in ("all", "wan0"):
            home.board.write(f"net/ipv4/conf/{interface}/rp_filter", "1")
        # as if a direct peer's own address lay in a subnet that we accept from another
        home.board.ip("route", "add", "203.0.113.0/24", "dev", home.board_interface, "table", "52")
        async with Listener(home.carrier, "203.0.113.9", 443):
            (await call(home.board, "203.0.113.9", 443, mark=0x80000)).close()


async def test_mss_is_clamped_both_ways_and_never_raised(tmp_path):
    async with home_network(tmp_path) as home, Listener(home.nas, NAS, 80):
        await home.apply_board([allow(LAN)])
        home.traveller.ip("link", "set", home.traveller_interface, "mtu", "1420")  # announces 1380
        on_lan, on_tunnel = home.nas.sniffer("eth0"), home.traveller.sniffer(home.traveller_interface)
        (await call(home.traveller, NAS, 80)).close()
        assert mss(await first(on_lan, is_syn)) == 1240
        assert mss(await first(on_tunnel, is_syn_ack)) == 1240
        on_lan.close()
        on_lan = home.nas.sniffer("eth0")
        (await call(home.traveller, NAS, 80, mss=500)).close()
        assert mss(await first(on_lan, is_syn)) == 500


async def test_a_lan_device_can_neither_forge_mesh_addresses_nor_call_into_the_mesh(tmp_path):
    async with home_network(tmp_path) as home:
        await home.apply_board([allow(LAN)])
        reached = home.board.open(socket.SOCK_DGRAM)
        reached.bind(("0.0.0.0", 2222))
        on_tunnel = home.board.sniffer(home.board_interface)
        forger = home.nas.open(socket.SOCK_RAW, protocol=socket.IPPROTO_RAW)
        for source, target in ((TRAVELLER, ROUTER_LAN), (BOARD, ROUTER_LAN)):
            before = await home.dropped("forged")
            forger.sendto(bytes(IP(src=source, dst=target) / UDP(sport=5, dport=2222) / b"x"), (target, 0))
            await home.rises("forged", before)
        home.nas.ip("route", "add", "100.64.0.0/10", "via", ROUTER_LAN)
        asking = home.nas.open(socket.SOCK_DGRAM)
        before = await home.dropped("forged")
        asking.sendto(b"x", (BOARD, 2222))  # the board's mesh address is for the mesh
        await home.rises("forged", before)
        before = await home.dropped("unsolicited")
        asking.sendto(b"x", (TRAVELLER, 9))
        await home.rises("unsolicited", before)
        assert not [packet for packet in waiting(on_tunnel) if packet.dst == TRAVELLER]
        with pytest.raises(BlockingIOError):
            reached.recv(100)


async def test_what_comes_out_of_the_tunnel_with_a_strange_source_is_counted(tmp_path):
    async with home_network(tmp_path) as home:
        wanted = home.board_plan([allow(LAN)])
        wanted.firewall.allowed = type(wanted.firewall.allowed)()  # as if WireGuard had let somebody else's through
        with home.board.inside():
            await home.board_plane.apply(wanted)
        before = await home.dropped("bad_source")
        home.traveller.open(socket.SOCK_DGRAM).sendto(b"x", (NAS, 9))
        await home.rises("bad_source", before)


async def test_a_carrier_that_gives_mesh_addresses_keeps_working(tmp_path):
    async with (
        home_network(tmp_path) as home,
        Listener(home.carrier, CARRIER, 53),
        Listener(home.carrier, "100.64.77.77", 53),
    ):
        peers = [
            {"ID": 10 + i, "Name": f"p{i}.example.", "Key": "nodekey:" + bytes([i + 1] * 32).hex(), "Addresses": [ip]}
            for i, ip in enumerate((CARRIER + "/32", "100.64.8.2/32", "100.64.8.99/32", "100.64.200.9/32"))
        ]
        wanted = await home.apply_board([allow(LAN)], peers=peers)
        # gateway, a server of the carrier behind it, a stranger beyond: all by the uplink
        for ip in (CARRIER, "100.64.77.77"):
            (await call(home.board, ip, 53)).close()
        reasons = {node: reason for _prefix, node, reason in wanted.refused}
        assert sorted(reasons) == ["p0", "p1"]
        assert "gateway" in reasons["p0"] and "address of this machine" in reasons["p1"]
        routes = home.board.run("ip", "route", "show", "table", "52").split()
        assert {"100.64.8.99", "100.64.200.9", TRAVELLER} <= set(routes)
        assert CARRIER not in routes and "100.64.8.2" not in routes
        # a marked socket, as the daemon's own are, goes by the uplink even where the mesh has the address
        marked = home.board.run("ip", "route", "get", "100.64.200.9", "mark", "0x80000")
        assert "wan0" in marked
        before = await home.dropped("forged")
        home.carrier.open(socket.SOCK_DGRAM).sendto(b"x", ("100.64.8.2", 9))
        assert await home.dropped("forged") == before


async def test_stop_leaves_the_machine_as_it_was(tmp_path):
    async with home_network(tmp_path) as home:
        await home.stop()
        home.board.run("nft", "add table inet foreign; add chain inet foreign c { type filter hook input priority 0; }")
        home.board.write("net/ipv6/conf/wan0/accept_ra", "1")
        home.board.write("net/ipv4/conf/lan0/forwarding", "1")
        before = home.board.state()
        await home.start()
        await home.apply_board([allow(LAN)], published=[NAS_PUBLISHED])
        during = home.board.state()
        assert home.board.read("net/ipv4/ip_forward") == home.board.read("net/ipv6/conf/all/forwarding") == "1"
        assert home.board.read("net/ipv6/conf/wan0/accept_ra") == "2"
        assert "foreign" in during["nftables"] and "inet wayhome" in during["nftables"]
        await home.stop()
        after = home.board.state()
        assert after == before
        await home.start()
        await home.apply_board([])


async def test_forwarding_is_switched_off_again_when_nothing_needs_it(tmp_path):
    async with home_network(tmp_path) as home:
        await home.apply_board([], advertise_routes=[])
        before = home.board.state()["settings"]
        assert home.board.read("net/ipv4/ip_forward") == "0"
        await home.apply_board([])
        assert home.board.read("net/ipv4/ip_forward") == "1"
        await home.apply_board([], advertise_routes=[])
        assert home.board.state()["settings"] == before


async def test_a_machine_that_did_not_forward_does_not_become_a_router_for_others(tmp_path):
    async with home_network(tmp_path) as home:
        await home.apply_board([allow(LAN)])
        home.nas.ip("route", "add", "default", "via", ROUTER_LAN)
        on_wan = home.carrier.sniffer("eth0")
        before = await home.dropped("contained")
        home.nas.open(socket.SOCK_DGRAM).sendto(b"x", ("203.0.113.9", 9))
        await home.rises("contained", before)
        assert not [packet for packet in waiting(on_wan) if packet.dst == "203.0.113.9"]


async def test_a_machine_that_forwarded_before_goes_on_forwarding(tmp_path):
    async with home_network(tmp_path) as home:
        await home.stop()
        home.board.write("net/ipv4/ip_forward", "1")
        await home.start()
        await home.apply_board([allow(LAN)])
        home.nas.ip("route", "add", "default", "via", ROUTER_LAN)
        sniffer = home.carrier.sniffer("eth0")
        home.nas.open(socket.SOCK_DGRAM).sendto(b"through", ("203.0.113.9", 9))
        passed = await first(sniffer, lambda packet: UDP in packet and packet[IP].dst == "203.0.113.9")
        assert passed[IP].src == NAS  # not hidden: it did not come out of the tunnel


KILLED = """
import asyncio, os, sys
from wayhomed.core.dataplane import Plan
from wayhomed.linux.dataplane import DataPlane, Settings
async def main():
    plane = DataPlane(Settings(sys.argv[1], sys.argv[2]))
    await plane.start(bytes(range(32)))
    plan = Plan()
    plan.forwarding = True
    plan.addresses = [bytes((100, 64, 0, 1))]
    await plane.apply(plan)
    plane.hold({(bytes((198, 51, 100, 20)), 41641): bytes(32)})
    print("up")
    await asyncio.sleep(1000)
asyncio.run(main())
"""


def python_of(home) -> list[str]:
    """Return the words that start the Python which the home's data plane runs on."""
    if home.place.runtime == "cpython":
        return [sys.executable]
    return micropython.command(micropython.fetch(Path(__file__).parents[2] / "build"))


def kill_a_daemon(home, tmp_path) -> None:
    """Have another process set the tunnel up, and kill it."""
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    firmware = str(Path(__file__).parents[2] / "firmware")
    with home.board.inside():
        daemon = subprocess.Popen(
            [*python_of(home), str(script), str(tmp_path / "board-undo"), home.board_interface],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": firmware, "MICROPYPATH": firmware + ":.frozen", "PYTHONUNBUFFERED": "1"},
        )
    assert daemon.stdout.readline() == b"up\n"
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    daemon.stdout.close()
    left = home.board.state()
    assert home.board_interface in left["links"] and "inet wayhome" in left["nftables"]


async def test_what_a_killed_daemon_left_is_cleaned_up_by_the_next(tmp_path):
    async with home_network(tmp_path) as home:
        await home.stop()
        before = home.board.state()
        kill_a_daemon(home, tmp_path)
        await home.start()
        await home.apply_board([allow(LAN)])
        async with Listener(home.nas, NAS, 80):
            (await call(home.traveller, NAS, 80)).close()
        await home.stop()
        after = home.board.state()
        assert after == before
        await home.start()
        await home.apply_board([])


async def test_a_start_that_fails_early_leaves_nothing_changed_for_ever(tmp_path):
    async with home_network(tmp_path) as home:
        await home.stop()
        before = home.board.state()
        kill_a_daemon(home, tmp_path)
        # stops us before we come to the settings that the killed one changed
        home.board.ip("route", "add", "198.18.0.1", "dev", "lo", "table", "52")
        with home.board.inside(), pytest.raises(DataPlaneError, match="another mesh client"):
            await home.board_plane.start(home.board_key)
        home.board.ip("route", "del", "198.18.0.1", "dev", "lo", "table", "52")
        await home.start()
        await home.stop()
        assert home.board.state() == before
        await home.start()
        await home.apply_board([])


async def test_what_a_killed_daemon_left_is_cleaned_up_by_one_that_is_not_to_start(tmp_path):
    async with home_network(tmp_path) as home:
        await home.stop()
        before = home.board.state()
        kill_a_daemon(home, tmp_path)
        with home.board.inside():
            await home.board_plane.clean_up()
        assert home.board.state() == before
        # Rules of the same numbers without our filter are another client's.
        home.board.ip("rule", "add", "pref", "5270", "lookup", "52")
        others = home.board.state()
        with home.board.inside():
            await home.board_plane.clean_up()
        assert home.board.state() == others
        home.board.ip("rule", "del", "pref", "5270")
        await home.start()
        await home.apply_board([])


async def test_a_state_directory_that_can_not_be_written_keeps_nobody_out(tmp_path):
    async with home_network(tmp_path) as home:
        await home.stop()
        before = home.board.state()
        home.board_plane = home.make_board_plane(Settings("/dev/full/undo", home.board_interface))
        await home.start()
        await home.apply_board([allow(LAN)])
        async with Listener(home.nas, NAS, 80):
            (await call(home.traveller, NAS, 80)).close()
        with home.board.inside():
            problems = (await home.board_plane.status())["problems"]
        assert len(problems) == 1 and "/dev/full/undo can't be written" in problems[0], problems
        await home.stop()
        assert home.board.state() == before
        await home.start()
        await home.apply_board([])


async def test_applying_the_same_plan_again_changes_nothing(tmp_path):
    async with home_network(tmp_path) as home:
        await home.apply_board([allow(LAN)], published=[NAS_PUBLISHED])
        before = home.board.run("nft", "-a", "list", "ruleset")
        with home.board.inside():
            watched = asyncio.create_task(home.board_plane.changed())
            await asyncio.sleep(0)
        await home.apply_board([allow(LAN)], published=[NAS_PUBLISHED])
        await asyncio.sleep(0)
        assert not watched.done()
        assert home.board.run("nft", "-a", "list", "ruleset") == before
        home.board.ip("address", "add", "192.168.9.1/24", "dev", "lan0")
        await asyncio.wait_for(watched, 60)


async def test_policy_rules_and_routes_that_somebody_deleted_come_back(tmp_path):
    async with home_network(tmp_path) as home:
        before = home.board.state()
        home.board.ip("rule", "del", "pref", "5270")
        home.board.ip("route", "flush", "table", "52")
        await home.apply_board([])
        assert home.board.state() == before


async def test_500_peers_come_move_and_go(tmp_path):
    def peers(shift):
        return [
            {
                "ID": 100 + i,
                "Key": "nodekey:" + bytes([7, i >> 8, i & 255] + [1] * 29).hex(),
                "Addresses": [f"100.65.{(i + shift) % 500 >> 8}.{(i + shift) % 500 & 255}/32"],
            }
            for i in range(500)
        ]

    async with home_network(tmp_path) as home:
        for shift in (0, 1):
            await home.apply_board([allow(LAN)], peers=peers(shift))
            with home.board.inside():
                status = await home.board_plane.status()
            assert len(status["peers"]) == 501
            assert status["peers"][bytes([7, 0, 9] + [1] * 29)]["allowed_ips"] == [f"100.65.0.{9 + shift}/32"]
            assert sum(len(peer["allowed_ips"]) for peer in status["peers"].values()) == 502
        assert len(home.board.run("ip", "route", "show", "table", "52").splitlines()) == 501
        await home.apply_board([allow(LAN)])
        with home.board.inside():
            assert len((await home.board_plane.status())["peers"]) == 1
        async with Listener(home.nas, NAS, 80):
            (await call(home.traveller, NAS, 80)).close()


async def test_a_prefix_moves_from_one_peer_to_another_in_one_step(tmp_path):
    def peer(node_id, *prefixes):
        key = "nodekey:" + bytes([node_id] * 32).hex()
        return {"ID": node_id, "Key": key, "Addresses": [f"100.64.3.{node_id}/32"], "AllowedIPs": list(prefixes)}

    async with home_network(tmp_path) as home:
        for owner in (8, 9, 8):
            given = {8: ["100.64.3.8/32"], 9: ["100.64.3.9/32"]}
            given[owner].append("100.64.3.77/32")
            await home.apply_board([], peers=[peer(8, *given[8]), peer(9, *given[9])])
            with home.board.inside():
                status = await home.board_plane.status()
            for node_id, prefixes in given.items():
                assert sorted(status["peers"][bytes([node_id] * 32)]["allowed_ips"]) == sorted(prefixes)


async def test_relaying_makes_no_icmp_noise_on_loopback(tmp_path):
    async with home_network(tmp_path) as home:
        sniffer = home.board.sniffer("lo")
        home.held_back = True
        home.board.open(socket.SOCK_DGRAM).sendto(b"x", (TRAVELLER, 9))  # makes a handshake that nobody answers
        seen = await first(sniffer, lambda packet: UDP in packet and packet[UDP].dport == 41642)
        assert seen[IP].src == "127.0.0.1" and seen[IP].dst.startswith("127.64.")
        stranger = home.board.open(socket.SOCK_DGRAM)
        stranger.bind(("127.0.0.1", 0))
        stranger.sendto(struct.pack("<I", 4) + bytes(28), (seen[IP].dst, 41642))
        await first(sniffer, lambda packet: UDP in packet and packet[UDP].sport == stranger.getsockname()[1])
        for packet in waiting(sniffer):
            assert ICMP not in packet
        async with asyncio.timeout(10):
            while not home.read:
                await asyncio.sleep(0.01)
        await home.board_plane.status()  # by now it has read what came before
        assert not [datagram for datagram in home.read if datagram[:1] == b"\x04"]


async def test_the_daemon_hears_when_wireguard_dies(tmp_path):
    async with home_network(tmp_path) as home:
        ended = asyncio.create_task(home.board_plane.ended())
        await asyncio.sleep(0)
        if home.board_plane.outlives:
            home.board.ip("link", "delete", home.board_interface)
        wanted = ["wireguard-go", "-f", home.board_interface]
        for child in psutil.Process().children(recursive=True):
            if child.status() != psutil.STATUS_ZOMBIE and child.cmdline() == wanted:
                child.kill()
        why = await asyncio.wait_for(ended, 60)
        assert "wireguard-go ended" in why or "somebody deleted or renamed the interface whb" in why


async def test_a_taken_port_and_a_foreign_mesh_client_are_told_apart(tmp_path):
    async with home_network(tmp_path) as home:
        await home.stop()
        holder = home.board.open(socket.SOCK_DGRAM)
        holder.bind(("0.0.0.0", 41641))
        with home.board.inside(), pytest.raises(DataPlaneError, match="port 41641 is taken"):
            await home.board_plane.start(home.board_key)
        holder.close()
        home.board.ip("route", "add", "100.64.5.5/32", "dev", "wan0", "table", "52")
        with home.board.inside(), pytest.raises(DataPlaneError, match="another mesh client"):
            await home.board_plane.start(home.board_key)
        home.board.ip("route", "flush", "table", "52")
        await home.start()
        await home.apply_board([])


async def test_a_start_that_is_broken_off_leaves_no_child_and_no_rule(tmp_path):
    program, started = tmp_path / "never-answers", tmp_path / "pid"
    program.write_text(f"#!/bin/sh\necho $$ >{started}.new; mv {started}.new {started}\nexec sleep 1000\n")
    program.chmod(0o755)
    async with home_network(tmp_path) as home:
        await home.stop()
        before = home.board.state()
        with home.board.inside():
            settings = Settings(str(tmp_path / "undo"), "whnone", wireguard_go=str(program), wireguard="userspace")
            plane = home.make_board_plane(settings)
            start = asyncio.create_task(plane.start(keys.new_private(bytes(32))))
            while not started.exists():
                await asyncio.sleep(0.01)
            start.cancel()
            with pytest.raises(asyncio.CancelledError):
                await start
        assert not psutil.pid_exists(int(started.read_text()))
        assert home.board.state() == before
        await home.start()
        await home.apply_board([])


async def test_a_missing_wireguard_go_is_told_with_its_package(tmp_path):
    settings = Settings(str(tmp_path / "undo"), "whnone", wireguard_go="no-such-program", wireguard="userspace")
    async with home_network(tmp_path) as home:
        missing = home.make_board_plane(settings)
        await home.stop()
        with home.board.inside(), pytest.raises(DataPlaneError, match="install the package wireguard-go"):
            await missing.start(keys.new_private(bytes(32)))
        assert "wayhome" not in home.board.run("nft", "list", "ruleset")
        await home.start()
        await home.apply_board([])


@pytest.mark.parametrize("kept", ["-net_admin", "-net_raw"])
def test_without_one_of_its_two_rights_wayhomed_says_so_at_once(tmp_path, place, kept):
    words = ["setpriv", "--bounding-set", kept, "--inh-caps", kept, *wayhomed_words(place.runtime)]
    words += ["--state", str(tmp_path), "--socket", f"{tmp_path}/socket"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr == ("wayhomed: error: not allowed: wayhomed needs root, or CAP_NET_ADMIN and CAP_NET_RAW\n"), (
        done.stderr
    )


def waiting(sniffer):
    """Return the packets that a sniffer has seen so far."""
    seen = []
    while True:
        try:
            seen.append(IP(sniffer.recv(65536)))
        except BlockingIOError:
            return seen


async def first(sniffer, wanted):
    """Return the first packet that a sniffer sees and that is wanted."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        while True:
            data = await loop.sock_recv(sniffer, 65536)
            if data and data[0] >> 4 == 4:
                packet = IP(data)
                if wanted(packet):
                    return packet


def is_syn(packet):
    return TCP in packet and packet[TCP].flags == "S"


def is_syn_ack(packet):
    return TCP in packet and packet[TCP].flags == "SA"


def mss(packet):
    return dict(packet[TCP].options)["MSS"]
