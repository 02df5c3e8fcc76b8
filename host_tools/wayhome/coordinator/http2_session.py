"""The server's end of the HTTP/2 that runs inside Noise: bytes in, whole requests out; no socket, no clock of its own.

h2 does the protocol; here stand the limits that h2 leaves to its user, and the waiting lines of answers that may not be
sent yet because the other side's flow-control window is full.

Source: RFC 9113; protocol reference, "HTTP/2 inside Noise".
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingReceived,
    PriorityUpdated,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    UnknownFrameReceived,
    WindowUpdated,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from .frame_walk import FrameWalk, TooLong

# Chosen by us
CONCURRENT_STREAMS = 128  # a client holds one poll for hours; the rest are short. At 1 the stock client dead-locks
HEADER_BYTES = 16 * 1024
BODY_BYTES = 1 << 20  # every request of this protocol is a few KB

# Work that costs us something and the sender nothing (rapid reset, CVE-2023-44487; ping and settings floods,
# CVE-2019-9512 and -9515; empty frames, CVE-2019-9518) is paid for out of a purse that fills up slowly.
PURSE = 600.0
PURSE_PER_SECOND = 20.0
_PRICES: tuple[tuple[type[Event], float], ...] = (
    (StreamReset, 5.0),
    (RemoteSettingsChanged, 5.0),
    (RequestReceived, 1.0),
    (PingReceived, 1.0),
    (PriorityUpdated, 1.0),
    (TrailersReceived, 1.0),
    (UnknownFrameReceived, 1.0),
    (WindowUpdated, 0.25),
)


class Http2Fault(Exception):
    """The other side broke HTTP/2 or our limits. What `data_to_send` still holds tells it why; then the link ends."""


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request. `headers` has lower-case names; of a name that came twice the last value counts."""

    stream: int
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Gone:
    """The other side reset this stream: whoever works on its answer may stop."""

    stream: int


@dataclass(frozen=True, slots=True)
class TooLarge:
    """A request over the limit of `limit` bytes: an answer 413 is on its way; somebody may want to count it."""

    stream: int
    target: str
    limit: int


class Allowance:
    """Bytes of unfinished requests that all sessions together may hold: memory is one, however many strangers come."""

    def __init__(self, limit: int = 64 << 20) -> None:
        self.left = limit

    def take(self, count: int) -> bool:
        if count > self.left:
            return False
        self.left -= count
        return True

    def give_back(self, count: int) -> None:
        self.left += count


@dataclass(slots=True)
class _Incoming:
    method: str
    target: str
    headers: dict[str, str]
    since: float
    body: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class _Outgoing:
    waiting: deque[bytes] = field(default_factory=deque)
    bytes: int = 0
    ended: bool = False


class _Connection(H2Connection):
    # h2 remembers how each of the last streams ended; 65,536 of them would be megabytes a connection
    MAX_CLOSED_STREAMS = 256
    DEFAULT_MAX_HEADER_LIST_SIZE = HEADER_BYTES


