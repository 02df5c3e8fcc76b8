"""Sockets and waiting, name lookup, local sockets on MicroPython's unix port; what its socket module lacks is libc's.

A socket is waited for where it is read by itself, where it is written by its number (packets_micropython): so the end
of one wait leaves the other alone. Nothing here polls.
"""

import os
import socket
import struct

from .ffi import errno_after_call, libc
from .host_name import check_host_name
from .packets import inet_address, inet_endpoint, unix_address, wait_readable, wait_writable
from .tasks import sleep_ms, within
from .tls_error import TlsRefused

__all__ = ["TlsRefused"]

# One for all streams: whoever fills it copies what came before anybody else runs.
_scratch = memoryview(bytearray(16_384))

_AF_UNIX = 1
_AF_INET = 2
_AF_INET6 = 10
_SOCK_STREAM = 1
_SOCK_DGRAM = 2
_SOCK_CLOEXEC = 0x80000
_SOL_SOCKET = 1
_SO_ERROR = 4
_SO_KEEPALIVE = 9
_SO_PEERCRED = 17
_SO_MARK = 36
_IPPROTO_TCP = 6
_TCP_NODELAY = 1
# TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT; net_cpython.py says why these
_KEEP_ALIVE = ((4, 15), (5, 10), (6, 3), (18, 20_000))
_EAGAIN = 11
_EINPROGRESS = 115
_ETIMEDOUT = 110
_LISTEN_BACKLOG = 8
_LOCAL_TRIES = 100
_F_SETFD = 2
_FD_CLOEXEC = 1
_O_CLOEXEC = 0o2000000
_SIGKILL = 9
_ANSWER_BYTES = 4096  # PIPE_BUF: one write, one read

_getsockopt = libc().func("i", "getsockopt", "iiipp")
_getsockname = libc().func("i", "getsockname", "ipp")
_strerror = libc().func("s", "strerror", "i")
_gai_strerror = libc().func("s", "gai_strerror", "i")
_fcntl = libc().func("i", "fcntl", "iii")
_umask = libc().func("i", "umask", "i")
_chmod = libc().func("i", "chmod", "si")
_fork = libc().func("i", "fork", "")
_exit_now = libc().func("v", "_exit", "i")
_pipe2 = libc().func("i", "pipe2", "pi")
_read = libc().func("i", "read", "ipL")
_write = libc().func("i", "write", "iPL")
_close = libc().func("i", "close", "i")
_kill = libc().func("i", "kill", "ii")
_waitpid = libc().func("i", "waitpid", "ipi")


class Stream:
    """A connected TCP or local socket."""

    def __init__(self, connected):
        self.socket = connected
        self.owner = connected  # what has to be closed: the socket, or the TLS that stands on it
        self._open = True

    async def read(self, limit: int = 65_536) -> bytes:
        """Return what has come, at most `limit` bytes; b"" at the end of the stream."""
        limit = min(limit, len(_scratch))
        while True:
            count = self.socket.readinto(_scratch, limit)
            if count is not None:
                return bytes(memoryview(_scratch)[:count])
            await wait_readable(self.socket)

    async def write(self, data: bytes) -> None:
        """Hand all of it to the kernel, waiting while its buffer is full."""
        rest = memoryview(data)
        while len(rest):
            count = self.socket.write(rest)
            if count is None:
                await wait_writable(self.socket)
            else:
                rest = rest[count:]

    def close(self) -> None:
        if self._open:
            self._open = False
            self.owner.close()


