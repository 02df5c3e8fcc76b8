"""A home, its board and a traveller in network namespaces of their own, for tests of the data plane.

    nas 192.168.1.10 --- 192.168.1.2 board 100.64.8.2/22 --- 100.64.8.1 carrier 203.0.113.9
    traveller: an interface of its own, and no network but the relay

The relay is a task of the test's own loop: what one WireGuard has for the other is handed over in memory. So nothing
here waits for a clock, and a test may hold packets back.
"""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TypeVar

from shared import places
from shared.map_message import take
from wayhome.images import micropython
from wayhomed.core import netmap
from wayhomed.core.dataplane import Facts, Plan, Preferences, plan
from wayhomed.linux import dataplane
from wayhomed.linux.dataplane import DataPlane, Settings
from wayhomed.wire import address, keys

CLONE_NEWNET = 0x40000000
_SO_RCVBUFFORCE = 33
BOARD, TRAVELLER, NAS, ROUTER_LAN, CARRIER = "100.64.0.1", "100.64.0.2", "192.168.1.10", "192.168.1.2", "100.64.8.1"
BOARD6, TRAVELLER6, NAS6 = "fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2", "fd00:1::10"
PUBLISHED, PUBLISHED6 = "100.64.0.50", "fd7a:115c:a1e0::50"
LAN, LAN6 = "192.168.1.0/24", "fd00:1::/64"
ALL_PORTS = {"First": 0, "Last": 65535}
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """One network namespace. What is opened `inside()` stays in it."""

    def __init__(self, name: str):
        self.name = f"whl{os.getpid()}{name}"
        self.nft = ["nft"]
        _ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *words: str) -> None:
        _ip("-n", self.name, *words)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        with Path("/proc/thread-self/ns/net").open() as home, Path(f"/run/netns/{self.name}").open() as there:
            assert _libc.setns(there.fileno(), CLONE_NEWNET) == 0
            try:
                yield
            finally:
                assert _libc.setns(home.fileno(), CLONE_NEWNET) == 0

    def open(self, kind: int, family: int = socket.AF_INET, protocol: int = 0) -> socket.socket:
        with self.inside():
            opened = socket.socket(family, kind, protocol)
        opened.setblocking(False)
        return opened

    def sniffer(self, interface: str) -> socket.socket:
        """Return a packet socket that sees all of an interface, both ways, from the network header on."""
        with self.inside():
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
            opened.bind((interface, 3))
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 23)
        opened.setblocking(False)
        return opened

    def run(self, *words: str) -> str:
        if words[0] == "nft":
            words = (*self.nft, *words[1:])
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *words], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def write(self, setting: str, value: str) -> None:
        with self.inside():
            Path("/proc/sys", setting).write_text(value)

    def read(self, setting: str) -> str:
        with self.inside():
            return Path("/proc/sys", setting).read_text().strip()

    def state(self) -> dict[str, str]:
        """Return all that a data plane may change."""
        settings = [
            line
            for line in self.run("sysctl", "-a", "--pattern", r"^net\.ipv[46]\.").splitlines()
            # counters and clocks, and what belongs to each network interface by its own age
            if "stable_secret" not in line and "ipfrag_time" not in line
        ]
        # what the kernel makes itself comes whenever it is done with an interface's link-local address
        routes6 = [
            line
            for line in self.run("ip", "-6", "route", "show", "table", "all").splitlines()
            if "proto kernel" not in line
        ]
        return {
            "links": self.run("ip", "-o", "link"),
            "rules": self.run("ip", "rule") + self.run("ip", "-6", "rule"),
            "routes": self.run("ip", "-4", "route", "show", "table", "all") + "\n".join(routes6),
            "nftables": self.run("nft", "list", "ruleset"),
            "settings": "\n".join(settings),
        }

    def delete(self) -> None:
        for pid in subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False
        ).stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        _ip("netns", "del", self.name)


