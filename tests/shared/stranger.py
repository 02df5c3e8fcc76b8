"""A neighbour on a board's LAN that sends it what no honest node would, with sources of its choice.

    python stranger.py COUNT BOARD VICTIM COPIED     BOARD, VICTIM: addresses; COPIED: a peer's sealed ping, as hex

Of the datagrams, which go to WireGuard's port and the one that follows the relay proxy's, a fifth each are: the ping
again, in the name of ever new ports of the victim; forged in the peer's name; cut short; STUN answers that nobody asked
for; and WireGuard's four kinds. Prints how many bytes it sent in the victim's name.
"""

import random
import socket
import sys

from wayhomed.linux.shared_port import encode_ip4, encode_udp
from wayhomed.wire import stun
from wayhomed.wire.address import ip_from_text

PORTS = (41641, 41641, 41641, 41643)


def datagrams(copied: bytes, chance: random.Random):
    """Yield what a stranger may think of, for ever."""
    while True:
        yield copied
        yield copied[:38] + chance.randbytes(86)
        yield copied[: chance.randrange(len(copied))]
        yield stun.encode_binding_response(chance.randbytes(12), chance.randbytes(4), 1 + chance.randrange(65535))
        kind = chance.randrange(1, 5)
        yield bytes((kind, 0, 0, 0)) + chance.randbytes((0, 144, 88, 60, 28)[kind])


def main(count: int, board: bytes, victim: bytes, copied: bytes) -> None:
    chance = random.Random(1)
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    sent = 0
    for number, datagram in zip(range(count), datagrams(copied, chance), strict=False):
        source, target = (victim, 1 + number % 65535), (board, chance.choice(PORTS))
        raw.sendto(encode_ip4(source[0], board, encode_udp(source, target, datagram)), (sys.argv[2], 0))
        sent += len(datagram)
    print(sent)


if __name__ == "__main__":
    main(int(sys.argv[1]), ip_from_text(sys.argv[2]), ip_from_text(sys.argv[3]), bytes.fromhex(sys.argv[4]))