async def resolve(host: str, timeout_ms: int) -> list:
    """Return the addresses (4 or 16 bytes each) of a name, or of an address as text, in the system's order."""
    for family in (_AF_INET, _AF_INET6):
        try:
            return [socket.inet_pton(family, host)]
        except OSError:
            pass
    check_host_name(host)
    # The C library's lookup blocks, and this Python's threads share no lock: a child of ours asks, and can be ended.
    ends = bytearray(8)
    if _pipe2(ends, _O_CLOEXEC) < 0:
        raise OSError(errno_after_call(), "looking up " + host)
    reading, writing = struct.unpack("ii", ends)
    pid = _fork()
    if pid == 0:
        _look_up(host, writing)
    _close(writing)
    try:
        if pid < 0:
            raise OSError(errno_after_call(), "looking up " + host)
        await within(timeout_ms, wait_for_descriptor(reading), "looking up " + host)
        answer = bytearray(_ANSWER_BYTES)
        return _addresses(host, bytes(answer[: max(0, _read(reading, answer, len(answer)))]))
    finally:
        _close(reading)
        if pid > 0:
            _kill(pid, _SIGKILL)
            _waitpid(pid, None, 0)


async def wait_for_descriptor(descriptor: int) -> None:
    """Wait until there is something to read; a coroutine, as `within` needs one."""
    await wait_readable(descriptor)


def _look_up(host: str, writing: int) -> None:
    """Write the addresses, or the number of what went wrong, and end: this is the child's whole life."""
    try:
        try:
            found = socket.getaddrinfo(host, 0, 0, _SOCK_STREAM)
            answer = b"A"
            for entry in found:
                ip = inet_endpoint(entry[-1])[0]
                if len(answer) + 1 + len(ip) <= _ANSWER_BYTES:
                    answer += bytes((len(ip),)) + ip
        except OSError as error:
            # its text is "[addrinfo error -2]"
            answer = b"E" + str(error).rsplit(" ", 1)[-1].rstrip("])'").encode()
        _write(writing, answer, len(answer))
    finally:
        _exit_now(0)


def _addresses(host: str, answer: bytes) -> list:
    if answer[:1] != b"A":
        try:
            number = int(str(answer[1:], "utf-8"))
        except ValueError:
            raise OSError(5, "no address for " + host + ": the lookup ended early")
        raise OSError(number, "no address for " + host + ": " + _gai_strerror(number))
    found = []
    at = 1
    while at < len(answer):
        ip = answer[at + 1 : at + 1 + answer[at]]
        if ip not in found:
            found.append(ip)
        at += 1 + len(ip)
    return found


async def connect_tcp(ip: bytes, port: int, timeout_ms: int, mark: int) -> Stream:
    """Return a connected stream. mark: the fwmark by which policy routing keeps it out of the tunnel; 0 = none."""
    family = _AF_INET if len(ip) == 4 else _AF_INET6
    made = socket.socket(family, _SOCK_STREAM | _SOCK_CLOEXEC)
    try:
        made.setblocking(False)
        # Small requests must not wait for the acknowledgement of the one before.
        made.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)
        made.setsockopt(_SOL_SOCKET, _SO_KEEPALIVE, 1)
        for option, value in _KEEP_ALIVE:
            made.setsockopt(_IPPROTO_TCP, option, value)
        if mark:
            made.setsockopt(_SOL_SOCKET, _SO_MARK, mark)
        what = "connecting to " + socket.inet_ntop(family, ip) + " port " + str(port)
        try:
            await within(timeout_ms, _connect(made, inet_address(ip, port)), what)
        except OSError as error:
            if error.errno == _ETIMEDOUT and len(error.args) > 1:
                raise
            raise OSError(error.errno, what + ": " + _strerror(error.errno))
    except BaseException:
        made.close()
        raise
    return Stream(made)


async def _connect(made, address) -> None:
    try:
        made.connect(address)
    except OSError as error:
        if error.errno != _EINPROGRESS:
            raise
        await wait_writable(made)
        number = struct.unpack("i", _socket_option(made, _SO_ERROR, 4))[0]
        if number:
            raise OSError(number)


def _socket_option(of, option: int, size: int) -> bytes:
    value = bytearray(size)
    if _getsockopt(of.fileno(), _SOL_SOCKET, option, value, bytearray(struct.pack("I", size))) < 0:
        raise OSError(errno_after_call())
    return bytes(value)


