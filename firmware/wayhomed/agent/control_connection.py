"""One connection to the coordinator: TCP, TLS by the URL, HTTP upgrade, Noise, HTTP/2; requests over it until it ends.

The coordinator is authenticated by its Noise key, which GET /key names; TLS on the upgraded connection adds nothing to
that and is not checked, as the protocol has it (control.md, opening). TLS of GET /key itself is.
"""

import asyncio
import json

from wayhomed.port import const, net, random_bytes
from wayhomed.port.tasks import within
from wayhomed.wire import control, http1, http2, keys, noise
from wayhomed.wire.errors import BadWire

from .certificates import tls_by_authorities
from .hostinfo import CAPABILITY_VERSION

_CONNECT_MS = const(5_000)
_LOOKUP_MS = const(5_000)
_HANDSHAKE_MS = const(10_000)
_KEY_BYTES = const(65_536)  # control.md 1
_ENDED = const(104)  # ECONNRESET
# Of an answer's body that nobody has read yet
_UNREAD_BYTES = const(8_388_608)


class Gone(OSError):
    """The connection to the coordinator is no more."""

    def __init__(self, text: str):
        super().__init__(_ENDED, text)


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
    stream, _ip = await _connect(url, mark, clock)
    try:
        return await within(_HANDSHAKE_MS, _ask_key(stream, url), "asking the coordinator for its key")
    finally:
        stream.close()


async def _ask_key(stream, url) -> bytes:
    target = url.path + "/key?v=" + str(CAPABILITY_VERSION)
    await stream.write(http1.encode_request("GET", target, [("Host", url.authority), ("Connection", "close")]))
    reader = http1.ResponseReader(_KEY_BYTES)
    while not reader.done:
        data = await stream.read()
        if not data:
            reader.closed()
            break
        reader.feed(data)
    if reader.status != 200:
        raise BadWire("%s answers %d at /key; is that the address of a coordinator?" % (url.authority, reader.status))
    try:
        fields = json.loads(str(reader.body, "utf-8"))
    except (ValueError, RuntimeError):
        fields = None
    if not isinstance(fields, dict) or not isinstance(fields.get("publicKey"), str):
        raise BadWire("%s names no key at /key; is that the address of a coordinator?" % url.authority)
    key = keys.key_from_text(keys.MACHINE, fields["publicKey"])
    if key == keys.ZERO:
        raise BadWire("the coordinator at %s is too old: it has no Noise key" % url.authority)
    return key


class ResponseStream:
    """The answer to one request, as it comes. status is set once headers() returned."""

    def __init__(self):
        self.status = 0
        self._parts = []
        self._unread = 0
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
        data = b"".join(self._parts)
        self._parts = []
        self._unread = 0
        return data

    async def _wait(self) -> None:
        if self._failure:
            raise Gone(self._failure)
        if self._ended:
            raise Gone("the coordinator answered nothing")
        self._news.clear()
        await self._news.wait()

    # What the connection reports:

    def headers_received(self, status: int) -> None:
        self.status = status
        self._news.set()

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        if self._unread > _UNREAD_BYTES:
            raise BadWire("the coordinator sends more than we can take")
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
        self._http = http2.Http2Client()
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
                data = await self._stream.read()
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
            answer.headers_received(event[2])
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
        answer = self._answers[number] = ResponseStream()
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
        """Return (status, body) of a short answer, waiting as long as it takes. Raises OSError, BadWire."""
        number, answer = await self.open(method, path, body)
        try:
            await answer.headers()
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
    """Return a connection whose other end has proven to hold server_key. Raises OSError, BadWire."""
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
        received = upgrade.feed(await _more(stream))
    while not noise.frame_length(received) or len(received) < noise.frame_length(received):
        received += await _more(stream)
    length = noise.frame_length(received)
    session = initiator.response_received(received[:length])
    return ControlConnection(stream, session, received[length:], url.authority)


async def _more(stream) -> bytes:
    data = await stream.read()
    if not data:
        raise Gone("the coordinator closed the connection in the handshake")
    return data
