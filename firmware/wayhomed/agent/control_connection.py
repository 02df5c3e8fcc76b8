"""One connection to the coordinator: TCP, TLS by the URL, HTTP upgrade, Noise, HTTP/2; requests over it until it ends.

The coordinator is authenticated by its Noise key, which GET /key names; TLS on the upgraded connection adds nothing to
that and is not checked, as the protocol has it (control.md, opening). TLS of GET /key itself is.
"""

import asyncio

from wayhomed.core import server_url
from wayhomed.core.json_fields import Names
from wayhomed.port import const, net, random_bytes
from wayhomed.port.tasks import within
from wayhomed.wire import control, http1, http2, json_text, keys, noise
from wayhomed.wire.control import NotUpgraded
from wayhomed.wire.errors import BadWire

from .certificates import tls_by_authorities
from .hostinfo import CAPABILITY_VERSION

_CONNECT_MS = const(5_000)
_LOOKUP_MS = const(5_000)
_HANDSHAKE_MS = const(10_000)
_KEY_BYTES = const(65_536)  # control.md 1
_ENDED = const(104)  # ECONNRESET
_TOO_MANY_REQUESTS = const(429)
_UNAVAILABLE = const(503)
_REDIRECTS = const(5)
_REDIRECTED = (301, 302, 303, 307, 308)
_READ_BYTES = const(16_384)  # at once: what is made of it is several times that for a moment
# Some proxies refuse whoever does not say what it is.
_AGENT = ("User-Agent", "wayhomed")


class Gone(OSError):
    """The connection to the coordinator is no more."""

    def __init__(self, text: str):
        super().__init__(_ENDED, text)


class Busy(BadWire):
    """The coordinator has no time for us now; retry_after is what it says of when it will have."""

    def __init__(self, status: int, retry_after: str):
        super().__init__("the coordinator is busy (status %d)" % status)
        self.retry_after = retry_after


class HandshakeFailed(BadWire):
    """Who answered does not prove to hold the coordinator's key, or refuses us."""


async def _connect(url, mark: int, clock=None) -> tuple:
    """Return (stream, address) of the URL's host, trying its addresses in turn. Without a clock TLS proves nothing."""
    addresses = await net.resolve(url.host, _LOOKUP_MS)
    failure = OSError(_ENDED, "no address for " + url.host)
    for ip in addresses:
        try:
            stream = await net.connect_tcp(ip, url.port, _CONNECT_MS, mark)
        except OSError as error:
            failure = error
            continue
        if not url.secure:
            return stream, ip
        if clock is not None:
            starting = tls_by_authorities(stream, url.host, "", clock)
        else:
            starting = net.tls_unverified(stream, url.host)
        try:
            return await within(_HANDSHAKE_MS, starting, "TLS with " + url.host), ip
        except BaseException:
            stream.close()
            raise
    raise failure


async def fetch_server_key(url, mark: int, clock) -> bytes:
    """Return the Noise key that the coordinator names at /key. clock: the TimeKeeper. Raises OSError, BadWire."""
    target = url.path + "/key?v=" + str(CAPABILITY_VERSION)
    for _redirect in range(_REDIRECTS + 1):
        reader = await _ask("GET", url, target, mark, clock)
        if reader.status not in _REDIRECTED:
            return _key_in(reader, url)
        url, target = server_url.redirected(url, reader.headers.get("location", ""))
    raise BadWire("the coordinator sends us from one place to another without end")


async def plain_ping(url, target: str, mark: int, clock) -> int:
    """Ask by HEAD, over HTTP(S) of its own and not over Noise; return the status. Raises OSError, BadWire."""
    return (await _ask("HEAD", url, target, mark, clock)).status


async def _ask(method: str, url, target: str, mark: int, clock) -> http1.ResponseReader:
    stream, _ip = await _connect(url, mark, clock)
    try:
        return await within(_HANDSHAKE_MS, _answer_to(method, stream, url, target), "asking the coordinator")
    finally:
        stream.close()


