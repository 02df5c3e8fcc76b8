"""A small control client on asyncio, made of the board's own protocol code, to test and measure coordinators with.

client = await ControlClient.connect("127.0.0.1", port, server_public)
await client.register(auth_key=secret, hostname="nas")
stream = client.poll()
first = await stream.message()
"""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import zstandard

from wayhomed.wire import control, http2, noise
from wayhomed.wire.errors import BadWire
from wayhomed.wire.keys import DISCO, NODE, ZERO, key_text, new_private, public_of

CAPABILITY = 130
_MAP_LIMIT = 64 << 20


class ConnectionEnded(Exception):
    """The connection, or the stream that was waited for, has ended; the text says how."""


@dataclass
class Identity:
    """What a client keeps on disk, and its disco key."""

    machine_private: bytes = field(default_factory=lambda: new_private(secrets.token_bytes(32)))
    node_private: bytes = field(default_factory=lambda: new_private(secrets.token_bytes(32)))
    disco_private: bytes = field(default_factory=lambda: new_private(secrets.token_bytes(32)))

    @property
    def machine_public(self) -> bytes:
        return public_of(self.machine_private)

    @property
    def node_public(self) -> bytes:
        return public_of(self.node_private)


@dataclass
class Answer:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class MapStream:
    """A poll's answer: messages as they come. `frames` holds the payload sizes, as they were on the wire."""

    def __init__(self, client: "ControlClient", stream: int, zstd: bool) -> None:
        self._client = client
        self.stream = stream
        self._zstd = zstd
        self._decoder = control.MapFrameDecoder(_MAP_LIMIT)
        self._messages: deque[dict[str, Any]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self.status = 0
        self.ended = False
        self.frames: list[int] = []
        self.on_message: Any = None  # called with each message instead of keeping it

    async def message(self, seconds: float = 10) -> dict[str, Any]:
        """Return the next message. Raises ConnectionEnded, TimeoutError."""
        async with asyncio.timeout(seconds):
            while not self._messages:
                if self.ended:
                    raise ConnectionEnded(f"the poll has ended, status {self.status}")
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        return self._messages.popleft()

    async def until(self, wanted: Any, seconds: float = 10) -> dict[str, Any]:
        """Return the first message for which `wanted(message)` is true; those before it are dropped."""
        async with asyncio.timeout(seconds):
            while True:
                message = await self.message(seconds)
                if wanted(message):
                    return message

    def nothing_more(self) -> bool:
        """Whether no message waits to be taken."""
        return not self._messages

    def data(self, data: bytes) -> None:
        for payload in self._decoder.feed(data):
            self.frames.append(len(payload) + 4)
            text = zstandard.ZstdDecompressor().decompress(payload, _MAP_LIMIT) if self._zstd else payload
            if self.on_message is not None:
                self.on_message(text)
            else:
                self._messages.append(json.loads(text))
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Pending:
    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()


class ControlClient(asyncio.Protocol):
    """One connection. Make it with `connect`."""

    def __init__(self, identity: Identity, server_public: bytes, version: int, window_bytes: int) -> None:
        self.identity = identity
        self.version = version
        self.hostinfo: dict[str, Any] = {"OS": "linux", "Hostname": "client", "BackendLogID": "b" * 64}
        self._http2 = http2.Http2Client(window_bytes)
        self._initiator = noise.Initiator(
            identity.machine_private, server_public, version, new_private(secrets.token_bytes(32))
        )
        self._session: noise.Session | None = None
        self._upgrade: control.UpgradeResponseReader | None = control.UpgradeResponseReader()
        self._buffer = bytearray()
        self._early = control.EarlyPayloadReader()
        self._transport: asyncio.Transport
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending: dict[int, _Pending] = {}
        self._streams: dict[int, MapStream] = {}
        self.tap: Callable[[bytes], None] | None = None  # gets what arrives instead of us, still sealed

    @classmethod
    async def connect(
        cls,
        host: str,
        port: int,
        server_public: bytes,
        identity: Identity | None = None,
        *,
        version: int = CAPABILITY,
        window_bytes: int = http2.WINDOW_BYTES,
        local: str | None = None,
        tls: Any = None,
    ) -> "ControlClient":
        """Connect and finish the handshake. Raises ConnectionEnded with the server's words if it refuses."""
        _, client = await asyncio.get_running_loop().create_connection(
            lambda: cls(identity or Identity(), server_public, version, window_bytes),
            host,
            port,
            local_addr=(local, 0) if local else None,
            ssl=tls,
        )
        async with asyncio.timeout(20):
            await client.ready
        return client

    # requests

    async def ask(self, method: str, path: str, body: Any = None, seconds: float = 20) -> Answer:
        """Send a request and return its whole answer. `body`: bytes, or what becomes JSON."""
        pending, _ = self.send(method, path, body)
        async with asyncio.timeout(seconds):
            return await pending.done

    def send(self, method: str, path: str, body: Any = None) -> tuple[_Pending, int]:
        """Send a request without waiting; returns (what will have the answer in `.done`, its stream).

        Raises ConnectionEnded.
        """
        if self.lost.done():
            raise ConnectionEnded("the connection was lost")
        if not isinstance(body, bytes):
            body = b"" if body is None else json.dumps(body).encode()
        stream = self._http2.request(method, "coordinator", path, [], body)
        pending = self._pending[stream] = _Pending()
        self._flush()
        return pending, stream

    def register_body(self, **fields: Any) -> dict[str, Any]:
        auth_key = fields.pop("auth_key", None)
        hostname = fields.pop("hostname", None)
        body = {
            "Version": self.version,
            "NodeKey": key_text(NODE, self.identity.node_public),
            "OldNodeKey": key_text(NODE, ZERO),
            "Hostinfo": {**self.hostinfo, **({"Hostname": hostname} if hostname else {})},
            "Expiry": "0001-01-01T00:00:00Z",
            "Followup": "",
            **fields,
        }
        if auth_key is not None:
            body["Auth"] = {"AuthKey": auth_key}
        return body

    async def register(self, **fields: Any) -> dict[str, Any]:
        """Register and return the response; keywords are `auth_key`, `hostname` and fields of the request."""
        answer = await self.ask("POST", "/machine/register", self.register_body(**fields))
        return {
            "status": answer.status,
            **(answer.json() if answer.body[:1] == b"{" else {"text": answer.body.decode()}),
        }

    def map_body(self, **fields: Any) -> dict[str, Any]:
        return {
            "Version": self.version,
            "KeepAlive": True,
            "NodeKey": key_text(NODE, self.identity.node_public),
            "DiscoKey": key_text(DISCO, public_of(self.identity.disco_private)),
            "Hostinfo": self.hostinfo,
            **fields,
        }

    async def update(self, **fields: Any) -> Answer:
        """Send a lite update."""
        return await self.ask("POST", "/machine/map", self.map_body(Stream=False, OmitPeers=True, **fields))

    def poll(self, *, zstd: bool = True, **fields: Any) -> MapStream:
        """Begin a poll."""
        if self.lost.done():
            raise ConnectionEnded("the connection was lost")
        body = self.map_body(Stream=True, **({"Compress": "zstd"} if zstd else {}), **fields)
        stream = self._http2.request("POST", "coordinator", "/machine/map", [], json.dumps(body).encode())
        result = self._streams[stream] = MapStream(self, stream, zstd)
        self._flush()
        return result

    def reset(self, stream: int) -> None:
        self._http2.reset(stream)
        self._pending.pop(stream, None)
        self._streams.pop(stream, None)
        self._flush()

    def send_plaintext(self, data: bytes) -> None:
        """Send bytes inside Noise that HTTP/2 did not make."""
        assert self._session is not None
        self._transport.write(self._session.seal(data))

    def send_raw(self, data: bytes) -> None:
        """Send bytes that Noise did not make."""
        self._transport.write(data)

    def pause(self) -> None:
        """Read nothing from now on."""
        self._transport.pause_reading()

    def resume(self) -> None:
        self._transport.resume_reading()

    def close(self) -> None:
        self._transport.abort()

    # from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are ones in all but inheritance
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(control.encode_upgrade_request("coordinator", self._initiator.message))

    def data_received(self, data: bytes) -> None:
        if self.tap is not None:
            self.tap(data)
            return
        try:
            self._received(data)
        except BadWire as error:
            if not self.ready.done():
                self.ready.set_exception(ConnectionEnded(str(error)))
            self._transport.abort()

    def _received(self, data: bytes) -> None:
        if self._upgrade is not None:
            rest = self._upgrade.feed(data)
            if rest is None:
                return
            self._upgrade = None
            data = rest
        if self._session is None:
            self._buffer += data
            length = noise.frame_length(bytes(self._buffer))
            if not length or len(self._buffer) < length:
                return
            self._session = self._initiator.response_received(bytes(self._buffer[:length]))
            data = bytes(self._buffer[length:])
            self._flush()
        plaintext = self._early.feed(self._session.feed(data))
        if plaintext:
            if not self.ready.done():
                self.ready.set_result(None)
            for event in self._http2.feed(plaintext):
                self._event(event)
            self._flush()

    def _event(self, event: Any) -> None:
        kind, number = event[0], event[1]
        pending, stream = self._pending.get(number), self._streams.get(number)
        if kind == http2.HEADERS:
            if pending is not None:
                pending.status, pending.headers = event[2], dict(event[3])
            if stream is not None:
                stream.status = event[2]
        elif kind == http2.DATA:
            if pending is not None:
                pending.body += event[2]
            if stream is not None and stream.status == 200:
                stream.data(event[2])
        elif kind in (http2.ENDED, http2.RESET):
            if pending is not None:
                del self._pending[number]
                if not pending.done.done():
                    pending.done.set_result(Answer(pending.status, pending.headers, bytes(pending.body)))
            if stream is not None:
                del self._streams[number]
                stream.ended = True
                stream.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        error = ConnectionEnded(f"the connection was lost: {exc}")
        if not self.ready.done():
            self.ready.set_exception(error)
        if not self.lost.done():
            self.lost.set_result(None)
        for pending in self._pending.values():
            if not pending.done.done():
                pending.done.set_exception(error)
                pending.done.exception()  # whoever waits gets it; nobody may
        for stream in self._streams.values():
            stream.ended = True
            stream.wake()

    def _flush(self) -> None:
        data = self._http2.data_to_send() if self._session is not None else b""
        if data and self._session is not None:
            self._transport.write(self._session.seal(data))
