"""Two homes, a router in each, and a tunnel between them: linux.home_network with a LAN behind the traveller as well.

    nas 192.168.1.10 --- 192.168.1.2 board ===== far 10.20.0.2 --- 10.20.0.10 printer

The far router is the traveller of home_network: it serves 10.20.0.0/24 and accepts what the board serves.
"""

from pathlib import Path

from linux.home_network import BOARD, BOARD6, LAN, LAN6, Home, _public
from shared.map_message import take
from wayhomed.core import netmap
from wayhomed.core.dataplane import Preferences, plan
from wayhomed.wire import address

FAR_LAN, FAR_LAN6 = "10.20.0.0/24", "fd00:20::/64"
PRINTER, PRINTER6 = "10.20.0.10", "fd00:20::10"
FAR_LAN_IP, FAR_LAN_IP6 = "10.20.0.2", "fd00:20::2"


def prefixes(*texts: str) -> list:
    return [address.prefix_from_text(text) for text in texts]


class TwoSites(Home):
    """The board takes the far LAN with accept_routes=True. far: what the far router is told, by apply_far()."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.printer = self._space("p")
        self._connect(self.traveller, "lan0", self.printer, "eth0")
        for space, interface, *addresses in (
            (self.traveller, "lan0", FAR_LAN_IP + "/24", FAR_LAN_IP6 + "/64"),
            (self.printer, "eth0", PRINTER + "/24", PRINTER6 + "/64"),
        ):
            for each in addresses:
                space.ip("address", "add", each, "dev", interface, *(["nodad"] if ":" in each else []))
            space.ip("link", "set", interface, "up")
        for network in (FAR_LAN, "100.64.0.0/10"):
            self.nas.ip("route", "add", network, "via", "192.168.1.2")
        for network in (FAR_LAN6, "fd7a:115c:a1e0::/48"):
            self.nas.ip("-6", "route", "add", network, "via", "fd00:1::2")

    def printer_knows_the_way_back(self) -> None:
        self.printer.ip("route", "add", "default", "via", FAR_LAN_IP)
        self.printer.ip("-6", "route", "add", "default", "via", FAR_LAN_IP6)

    def board_map(self, rules: list, published: list | None = None, peers: list | None = None) -> netmap.Netmap:
        made = super().board_map(rules, published, peers)
        far = made.peers[2]
        far.allowed_ips = tuple(far.allowed_ips) + tuple(prefixes(FAR_LAN, FAR_LAN6))
        return made

    async def apply_traveller(self) -> None:
        await self.apply_far([])

    async def apply_far(self, rules: list, **given) -> None:
        """Give the far router a packet filter and Preferences."""
        made = netmap.Netmap()
        take(
            made,
            {
                "Node": {
                    "ID": 2,
                    "Key": _public(self.traveller_key),
                    "Addresses": ["100.64.0.2/32", "fd7a:115c:a1e0::2/128"],
                },
                "Peers": [
                    {
                        "ID": 1,
                        "Name": "board.example.",
                        "Key": _public(self.board_key),
                        "Addresses": [BOARD + "/32", BOARD6 + "/128"],
                        "AllowedIPs": [BOARD + "/32", BOARD6 + "/128", LAN, LAN6],
                    }
                ],
                "PacketFilter": rules,
            },
        )
        given.setdefault("advertise_routes", prefixes(FAR_LAN, FAR_LAN6))
        with self.traveller.inside():
            wanted = plan(made, Preferences(accept_routes=True, **given), self.traveller_plane.facts([]))
            await self.traveller_plane.apply(wanted)
