"""What the data plane offers for direct paths, each of its methods by itself; wireguard.md's traps stand beside."""

import asyncio
import socket

import pytest

from linux.direct_network import BOARD_AT, BOARD_MOVED, PORT, TRAVELLER_AT, DirectHome, Echo, until, until_answer
from linux.home_network import LAN, NAS, TRAVELLER, Listener, allow, call, home_network
from linux.test_dataplane_lab_cpython import kill_a_daemon
from wayhomed.linux.errors import DataPlaneError
from wayhomed.wire import wireguard
from wayhomed.wire.address import ip_from_text, ip_text

pytestmark = [pytest.mark.lab, pytest.mark.both_pythons]
FAMILIES = pytest.mark.parametrize("family", [4, 6])
DATA = b"\x04\0\0\0" + bytes(44)
DISCO = b"TS\xf0\x9f\x92\xac" + bytes(80)
FIREWALL = (
    "add table inet firewall; add chain inet firewall in { type filter hook input priority %s; policy drop; }; "
    'add rule inet firewall in iifname { "lo", "%s" } accept; add rule inet firewall in icmpv6 type 135-136 accept; '
    "add rule inet firewall in %s accept"
)


def held_sets(home) -> str:
    return "".join(home.board.run("nft", "list", "set", "inet", "wayhome", name) for name in ("held4", "held6"))


@FAMILIES
@pytest.mark.parametrize("priority", ["0", "10"])  # a plain one's, and firewalld's
@pytest.mark.parametrize("opens", ["ct state established,related", f"udp dport {PORT}"])
async def test_held_packets_pass_a_firewall_that_lets_in_what_wireguard_may_have(tmp_path, family, priority, opens):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await echo.all_return(1)
        home.board.run("nft", FIREWALL % (priority, home.board_interface, opens))
        # as the path's pings do; in a firewall that knows connections they open the way
        home.board_plane.shared_port.send(TRAVELLER_AT[family], DISCO)
        home.board_holds(family)
        home.traveller_holds(family)
        home.by_both = BOARD_AT[family]
        await echo.all_return(50)
        await until_answer(home.held, lambda count: count >= 50)


async def test_a_router_diverts_only_what_is_for_itself(tmp_path):
    async with home_network(tmp_path, DirectHome) as home:
        await home.stop()
        home.board.write("net/ipv4/ip_forward", "1")
        home.nas.ip("route", "add", "default", "via", "192.168.1.2")
        home.carrier.ip("route", "add", LAN, "via", "100.64.8.2")
        await home.start()
        await home.apply_board([])
        home.board_holds(4)
        mine = home.nas.open(socket.SOCK_DGRAM)
        mine.bind((NAS, PORT))
        # routed to a machine of the LAN that speaks WireGuard itself, with the same peer
        home.traveller_plane.shared_port.send((ip_from_text(NAS), PORT), DATA)
        assert await received(mine) == (DATA, ("198.51.100.20", PORT))
        # the same behind this router's own NAT: of our address and port, but not ours
        home.board.run(
            "nft",
            "add table ip lan; add chain ip lan c { type nat hook postrouting priority srcnat; }; "
            'add rule ip lan c oifname "wan0" ip saddr 192.168.1.0/24 masquerade',
        )
        home.board.run("conntrack", "-F")
        witness = home.traveller.sniffer("eth0")
        mine.sendto(DATA, ("198.51.100.20", PORT))
        await until(lambda: sent_from(witness, "100.64.8.2"))
        home.traveller_plane.shared_port.send((ip_from_text("100.64.8.2"), PORT), DATA + b"answer")
        assert await received(mine) == (DATA + b"answer", ("198.51.100.20", PORT))
        assert await home.held() == 0


def sent_from(sniffer, source: str) -> bool:
    try:
        packet = sniffer.recv(4096)
    except BlockingIOError:
        return False
    return packet[0] >> 4 == 4 and packet[12:16] == ip_from_text(source) and packet[20:22] == PORT.to_bytes(2, "big")


async def received(opened) -> tuple:
    async with asyncio.timeout(60):
        return await asyncio.get_running_loop().sock_recvfrom(opened, 4096)


@FAMILIES
async def test_disco_from_a_held_endpoint_still_arrives_and_only_wireguards_kinds_are_diverted(tmp_path, family):
    async with home_network(tmp_path, DirectHome) as home:
        home.board_holds(family)
        for datagram in (b"\x05\0\0\0" + bytes(44), b"\x04\0\0\1" + bytes(44), DATA, DISCO):
            home.traveller_plane.shared_port.send(BOARD_AT[family], datagram)
        async with asyncio.timeout(60):
            assert await home.board_plane.shared_port.receive() == (TRAVELLER_AT[family], DISCO)
        await until_answer(home.held, lambda count: count > 0)
        assert await home.held() == 1