def nft_of_micropython() -> list[str]:
    """Return the words that start nft with the library that MicroPython's data plane has loaded.

    nft 1.0.6 dies of SIGSEGV when it lists rules that libnftables 1.1 has made; on a board both are of one release.
    """
    loader, option, libraries, *_ = micropython.command(micropython.fetch(places.ROOT / "build"))
    program = shutil.which("nft", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None
    return [str(places.ROOT / loader), option, str(places.ROOT / libraries), program]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Home:
    """The namespaces, the two data planes and what both have been told.

    The board's data plane runs where the code under test of this test does, in the board's namespace; the traveller's
    runs here.
    """

    def __init__(self, folder: Path):
        self.spaces: list[Namespace] = []
        self.board, self.nas, self.carrier, self.traveller = (self._space(name) for name in "bnct")
        self.folder = folder
        self._connect(self.board, "lan0", self.nas, "eth0")
        self._connect(self.board, "wan0", self.carrier, "eth0")
        for space, interface, *addresses in (
            (self.board, "lan0", "192.168.1.2/24", "fd00:1::2/64"),
            (self.board, "wan0", "100.64.8.2/22"),
            (self.nas, "eth0", "192.168.1.10/24", "fd00:1::10/64"),
            (self.carrier, "eth0", "100.64.8.1/22"),
            (self.carrier, "lo", "100.64.77.77/32", "203.0.113.9/32"),
        ):
            for each in addresses:
                words = ["nodad"] if ":" in each else []
                space.ip("address", "add", each, "dev", interface, *words)
            space.ip("link", "set", interface, "up")
        self.board.ip("route", "add", "default", "via", CARRIER)
        suffix = str(os.getpid())[-6:]
        self.board_key, self.traveller_key = keys.new_private(b"b" * 32), keys.new_private(b"t" * 32)
        self.place = places.current() if places.current() is places.HERE else places.There()
        with self.board.inside():
            self.place.start()
        if self.place is not places.HERE:
            self.board.nft = nft_of_micropython()
        self.board_plane = self.make_board_plane(Settings(str(folder / "board-undo"), f"whb{suffix}"))
        self.traveller_plane = DataPlane(Settings(str(folder / "traveller-undo"), f"wht{suffix}"))
        self.board_interface, self.traveller_interface = f"whb{suffix}", f"wht{suffix}"
        self.carried: list[asyncio.Task] = []
        self.held_back = False
        self.read: list[bytes] = []  # what WireGuard gave for peers, while it is held back

    def make_board_plane(self, settings: Settings) -> DataPlane:
        made: DataPlane = self.place.module(dataplane).DataPlane(settings)
        return made

    def _space(self, name: str) -> Namespace:
        space = Namespace(name)
        self.spaces.append(space)
        return space

    def _connect(self, a: Namespace, a_name: str, b: Namespace, b_name: str) -> None:
        _ip("link", "add", a_name, "netns", a.name, "type", "veth", "peer", "name", b_name, "netns", b.name)

    async def start(self) -> None:
        with self.board.inside():
            await self.board_plane.start(self.board_key)
        with self.traveller.inside():
            await self.traveller_plane.start(self.traveller_key)
        await self.apply_traveller()
        for source, sink, key in (
            (self.board_plane, self.traveller_plane, self.board_key),
            (self.traveller_plane, self.board_plane, self.traveller_key),
        ):
            self.carried.append(asyncio.create_task(self._carry(source, sink, keys.public_of(key))))
            self.carried.append(asyncio.create_task(source.carry_held()))

    async def _carry(self, source: DataPlane, sink: DataPlane, sender: bytes) -> None:
        while True:
            datagram = bytes((await source.receive())[1])
            if self.held_back:
                self.read.append(datagram)
            else:
                self.deliver(source, sink, sender, datagram)

    def deliver(self, _source: DataPlane, sink: DataPlane, sender: bytes, datagram: bytes) -> None:
        """Bring what `source` gave to the relay to its receiver."""
        sink.inject(sender, datagram)

    async def stop(self) -> None:
        for task in self.carried:
            task.cancel()
        await asyncio.gather(*self.carried, return_exceptions=True)
        self.carried = []
        for space, plane in ((self.board, self.board_plane), (self.traveller, self.traveller_plane)):
            with space.inside():
                await plane.stop()

    def close(self) -> None:
        for space in self.spaces:
            space.delete()

    def board_map(self, rules: list, published: list | None = None, peers: list | None = None) -> netmap.Netmap:
        made = netmap.Netmap()
        take(
            made,
            {
                "Node": {
                    "ID": 1,
                    "Key": _public(self.board_key),
                    "Addresses": [BOARD + "/32", BOARD6 + "/128"],
                    "CapMap": {"wayhome:published": published or []},
                },
                "Peers": [
                    {
                        "ID": 2,
                        "Name": "traveller.example.",
                        "Key": _public(self.traveller_key),
                        "Addresses": [TRAVELLER + "/32", TRAVELLER6 + "/128"],
                    },
                    *(peers or []),
                ],
                "PacketFilter": rules,
            },
        )
        return made

    def board_plan(self, rules: list, *, published: list | None = None, peers: list | None = None, **given) -> Plan:
        given.setdefault("advertise_routes", [address.prefix_from_text(text) for text in (LAN, LAN6)])
        with self.board.inside():
            found = self.board_plane.facts([])
        facts = Facts()
        vars(facts).update(self.place.fields(found))
        return plan(self.board_map(rules, published, peers), Preferences(**given), facts)

    async def apply_board(self, rules: list, **given) -> Plan:
        wanted = self.board_plan(rules, **given)
        with self.board.inside():
            await self.board_plane.apply(wanted)
        return wanted

    async def apply_traveller(self) -> None:
        made = netmap.Netmap()
        take(
            made,
            {
                "Node": {
                    "ID": 2,
                    "Key": _public(self.traveller_key),
                    "Addresses": [TRAVELLER + "/32", TRAVELLER6 + "/128"],
                },
                "Peers": [
                    {
                        "ID": 1,
                        "Name": "board.example.",
                        "Key": _public(self.board_key),
                        "Addresses": [BOARD + "/32", BOARD6 + "/128"],
                        "AllowedIPs": [
                            BOARD + "/32",
                            BOARD6 + "/128",
                            PUBLISHED + "/32",
                            PUBLISHED6 + "/128",
                            LAN,
                            LAN6,
                        ],
                    }
                ],
            },
        )
        with self.traveller.inside():
            await self.traveller_plane.apply(
                plan(made, Preferences(accept_routes=True), self.traveller_plane.facts([]))
            )

    async def dropped(self, name: str) -> int:
        with self.board.inside():
            return (await self.board_plane.status())["dropped"][name]["packets"]

    async def rises(self, name: str, before: int) -> None:
        """Wait until a counter of the board is above what it was."""
        async with asyncio.timeout(60):
            while await self.dropped(name) <= before:
                await asyncio.sleep(0.02)


AnyHome = TypeVar("AnyHome", bound=Home)


def _public(private: bytes) -> str:
    return keys.key_text(keys.NODE, keys.public_of(private))


def allow(*destinations: str, ports: dict | None = None, sources: tuple = (TRAVELLER, TRAVELLER6), **more) -> dict:
    """Return a FilterRule."""
    return {
        "SrcIPs": list(sources),
        "DstPorts": [{"IP": destination, "Ports": ports or ALL_PORTS} for destination in destinations],
        **more,
    }


@contextlib.asynccontextmanager
async def home_network(folder: Path, kind: type[AnyHome] = Home) -> AsyncIterator[AnyHome]:  # type: ignore[assignment]
    """A home whose two data planes run, everything closed."""
    home = kind(folder)
    home.place.attach()
    try:
        await home.start()
        await home.apply_board([])
        yield home
        await home.stop()
        home.place.detach()
    finally:
        for task in home.carried:
            task.cancel()
        await asyncio.gather(*home.carried, return_exceptions=True)
        home.place.close()
        home.close()


class Listener:
    """A TCP server in a namespace. callers: addresses of those who connected; it answers a line to each."""

    def __init__(self, space: Namespace, ip: str, port: int):
        self.callers: list[str] = []
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        self._socket = space.open(socket.SOCK_STREAM, family)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((ip, port))
        self.writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> "Listener":
        self._server = await asyncio.start_server(self._serve, sock=self._socket)
        return self

    async def __aexit__(self, *_error: object) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self._server.close()

    async def _serve(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.callers.append(writer.get_extra_info("peername")[0])
        self.writers.append(writer)
        writer.write(b"hello\n")


async def call(space: Namespace, ip: str, port: int, seconds: float = 60, mss: int = 0, mark: int = 0) -> socket.socket:
    """Connect from a namespace and read the listener's line. Raises TimeoutError or OSError."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    opened = space.open(socket.SOCK_STREAM, family)
    if mss:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
    if mark:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            await loop.sock_connect(opened, (ip, port))
            assert await loop.sock_recv(opened, 100) == b"hello\n"
    except BaseException:
        opened.close()
        raise
    return opened
