"""Sockets and waiting, TLS, name lookup, local sockets on CPython."""

import asyncio
import errno
import os
import socket
import ssl
import struct
import threading

from .crypto import same_bytes, sha256
from .host_name import check_host_name
from .tasks import sleep_ms, within
from .tls_error import TlsRefused, no_tls

__all__ = ["TlsRefused"]

_READ_BYTES = 65536
_SO_MARK = 36
_SO_PEERCRED = 17
# A peer that vanished without a word is noticed after 15 + 3 * 10 s; unsent data gives up after 20 s (RFC 5482). The
# first probe also opens the way back through a router that has forgotten us: who only listens gets nothing till then.
_KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3), (18, 20_000))
_LISTEN_BACKLOG = 8
_LOCAL_TRIES = 100
# The daemon asks for a handful of names at a time; more than this pile up only while no name server answers.
_MOST_LOOKUPS = 32


class Stream:
    """A connected TCP or local socket."""

    def __init__(self, connected: socket.socket):
        self._socket = connected
        self._loop = asyncio.get_running_loop()

    async def read(self, limit: int = _READ_BYTES) -> bytes:
        """Return what has come, at most `limit` bytes; b"" at the end of the stream."""
        return await self._loop.sock_recv(self._socket, limit)

    async def write(self, data: bytes) -> None:
        """Hand all of it to the kernel, waiting while its buffer is full."""
        await self._loop.sock_sendall(self._socket, data)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()


class TlsStream:
    """TLS over a Stream, with the bytes moved by hand: the waiting is on the raw socket alone."""

    def __init__(self, below: Stream, context: ssl.SSLContext, server_name: str):
        self._below = below
        self._server_name = server_name
        self._arrived = ssl.MemoryBIO()
        self._leaving = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._arrived, self._leaving, server_hostname=server_name)
        self._one_writer = asyncio.Lock()

    async def handshake(self) -> None:
        try:
            await self._carry(self._tls.do_handshake)
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message or str(error)
            raise TlsRefused("the certificate of " + self._server_name + " is not trusted: " + why) from None
        except ssl.SSLError as error:
            if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE"):
                # So OpenSSL calls any first bytes that are no TLS record: most often https:// for a server of http://.
                raise no_tls(self._server_name) from None
            raise TlsRefused("TLS with " + self._server_name + ": " + str(error.reason or error)) from None

    def certificate(self) -> bytes:
        """Return the other side's certificate, DER."""
        return self._tls.getpeercert(binary_form=True) or b""

    def certificate_names(self) -> list:
        """Return the DNS names in a certificate that was verified."""
        certificate: dict = self._tls.getpeercert() or {}
        return [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]

    async def read(self, limit: int = _READ_BYTES) -> bytes:
        try:
            return await self._carry(lambda: self._tls.read(limit))
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLError as error:
            raise OSError(71, "TLS: " + str(error.reason or error)) from None

    async def write(self, data: bytes) -> None:
        self._tls.write(data)
        await self._flush()

    async def _carry(self, step):
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._below.read()
                if data:
                    self._arrived.write(data)
                else:
                    # without TLS's own goodbye: whoever reads knows by its framing whether all has come
                    self._arrived.write_eof()
                    if self._tls.version() is None:
                        raise OSError(104, "the connection ended in the TLS handshake") from None
                    return b""
            else:
                if self._leaving.pending:
                    await self._flush()
                return result

    async def _flush(self) -> None:
        async with self._one_writer:
            while self._leaving.pending:
                await self._below.write(self._leaving.read(_READ_BYTES))

    def close(self) -> None:
        self._below.close()


