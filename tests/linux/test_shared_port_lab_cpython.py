"""Disco and STUN beside a program that holds the port: real sockets, and scapy's opinion on what we build."""

import asyncio
import contextlib
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, IPOption_NOP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.packet import Raw

from linux.home_network import Namespace
from wayhome.images import micropython
from wayhomed.linux import netlink, routes
from wayhomed.linux.proxy import Proxy
from wayhomed.linux.shared_port import SharedPort, encode_ip4, encode_udp
from wayhomed.port import packets
from wayhomed.wire.address import ip_from_text, ip_text

PORT = 41641
DISCO = b"TS\xf0\x9f\x92\xac" + bytes(80)
STUN = b"\x01\x01\x00\x00\x21\x12\xa4\x42" + bytes(24)
DATA = b"\x04\0\0\0" + bytes(44)
LAST = DISCO + b"last"
ROOT = Path(__file__).parents[2]


@given(st.binary(max_size=1400), st.integers(1, 65535), st.integers(1, 65535), st.binary(min_size=4, max_size=4))
def test_scapy_makes_the_same_packets(payload, source_port, target_port, end):
    for source, target, layer in (
        (b"\xc0\0\2\1", end, IP),
        (ip_from_text("2001:db8::1"), bytes(12) + end, IPv6),
    ):
        udp = encode_udp((source, source_port), (target, target_port), payload)
        theirs = layer(src=ip_text(source), dst=ip_text(target)) / UDP(sport=source_port, dport=target_port) / payload
        assert bytes(theirs)[-len(udp) :] == udp
        if layer is IP:
            ours = IP(encode_ip4(source, target, udp))
            assert (ours.src, ours.dst, ours.proto, ours.ttl) == (theirs.src, theirs.dst, 17, 64)


class Ends:
    """A machine "near" whose port is held by a plain socket, and one "far": 192.0.2.1, .2 and 2001:db8::1, ::2."""

    def __init__(self):
        self.spaces = []
        self.near, self.far = (self._space(name) for name in ("near", "far"))
        subprocess.run(
            ["ip", "link", "add", "eth0", "netns", self.near.name, "type", "veth", "peer", "name", "eth0"]
            + ["netns", self.far.name],
            check=True,
        )
        for space, last in ((self.near, 1), (self.far, 2)):
            space.ip("address", "add", f"192.0.2.{last}/24", "dev", "eth0")
            space.ip("address", "add", f"2001:db8::{last}/64", "dev", "eth0", "nodad")
            space.ip("link", "set", "eth0", "up")
        self.holders = {4: self._bind(self.near, 4, PORT), 16: self._bind(self.near, 16, PORT)}
        self.others = {4: self._bind(self.far, 4, 3478), 16: self._bind(self.far, 16, 3478)}
        with self.near.inside():
            self.kernel = netlink.Netlink()
            self.sources = routes.SourceAddresses(self.kernel)
            self.shared = SharedPort(PORT, routes.BYPASS_MARK, self.sources, 99)

    def _space(self, name):
        space = Namespace(name)
        self.spaces.append(space)
        return space

    def _bind(self, space, size, port):
        opened = space.open(socket.SOCK_DGRAM, socket.AF_INET if size == 4 else socket.AF_INET6)
        if size == 16:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(("", port))
        return opened

    def send_raw(self, *given):
        """Send packets as they are from the far end."""
        for packet in given:
            family = socket.AF_INET if packet.version == 4 else socket.AF_INET6
            raw = self.far.open(socket.SOCK_RAW, family, socket.IPPROTO_RAW)
            raw.sendto(bytes(packet), (packet.dst, 0))
            raw.close()

    async def received_until_last(self):
        """Return what the shared port gets up to LAST."""
        found = []
        async with asyncio.timeout(60):
            while not found or found[-1][1] != LAST:
                found.append(await self.shared.receive())
        return found[:-1]

    def close(self):
        self.shared.close()
        self.kernel.close()
        for opened in (*self.holders.values(), *self.others.values()):
            opened.close()
        for space in self.spaces:
            space.delete()


@pytest.fixture
def ends():
    with contextlib.closing(Ends()) as made:
        yield made


async def received(opened):
    async with asyncio.timeout(60):
        return await asyncio.get_running_loop().sock_recvfrom(opened, 4096)


@pytest.mark.lab
@pytest.mark.parametrize("size", [4, 16])
async def test_disco_and_stun_arrive_and_wireguards_datagrams_do_not(ends, size):
    here, there = ("192.0.2.1", "192.0.2.2") if size == 4 else ("2001:db8::1", "2001:db8::2")
    for datagram in (DATA, DISCO, DATA, STUN, LAST):
        ends.others[size].sendto(datagram, (here, PORT))
    sender = (ip_from_text(there), 3478)
    assert await ends.received_until_last() == [(sender, DISCO), (sender, STUN)]
    # who holds the port gets a copy of all, and drops what it does not know
    for datagram in (DATA, DISCO, DATA, STUN, LAST):
        assert (await received(ends.holders[size]))[0] == datagram