# TLS and its libraries are loaded when they are needed: wayhomectl never does. What each does stands there.


async def tls_by_authorities(
    below: Stream, server_name: str, certificate_name: str = "", dates_matter: bool = True, authorities: str = ""
):
    from . import tls_micropython

    return await tls_micropython.tls_by_authorities(below, server_name, certificate_name, dates_matter, authorities)


async def tls_by_pin(below: Stream, server_name: str, pin: bytes):
    from . import tls_micropython

    return await tls_micropython.tls_by_pin(below, server_name, pin)


async def tls_unverified(below: Stream, server_name: str):
    from . import tls_micropython

    return await tls_micropython.tls_unverified(below, server_name)


def own_addresses() -> list:
    """Return the machine's names for itself in the address family of its default routes; empty without a network.

    No packet is sent: connecting a datagram socket only asks for a route.
    """
    found = []
    for family, far in ((_AF_INET, "192.0.2.1"), (_AF_INET6, "2001:db8::1")):
        try:
            probe = socket.socket(family, _SOCK_DGRAM | _SOCK_CLOEXEC)
        except OSError:
            continue  # a kernel without IPv6
        try:
            probe.connect(inet_address(socket.inet_pton(family, far), 9))
            address = bytearray(28)
            if _getsockname(probe.fileno(), address, bytearray(struct.pack("I", len(address)))) == 0:
                found.append(inet_endpoint(address)[0])
        except OSError:
            pass
        finally:
            probe.close()
    return found


class LocalListener:
    """A unix socket that others connect to; its file carries the mode given."""

    def __init__(self, path: str, mode: int):
        """Raises OSError; EADDRINUSE (98) if a process already answers there. A dead process's socket is replaced."""
        self._path = path
        self._socket = socket.socket(_AF_UNIX, _SOCK_STREAM | _SOCK_CLOEXEC)
        try:
            if _answers(path):
                raise OSError(98, path + " is in use by a running process")
            _remove(path)
            # Nobody may connect in the moment between bind and chmod.
            before = _umask(0o177)
            try:
                self._socket.bind(unix_address(path))
            finally:
                _umask(before)
            if _chmod(path, mode) < 0:
                raise OSError(errno_after_call())
            self._socket.listen(_LISTEN_BACKLOG)
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    async def accept(self) -> tuple:
        """Return (stream, (pid, uid, gid)) of the next process that connects."""
        while True:
            try:
                connected, _address = self._socket.accept()
                break
            except OSError as error:
                if error.errno != _EAGAIN:
                    raise
            await wait_readable(self._socket)
        connected.setblocking(False)
        _fcntl(connected.fileno(), _F_SETFD, _FD_CLOEXEC)
        return Stream(connected), struct.unpack("iII", _socket_option(connected, _SO_PEERCRED, 12))

    def close(self) -> None:
        self._socket.close()
        _remove(self._path)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError as error:
        if error.errno != 2:
            raise


def _answers(path: str) -> bool:
    probe = socket.socket(_AF_UNIX, _SOCK_STREAM | _SOCK_CLOEXEC)
    try:
        probe.connect(unix_address(path))
    except OSError:
        return False
    finally:
        probe.close()
    return True


async def connect_local(path: str) -> Stream:
    """Return a stream to the process that listens at the unix socket."""
    made = socket.socket(_AF_UNIX, _SOCK_STREAM | _SOCK_CLOEXEC)
    made.setblocking(False)
    try:
        for tries_left in range(_LOCAL_TRIES, 0, -1):
            try:
                made.connect(unix_address(path))
                break
            except OSError as error:
                # EAGAIN: as many wait there as it allows; the kernel tells nobody when that is over.
                if error.errno != _EAGAIN or tries_left == 1:
                    raise
            await sleep_ms(20)
    except BaseException:
        made.close()
        raise
    return Stream(made)
