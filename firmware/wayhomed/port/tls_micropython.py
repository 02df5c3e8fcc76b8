"""TLS on MicroPython's unix port: mbed TLS carries the bytes, judge() looks at certificates.

The library reads and writes the socket by itself and never blocks; all waiting is on the socket.
"""

import struct

from . import mbedtls_micropython as mbedtls
from .certificates_micropython import judge
from .crypto import same_bytes, sha256
from .packets import wait_readable, wait_writable
from .tls_error import TlsRefused, no_tls

_EBADF = 9
_EPROTO = 71
_ECONNRESET = 104
_MAX_REMEMBERED = 16

# Servers (by name) with which TLS 1.2 has failed.
_wants_1_3: list = []

# One for all streams, as net_micropython.py's. A record holds at most this much.
_scratch = memoryview(bytearray(16_384))


class TlsStream:
    """TLS over a Stream, which it closes. One task reads, one writes, once handshake() is through."""

    def __init__(self, below, server_name: str, keep_chain: bool):
        """keep_chain: chain is then the other side's certificates (DER), its own first, as far as they fit together."""
        self.chain: list = []
        self._below = below
        self._server_name = server_name
        self._keeps_chain = keep_chain
        self._open = True
        self._ended = False
        self._connection = mbedtls.structure()
        self._settings = mbedtls.structure()
        self._descriptor = bytearray(struct.pack("i", below.socket.fileno()))  # struct mbedtls_net_context
        mbedtls.ssl_init(self._connection)
        mbedtls.config_init(self._settings)
        below.owner = self
        self._set_up()

    def _set_up(self) -> None:
        settings = self._settings
        _checked(mbedtls.config_defaults(settings, 0, 0, 0))  # a client, over a stream, the library's own choices
        mbedtls.set_random(settings)
        if self._keeps_chain:
            # The library then builds the chain and shows it, and leaves the judgement to judge().
            mbedtls.conf_authmode(settings, mbedtls.VERIFY_OPTIONAL)
            mbedtls.conf_verify(settings, mbedtls.SHOW, None)
        else:
            mbedtls.conf_authmode(settings, mbedtls.VERIFY_NONE)
        if self._server_name not in _wants_1_3:
            # A relay appends an Ed25519 certificate in TLS 1.3 (derp.md section 1), and mbed TLS 3.6, which knows no
            # Ed25519, ends the handshake over it in 1.3; in 1.2 it ignores such a certificate.
            mbedtls.conf_max_version(settings, 3, 3)
        _checked(mbedtls.ssl_setup(self._connection, settings))
        # An address is no server name (RFC 6066 section 3).
        if ":" not in self._server_name and not self._server_name.replace(".", "").isdigit():
            _checked(mbedtls.ssl_set_hostname(self._connection, self._server_name.encode() + b"\0"))
        mbedtls.ssl_set_bio(self._connection, self._descriptor, mbedtls.NET_SEND, mbedtls.NET_RECV, None)

    async def handshake(self) -> None:
        while True:
            mbedtls.shown[:] = []
            status = mbedtls.ssl_handshake(self._connection)
            if mbedtls.shown:
                self.chain = list(mbedtls.shown)
            if status == 0:
                return
            if status not in (mbedtls.WANT_READ, mbedtls.WANT_WRITE):
                break
            await self._wait(status)
        if status in mbedtls.NOT_TLS and not self.chain:
            raise no_tls(self._server_name)
        # Perhaps it speaks 1.3 alone, or has begun to append what 1.3 can't bear: the caller's next try will tell.
        if self._server_name in _wants_1_3:
            _wants_1_3.remove(self._server_name)
        elif status == mbedtls.FATAL_ALERT:
            _wants_1_3[:] = [self._server_name] + _wants_1_3[: _MAX_REMEMBERED - 1]
        if status in (mbedtls.CONN_EOF, mbedtls.NET_RESET):
            raise OSError(_ECONNRESET, "the connection ended in the TLS handshake")
        raise TlsRefused("TLS with " + self._server_name + ": " + mbedtls.words_of(status))

    async def _wait(self, status: int) -> None:
        if status == mbedtls.WANT_READ:
            await wait_readable(self._below.socket)
        else:
            await wait_writable(self._below.socket)

    def certificate(self) -> bytes:
        """Return the other side's certificate, DER."""
        address = mbedtls.ssl_get_peer_cert(self._connection)
        return mbedtls.certificate_at(address) if address else b""

    async def read(self, limit: int = 65_536) -> bytes:
        """Return what has come, at most `limit` bytes; b"" at the end, also without TLS's own goodbye."""
        limit = min(limit, len(_scratch))
        while self._open:
            if self._ended:
                return b""
            status = mbedtls.ssl_read(self._connection, _scratch, limit)
            if status > 0:
                return bytes(_scratch[:status])
            if status in (0, mbedtls.CLOSE_NOTIFY, mbedtls.CONN_EOF):
                self._ended = True
            elif status == mbedtls.WANT_READ:
                await wait_readable(self._below.socket)
            elif status != mbedtls.NEW_SESSION_TICKET:
                _checked(status)
        raise OSError(_EBADF, "the stream is closed")

    async def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while len(rest):
            if not self._open:
                raise OSError(_EBADF, "the stream is closed")
            status = mbedtls.ssl_write(self._connection, rest, len(rest))
            if status >= 0:
                rest = rest[status:]
            elif status == mbedtls.WANT_WRITE:
                await wait_writable(self._below.socket)
            else:
                _checked(status)

    def close(self) -> None:
        """Close the socket too; who closes the Stream below does the same."""
        if self._open:
            self._open = False
            mbedtls.ssl_close_notify(self._connection)
            mbedtls.ssl_free(self._connection)
            mbedtls.config_free(self._settings)
            self._below.socket.close()


def _checked(status: int) -> None:
    if status == mbedtls.NET_RESET:
        raise OSError(_ECONNRESET, "the connection was reset")
    if status != 0:
        raise OSError(_EPROTO, "TLS: " + mbedtls.words_of(status))


async def tls_by_authorities(
    below, server_name: str, certificate_name: str = "", dates_matter: bool = True, authorities: str = ""
) -> TlsStream:
    """Start TLS; the certificate must come from the system's authorities and name server_name.

    certificate_name, if given, is the name due in the certificate instead, while server_name is still what we ask for.
    dates_matter False: chain and names are checked as ever, but a certificate may be expired or not valid yet; for as
    long as nobody knows what day it is. authorities: a file of authorities (PEM) instead of the system's.

    libmbedx509 is asked for its verdict after the handshake and tells all faults apart, so this leaves out the dates
    and nothing else.
    """
    stream = TlsStream(below, server_name, True)
    await stream.handshake()
    judge(stream.chain, server_name, certificate_name, dates_matter, authorities)
    stream.chain = []
    return stream


async def tls_by_pin(below, server_name: str, pin: bytes) -> TlsStream:
    """Start TLS; the certificate's DER must have this SHA-256.

    Dates and names in it are not looked at: the pin names this one certificate, it came by a trusted way, and a board
    without a battery may have no idea what day it is.
    """
    stream = TlsStream(below, server_name, False)
    await stream.handshake()
    if not same_bytes(sha256(stream.certificate()), pin):
        raise TlsRefused("the certificate is not the one that the relay map pins")
    return stream


async def tls_unverified(below, server_name: str) -> TlsStream:
    """Start TLS with whoever answers; for tests alone."""
    stream = TlsStream(below, server_name, False)
    await stream.handshake()
    return stream