@pytest.mark.lab
async def test_both_families_arrive_by_one_call_and_neither_starves(ends):
    for size, here in ((4, "192.0.2.1"), (16, "2001:db8::1")):
        for number in range(100):
            ends.others[size].sendto(DISCO + bytes([number]), (here, PORT))
    ends.others[16].sendto(LAST, ("2001:db8::1", PORT))
    found = await ends.received_until_last()
    for size in (4, 16):
        datagrams = [datagram for (ip, _port), datagram in found if len(ip) == size]
        assert datagrams[:90] == [DISCO + bytes([number]) for number in range(90)]
    assert {len(ip) for (ip, _port), _datagram in found[:8]} == {4, 16}


@pytest.mark.lab
async def test_the_programs_judge_real_packets_as_they_should(ends):
    udp = UDP(sport=3478, dport=PORT)
    from4, from6 = IP(src="192.0.2.2", dst="192.0.2.1"), IPv6(src="2001:db8::2", dst="2001:db8::1")
    options = IP(src="192.0.2.2", dst="192.0.2.1", options=[IPOption_NOP()] * 8)
    for start in (from4, from6, options):
        for wrong in (DATA, DISCO[:61], b"", STUN[:19], bytes([0x00, 0x02]) + STUN[2:]):
            ends.send_raw(start / udp / Raw(wrong))
        ends.send_raw(start / UDP(sport=3478, dport=PORT + 1) / Raw(DISCO))
    ends.send_raw(options / udp / Raw(DISCO + b"options"))
    ends.send_raw(from6 / IPv6ExtHdrDestOpt() / udp / Raw(DISCO + b"extension"))
    # The kernel puts pieces together before it looks for sockets; one that is alone goes nowhere.
    whole = IP(src="192.0.2.2", dst="192.0.2.1", id=77) / udp / Raw(DISCO + bytes(1000))
    pieces = [IP(bytes(piece)) for piece in fragment(whole, 512)]
    assert len(pieces) == 3
    ends.send_raw(pieces[0])
    ends.send_raw(from4 / udp / Raw(LAST))
    found = await ends.received_until_last()
    assert [datagram[len(DISCO) :] for _sender, datagram in found] == [b"options", b"extension"]


@pytest.mark.lab
async def test_what_comes_out_of_the_tunnel_is_not_heard(ends):
    ends.shared.close()
    with ends.near.inside():
        ends.shared = SharedPort(PORT, routes.BYPASS_MARK, ends.sources, socket.if_nametoindex("eth0"))
        inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for size, here in ((4, "192.0.2.1"), (16, "2001:db8::1")):
        ends.others[size].sendto(DISCO, (here, PORT))
        await received(ends.holders[size])
    inside.sendto(LAST, ("127.0.0.1", PORT))
    assert await ends.received_until_last() == []
    inside.close()


@pytest.mark.lab
@pytest.mark.parametrize("size", [4, 16])
async def test_what_is_sent_bears_the_port_and_a_checksum_that_the_kernel_and_scapy_accept(ends, size):
    here, there = ("192.0.2.1", "192.0.2.2") if size == 4 else ("2001:db8::1", "2001:db8::2")
    sniffer = ends.far.sniffer("eth0")
    for length in (0, 1, 62, 1111):
        ends.shared.send((ip_from_text(there), 3478), DISCO + bytes(length))
        datagram, (host, port, *_rest) = await received(ends.others[size])
        assert (host, port, datagram) == (here, PORT, DISCO + bytes(length))
    seen = []
    while len(seen) < 4:
        packet = (IP if size == 4 else IPv6)((await received(sniffer))[0])
        if UDP in packet and packet[UDP].sport == PORT:
            seen.append(packet)
            sent = packet[UDP].chksum
            del packet[UDP].chksum
            assert type(packet)(bytes(packet))[UDP].chksum == sent != 0


@pytest.mark.lab
async def test_the_source_follows_the_routes_and_the_checksum_once_it_is_told_of_them(ends):
    ends.near.ip("address", "add", "192.0.2.77/24", "dev", "eth0")
    target = (ip_from_text("192.0.2.2"), 3478)
    sniffer = ends.far.sniffer("eth0")

    async def source():
        """Return the source that the network sees, and whether the checksum is right."""
        ends.shared.send(target, DISCO)
        while True:
            packet = IP((await received(sniffer))[0])
            if UDP in packet and packet[UDP].sport == PORT:
                sent = packet[UDP].chksum
                del packet[UDP].chksum
                return packet.src, IP(bytes(packet))[UDP].chksum == sent

    assert await source() == ("192.0.2.1", True)
    ends.near.ip("route", "add", "192.0.2.2/32", "dev", "eth0", "src", "192.0.2.77")
    # From an address that may be gone nothing is sent: a NAT on the way out would keep it.
    assert await source() == ("192.0.2.77", False)
    ends.shared.routes_changed()
    assert await source() == ("192.0.2.77", True)


