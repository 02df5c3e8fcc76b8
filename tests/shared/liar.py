"""A wayhomed that has joined the mesh as any other, and lies to all its peers about where it is.

    python liar.py BOARD VICTIM FORBIDDEN,... OPTION...     addresses; the options are wayhomed's

To the coordinator it names 1,000 endpoints, none of them its own. A hundred times a second it sends each peer a
CallMeMaybe by the relay with 64 ever new endpoints: of the victim, of other peers, and forbidden ones. As often it
pings BOARD, whose LAN it is on, in the victim's and in the other peers' names, and answers pings that nobody sent.
"""

import asyncio
import random
import socket
import sys

from wayhomed.agent import daemon
from wayhomed.agent.main import run
from wayhomed.agent.paths import PathKeeper
from wayhomed.linux.shared_port import encode_ip4, encode_udp
from wayhomed.port.tasks import run_all
from wayhomed.wire import disco, keys
from wayhomed.wire.address import ip_from_text

EVERY_S = 0.01
PORT = 41641
BOARD, VICTIM = (ip_from_text(text) for text in sys.argv[1:3])
FORBIDDEN = [ip_from_text(text) for text in sys.argv[3].split(",")]


class Liar(PathKeeper):
    """Keeps paths as any other, and lies beside it."""

    chance = random.Random(1)

    def told_endpoints(self) -> list:
        told = [((ip, PORT), 1) for ip in FORBIDDEN]
        return told + [((VICTIM, 1 + port), 1) for port in range(1000 - len(told))]

    async def run(self, data_plane) -> None:
        self._raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        await run_all(super().run(data_plane), self._lie())

    async def _lie(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            peers = [peer for peer in self._board.netmap.peers.values() if peer.disco_key != keys.ZERO]
            for peer in peers:
                others = [endpoint for other in peers if other is not peer for endpoint in other.endpoints]
                self._lie_to(peer, others)

    def _lie_to(self, peer, others: list) -> None:
        def seal(plaintext: bytes) -> bytes:
            return self._core._box.seal(peer.disco_key, plaintext)

        chance = self.chance
        false = [(VICTIM, 1 + chance.randrange(65535)) for _ in range(30)]
        false += [(ip, PORT) for ip in FORBIDDEN] + others
        chance.shuffle(false)
        self._board.links.send(peer.key, peer.home_derp, seal(disco.encode_call_me_maybe(false[:64])))
        own_key = keys.public_of(self._board.state.node_private)
        for source in [(VICTIM, 1 + chance.randrange(65535)), *others]:
            if len(source[0]) == 4:
                self._send_as(source, seal(disco.encode_ping(chance.randbytes(12), own_key)))
                self._send_as(source, seal(disco.encode_pong(chance.randbytes(12), BOARD, PORT)))

    def _send_as(self, source: tuple, datagram: bytes) -> None:
        packet = encode_ip4(source[0], BOARD, encode_udp(source, (BOARD, PORT), datagram))
        self._raw.sendto(packet, (sys.argv[1], 0))


if __name__ == "__main__":
    daemon.PathKeeper = Liar
    sys.exit(run(sys.argv[4:]))