async def resolve(host: str, timeout_ms: int) -> list:
    """Return the addresses (4 or 16 bytes each) of a name, or of an address as text, in the system's order."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return [socket.inet_pton(family, host)]
        except OSError:
            pass
    check_host_name(host)
    try:
        found = await within(timeout_ms, _look_up(host), "looking up " + host)
    except socket.gaierror as error:
        raise OSError(error.errno, "no address for " + host + ": " + str(error.strerror)) from None
    except UnicodeError:
        raise OSError(22, "not a host name: " + host[:80]) from None
    addresses = []
    for family, _type, _protocol, _name, where in found:
        ip = socket.inet_pton(family, where[0].split("%")[0])
        if ip not in addresses:
            addresses.append(ip)
    return addresses


# The threads that ask; a lookup that is given up goes on in its own until the C library gives up too.
_lookups: set = set()


async def _look_up(host: str) -> list:
    """Return what getaddrinfo() gives. Raises what it raises, and OSError (11) while too many are without an answer.

    Not the loop's own getaddrinfo(): its few threads would all wait for a name server that is gone while the next one
    could answer, and the loop's end waits for them.
    """
    if len(_lookups) >= _MOST_LOOKUPS:
        raise OSError(11, "looking up " + host + ": " + str(len(_lookups)) + " lookups are without an answer yet")
    loop = asyncio.get_running_loop()
    answer = loop.create_future()

    def settle(found: "list | None", error: "Exception | None") -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(found)
        else:
            answer.set_exception(error)

    def ask() -> None:
        found, error = None, None
        try:
            found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
        except Exception as caught:
            error = caught
        _lookups.discard(thread)
        try:
            loop.call_soon_threadsafe(settle, found, error)
        except RuntimeError:
            pass  # the loop has ended, and whoever asked with it

    thread = threading.Thread(target=ask, daemon=True)
    _lookups.add(thread)
    try:
        thread.start()
    except RuntimeError:
        _lookups.discard(thread)
        raise OSError(11, "looking up " + host + ": no thread for it") from None
    return await answer


async def connect_tcp(ip: bytes, port: int, timeout_ms: int, mark: int) -> Stream:
    """Return a connected stream. mark: the fwmark by which policy routing keeps it out of the tunnel; 0 = none."""
    family = socket.AF_INET if len(ip) == 4 else socket.AF_INET6
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        made.setblocking(False)
        # Small requests must not wait for the acknowledgement of the one before.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEP_ALIVE:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
        if mark:
            made.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
        where = (socket.inet_ntop(family, ip), port)
        connecting = asyncio.get_running_loop().sock_connect(made, where)
        try:
            await within(timeout_ms, connecting, f"connecting to {where[0]} port {port}")
        except OSError as error:
            if error.errno is None or error.errno == errno.ETIMEDOUT:
                raise
            text = f"connecting to {where[0]} port {port}: {os.strerror(error.errno)}"
            raise OSError(error.errno, text) from None
    except BaseException:
        made.close()
        raise
    return Stream(made)


# X509_V_FLAG_NO_CHECK_TIME of <openssl/x509_vfy.h>
_NO_CHECK_TIME = 0x200000
# Made once: reading the system's authorities takes 30 ms and 1 MB.
_contexts: dict = {}


def _authority_context(names_checked: bool, dates_matter: bool, authorities: str) -> ssl.SSLContext:
    kind = (names_checked, dates_matter, authorities)
    if kind not in _contexts:
        context = ssl.create_default_context(cafile=authorities or None)
        context.check_hostname = names_checked
        if not dates_matter:
            context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
        _contexts[kind] = context
    return _contexts[kind]


async def tls_by_authorities(
    below: Stream, server_name: str, certificate_name: str = "", dates_matter: bool = True, authorities: str = ""
) -> TlsStream:
    """Start TLS; the certificate must come from the system's authorities and name server_name.

    certificate_name, if given, is the name due in the certificate instead, while server_name is still what we ask for.
    dates_matter False: chain and names are checked as ever, but a certificate may be expired or not valid yet; for as
    long as nobody knows what day it is. authorities: a file of authorities (PEM) instead of the system's.
    """
    other_name = bool(certificate_name) and certificate_name != server_name
    stream = TlsStream(below, _authority_context(not other_name, dates_matter, authorities), server_name)
    await stream.handshake()
    if other_name and not _names_match(stream.certificate_names(), certificate_name):
        raise TlsRefused("the certificate is not for " + certificate_name)
    return stream


def _names_match(names: list, wanted: str) -> bool:
    """Match a host name as RFC 6125 section 6.4 has it: a star stands for the whole first label, nothing more."""
    wanted = wanted.lower().rstrip(".")
    for name in names:
        name = name.lower()
        if name == wanted or (name.startswith("*.") and "." in wanted and name[1:] == wanted[wanted.index(".") :]):
            return True
    return False


def _context_without_authorities() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def tls_by_pin(below: Stream, server_name: str, pin: bytes) -> TlsStream:
    """Start TLS; the certificate's DER must have this SHA-256.

    Dates and names in it are not looked at: the pin names this one certificate, it came by a trusted way, and a board
    without a battery may have no idea what day it is.
    """
    stream = TlsStream(below, _context_without_authorities(), server_name)
    await stream.handshake()
    if not same_bytes(sha256(stream.certificate()), pin):
        raise TlsRefused("the certificate is not the one that the relay map pins")
    return stream


async def tls_unverified(below: Stream, server_name: str) -> TlsStream:
    """Start TLS with whoever answers; for tests alone."""
    stream = TlsStream(below, _context_without_authorities(), server_name)
    await stream.handshake()
    return stream


def own_addresses() -> list:
    """Return the machine's names for itself in the address family of its default routes; empty without a network.

    No packet is sent: connecting a datagram socket only asks for a route.
    """
    found = []
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((far, 9))
                found.append(socket.inet_pton(family, probe.getsockname()[0]))
            except OSError:
                pass
    return found


class LocalListener:
    """A unix socket that others connect to; its file carries the mode given."""

    def __init__(self, path: str, mode: int):
        """Raises OSError; EADDRINUSE (98) if a process already answers there. A dead process's socket is replaced."""
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            if _answers(path):
                raise OSError(98, path + " is in use by a running process")
            if os.path.exists(path):
                os.unlink(path)
            # Nobody may connect in the moment between bind and chmod.
            before = os.umask(0o177)
            try:
                self._socket.bind(path)
            finally:
                os.umask(before)
            os.chmod(path, mode)
            self._socket.listen(_LISTEN_BACKLOG)
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    async def accept(self) -> tuple:
        """Return (stream, (pid, uid, gid)) of the next process that connects."""
        connected, _address = await asyncio.get_running_loop().sock_accept(self._socket)
        connected.setblocking(False)
        credentials = connected.getsockopt(socket.SOL_SOCKET, _SO_PEERCRED, 12)
        return Stream(connected), struct.unpack("iII", credentials)

    def close(self) -> None:
        self._socket.close()
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


async def connect_local(path: str) -> Stream:
    """Return a stream to the process that listens at the unix socket."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    made.setblocking(False)
    try:
        for tries_left in range(_LOCAL_TRIES, 0, -1):
            try:
                # Not the loop's sock_connect(): it takes EAGAIN for "under way".
                made.connect(path)
                break
            except BlockingIOError:
                # As many wait there as it allows; the kernel tells nobody when that is over.
                if tries_left == 1:
                    raise
            await sleep_ms(20)
    except BaseException:
        made.close()
        raise
    return Stream(made)
