"""Sockets and waiting, TLS, name lookup, local sockets.

A stream has `await read(limit)` (b"" at its end), `await write(data)` (all of it) and `close()`. One task reads and one
writes; whoever closes it ends both first. These are the shapes that MicroPython's sockets can keep: one reader and one
writer per descriptor, an explicit wait on the raw socket.
Failures are OSError; a certificate that is not the one due is TlsRefused.
"""

from . import MICROPYTHON

if MICROPYTHON:
    from .net_micropython import (
        LocalListener,
        TlsRefused,
        connect_local,
        connect_tcp,
        own_addresses,
        resolve,
        tls_by_authorities,
        tls_by_pin,
        tls_unverified,
    )
else:
    from .net_cpython import (
        LocalListener,
        TlsRefused,
        connect_local,
        connect_tcp,
        own_addresses,
        resolve,
        tls_by_authorities,
        tls_by_pin,
        tls_unverified,
    )

__all__ = [
    "LocalListener",
    "TlsRefused",
    "connect_local",
    "connect_tcp",
    "own_addresses",
    "resolve",
    "tls_by_authorities",
    "tls_by_pin",
    "tls_unverified",
]
