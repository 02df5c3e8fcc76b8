"""Facts of the kernel's WireGuard that the data plane stands on, the rows of wireguard.md sections 3 and 3.1.

The traps that wireguard-go shares are in tests/linux/test_traps_lab_cpython.py, which runs in the guest too.
"""

import asyncio
import errno
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6

from linux.direct_network import BOARD_AT, PORT, TRAVELLER_AT, DirectHome, Echo, kind_of, packets_of, until
from linux.home_network import TRAVELLER, home_network
from wayhomed.wire.address import ip_from_text, ip_text

FAMILIES = pytest.mark.parametrize("family", [4, 6])
BY_THE_RELAY = None
NOTHING = b"\x04\0\0\0" + bytes(44)  # like data, and of no session
IP_TRANSPARENT, IPV6_TRANSPARENT = (socket.SOL_IP, 19), (socket.IPPROTO_IPV6, 75)
LOCALHOST6 = ip_from_text("::1")


@FAMILIES
@pytest.mark.parametrize("rp_filter", ["0", "1", "2"])
async def test_a_relayed_packet_of_a_direct_peer_leaves_its_way_as_it_was(tmp_path, family, rp_filter):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        for each in ("all", "lo", "wan0"):
            home.board.write(f"net/ipv4/conf/{each}/rp_filter", rp_filter)
        await home.both_direct(family)
        await echo.all_return(5)
        await home.traveller_path(BY_THE_RELAY)
        home.traveller_holds(family)  # or the board's answers would make the traveller direct again
        with home.board.inside():
            home.board_plane.inject(home.traveller_public, NOTHING)  # IPv6's socket is opened by the first
        on_road = home.traveller.sniffer("eth0")
        before = home.relayed
        await echo.all_return(50)
        answers = [each for each in packets_of(on_road) if kind_of(each) == 4 and each[UDP].dport == PORT]
        # what the traveller sent came by the relay alone, what the board answered went straight, from its real address
        assert home.relayed - before <= 60 and len(answers) >= 50
        assert {each.src for each in answers} == {ip_text(BOARD_AT[family][0])}
        assert await home.endpoint() == TRAVELLER_AT[family]


async def test_after_an_ipv6_packet_to_localhost_the_kernel_sends_from_there(tmp_path):
    """Why IPv6 is injected to the address of the outgoing route, and never to ::1."""
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await home.both_direct(6)
        await echo.all_return(5)
        datagram = await next_of_traveller(home, echo)
        on_road = home.traveller.sniffer("eth0")
        send_raw6(home.board, LOCALHOST6, datagram, checksum=True)
        heard = set(echo.heard)
        await until(lambda: heard != echo.heard)  # WireGuard took it
        await echo.answer_to(TRAVELLER, 9)
        await asyncio.sleep(0)
        home.board_plane.shared_port.send(TRAVELLER_AT[6], b"TS\xf0\x9f\x92\xac" + bytes(80))
        seen: list = []

        def disco_has_come() -> bool:
            seen.extend(packets_of(on_road))
            return any(kind_of(each) == 0 for each in seen)

        await until(disco_has_come)
        from_board = [each for each in seen if kind_of(each) == 4 and each[UDP].dport == PORT]
        assert ip_text(BOARD_AT[6][0]) not in {each.src for each in from_board}

        # Setting the endpoint, even to what it is, makes it forget.
        await home.board_plane.uplink_changed()
        await echo.answer_to(TRAVELLER, 9)

        def data_has_come() -> bool:
            return any(kind_of(each) == 4 and each.src == ip_text(BOARD_AT[6][0]) for each in packets_of(on_road))

        await until(data_has_come)


async def test_an_injected_ipv6_packet_needs_its_checksum_and_a_socket_that_is_free_to_route(tmp_path):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await home.both_direct(6)
        await echo.all_return(5)
        datagram = await next_of_traveller(home, echo)
        heard = set(echo.heard)
        send_raw6(home.board, BOARD_AT[6][0], datagram, checksum=False)
        with pytest.raises(OSError) as told:
            send_raw6(home.board, BOARD_AT[6][0], datagram, checksum=True, device=b"lo")
        assert told.value.errno == errno.ENETUNREACH
        before = udp6_checksum_errors(home)
        assert before >= 1 and heard == echo.heard
        send_raw6(home.board, BOARD_AT[6][0], datagram, checksum=True)
        await until(lambda: heard != echo.heard)


@FAMILIES
async def test_a_transparent_socket_bears_a_peers_address_but_not_with_our_own_port(tmp_path, family):
    """Why raw sockets are used: most peers have the port that WireGuard holds here."""
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await home.both_direct(family)
        await echo.all_return(5)
        datagram = await next_of_traveller(home, echo)
        ip, port = TRAVELLER_AT[family]
        with home.board.open(socket.SOCK_DGRAM, socket.AF_INET if family == 4 else socket.AF_INET6) as fake:
            fake.setsockopt(*(IP_TRANSPARENT if family == 4 else IPV6_TRANSPARENT), 1)
            with pytest.raises(OSError) as told:
                fake.bind((ip_text(ip), port))
            assert told.value.errno == errno.EADDRINUSE
            fake.bind((ip_text(ip), port + 100))
            on_road = home.traveller.sniffer("eth0")
            heard = set(echo.heard)
            fake.sendto(datagram, ("127.0.0.1" if family == 4 else ip_text(BOARD_AT[6][0]), PORT))
            await until(lambda: heard != echo.heard)
        assert await home.endpoint() == (ip, port + 100)
        seen: list = []

        def answered() -> bool:
            seen.extend(each for each in packets_of(on_road) if each[UDP].dport == port + 100)
            return bool(seen)

        await until(answered)
        assert {each.src for each in seen} == {ip_text(BOARD_AT[family][0])}