@FAMILIES
async def test_what_is_let_go_reaches_wireguard_itself(tmp_path, family):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await echo.all_return(1)
        home.traveller_holds(family)
        home.by_both = BOARD_AT[family]
        home.board_holds(family)
        await echo.all_return(20)
        assert await home.endpoint() is None
        home.board_holds()
        home.traveller_holds()
        home.by_both = None
        await home.traveller_path(BOARD_AT[family])
        numbers = await echo.send(20)
        await until(lambda: numbers <= echo.answered)
        assert await home.endpoint() == TRAVELLER_AT[family]


async def test_held_endpoints_are_changed_one_by_one_and_outlive_new_rules(tmp_path):
    async with home_network(tmp_path, DirectHome) as home:
        many = {(bytes((203, 0, number >> 8, number & 255)), 1000 + number): b"k" * 32 for number in range(1000)}
        many.update({(bytes(14) + number.to_bytes(2, "big"), 7): b"k" * 32 for number in range(5)})
        with home.board.inside():
            home.board_plane.hold(many)
        listed = held_sets(home)
        assert listed.count(" . ") >= 1005 and "203.0.3.231 . 1999" in listed and "::4 . 7" in listed
        await home.apply_board([allow(LAN)])
        assert held_sets(home) == listed
        del many[(bytes((203, 0, 3, 231)), 1999)]
        del many[(bytes(14) + b"\0\4", 7)]
        many[TRAVELLER_AT[6]] = home.traveller_public
        with home.board.inside():
            home.board_plane.hold(many)
        listed = held_sets(home)
        assert "203.0.3.231 . 1999" not in listed and "::4 . 7" not in listed and "203.0.3.230 . 1998" in listed
        assert "2001:db8:3::20 . 41641" in listed
        with home.board.inside():
            home.board_plane.hold({})
        assert " . 7" not in held_sets(home) and "203.0" not in held_sets(home)


async def test_a_table_that_somebody_deleted_is_back_with_the_next_held_endpoint(tmp_path):
    async with home_network(tmp_path, DirectHome) as home, Listener(home.nas, NAS, 80):
        await home.apply_board([allow(LAN)])
        home.board_holds(4)
        home.board.run("nft", "flush ruleset")
        home.board_holds(4, 6)
        assert "198.51.100.20 . 41641" in held_sets(home) and "2001:db8:3::20 . 41641" in held_sets(home)
        (await call(home.traveller, NAS, 80)).close()
        # emptied sets alone
        home.board.run("nft", "flush set inet wayhome held4; flush set inet wayhome held6")
        home.board_holds(6)
        assert "198.51.100.20" not in held_sets(home) and "2001:db8:3::20 . 41641" in held_sets(home)


async def test_the_machine_is_as_it_was_after_direct_paths_and_held_endpoints(tmp_path):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await home.stop()
        before = home.board.state()
        await home.start()
        await home.apply_board([])
        await home.both_direct(4)
        home.board_holds(4, 6)
        await echo.send(1)
        await home.board_plane.uplink_changed()
        await home.stop()
        assert home.board.state() == before
        assert ":4164" not in home.board.run("ss", "-ulnw")
        await home.start()
        await home.apply_board([])


async def test_what_a_killed_daemon_held_is_let_go_by_the_next(tmp_path):
    async with home_network(tmp_path, DirectHome) as home:
        await home.stop()
        before = home.board.state()
        kill_a_daemon(home, tmp_path)
        assert "198.51.100.20 . 41641" in held_sets(home)
        await home.start()
        assert "198.51.100.20" not in held_sets(home)
        await home.stop()
        assert home.board.state() == before
        await home.start()
        await home.apply_board([])


async def test_a_new_plan_leaves_direct_endpoints_alone(tmp_path):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await home.both_direct(6)
        await echo.all_return(5)
        other = {"ID": 9, "Key": "nodekey:" + "09" * 32, "Addresses": ["100.64.3.9/32"]}
        before = home.relayed
        moved = {"AllowedIPs": [TRAVELLER + "/32", "100.64.3.7/32"]}
        for peers in ([other], [], [{**other, **moved}]):
            await home.apply_board([allow(BOARD_MOVED[4], ip_text(ip_from_text("100.64.0.1")))], peers=peers)
            await echo.all_return(5)
        assert home.relayed == before
        assert await home.endpoint() == TRAVELLER_AT[6]
        # a peer that is no longer there comes back by the relay
        wanted = home.board_plan([])
        kept, wanted.peers = wanted.peers, {}
        with home.board.inside():
            await home.board_plane.apply(wanted)
            wanted.peers = kept
            await home.board_plane.apply(wanted)
        assert await home.endpoint() is None