@pytest.mark.lab
async def test_the_tunnels_routes_are_not_for_what_is_marked(ends):
    with ends.near.inside():
        routes.add_policy_rules(ends.kernel)
    ends.near.ip("address", "add", "100.64.0.1/32", "dev", "lo")
    for table, prefix in (("52", "192.0.2.2/32"), ("52", "198.51.100.0/24")):
        ends.near.ip("route", "add", prefix, "dev", "lo", "src", "100.64.0.1", "table", table)
    ends.shared.send((ip_from_text("192.0.2.2"), 3478), DISCO)
    assert (await received(ends.others[4]))[1] == ("192.0.2.1", PORT)
    for nowhere in ("198.51.100.1", "2001:db8:ffff::1"):
        with pytest.raises(OSError, match=r"unreachable|refused") as caught:
            ends.shared.send((ip_from_text(nowhere), 3478), DISCO)
        assert caught.value.errno == 101


@pytest.mark.lab
async def test_a_machine_without_ipv6_has_ipv4(ends, monkeypatch):
    def without(_protocol):
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(packets, "raw_socket6", without)
    ends.shared.close()
    with ends.near.inside():
        ends.shared = SharedPort(PORT, routes.BYPASS_MARK, ends.sources, 99)
    ends.shared.send((ip_from_text("192.0.2.2"), 3478), DISCO)
    assert (await received(ends.others[4]))[1] == ("192.0.2.1", PORT)
    ends.others[4].sendto(LAST, ("192.0.2.1", PORT))
    assert await ends.received_until_last() == []
    with pytest.raises(OSError, match="no IPv6"):
        ends.shared.send((ip_from_text("2001:db8::2"), 3478), DISCO)


@pytest.mark.lab
@pytest.mark.parametrize("rp_filter", ["0", "1", "2"])
async def test_a_fake_source_is_what_a_plain_socket_sees(ends, rp_filter):
    for interface in ("all", "default", "lo", "eth0"):
        ends.near.write(f"net/ipv4/conf/{interface}/rp_filter", rp_filter)
    ends.near.ip("route", "add", "default", "via", "192.0.2.2")
    ends.near.ip("-6", "route", "add", "default", "via", "2001:db8::2")
    with ends.near.inside():
        proxy = Proxy(PORT, ends.sources)
        for length in (0, 1, 1200):
            for size, source in ((4, "198.51.100.7"), (16, "2001:db8:9::7")):
                assert proxy.inject_from((ip_from_text(source), 3333), DATA + bytes(length))
                datagram, (host, port, *_rest) = await received(ends.holders[size])
                assert (host, port, datagram) == (source, 3333, DATA + bytes(length))
        assert not proxy.inject_from((ip_from_text("198.51.100.7"), 3333), DISCO)
        assert (proxy.injected, proxy.refused) == (6, 1)
    proxy.close()


ECHO = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from wayhomed.linux import netlink, routes
from wayhomed.linux.shared_port import SharedPort
async def main():
    shared = SharedPort(41641, routes.BYPASS_MARK, routes.SourceAddresses(netlink.Netlink()), 99)
    print("up")
    for _ in range(4):
        source, datagram = await shared.receive()
        shared.send(source, datagram + b"echo")
    shared.close()
asyncio.run(main())
"""


@pytest.mark.lab
async def test_micropython_shares_the_port_in_both_families(ends, tmp_path):
    script = tmp_path / "echo.py"
    script.write_text(ECHO)
    with ends.near.inside():
        echo = subprocess.Popen(  # noqa: ASYNC220
            [*micropython.command(micropython.fetch(ROOT / "build")), str(script), str(ROOT / "firmware")],
            stdout=subprocess.PIPE,
            text=True,
        )
    assert echo.stdout.readline() == "up\n"
    for size, here in ((4, "192.0.2.1"), (16, "2001:db8::1")) * 2:
        ends.others[size].sendto(DATA, (here, PORT))
        ends.others[size].sendto(DISCO, (here, PORT))
        datagram, (host, port, *_rest) = await received(ends.others[size])
        assert (host, port, datagram) == (here, PORT, DISCO + b"echo")
    assert await asyncio.to_thread(echo.wait, 20) == 0
    echo.stdout.close()


def test_an_address_goes_to_the_kernel_and_back():
    for ip, port in ((bytes((1, 2, 3, 4)), 5), (ip_from_text("2001:db8::7"), 65535)):
        assert packets.inet_endpoint(packets.inet_address(ip, port)) == (ip, port)
    assert packets.inet_endpoint(("fe80::1%eth0", 9, 0, 2)) == (ip_from_text("fe80::1"), 9)
