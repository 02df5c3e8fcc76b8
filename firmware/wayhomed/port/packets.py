"""Sockets below streams: raw IP, netlink, UNIX; the same calls on both Pythons.

Every socket is closed on exec and does not block. Addresses are network bytes. What would block raises OSError(EAGAIN);
`await wait_readable(socket)` waits for more (one waiter a descriptor).
"""

import socket
import struct

from . import MICROPYTHON, const
from .ffi import address_of, errno_after_call, libc

if MICROPYTHON:
    from .packets_micropython import (
        inet_address,
        inet_endpoint,
        netlink_address,
        peer_process,
        receive_into,
        unix_address,
        wait_readable,
        wait_writable,
    )
else:
    from .packets_cpython import (
        inet_address,
        inet_endpoint,
        netlink_address,
        peer_process,
        receive_into,
        unix_address,
        wait_readable,
        wait_writable,
    )

__all__ = [
    "EAGAIN",
    "ROUTE_NEWS",
    "attach_filter",
    "bind_to_device",
    "get_option",
    "inet_address",
    "netlink_news_socket",
    "netlink_socket",
    "peer_process",
    "raw_socket",
    "raw_socket6",
    "receive_from",
    "receive_into",
    "set_header_included",
    "set_header_included6",
    "set_mark",
    "set_receive_buffer",
    "set_udp_checksum6",
    "udp_socket",
    "udp_socket6",
    "unix_address",
    "unix_datagram",
    "unix_stream",
    "wait_readable",
    "wait_writable",
]

# Linux numbers, the same on every architecture that we build for (x86, arm, arm64, riscv; mips differs).
EAGAIN = const(11)
_AF_UNIX = const(1)
_AF_INET = const(2)
_AF_INET6 = const(10)
_AF_NETLINK = const(16)
_SOCK_STREAM = const(1)
_SOCK_DGRAM = const(2)
_SOCK_RAW = const(3)
_SOCK_CLOEXEC = const(0x80000)
_SOL_IP = const(0)
_IP_HDRINCL = const(3)
_SOL_IPV6 = const(41)
_IPV6_V6ONLY = const(26)
_IPV6_HDRINCL = const(36)
_SOL_RAW = const(255)
_IPV6_CHECKSUM = const(7)
_UDP_CHECKSUM_AT = const(6)
_SOL_UDP = const(17)
_UDP_NO_CHECK6_RX = const(102)
_SOL_SOCKET = const(1)
_SO_BINDTODEVICE = const(25)
_SO_ATTACH_FILTER = const(26)
_SO_RCVBUFFORCE = const(33)
_SO_MARK = const(36)
# RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE, IPV4_NETCONF, IPV6_NETCONF of
# <linux/rtnetlink.h>; the last two tell of forwarding switched on and off
ROUTE_NEWS = (1, 5, 7, 8, 9, 11, 19, 24, 25)


def _open(family: int, kind: int, protocol: int):
    opened = socket.socket(family, kind | _SOCK_CLOEXEC, protocol)
    opened.setblocking(False)
    return opened


def raw_socket(protocol: int):
    """Return an IPv4 raw socket. Needs CAP_NET_RAW."""
    return _open(_AF_INET, _SOCK_RAW, protocol)


def raw_socket6(protocol: int):
    """Return an IPv6 raw socket. Needs CAP_NET_RAW. Raises OSError (97) where the kernel has no IPv6.

    Unlike IPv4's it gives and takes what comes after the IPv6 header.
    """
    return _open(_AF_INET6, _SOCK_RAW, protocol)


def udp_socket():
    return _open(_AF_INET, _SOCK_DGRAM, 0)


def udp_socket6():
    """Return a UDP socket for IPv6 alone. Raises OSError (97) where the kernel has none."""
    opened = _open(_AF_INET6, _SOCK_DGRAM, 0)
    opened.setsockopt(_SOL_IPV6, _IPV6_V6ONLY, 1)
    return opened


def take_without_checksum(by) -> None:
    """Have a UDP socket for IPv6 take datagrams that bear no checksum, as one for IPv4 does."""
    by.setsockopt(_SOL_UDP, _UDP_NO_CHECK6_RX, 1)


def unix_stream():
    return _open(_AF_UNIX, _SOCK_STREAM, 0)


def unix_datagram():
    return _open(_AF_UNIX, _SOCK_DGRAM, 0)


def netlink_socket(protocol: int):
    """Return a netlink socket that is not bound; the kernel gives it a port at the first send. It blocks."""
    return socket.socket(_AF_NETLINK, _SOCK_RAW | _SOCK_CLOEXEC, protocol)


def netlink_news_socket(groups: tuple, protocol: int = 0):
    """Return a netlink socket that becomes readable when something of these groups changes; rtnetlink's if not said."""
    opened = _open(_AF_NETLINK, _SOCK_RAW, protocol)
    opened.bind(netlink_address(sum([1 << group - 1 for group in groups])))
    return opened


def receive_from(source, limit: int) -> tuple:
    """Return (datagram, (ip bytes, port)): what came, cut at the limit, and from whom."""
    datagram, address = source.recvfrom(limit)
    return datagram, inet_endpoint(address)


def get_option(of, level: int, option: int, buffer: bytearray) -> None:
    """Ask for a socket option whose question stands in the buffer, and its answer after. Raises OSError."""
    size = bytearray(struct.pack("I", len(buffer)))
    if libc().func("i", "getsockopt", "iiipp")(of.fileno(), level, option, buffer, size) < 0:
        raise OSError(errno_after_call(), "getsockopt")


def attach_filter(to, instructions: list) -> None:
    """Let a socket receive only what this classic BPF program accepts: (code, jump if true, jump if false, k) each."""
    program = bytearray(b"".join([struct.pack("HBBI", *instruction) for instruction in instructions]))
    to.setsockopt(_SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(instructions), address_of(program)))


def bind_to_device(to, interface: str) -> None:
    to.setsockopt(_SOL_SOCKET, _SO_BINDTODEVICE, interface.encode() + b"\0")


def set_mark(on, mark: int) -> None:
    """Give every packet of this socket a firewall mark. Needs CAP_NET_ADMIN."""
    on.setsockopt(_SOL_SOCKET, _SO_MARK, mark)


def set_header_included(on) -> None:
    """Say that what is sent begins with its IP header."""
    on.setsockopt(_SOL_IP, _IP_HDRINCL, 1)


def set_header_included6(on) -> None:
    """Say that what is sent begins with its IPv6 header."""
    on.setsockopt(_SOL_IPV6, _IPV6_HDRINCL, 1)


def set_udp_checksum6(on) -> None:
    """Have the kernel write the UDP checksum of what is sent, and drop what comes with a wrong one."""
    on.setsockopt(_SOL_RAW, _IPV6_CHECKSUM, _UDP_CHECKSUM_AT)


def set_receive_buffer(of, size_bytes: int) -> None:
    """Set a receive buffer beyond the system's ordinary limit. Needs CAP_NET_ADMIN."""
    of.setsockopt(_SOL_SOCKET, _SO_RCVBUFFORCE, size_bytes)
