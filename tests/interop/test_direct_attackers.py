"""A neighbour floods a board, and a member of its mesh lies to all, while a transfer goes directly.

The transfer lives and stays direct; who is named falsely gets no more than the few packets that core/path.py allows.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.utils import rdpcap

from shared.direct import NAS, RATE, Mesh, Watched, growing_flows
from wayhome.demo.cast import Board
from wayhome.lab.interpreter import python_environment
from wayhome.lab.lab import Host, Lab
from wayhome.lab.transfer import Transfer
from wayhome.lab.waiting import NotInTime, wait_until
from wayhomed.core.path import MAX_PINGS, MAX_PINGS_LEARNED, PING_TIMEOUT_MS

pytestmark = [pytest.mark.lab, pytest.mark.interop]

SHARED = Path(__file__).parents[1] / "shared"
DATAGRAMS = 20_000
LIES_S = 5
VICTIM = "203.0.113.60"
BOARD = "192.168.1.2"
NOBODYS = ["127.0.0.1", "0.0.0.0", "255.255.255.255", "192.168.1.255", "192.168.1.0", "224.0.0.251", BOARD]
DISCO = "udp[8:4] = 0x5453f09f"
PING_BYTES = 124
# More than this would be a leak: a flood is some thousand times as much.
MORE_KIB = 16 * 1024


class Sniffer:
    """What tcpdump sees of a filter on an interface."""

    def __init__(self, host: Host, interface: str, words: str, file: Path, direction: str = "inout") -> None:
        self._file = file
        command = ["tcpdump", "-ni", interface, "-U", "--immediate-mode", "-Q", direction, "-w", file, words]
        self._process = host.popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        assert any("listening" in line for line in self._process.stderr)

    def datagrams(self) -> list[tuple[str, str, bytes]]:
        """Return (source, destination, payload) of all that were seen."""
        packets = rdpcap(str(self._file)) if self._file.stat().st_size > 24 else []
        return [(packet[IP].src, packet[IP].dst, bytes(packet[UDP].payload)) for packet in packets]

    def stop(self) -> list[tuple[str, str, bytes]]:
        self._process.terminate()
        self._process.wait()
        return self.datagrams()


class Home:
    """A board with a NAS behind it from which a friend's board reads directly; the NAS's owner is the attacker."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.mesh = Mesh(lab, folder)
        self.board, _ = self.mesh.together(
            lambda: self.mesh.start_board("board"), lambda: self.mesh.start_board("board2", "--accept-routes")
        )
        address = self.mesh.publish("nas", "board", NAS)
        lab.wait_until(lambda: lab.host("board2").reaches(address), 60, "the NAS to answer")
        self.film = Transfer.start(
            lab.host("nas"), lab.host("board2"), f"http://{address}", name="film", rate=RATE // 4
        )
        self.watched = Watched(self.film, self.mesh.relayed_bytes)
        self.watched.wait_direct(0)

    def sniffer(self, host: Host, interface: str, words: str, name: str, direction: str = "inout") -> Sniffer:
        return Sniffer(host, interface, words, self.folder / f"{name}.pcap", direction)

    def attack(self, program: str, *words: Any) -> "subprocess.Popen[str]":
        process: subprocess.Popen[str] = self.lab.host("nas").popen(
            [sys.executable, SHARED / program, *words],
            env=python_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return process

    def film_is_direct(self) -> bool:
        """Tell whether the film passes both NATs as one flow. The relay's counters say little: it has lies to carry."""
        now = time.monotonic()
        flows = [growing_flows(self.lab.host(name), packets=50) for name in ("carrier", "friend-router")]
        return [len(one) for one in flows] == [1, 1] and self.film.received_between(now, now + 2) > self.film.rate

    def is_well(self, resident_kib: int) -> None:
        """Check that the film goes directly, and the board is as big as it was."""
        # where the flood took all of a small machine, path and TCP may take TCP_SILENCE_S to find back
        try:
            self.lab.wait_until(self.film_is_direct, 120, "the transfer to go on directly")
        except NotInTime as error:
            flows = [growing_flows(self.lab.host(name), packets=1) for name in ("carrier", "friend-router")]
            report = [str(error), self.watched.report(), str(flows), *self.mesh.report()]
            raise NotInTime("\n".join(report)) from None
        assert self.board.process is not None and self.board.process.poll() is None
        assert self.board.resident_kib() < resident_kib + MORE_KIB
        print(f"{resident_kib} KiB before, {self.board.resident_kib()} KiB after")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with Lab.up("story") as lab:
        yield Home(lab, tmp_path_factory.mktemp("attackers"))


def cpu_s(board: Board) -> float:
    """Return the daemon's processor time, without its WireGuard child's."""
    assert board.process is not None
    fields = Path(f"/proc/{board.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_a_neighbours_flood_breaks_nothing_and_hardly_reaches_the_one_it_is_sent_for(home: Home):
    at_home = home.sniffer(home.lab.switch, "home", f"dst {BOARD} and dst port 41641 and {DISCO}", "copied")
    wait_until(
        lambda: [payload for _, _, payload in at_home.datagrams() if len(payload) == PING_BYTES], 60, "a ping to copy"
    )
    copied = next(payload for _, _, payload in at_home.stop() if len(payload) == PING_BYTES)
    resident_kib, begun_s, before_s = home.board.resident_kib(), time.monotonic(), cpu_s(home.board)
    at_victim = home.sniffer(home.lab.host("laptop"), "eth0", f"udp and dst {VICTIM}", "flooded")
    flood = home.attack("stranger.py", DATAGRAMS, BOARD, VICTIM, copied.hex())
    output, problem = flood.communicate(timeout=120)
    assert flood.returncode == 0, problem
    home.is_well(resident_kib)
    took_s = time.monotonic() - begun_s
    got = [payload for _, _, payload in at_victim.stop()]
    pings = [payload for payload in got if len(payload) == PING_BYTES]
    print(
        f"{DATAGRAMS} in {took_s:.1f} s: {cpu_s(home.board) - before_s:.1f} s of processor; the victim got {len(got)}"
    )
    refused = home.board.ctl("status")["refused_packets"]
    print(f"refused: {refused}")
    # The kernel drops what the socket has no room for; what was read of the forged is counted.
    assert refused["does not open"] > 100
    assert len(pings) <= MAX_PINGS_LEARNED * (1 + took_s / (PING_TIMEOUT_MS / 1000))
    assert len(got) - len(pings) <= DATAGRAMS / 5, "one answer at most for each ping, and for nothing else"
    assert sum(map(len, got)) < int(output)


def test_a_member_that_lies_about_where_it_is_moves_nobodys_packets(home: Home):
    resident_kib, before_s = home.board.resident_kib(), cpu_s(home.board)
    others = [home.mesh.address_of(name) for name in ("board", "board2")]
    false = " or ".join(NOBODYS + others)
    words = f"udp and src {BOARD} and not src port 53 and dst ({false})"
    astray = home.sniffer(home.lab.host("board"), "any", words, "astray", "out")
    at_victim = home.sniffer(home.lab.host("laptop"), "eth0", f"udp and dst {VICTIM}", "named")
    liar = Board(home.lab.host("nas"), home.folder)
    options = ["--state", liar.state, "--socket", liar.socket]
    process = home.attack("liar.py", BOARD, VICTIM, ",".join(NOBODYS + others), *options)
    wait_until(lambda: liar.socket.exists() or process.poll() is not None, 60, "the liar to start")
    up = liar.join(home.mesh.url, home.mesh.key, name="liar")
    assert up.wait(60) == 0, up.communicate()
    home.mesh.wait_online("liar")
    address = home.mesh.address_of("liar")
    asking = home.lab.host("board").popen(["ping", "-n", "-i", "0.2", address])  # or nobody would ask its addresses
    begun_s = time.monotonic()
    wait_until(at_victim.datagrams, 60, "the first lie to be looked at")
    time.sleep(LIES_S)
    home.is_well(resident_kib)
    asking.kill()
    took_s = time.monotonic() - begun_s
    peers = {peer["name"]: peer for peer in home.board.ctl("status")["peers"]}
    got = [payload for _, _, payload in at_victim.stop()]
    process.terminate()
    process.wait()
    pings = [payload for payload in got if len(payload) == PING_BYTES]
    print(
        f"in {took_s:.1f} s the victim got {len(pings)} pings, {len(got) - len(pings)} pongs;"
        f" {cpu_s(home.board) - before_s:.1f} s of processor; {peers['liar']['path']}, {peers['board2']['path']}"
    )
    # both boards ask the addresses that the liar names
    assert 0 < len(pings) <= 2 * MAX_PINGS * (1 + took_s / (PING_TIMEOUT_MS / 1000))
    assert not [payload for payload in got if payload[:6] != b"TS\xf0\x9f\x92\xac"], "no packet of WireGuard's"
    assert astray.stop() == []
    assert VICTIM not in peers["liar"]["path"]
    assert home.film.longest_silence_s() < 5
    home.film.stop()
