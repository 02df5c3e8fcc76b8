"""Packet sockets: whole Ethernet frames of one interface, on both Pythons. Needs CAP_NET_RAW."""

import socket
import struct

from . import MICROPYTHON, const
from .packets import bind_to_device

_AF_PACKET = const(17)
_SOCK_RAW = const(3)
_SOCK_CLOEXEC = const(0x80000)
_SOL_SOCKET = const(1)
_SO_BROADCAST = const(6)
_SOL_IP = const(0)
_IP_MULTICAST_TTL = const(33)

if MICROPYTHON:

    def _address(_name: str, index: int, ethertype: int):
        """Return struct sockaddr_ll: family 2 | ethertype 2 | interface 4 | hardware type 2, packet type 1, length 1 |
        address 8. Source: packet(7)."""
        return struct.pack("H", _AF_PACKET) + struct.pack(">H", ethertype) + struct.pack("i", index) + bytes(12)

else:

    def _address(name: str, _index: int, ethertype: int):
        return name, ethertype


def frame_socket(name: str, index: int, ethertype: int):
    """Return a socket that sends frames by an interface and receives those of one ethertype that come there.

    Raises OSError: ENODEV (19) or ENETDOWN (100) for an interface that is gone or down.
    """
    # Protocol 0: nothing is received before it is bound.
    opened = socket.socket(_AF_PACKET, _SOCK_RAW | _SOCK_CLOEXEC, 0)
    try:
        opened.setblocking(False)
        opened.bind(_address(name, index, ethertype))
    except OSError:
        opened.close()
        raise
    return opened


def reach_all(by, name: str, ttl: int) -> None:
    """Let a UDP socket over IPv4 send to everybody on an interface: by broadcast, and by multicast with this TTL."""
    bind_to_device(by, name)
    by.setsockopt(_SOL_SOCKET, _SO_BROADCAST, 1)
    by.setsockopt(_SOL_IP, _IP_MULTICAST_TTL, ttl)
