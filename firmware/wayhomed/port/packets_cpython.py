"""Waiting and addresses behind port.packets on CPython."""

import asyncio
import struct
from socket import AF_INET, AF_INET6, SO_PEERCRED, SOL_SOCKET, inet_ntop, inet_pton


def inet_address(ip: bytes, port: int):
    """Return what sendto and bind take for an address of 4 or 16 bytes."""
    return inet_ntop(AF_INET if len(ip) == 4 else AF_INET6, ip), port


def inet_endpoint(address) -> tuple:
    """Return (ip bytes, port) of what recvfrom gave."""
    host = address[0]
    if ":" in host:
        return inet_pton(AF_INET6, host.split("%")[0]), address[1]
    return inet_pton(AF_INET, host), address[1]


def receive_into(source, buffer: bytearray) -> int:
    """Read what a blocking socket has into the buffer; return how many bytes that was."""
    return source.recv_into(buffer)


def unix_address(path: str):
    """Return what connect takes for a UNIX socket."""
    return path


def peer_process(connected) -> int:
    """Return the id of the process at the other end of a UNIX socket, 0 if it is in another world of processes."""
    return struct.unpack("iII", connected.getsockopt(SOL_SOCKET, SO_PEERCRED, 12))[0]


def netlink_address(groups: int):
    """Return what bind takes for a netlink socket that hears these multicast groups (bits)."""
    return 0, groups


# Who waits, by descriptor. A waiter that is cancelled ends only when the loop comes to it; somebody else may wait for
# the same descriptor by then, and must not be taken off the loop in its stead.
_readers: dict = {}
_writers: dict = {}


async def wait_readable(source) -> None:
    """Wait until a socket or descriptor has something to read, or is at its end."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    descriptor = source if isinstance(source, int) else source.fileno()
    loop.add_reader(descriptor, _wake, ready)
    _readers[descriptor] = ready
    try:
        await ready
    finally:
        if _readers.get(descriptor) is ready:
            del _readers[descriptor]
            loop.remove_reader(descriptor)


async def wait_writable(sink) -> None:
    """Wait until a socket takes more, or its connection has come to an outcome."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    descriptor = sink.fileno()
    loop.add_writer(descriptor, _wake, ready)
    _writers[descriptor] = ready
    try:
        await ready
    finally:
        if _writers.get(descriptor) is ready:
            del _writers[descriptor]
            loop.remove_writer(descriptor)


def _wake(ready) -> None:
    if not ready.done():
        ready.set_result(None)