async def test_a_replayed_copy_moves_no_endpoint_and_what_is_no_wireguard_is_dropped_silently(tmp_path):
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await home.both_direct(4)
        await echo.all_return(5)
        datagram = await next_of_traveller(home, echo)
        with home.board.inside():
            assert home.board_plane.inject(home.traveller_public, datagram)
        await until(lambda: len(echo.heard) >= 6)
        elsewhere = home.traveller.open(socket.SOCK_DGRAM)
        elsewhere.bind(("198.51.100.21", 4711))
        for each in (datagram, b"\x01\0\0\0 too short", b"\x05\0\0\0" + bytes(144), b"\x04\0\0\0" + bytes(29)):
            elsewhere.sendto(each, ("100.64.8.2", PORT))
        await echo.all_return(5)
        assert await home.endpoint() == TRAVELLER_AT[4]
        with pytest.raises(BlockingIOError):
            elsewhere.recv(1)


async def test_one_event_tells_of_many_packets_to_somebody_asleep(tmp_path):
    """NFLOG on what goes to an address that is not in a set, with the set updated by the same rule."""
    async with home_network(tmp_path, DirectHome) as home, Echo(home) as echo:
        await echo.all_return(1)
        chain = "chain awake { type filter hook output priority 0; }"
        home.board.run("nft", f"add table ip facts; add {chain.replace('chain awake', 'chain ip facts awake')}")
        home.board.run("nft", "add set ip facts active { type ipv4_addr; flags dynamic,timeout; timeout 1s; }")
        match = f'oifname "{home.board_interface}" ip daddr != @active'
        home.board.run("nft", f"add rule ip facts awake {match} log group 7")
        home.board.run("nft", f"add rule ip facts awake {match} update @active {{ ip daddr }}")
        log = nflog(home.board, 7)
        for _ in range(60):
            await echo.answer_to(TRAVELLER, 9)
        assert events(log) == 1
        await asyncio.sleep(1.5)  # the kernel's own timer: there is no other clock to turn
        await echo.answer_to(TRAVELLER, 9)
        assert events(log) == 1


def test_an_ordinary_user_with_two_rights_may_do_all_but_set_clocks_and_take_low_ports(tmp_path):
    assert Path("/dev/rtc0").exists(), "there is a clock to be kept out of"
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("ordinary_user.py"), tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["kernel", "applied", "stopped", "EPERM", "EACCES", "EACCES"]


# --- How it is done ---


async def next_of_traveller(home: DirectHome, echo: Echo) -> bytes:
    """Return a WireGuard datagram of the traveller that has reached nobody yet."""
    home.traveller_holds()
    await home.traveller_path(BY_THE_RELAY)
    home.held_back = True
    home.read.clear()
    await echo.send(1)
    await until(lambda: home.read)
    home.held_back = False
    await home.traveller_path(BOARD_AT[4] if await is_ipv4(home) else BOARD_AT[6])
    return home.read[-1]


async def is_ipv4(home: DirectHome) -> bool:
    endpoint = await home.endpoint()
    return endpoint is not None and len(endpoint[0]) == 4


def send_raw6(space, target: bytes, datagram: bytes, *, checksum: bool, device: bytes = b"") -> None:
    """Send a packet with IPv6 header and all, as if from the traveller."""
    packet = IPv6(src=ip_text(TRAVELLER_AT[6][0]), dst=ip_text(target)) / UDP(sport=PORT, dport=PORT) / datagram
    if not checksum:
        packet[UDP].chksum = 0
    with space.open(socket.SOCK_RAW, socket.AF_INET6, socket.IPPROTO_RAW) as raw:
        raw.setsockopt(socket.IPPROTO_IPV6, 36, 1)  # IPV6_HDRINCL
        if device:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        raw.sendto(bytes(packet), (ip_text(target), 0))


def udp6_checksum_errors(home: DirectHome) -> int:
    counted = dict(line.split() for line in home.board.run("cat", "/proc/net/snmp6").splitlines())
    return int(counted["Udp6InCsumErrors"]) + int(counted["Udp6InErrors"])


def nflog(space, group: int) -> socket.socket:
    """Return a netlink socket that is told of what rules log to this group.

    Source: <linux/netfilter/nfnetlink_log.h>.
    """
    with space.inside():
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    opened.settimeout(20)  # or a kernel that does not answer would hold up all
    opened.bind((0, 0))
    settings = (
        struct.pack("HHB3x", 5, 1, 1),  # the group is ours
        struct.pack("HH", 10, 2) + struct.pack(">IB3x", 64, 2),  # 64 bytes of each packet
        struct.pack("HH", 8, 5) + struct.pack(">I", 1),  # each is told at once
    )
    for attribute in settings:
        body = struct.pack(">BBH", 0, 0, group) + attribute
        opened.send(struct.pack("IHHII", 16 + len(body), 4 << 8 | 1, 1 | 4, 1, 0) + body)
        answer = opened.recv(4096)
        assert struct.unpack_from("i", answer, 16)[0] == 0, "the kernel has no NFLOG"
    opened.setblocking(False)
    return opened


def events(log: socket.socket) -> int:
    """Return how many packets the log tells of, all that are there."""
    count = 0
    while True:
        try:
            data = log.recv(65536)
        except BlockingIOError:
            return count
        offset = 0
        while offset + 16 <= len(data):
            length, kind = struct.unpack_from("IH", data, offset)
            assert length >= 16, data
            count += kind == 4 << 8
            offset += length + 3 & ~3