_CONFIG = H2Configuration(
    client_side=False,
    header_encoding=None,
    # Real clients send an absolute :path, or an :authority that differs from host: nothing here depends on either.
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


# One for all sessions: what we announce never changes, and each such object has 4 KB.
_SETTINGS = Settings(
    client=False,
    initial_values={
        SettingCodes.MAX_CONCURRENT_STREAMS: CONCURRENT_STREAMS,
        SettingCodes.MAX_HEADER_LIST_SIZE: HEADER_BYTES,
    },
)


class Http2Session:
    """One connection. Feed it with `receive`, answer with `respond` or `start`, `send`, `end`; collect `data_to_send`.

    `now` is seconds on any clock that only grows. `body_bytes` is the limit of one request's body.
    Call `lost` when the link has ended.
    """

    __slots__ = ("_allowance", "_body_bytes", "_h2", "_incoming", "_outgoing", "_purse", "_purse_at", "_walk", "held")

    def __init__(self, now: float, body_bytes: int = BODY_BYTES, allowance: Allowance | None = None) -> None:
        self._allowance = allowance or Allowance()
        self._h2 = _Connection(_CONFIG)
        self._h2.local_settings = _SETTINGS
        self._h2.initiate_connection()
        self._body_bytes = body_bytes
        self._incoming: dict[int, _Incoming] = {}
        self._outgoing: dict[int, _Outgoing] = {}
        self._purse = PURSE
        self._purse_at = now
        self._walk = FrameWalk()
        self.held = False  # True while the transport takes no more: then answers wait here

    # in

    def receive(self, data: bytes, now: float) -> list[Request | Gone | TooLarge]:
        """Take bytes and return what became whole. Raises Http2Fault."""
        try:
            self._walk.feed(data)
        except TooLong as error:
            self._end_with(ErrorCodes.FRAME_SIZE_ERROR, str(error))
        try:
            events = self._h2.receive_data(data)
        except H2Error as error:
            raise Http2Fault(str(error) or type(error).__name__) from error
        self._pay(events, now)
        result: list[Request | Gone | TooLarge] = []
        for event in events:
            self._handle(event, now, result)
        return result

    def oldest_unfinished(self) -> float | None:
        """When the longest-waiting request that isn't whole yet began; None without one."""
        return min((incoming.since for incoming in self._incoming.values()), default=None)

    def _pay(self, events: list[Event], now: float) -> None:
        self._purse = min(PURSE, self._purse + (now - self._purse_at) * PURSE_PER_SECOND)
        self._purse_at = now
        for event in events:
            if isinstance(event, DataReceived):
                self._purse -= 0.0 if event.data else 1.0
                continue
            for kind, price in _PRICES:
                if isinstance(event, kind):
                    self._purse -= price
                    break
        if self._purse < 0:
            self._end_with(ErrorCodes.ENHANCE_YOUR_CALM, "more control frames than any honest client sends")

    def _handle(self, event: Event, now: float, result: list[Request | Gone | TooLarge]) -> None:
        if isinstance(event, RequestReceived):
            self._begin(event, now, result)
        elif isinstance(event, DataReceived):
            self._take_body(event, result)
        elif isinstance(event, StreamEnded):
            incoming = self._forget_incoming(event.stream_id)
            if incoming is not None:
                result.append(
                    Request(event.stream_id, incoming.method, incoming.target, incoming.headers, bytes(incoming.body))
                )
        elif isinstance(event, StreamReset):
            self._forget_incoming(event.stream_id)
            self._outgoing.pop(event.stream_id, None)
            result.append(Gone(event.stream_id))
        elif isinstance(event, WindowUpdated):
            if event.stream_id:
                self._pump(event.stream_id)
            else:
                self.pump()
        elif isinstance(event, RemoteSettingsChanged):
            self.pump()
        elif isinstance(event, ConnectionTerminated):
            # RFC 9113 section 6.8: the sender of GOAWAY opens nothing new, yet waits for what is open; the client that
            # says so here is about to close, and we end streams when it does.
            pass

    def _begin(self, event: RequestReceived, now: float, result: list[Request | Gone | TooLarge]) -> None:
        pseudo = {"": ""}
        headers: dict[str, str] = {}
        for raw_name, raw_value in event.headers or ():
            name, value = bytes(raw_name).decode("latin-1"), bytes(raw_value).decode("latin-1")
            (pseudo if name.startswith(":") else headers)[name.lower()] = value
        method, target = pseudo.get(":method", ""), pseudo.get(":path", "")
        stream = event.stream_id
        if not method or not target or method == "CONNECT":
            self.respond(
                stream, 405 if method == "CONNECT" else 400, b"this is no request that we take\n", "text/plain"
            )
            return
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length[:12]) > self._body_bytes:
            self._too_large(stream, target, result)
            return
        self._incoming[stream] = _Incoming(method, target, headers, now)

    def _take_body(self, event: DataReceived, result: list[Request | Gone | TooLarge]) -> None:
        stream = event.stream_id
        try:
            self._h2.acknowledge_received_data(event.flow_controlled_length, stream)
        except H2Error:
            pass  # the stream is closed already; its share of the connection's window has been given back by h2
        incoming = self._incoming.get(stream)
        if incoming is None:
            return
        if len(incoming.body) + len(event.data) > self._body_bytes:
            self._forget_incoming(stream)
            self._too_large(stream, incoming.target, result)
        elif not self._allowance.take(len(event.data)):
            self._forget_incoming(stream)
            self.respond(stream, 503, b"too many requests are on their way at once; try again\n", "text/plain")
            self._reset(stream, ErrorCodes.NO_ERROR)
        else:
            incoming.body += event.data

    def _forget_incoming(self, stream: int) -> _Incoming | None:
        incoming = self._incoming.pop(stream, None)
        if incoming is not None:
            self._allowance.give_back(len(incoming.body))
        return incoming

    def lost(self) -> None:
        """The link has ended: give back what unfinished requests held."""
        for stream in list(self._incoming):
            self._forget_incoming(stream)
        self._outgoing.clear()

    def _too_large(self, stream: int, target: str, result: list[Request | Gone | TooLarge]) -> None:
        self.respond(stream, 413, f"a request has at most {self._body_bytes} bytes here\n".encode(), "text/plain")
        # RFC 9113 section 8.1: after a whole answer NO_ERROR asks the client to stop sending the request
        self._reset(stream, ErrorCodes.NO_ERROR)
        result.append(TooLarge(stream, target, self._body_bytes))

    # out

    def respond(
        self,
        stream: int,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        more_headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a whole answer."""
        self.start(stream, status, content_type, {"content-length": str(len(body)), **(more_headers or {})})
        if body:
            self.send(stream, body)
        self.end(stream)

    def start(self, stream: int, status: int, content_type: str, more_headers: Mapping[str, str] | None = None) -> None:
        """Send an answer's head; a body follows by `send` and `end`. A stream that is gone meanwhile is left alone."""
        headers = [(b":status", str(status).encode()), (b"content-type", content_type.encode())]
        headers += [(name.encode(), value.encode()) for name, value in (more_headers or {}).items()]
        try:
            self._h2.send_headers(stream, headers)
        except H2Error:
            return
        self._outgoing[stream] = _Outgoing()

    def send(self, stream: int, data: bytes) -> None:
        """Send a piece of an answer's body, or let it wait for room in the window."""
        outgoing = self._outgoing.get(stream)
        if outgoing is not None and data:
            outgoing.waiting.append(data)
            outgoing.bytes += len(data)
            self._pump(stream)

    def end(self, stream: int) -> None:
        """End an answer once all of it is sent."""
        outgoing = self._outgoing.get(stream)
        if outgoing is not None:
            outgoing.ended = True
            self._pump(stream)

    def unsent(self, stream: int) -> int:
        """How many bytes of this stream's answer wait for the other side's window or for the transport."""
        outgoing = self._outgoing.get(stream)
        return outgoing.bytes if outgoing is not None else 0

    def is_open(self, stream: int) -> bool:
        """Whether an answer that was started on this stream can still be sent."""
        outgoing = self._outgoing.get(stream)
        return outgoing is not None and not outgoing.ended

    def pump(self) -> None:
        """Send what waits, as far as the windows allow."""
        for stream in list(self._outgoing):
            self._pump(stream)

    def data_to_send(self) -> bytes:
        """Return (and forget) the bytes that go to the other side now."""
        return self._h2.data_to_send()

    def close(self) -> None:
        """Say goodbye: the server is going away."""
        try:
            self._h2.close_connection(ErrorCodes.NO_ERROR)
        except H2Error:
            pass

    def _pump(self, stream: int) -> None:
        outgoing = self._outgoing.get(stream)
        if outgoing is None or self.held:
            return
        try:
            while outgoing.waiting:
                room = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
                if room <= 0:
                    return
                piece = outgoing.waiting[0]
                if len(piece) > room:
                    outgoing.waiting[0] = piece[room:]
                    piece = piece[:room]
                else:
                    outgoing.waiting.popleft()
                outgoing.bytes -= len(piece)
                self._h2.send_data(stream, piece)
            if outgoing.ended:
                del self._outgoing[stream]
                self._h2.end_stream(stream)
        except H2Error:
            # reset by the other side, and the event for it is still to come
            self._outgoing.pop(stream, None)

    def _reset(self, stream: int, code: ErrorCodes) -> None:
        try:
            self._h2.reset_stream(stream, code)
        except H2Error:
            pass

    def _end_with(self, code: ErrorCodes, why: str) -> None:
        try:
            self._h2.close_connection(code, additional_data=why.encode())
        except H2Error:
            pass
        raise Http2Fault(why)
