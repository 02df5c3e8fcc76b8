"""The home of home_network with a way for direct paths: a traveller on the internet, a board with two uplinks, IPv6.

board wan0 100.64.8.2, 2001:db8:1::2 --- carrier --- traveller eth0 198.51.100.20, 2001:db8:3::20
      wan1 100.65.8.2, 2001:db8:2::2 ---
"""

import asyncio
import random
import socket
from pathlib import Path

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from linux.home_network import BOARD, BOARD6, Home, Namespace, allow
from wayhomed.linux.dataplane import DataPlane
from wayhomed.wire import keys
from wayhomed.wire.address import ip_from_text

PORT = 41641
BOARD_AT = {4: (ip_from_text("100.64.8.2"), PORT), 6: (ip_from_text("2001:db8:1::2"), PORT)}
BOARD_MOVED = {4: "100.65.8.2", 6: "2001:db8:2::2"}
TRAVELLER_AT = {4: (ip_from_text("198.51.100.20"), PORT), 6: (ip_from_text("2001:db8:3::20"), PORT)}


class DirectHome(Home):
    """relayed: how many datagrams the relay was given.

    by_both: where the traveller's datagrams for the relay go directly as well, both with a delay of their own.
    """

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.relayed = 0
        self.by_both: tuple | None = None
        self._chance = random.Random(1)
        self.board_public, self.traveller_public = (
            keys.public_of(private) for private in (self.board_key, self.traveller_key)
        )
        self._connect(self.board, "wan1", self.carrier, "eth1")
        self._connect(self.traveller, "eth0", self.carrier, "eth2")
        for space, interface, *addresses in (
            (self.board, "wan0", "2001:db8:1::2/64"),
            (self.board, "wan1", "100.65.8.2/24", "2001:db8:2::2/64"),
            (self.carrier, "eth0", "2001:db8:1::1/64"),
            (self.carrier, "eth1", "100.65.8.1/24", "2001:db8:2::1/64"),
            (self.carrier, "eth2", "198.51.100.1/24", "2001:db8:3::1/64"),
            (self.traveller, "eth0", "198.51.100.20/24", "198.51.100.21/24", "2001:db8:3::20/64"),
        ):
            for each in addresses:
                words = ["nodad"] if ":" in each else []
                space.ip("address", "add", each, "dev", interface, *words)
            space.ip("link", "set", interface, "up")
        self.carrier.write("net/ipv4/ip_forward", "1")
        self.carrier.write("net/ipv6/conf/all/forwarding", "1")
        self.board.ip("-6", "route", "add", "default", "via", "2001:db8:1::1")
        self.traveller.ip("route", "add", "default", "via", "198.51.100.1")
        self.traveller.ip("-6", "route", "add", "default", "via", "2001:db8:3::1")

    def deliver(self, source: DataPlane, sink: DataPlane, sender: bytes, datagram: bytes) -> None:
        self.relayed += 1
        ways = [(sink.inject, sender)]
        if self.by_both and source is self.traveller_plane:
            ways.append((source.shared_port.send, self.by_both))
        if len(ways) == 1:
            sink.inject(sender, datagram)
            return
        loop = asyncio.get_running_loop()
        for way, to in ways:
            loop.call_later(self._chance.uniform(0, 0.02), way, to, datagram)

    async def board_path(self, endpoint: tuple | None, *, renew: bool = False) -> None:
        """Have the board send to the traveller this way."""
        await self.board_plane.set_paths([(self.traveller_public, endpoint, renew)])

    async def traveller_path(self, endpoint: tuple | None, *, renew: bool = False) -> None:
        await self.traveller_plane.set_paths([(self.board_public, endpoint, renew)])

    async def both_direct(self, family: int) -> None:
        await self.traveller_path(BOARD_AT[family])
        await self.board_path(TRAVELLER_AT[family])

    def board_holds(self, *families: int) -> None:
        with self.board.inside():
            self.board_plane.hold({TRAVELLER_AT[family]: self.traveller_public for family in families})

    def traveller_holds(self, *families: int) -> None:
        with self.traveller.inside():
            self.traveller_plane.hold({BOARD_AT[family]: self.board_public for family in families})

    async def held(self) -> int:
        """Return how many datagrams were diverted and brought to the board's WireGuard by us."""
        with self.board.inside():
            return (await self.board_plane.status())["relayed"]["held"]

    async def endpoint(self) -> tuple | None:
        """Return where the board's WireGuard sends to, None for the relay."""
        return (await self.board_plane.traffic())[self.traveller_public][2]

    async def travellers_endpoint(self) -> tuple | None:
        """Return where the traveller's WireGuard sends to, None for the relay."""
        return (await self.traveller_plane.traffic())[self.board_public][2]

    def move_uplink(self) -> None:
        """Have the board's default routes go by its other uplink."""
        self.board.ip("route", "replace", "default", "via", "100.65.8.1")
        self.board.ip("-6", "route", "replace", "default", "via", "2001:db8:2::1")


