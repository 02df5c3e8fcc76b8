"""Waiting and addresses behind port.packets on MicroPython's unix port, where an address is a raw sockaddr."""

import struct
from asyncio import core  # type: ignore[attr-defined]  # the stubs leave this module out

from .ffi import errno_after_call, libc

_read = libc().func("i", "read", "ipi")
_getsockopt = libc().func("i", "getsockopt", "iiipp")

_AF_UNIX = 1
_AF_INET = 2
_AF_INET6 = 10
_AF_NETLINK = 16
_SOL_SOCKET = 1
_SO_PEERCRED = 17


def inet_address(ip: bytes, port: int):
    """Return what sendto and bind take for an address of 4 or 16 bytes: struct sockaddr_in or sockaddr_in6."""
    if len(ip) == 4:
        return struct.pack("H", _AF_INET) + struct.pack(">H", port) + ip + bytes(8)
    return struct.pack("H", _AF_INET6) + struct.pack(">HI", port, 0) + ip + bytes(4)


def inet_endpoint(address) -> tuple:
    """Return (ip bytes, port) of what recvfrom gave."""
    start, size = (4, 4) if struct.unpack_from("H", address)[0] == _AF_INET else (8, 16)
    return bytes(address[start : start + size]), struct.unpack_from(">H", address, 2)[0]


def receive_into(source, buffer: bytearray) -> int:
    """Read what a blocking socket has into the buffer; return how many bytes that was."""
    # The socket's own readinto() does not return before the whole buffer is full.
    size = _read(source.fileno(), buffer, len(buffer))
    if size < 0:
        raise OSError(errno_after_call(), "read")
    return size


def unix_address(path: str):
    """Return what connect takes for a UNIX socket: struct sockaddr_un."""
    # a name that begins with a zero byte is no file's, and ends with its length alone
    return struct.pack("H", _AF_UNIX) + path.encode() + (b"" if path.startswith("\0") else b"\0")


def peer_process(connected) -> int:
    """Return the id of the process at the other end of a UNIX socket, 0 if it is in another world of processes."""
    credentials, size = bytearray(12), bytearray(struct.pack("I", 12))
    if _getsockopt(connected.fileno(), _SOL_SOCKET, _SO_PEERCRED, credentials, size) < 0:
        raise OSError(errno_after_call(), "getsockopt")
    return struct.unpack("iII", credentials)[0]


def netlink_address(groups: int):
    """Return what bind takes for a netlink socket that hears these multicast groups (bits): struct sockaddr_nl."""
    return struct.pack("HHII", _AF_NETLINK, 0, 0, groups)


# Generators: to await one works in MicroPython alone.


def wait_readable(source):
    """Wait until a socket or descriptor has something to read, or is at its end."""
    yield core._io_queue.queue_read(source)


def wait_writable(sink):
    """Wait until a socket takes more, or its connection has come to an outcome."""
    # By its number, while who reads waits for the socket itself: the queue keeps a reader and a writer of one object
    # together, and forgets both when either is cancelled.
    yield core._io_queue.queue_write(sink.fileno())