async def test_a_way_that_is_set_before_its_peer_is_there_is_taken_with_it(tmp_path):
    async with home_network(tmp_path, DirectHome) as home:
        later = bytes([9] * 32)
        await home.board_plane.set_paths([(later, TRAVELLER_AT[4], False), (bytes(32), None, True)])
        assert later not in await home.board_plane.traffic()
        await home.apply_board([], peers=[{"ID": 9, "Key": "nodekey:" + "09" * 32, "Addresses": ["100.64.3.9/32"]}])
        assert (await home.board_plane.traffic())[later] == (0, 0, TRAVELLER_AT[4], 0)


async def test_traffic_is_counted_for_each_peer_and_says_where_wireguard_sends_to(tmp_path):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        idle = (await home.board_plane.traffic())[home.traveller_public]
        assert idle == (0, 0, None, 0)
        await echo.all_return(10)
        sent, got, endpoint, handshake_s = (await home.board_plane.traffic())[home.traveller_public]
        assert sent > 4000 < got and endpoint is None and handshake_s > 0
        await home.traveller_path(BOARD_AT[4])
        await echo.all_return(1)
        await until_answer(home.endpoint, lambda endpoint: endpoint == TRAVELLER_AT[4])  # roamed, as WireGuard does
        peer = (await home.board_plane.status())["peers"][home.traveller_public]
        assert peer["endpoint"] == "198.51.100.20:41641" and not peer["relayed"]


async def test_changes_that_come_at_once_do_not_undo_each_other(tmp_path):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await home.both_direct(4)
        await echo.all_return(1)
        plans = [home.board_plan([allow("100.64.0.1", "fd7a:115c:a1e0::1")]) for _ in range(10)]
        for number, wanted in enumerate(plans):
            wanted.peers[bytes([7, number] + [1] * 30)] = {(bytes((100, 65, 0, number)), 32)}

        async def apply_all() -> None:
            for wanted in plans:
                with home.board.inside():
                    await home.board_plane.apply(wanted)

        async def move_all() -> None:
            for number in range(30):
                await home.board_path(TRAVELLER_AT[4] if number % 2 else None, renew=number % 5 == 0)
                await home.board_plane.uplink_changed()

        await asyncio.gather(apply_all(), move_all())
        seen = await home.board_plane.traffic()
        assert len(seen) == 2 and seen[home.traveller_public][2] == TRAVELLER_AT[4]
        await echo.answer_to(TRAVELLER, 9)
        await home.traveller_path(BOARD_AT[4], renew=True)
        await echo.all_return(10)


async def test_addresses_that_others_may_try_are_those_of_running_interfaces(tmp_path):
    async with home_network(tmp_path, DirectHome) as home:
        await home.apply_board([])
        home.board.ip("address", "add", "2001:db8:1::99/64", "dev", "wan0", "nodad", "preferred_lft", "0")
        home.carrier.ip("link", "set", "eth1", "down")  # no carrier on wan1

        def found() -> list:
            return sorted(ip_text(ip) for ip in home.board_plane.own_addresses())

        wanted = ["100.64.8.2", "192.168.1.2", "2001:db8:1::2", "fd00:1::2"]
        await until(lambda: found() == wanted, lambda: str(found()))


async def test_ipv6s_port_is_looked_at_too_before_wireguard_takes_it(tmp_path):
    async with home_network(tmp_path, DirectHome) as home:
        await home.stop()
        holder = home.board.open(socket.SOCK_DGRAM, socket.AF_INET6)
        holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        holder.bind(("::", PORT))
        with home.board.inside(), pytest.raises(DataPlaneError, match="port 41641 is taken"):
            await home.board_plane.start(home.board_key)
        holder.close()
        # another port than the one we like best for what is held
        taken = home.board.open(socket.SOCK_DGRAM, socket.AF_INET6)
        taken.bind(("::1", PORT + 2))
        await home.start()
        await home.apply_board([])
        assert f"set {PORT + 3}" in home.board.run("nft", "list", "chain", "inet", "wayhome", "hold")


def test_the_four_kinds_are_wireguards():
    assert [wireguard.INITIATION, wireguard.RESPONSE, wireguard.COOKIE, wireguard.DATA] == [1, 2, 3, 4]