async def _answer_to(method: str, stream, url, target: str) -> http1.ResponseReader:
    headers = [("Host", url.authority), _AGENT, ("Accept", "*/*"), ("Connection", "close")]
    await stream.write(http1.encode_request(method, target, headers))
    reader = http1.ResponseReader(_KEY_BYTES, method != "HEAD")
    while not reader.done:
        data = await stream.read()
        if not data:
            reader.closed()
            break
        reader.feed(data)
    return reader


def _key_in(reader: http1.ResponseReader, url) -> bytes:
    if reader.status != 200:
        raise BadWire("%s answers %d at /key; is that the address of a coordinator?" % (url.authority, reader.status))
    try:
        fields = json_text.parse(reader.body)
    except ValueError:
        fields = None
    if isinstance(fields, dict):
        fields = _KEY_NAMES.respelled(fields)
    if not isinstance(fields, dict) or not isinstance(fields.get("publicKey"), str):
        raise BadWire("%s names no key at /key; is that the address of a coordinator?" % url.authority)
    key = keys.key_from_text(keys.MACHINE, fields["publicKey"])
    if key == keys.ZERO:
        raise BadWire("the coordinator at %s is too old: it has no Noise key" % url.authority)
    return key


_KEY_NAMES = Names("publicKey", "legacyPublicKey")


class ResponseStream:
    """The answer to one request, as it comes. status and response_headers are set once headers() returned.

    What nobody has read yet is bounded by the window that HTTP/2 opens again as the body is read.
    """

    def __init__(self, consumed):
        """consumed(length), awaitable: so much of the body was read."""
        self.status = 0
        self.response_headers: list = []
        self._consumed = consumed
        self._parts = []
        self._ended = False
        self._failure = None
        self._news = asyncio.Event()

    async def headers(self) -> int:
        """Return the status. Raises OSError if the stream or the connection ends before."""
        while not self.status:
            await self._wait()
        return self.status

    async def read(self):
        """Return the next bytes of the body, None at its end. Raises OSError if the connection ends before."""
        while not self._parts:
            if self._ended:
                return None
            await self._wait()
        data = self._parts.pop(0)
        await self._consumed(len(data))
        return data

    def refuse_if_busy(self) -> None:
        """Raise Busy if that is what the answer says."""
        if self.status in (_TOO_MANY_REQUESTS, _UNAVAILABLE):
            wishes = [value for name, value in self.response_headers if name == "retry-after"]
            raise Busy(self.status, wishes[0] if wishes else "")

    async def _wait(self) -> None:
        if self._failure:
            raise Gone(self._failure)
        if self._ended:
            raise Gone("the coordinator answered nothing")
        self._news.clear()
        await self._news.wait()

    # What the connection reports:

    def headers_received(self, status: int, headers: list) -> None:
        self.status = status
        self.response_headers = headers
        self._news.set()

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        self._news.set()

    def ended(self) -> None:
        self._ended = True
        self._news.set()

    def failed(self, text: str) -> None:
        self._failure = text
        self._news.set()


