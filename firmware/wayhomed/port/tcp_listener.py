"""TCP connections that others open to us."""

import socket

from . import MICROPYTHON, const
from .ffi import libc
from .packets import EAGAIN, inet_address, inet_endpoint, wait_readable

if MICROPYTHON:
    from .net_micropython import Stream
else:
    from .net_cpython import Stream

# Linux numbers, as in port.packets
_AF_INET = const(2)
_AF_INET6 = const(10)
_SOCK_STREAM = const(1)
_SOCK_CLOEXEC = const(0x80000)
_SOL_SOCKET = const(1)
_SO_REUSEADDR = const(2)
_SOL_IPV6 = const(41)
_IPV6_V6ONLY = const(26)
_F_SETFD = const(2)
_FD_CLOEXEC = const(1)
_BACKLOG = const(16)


class TcpListener:
    """A listening socket at one address of this machine."""

    def __init__(self, ip: bytes, port: int):
        """Raises OSError: 98 if the port is taken, 13 if it may not be had, 99 if the address is not ours."""
        self._socket = socket.socket(_AF_INET if len(ip) == 4 else _AF_INET6, _SOCK_STREAM | _SOCK_CLOEXEC, 0)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(_SOL_SOCKET, _SO_REUSEADDR, 1)
            if len(ip) == 16:
                self._socket.setsockopt(_SOL_IPV6, _IPV6_V6ONLY, 1)
            self._socket.bind(inet_address(ip, port))
            self._socket.listen(_BACKLOG)
        except BaseException:
            self._socket.close()
            raise

    async def accept(self) -> tuple:
        """Return (stream, (ip bytes, port)) of the next connection. Raises OSError."""
        while True:
            try:
                connected, address = self._socket.accept()
                break
            except OSError as error:
                if error.errno != EAGAIN:
                    raise
            await wait_readable(self._socket)
        connected.setblocking(False)
        libc().func("i", "fcntl", "iii")(connected.fileno(), _F_SETFD, _FD_CLOEXEC)
        return Stream(connected), inet_endpoint(address)

    def close(self) -> None:
        self._socket.close()
