"""TLS on MicroPython's unix port: its `tls` module (mbed TLS) carries the bytes, judge() looks at certificates.

A TLS socket is no descriptor to poll(), so all waiting is on the socket below it.
"""

import struct

import tls
import uctypes

from .certificates_micropython import judge
from .crypto import same_bytes, sha256
from .packets import wait_readable, wait_writable
from .tls_error import TlsRefused, no_tls

_EPROTO = 71
_ECONNRESET = 104
# MBEDTLS_ERR_SSL_* of <mbedtls/ssl.h>
_INVALID_RECORD = -0x7200
_CONN_EOF = -0x7280
_BAD_CERTIFICATE = -0x7A00
_UNEXPECTED_MESSAGE = -0x7700
_DECODE_ERROR = -0x7300
_WRONG_VERSION = -0x6E80

_FATAL_ALERT = -0x7780
_TLS_1_2 = 0x0303
_TLS_1_3 = 0x0304
_CONTEXT_BYTES = 1536  # of some 2000: the settings begin at 800 (armhf) to 1300 (arm64)
_MAX_REMEMBERED = 16

# Servers (by name) that refused TLS 1.2.
_wants_1_3: list = []

# One for all streams, as net_micropython.py's. A record holds at most this much.
_scratch = memoryview(bytearray(16_384))


class TlsStream:
    """TLS over a Stream. One task reads, one writes, once handshake() is through."""

    def __init__(self, below, server_name: str, keep_chain: bool):
        """keep_chain: chain is then the other side's certificates (DER), its own first, as far as they fit together."""
        self.chain: list = []
        self._below = below
        self._server_name = server_name
        context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        # The stubs lack both attributes.
        context.verify_mode = tls.CERT_NONE  # type: ignore[attr-defined]
        if keep_chain:
            # mbed TLS then builds the chain and shows it, and leaves the judgement to judge().
            context.verify_mode = tls.CERT_OPTIONAL  # type: ignore[attr-defined]
            context.verify_callback = self._show  # type: ignore[attr-defined]
        self._context = context
        self._speaks_1_3 = server_name in _wants_1_3 or not _limit_to_1_2(context)
        # An address is no server name (RFC 6066 section 3).
        name = None if ":" in server_name or server_name.replace(".", "").isdigit() else server_name
        self._tls = context.wrap_socket(below.socket, server_hostname=name, do_handshake_on_connect=False)
        below.owner = self._tls
        self._early = b""

    def _show(self, certificate, depth: int) -> int:
        try:
            self.chain.insert(0, bytes(certificate))  # they come from the top down
        except MemoryError:
            self.chain = []  # no exception may pass through mbed TLS; without a chain nobody is trusted
        return 0

    async def handshake(self) -> None:
        try:
            while True:
                # A read goes on with the handshake. Whoever speaks first after it may have its first byte read here.
                count = self._tls.readinto(_scratch, 1)
                if count:
                    self._early = bytes(_scratch[:1])
                    return
                if self._tls.getpeercert(True) is not None:
                    return
                if count == 0:
                    raise OSError(_ECONNRESET, "the connection ended in the TLS handshake")
                await wait_readable(self._below.socket)
        except OSError as error:
            number = error.errno or 0
            if number in (_INVALID_RECORD, _UNEXPECTED_MESSAGE, _DECODE_ERROR) and not self.chain:
                raise no_tls(self._server_name)
            if number == _CONN_EOF:
                raise OSError(_ECONNRESET, "the connection ended in the TLS handshake")
            if number in (_FATAL_ALERT, _WRONG_VERSION) and not self._speaks_1_3:
                # Perhaps it speaks 1.3 alone: the caller's next try will tell.
                _wants_1_3[:] = [self._server_name] + _wants_1_3[: _MAX_REMEMBERED - 1]
            if number < 0:
                raise TlsRefused("TLS with " + self._server_name + ": " + _words(error))
            raise
        except ValueError as error:
            raise TlsRefused("TLS with " + self._server_name + ": " + str(error))

    def certificate(self) -> bytes:
        """Return the other side's certificate, DER."""
        return self._tls.getpeercert(True) or b""

    async def read(self, limit: int = 65_536) -> bytes:
        """Return what has come, at most `limit` bytes; b"" at the end, also without TLS's own goodbye."""
        if self._early:
            early, self._early = self._early, b""
            return early
        limit = min(limit, len(_scratch))
        while True:
            try:
                count = self._tls.readinto(_scratch, limit)
            except OSError as error:
                if error.errno == _CONN_EOF:
                    return b""
                raise _named(error)
            if count is not None:
                return bytes(_scratch[:count])
            await wait_readable(self._below.socket)

    async def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while len(rest):
            try:
                count = self._tls.write(rest)
            except OSError as error:
                raise _named(error)
            if count is None:
                await wait_writable(self._below.socket)
            else:
                rest = rest[count:]

    def close(self) -> None:
        self._below.close()


def _limit_to_1_2(context) -> bool:
    """Have a context speak TLS 1.2 at most; return False, with the context as it was, if that can't be done.

    A relay appends an Ed25519 certificate in TLS 1.3 (derp.md section 1), and mbed TLS 3.6, which knows no Ed25519,
    ends the handshake over it in 1.3; in 1.2 it ignores such a certificate. MicroPython has no call for that, so the
    library's settings are written: struct mbedtls_ssl_config of <mbedtls/ssl.h>, which MicroPython's object holds,
    begins with the newest and the oldest version allowed. Nothing else there looks like these two numbers, so another
    layout is noticed and left alone.
    """
    held = uctypes.bytearray_at(id(context), _CONTEXT_BYTES)
    both = struct.pack("II", _TLS_1_3, _TLS_1_2)
    at = held.find(both)
    if at < 0 or held.find(both, at + 1) >= 0:
        return False
    held[at : at + 4] = struct.pack("I", _TLS_1_2)
    return True


def _named(error: OSError) -> OSError:
    """Return the error as the rest of the daemon knows it: mbed TLS's own numbers are below zero."""
    if (error.errno or 0) >= 0:
        return error
    return OSError(_EPROTO, "TLS: " + _words(error))


def _words(error: OSError) -> str:
    return str(error.args[-1])


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