class Echo:
    """Numbered datagrams through the tunnel to the board and back. heard: what reached the board."""

    def __init__(self, home: DirectHome, ip: str = BOARD):
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        self._home, self._target = home, (ip, 7000)
        self._board = home.board.open(socket.SOCK_DGRAM, family)
        self._board.bind(self._target)
        self._traveller = home.traveller.open(socket.SOCK_DGRAM, family)
        for each in (self._board, self._traveller):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._next = 0
        self.heard: set[int] = set()
        self.answered: set[int] = set()

    async def __aenter__(self) -> "Echo":
        await self._home.apply_board([allow(BOARD, BOARD6, ports={"First": 7000, "Last": 7000})])
        loop = asyncio.get_running_loop()
        loop.add_reader(self._board, self._hear)
        loop.add_reader(self._traveller, self._note_answer)
        return self

    async def __aexit__(self, *_error: object) -> None:
        loop = asyncio.get_running_loop()
        for each in (self._board, self._traveller):
            loop.remove_reader(each)
            each.close()

    def _hear(self) -> None:
        datagram, sender = self._board.recvfrom(2048)
        self.heard.add(int(datagram.split()[0]))
        self._board.sendto(datagram, sender)

    def _note_answer(self) -> None:
        self.answered.add(int(self._traveller.recv(2048).split()[0]))

    async def send(self, count: int, pause_s: float = 0.002) -> set[int]:
        """Send so many datagrams; return their numbers."""
        numbers = set(range(self._next, self._next + count))
        self._next += count
        for number in sorted(numbers):
            self._traveller.sendto(b"%d " % number + bytes(400), self._target)
            await asyncio.sleep(pause_s)
        return numbers

    async def all_return(self, count: int, pause_s: float = 0.002) -> None:
        """Send so many and wait until each has come back."""
        numbers = await self.send(count, pause_s)
        await until(lambda: numbers <= self.answered, lambda: f"lost: {sorted(numbers - self.answered)}")

    async def answer_to(self, ip: str, port: int) -> None:
        """Send something from the board's side of the tunnel."""
        self._board.sendto(b"0", (ip, port))


async def until(condition, describe=lambda: "it never came true", seconds: float = 60) -> None:
    """Look again and again until it is so."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(describe()) from None


async def until_answer(ask, condition, seconds: float = 60) -> None:
    """Ask again and again until the answer is as it should be."""
    try:
        async with asyncio.timeout(seconds):
            while not condition(seen := await ask()):
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"it never came true; the last answer was {seen!r}") from None


def packets_of(sniffer: socket.socket) -> list:
    """Return the UDP packets that a sniffer has seen since it was asked last."""
    seen = []
    while True:
        try:
            data = sniffer.recv(65536)
        except BlockingIOError:
            return seen
        packet = {4: IP, 6: IPv6}.get(data[0] >> 4, IP)(data)
        if UDP in packet:
            seen.append(packet)


def kind_of(packet) -> int:
    """Return WireGuard's type of a UDP packet, 0 for anything else."""
    payload = bytes(packet[UDP].payload)
    return payload[0] if payload[1:4] == b"\0\0\0" and payload[0] in (1, 2, 3, 4) else 0


def drop_on_the_way(space: Namespace, match: str):
    """Drop what matches while it is forwarded through a router; return a function that says how many it was."""
    space.run("nft", "add table inet way; add chain inet way f { type filter hook forward priority 0; }")
    space.run("nft", f"add rule inet way f {match} counter drop")

    def dropped() -> int:
        words = space.run("nft", "list", "chain", "inet", "way", "f").split()
        return int(words[words.index("packets") + 1])

    return dropped