class ControlConnection:
    """HTTP/2 over Noise. run() carries the bytes; requests may come from several tasks."""

    def __init__(self, stream, session, rest: bytes, authority: str):
        self._stream = stream
        self._session = session
        self._early = control.EarlyPayloadReader()
        self._http = http2.Http2Client(paced=True)
        self._rest = rest
        self._authority = authority
        self._answers: dict = {}
        self._one_writer = asyncio.Lock()
        self._over: str | None = None
        self.server_address = b""

    async def run(self) -> None:
        """Carry bytes until the connection ends; always raises, OSError or BadWire. Every waiting answer fails then."""
        try:
            await self._flush()
            data = self._rest
            while True:
                if data:
                    for event in self._http.feed(self._early.feed(self._session.feed(data))):
                        self._happened(event)
                    await self._flush()
                data = await self._stream.read(_READ_BYTES)
                if not data:
                    raise Gone("the coordinator closed the connection")
        finally:
            self._over = "the connection to the coordinator ended"
            for answer in self._answers.values():
                answer.failed(self._over)

    def close(self) -> None:
        self._stream.close()

    async def _flush(self) -> None:
        async with self._one_writer:  # records leave in the order in which they were sealed
            data = self._http.data_to_send()
            if data:
                await self._stream.write(self._session.seal(data))

    def _happened(self, event: tuple) -> None:
        kind, number = event[0], event[1]
        if kind == http2.GOAWAY:
            return  # streams below it are still answered; the end of the connection follows by itself
        answer = self._answers.get(number)
        if answer is None:
            return
        if kind == http2.HEADERS:
            answer.headers_received(event[2], event[3])
        elif kind == http2.DATA:
            answer.data_received(event[2])
        elif kind == http2.ENDED:
            answer.ended()
            del self._answers[number]
        elif kind == http2.RESET:
            answer.failed("the coordinator reset the request")
            del self._answers[number]

    async def open(self, method: str, path: str, body: bytes = b"") -> tuple:
        """Send a request; return (stream number, ResponseStream)."""
        if self._over:
            raise Gone(self._over)
        try:
            number = self._http.request(method, self._authority, path, [], body)
        except http2.NoNewStreams as error:
            raise Gone(str(error))

        async def consumed(length: int) -> None:
            self._http.consumed(number, length)
            if not self._over:
                await self._flush()

        answer = self._answers[number] = ResponseStream(consumed)
        await self._flush()
        return number, answer

    async def forget(self, number: int) -> None:
        """Give up on an answer, if it is still coming."""
        if number in self._answers:
            del self._answers[number]
            self._http.reset(number)
            if not self._over:
                await self._flush()

    async def request(self, method: str, path: str, body: bytes, limit_bytes: int) -> tuple:
        """Return (status, body) of a short answer, waiting as long as it takes. Raises OSError, Busy, BadWire."""
        number, answer = await self.open(method, path, body)
        try:
            await answer.headers()
            answer.refuse_if_busy()
            received = b""
            while True:
                data = await answer.read()
                if data is None:
                    return answer.status, received
                received += data
                if len(received) > limit_bytes:
                    raise BadWire("an answer of more than %d bytes from the coordinator" % limit_bytes)
        finally:
            await self.forget(number)


async def dial(url, machine_private: bytes, server_key: bytes, mark: int) -> ControlConnection:
    """Return a connection whose other end has proven to hold server_key.

    Where nothing at the URL changes to our protocol, the other way there is is tried, for proxies may stand in this one
    (control.md 2.1). Raises OSError, NotUpgraded for the URL itself; HandshakeFailed by whichever way.
    """
    try:
        return await _dial(url, machine_private, server_key, mark)
    except (OSError, NotUpgraded) as error:
        failure = error
    other = server_url.other_way(url)
    if other is not None:
        try:
            return await _dial(other, machine_private, server_key, mark)
        except (OSError, NotUpgraded):
            pass  # what went wrong with the owner's own URL is the one to tell
    raise failure


async def _dial(url, machine_private: bytes, server_key: bytes, mark: int) -> ControlConnection:
    stream, ip = await _connect(url, mark)
    try:
        connection = await within(
            _HANDSHAKE_MS, _shake_hands(stream, url, machine_private, server_key), "the coordinator's handshake"
        )
        connection.server_address = ip
        return connection
    except BaseException:
        stream.close()
        raise


async def _shake_hands(stream, url, machine_private: bytes, server_key: bytes) -> ControlConnection:
    ephemeral = keys.new_private(random_bytes(32))
    initiator = noise.Initiator(machine_private, server_key, CAPABILITY_VERSION, ephemeral)
    await stream.write(control.encode_upgrade_request(url.authority, initiator.message))
    upgrade = control.UpgradeResponseReader()
    received = None
    while received is None:
        try:
            received = upgrade.feed(await _more(stream))
        except NotUpgraded:
            raise
        except BadWire as error:
            raise NotUpgraded(str(error))
    try:
        while not noise.frame_length(received) or len(received) < noise.frame_length(received):
            received += await _more(stream)
        length = noise.frame_length(received)
        session = initiator.response_received(received[:length])
    except (OSError, BadWire) as error:
        # A coordinator with another key can't read what we sent: some say so, some just close.
        raise HandshakeFailed(str(error.args[-1]))
    return ControlConnection(stream, session, received[length:], url.authority)


async def _more(stream) -> bytes:
    data = await stream.read()
    if not data:
        raise Gone("the coordinator closed the connection in the handshake")
    return data
