"""What our rules take for granted of nftables, each row of wireguard.md section 3.1's table that is about it.

Run on this machine's kernel, and in a guest on the kernel that boards have.
"""

import errno
import socket
from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP, UDP, IPerror

from linux.direct_network import until
from linux.home_network import Namespace

pytestmark = pytest.mark.lab
INSIDE, MAPPED, OUTSIDE = "192.168.1.10", "10.77.1.10", "198.51.100.2"


class Router:
    """far 198.51.100.2 --- 198.51.100.1 router 192.168.1.1 --- 192.168.1.10 lan"""

    def __init__(self) -> None:
        self.spaces = self.router, self.far, self.lan = Namespace("r"), Namespace("f"), Namespace("l")
        for there, name in ((self.far, "wan0"), (self.lan, "lan0")):
            self.router.ip("link", "add", name, "type", "veth", "peer", "eth0", "netns", there.name)
        for space, interface, at in (
            (self.router, "wan0", "198.51.100.1/24"),
            (self.router, "lan0", "192.168.1.1/24"),
            (self.far, "eth0", f"{OUTSIDE}/24"),
            (self.lan, "eth0", f"{INSIDE}/24"),
        ):
            space.ip("address", "add", at, "dev", interface)
            space.ip("link", "set", interface, "up")
        self.router.write("net/ipv4/ip_forward", "1")
        self.far.ip("route", "add", "default", "via", "198.51.100.1")
        self.lan.ip("route", "add", "default", "via", "192.168.1.1")

    def refused(self, *commands: str) -> str:
        """Return what nft says to commands that it does not take, "" if it takes them."""
        try:
            self.router.run("nft", "; ".join(commands))
        except AssertionError as error:
            return str(error)
        return ""


@pytest.fixture
def home() -> Iterator[Router]:
    made = Router()
    yield made
    for space in made.spaces:
        space.delete()


@pytest.mark.parametrize("name", ["fwd", "mark"])
def test_a_chain_can_not_bear_a_word_of_nfts_own(home, name):
    assert "syntax error" in home.refused("add table inet t", f"add chain inet t {name}")
    assert not home.refused("add table inet t", f"add chain inet t wh_{name}")


def test_what_our_table_accepts_a_later_one_may_still_drop(home):
    for table, priority, verdict in (("ours", "-5", "accept"), ("theirs", "5", "drop")):
        home.router.run("nft", f"add table inet {table}")
        chain = f"add chain inet {table} c {{ type filter hook input priority {priority}; }}"
        home.router.run("nft", chain)
        home.router.run("nft", f"add rule inet {table} c udp dport 9 counter {verdict}")
    home.far.open(socket.SOCK_DGRAM).sendto(b"x", ("198.51.100.1", 9))
    for table in ("ours", "theirs"):
        assert "packets 1 " in home.router.run("nft", "list", "chain", "inet", table, "c")


def test_nft_does_not_translate_from_one_family_to_the_other(home):
    said = home.refused(
        "add table inet t",
        "add chain inet t c { type nat hook prerouting priority -100; }",
        f"add rule inet t c ip6 daddr fd00::1 dnat ip to {INSIDE}",
    )
    assert "conflicting" in said or "not supported" in said, said


async def test_a_prefix_is_mapped_one_to_one_and_icmp_errors_show_the_mapped_side_on_each_side(home):
    home.router.run("nft", "add table ip t; add map ip t m { typeof ip daddr : interval ip daddr; flags interval; }")
    home.router.run("nft", "add element ip t m { 10.77.1.0/24 : 192.168.1.0/24 }")
    home.router.run("nft", "add chain ip t d { type nat hook prerouting priority -100; }")
    home.router.run("nft", "add rule ip t d dnat ip prefix to ip daddr map @m")
    # policy: the forward hook sees the translated address, conntrack keeps the one that was asked for
    home.router.run("nft", "add chain ip t f { type filter hook forward priority 0; }")
    for match in (f"ip daddr {MAPPED}", f"ip daddr {INSIDE}", f"ct original ip daddr {MAPPED} ip daddr {INSIDE}"):
        home.router.run("nft", f"add rule ip t f {match} counter")
    far, lan = home.far.sniffer("eth0"), home.lan.sniffer("eth0")
    asking = home.far.open(socket.SOCK_DGRAM)
    asking.connect((MAPPED, 7777))  # nobody listens there: port unreachable
    asking.send(b"x")
    in_home, outside = [], []

    def both() -> bool:
        in_home.extend(each for each in seen(lan) if IPerror in each)
        outside.extend(each for each in seen(far) if IPerror in each)
        return bool(in_home and outside)

    await until(both)
    assert (in_home[0].src, in_home[0][IPerror].dst) == (INSIDE, INSIDE)
    assert (outside[0].src, outside[0][IPerror].dst) == (MAPPED, MAPPED)
    with pytest.raises(OSError) as told:
        asking.send(b"x")
    assert told.value.errno == errno.ECONNREFUSED, "the error belongs to the flow that asked"
    counted = home.router.run("nft", "list", "chain", "ip", "t", "f").splitlines()
    packets = [int(line.split("packets ")[1].split()[0]) for line in counted if "packets " in line]
    assert packets[0] == 0 and packets[1] >= 1 and packets[2] >= 1


def seen(sniffer: socket.socket) -> list:
    """Return the IPv4 packets of UDP and ICMP that a sniffer has caught."""
    found = []
    while True:
        try:
            data = sniffer.recv(65536)
        except BlockingIOError:
            return found
        if data[0] >> 4 == 4 and (UDP in (packet := IP(data)) or ICMP in packet):
            found.append(packet)
