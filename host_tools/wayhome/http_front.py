"""One listener for two kinds of visitors: aiohttp's pages, and protocols that begin as an HTTP/1.1 upgrade.

```
accept --> request head (h11: limits, deadline) --+--> an upgrade we know: the connection is its handler's from now on,
             ^                                    |    with every byte that came after the head
             |                                    +--> anything else: the same bytes, unchanged, go to aiohttp
             +---- the request's end, found by h11 <---+
```
aiohttp can't hand a connection over itself: `transport.set_protocol()` in a handler loses the bytes its parser has
already taken, and it writes into the stream once the handler returns (docs/decisions/0031-http-front.md).

Pages served through here answer with whole bodies (`web.Response`) or streams, not with `web.FileResponse`:
the transport that aiohttp sees is ours, and `sendfile` wants a real one.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol, cast

import h11

log = logging.getLogger(__name__)

_QUEUE_LOOK_S = 0.01


class Refused(Exception):
    """An upgrade that its handler will not take; the front answers with this status and closes."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def _nobody_asks() -> None:
    """Stand in for `UpgradeRequest.admitted` where no front counts connections (tests, a relay behind a pipe)."""


@dataclass(frozen=True)
class UpgradeRequest:
    """The head of a request that asks for an upgrade.

    `headers` has lower-case names, values joined by ", " where a name came twice. `target` is as sent (it may be
    absolute: `http://host/ts2021`). `peer` is (address, port), ("", 0) on a unix socket. Call `admitted` once the other
    side has proven to be somebody we know: from then on the connection is not ended to make room for strangers.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    peer: tuple[str, int]
    admitted: Callable[[], None] = field(default=_nobody_asks, compare=False)


UpgradeHandler = Callable[[UpgradeRequest, asyncio.Transport], asyncio.Protocol]


@dataclass(frozen=True)
class FrontLimits:
    """What strangers may take of us. A connection is a stranger's until its handler calls `admitted`."""

    head_bytes: int = 16 * 1024
    head_seconds: float = 10.0
    request_seconds: float = 30.0  # a plain request's body must have come by then
    strangers: int = 4096  # in all; a new one ends the oldest
    # Many honest clients may share an address (a carrier's NAT, a proxy); after our restart all come at once.
    strangers_per_address: int = 1024
    connections: int = 60_000  # in all, admitted ones counted; above it new ones are turned away


@dataclass
class FrontCounters:
    """What happened since the start."""

    connections: int = 0
    upgrades: int = 0
    plain_requests: int = 0
    bad_heads: int = 0
    slow_heads: int = 0
    ended_to_make_room: int = 0
    turned_away: int = 0


class PlainServer(Protocol):
    """What we need of `aiohttp.web.Server`: a factory of protocols that can be asked to finish."""

    def __call__(self) -> Any: ...


def path_of(target: str) -> str:
    """Return the path of a request target in origin or absolute form, without the query.

    Source: RFC 9112 section 3.2.
    """
    if not target.startswith("/") and "://" in target[:12]:
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    return target.partition("?")[0]


class Front:
    """A protocol factory for `loop.create_server`; one for a listener, or shared by several."""

    def __init__(
        self,
        pages: PlainServer,
        upgrades: Mapping[tuple[str, str], UpgradeHandler],
        limits: FrontLimits,
    ) -> None:
        self.pages = pages
        self.upgrades = upgrades
        self.limits = limits
        self.counters = FrontCounters()
        self.open: set[_Connection] = set()
        # dicts as ordered sets: the first key is the oldest
        self._strangers: dict[_Connection, None] = {}
        self._strangers_of: dict[str, dict[_Connection, None]] = {}

    def __call__(self) -> asyncio.Protocol:
        return _Connection(self)

    @property
    def strangers(self) -> int:
        """How many open connections have not proven who they are."""
        return len(self._strangers)

    @property
    def ended(self) -> int:
        """How many connections have come and gone."""
        return self.counters.connections - len(self.open)

    def close(self) -> None:
        """End every connection at once. Upgraded ones that want to say goodbye do so before this is called."""
        for connection in list(self.open):
            connection.abort()

    def _arrived(self, connection: "_Connection") -> bool:
        """Count a new connection in; False when there is no room at all."""
        self.counters.connections += 1
        if len(self.open) >= self.limits.connections:
            self.counters.turned_away += 1
            return False
        same_address = self._strangers_of.setdefault(connection.peer[0], {})
        if len(same_address) >= self.limits.strangers_per_address:
            self._end_oldest(same_address, "address")
        elif len(self._strangers) >= self.limits.strangers:
            self._end_oldest(self._strangers, "server")
        self.open.add(connection)
        self._strangers[connection] = None
        self._strangers_of.setdefault(connection.peer[0], {})[connection] = None
        return True

    def _end_oldest(self, strangers: "dict[_Connection, None]", whose: str) -> None:
        oldest = next(iter(strangers))
        # once a power of two is enough to see in a log that it goes on
        self.counters.ended_to_make_room += 1
        if self.counters.ended_to_make_room.bit_count() == 1:
            log.warning(
                "too many idle connections from strangers at this %s: ended the oldest, from %s (%d so far)",
                whose,
                oldest.peer[0],
                self.counters.ended_to_make_room,
            )
        self.admitted(oldest)
        oldest.abort()

    def admitted(self, connection: "_Connection") -> None:
        """Take a connection off the strangers' lists."""
        if self._strangers.pop(connection, self) is self:
            return
        same_address = self._strangers_of[connection.peer[0]]
        del same_address[connection]
        if not same_address:
            del self._strangers_of[connection.peer[0]]

    def _left(self, connection: "_Connection") -> None:
        self.open.discard(connection)
        self.admitted(connection)


def make_front(
    pages: PlainServer,
    upgrades: Mapping[tuple[str, str], UpgradeHandler],
    limits: FrontLimits | None = None,
) -> Front:
    """Return the protocol factory of a listener.

    `pages` is what `aiohttp.web.AppRunner.server` gives after `setup()`; `upgrades` maps (path, lower-case value of the
    `Upgrade` header) to what takes such a connection over.
    """
    return Front(pages, upgrades, limits or FrontLimits())


class _Connection(asyncio.Protocol):
    """One accepted connection: first a reader of request heads, then a pass to whoever took it."""

    __slots__ = ("_deadline", "_front", "_head", "_link", "_loop", "_page", "_page_link", "_parser", "_taker", "peer")

    def __init__(self, front: Front) -> None:
        self._front = front
        self._loop = asyncio.get_running_loop()
        self._link: asyncio.Transport
        self._taker: asyncio.Protocol | None = None
        self._page: Any = None
        self._page_link: _PageLink | None = None
        self._parser: h11.Connection | None = None
        self._head: bytearray | None = bytearray()  # None while a plain request's body passes through
        self._deadline: asyncio.TimerHandle | None = None
        self.peer: tuple[str, int] = ("", 0)

    # from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport is one in all but inheritance
        self._link = cast(asyncio.Transport, transport)
        name = self._link.get_extra_info("peername")
        if isinstance(name, tuple):
            self.peer = (str(name[0]).removeprefix("::ffff:"), int(name[1]))
        if not self._front._arrived(self):
            self._answer_and_close(HTTPStatus.SERVICE_UNAVAILABLE, "this server has no room for more connections")
            return
        self._set_deadline(self._front.limits.head_seconds)

    def data_received(self, data: bytes) -> None:
        if self._taker is not None:
            self._taker.data_received(data)
        elif not self._link.is_closing():
            self._read(data)

    def eof_received(self) -> bool | None:
        if self._taker is not None:
            return self._taker.eof_received()
        if self._page is not None:
            self._page.eof_received()
            # Over TCP aiohttp closes when its answer is written; TLS knows no half-closed connection.
            return self._link.get_extra_info("sslcontext") is None
        return False

    def pause_writing(self) -> None:
        writer = self._taker or self._page
        if writer is not None:
            writer.pause_writing()

    def resume_writing(self) -> None:
        writer = self._taker or self._page
        if writer is not None:
            writer.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._set_deadline(None)
        self._front._left(self)
        if self._taker is not None:
            self._taker.connection_lost(exc)
        elif self._page is not None:
            self._page.connection_lost(exc)
        self._taker = self._page = self._page_link = self._parser = None

    # inside

    def abort(self) -> None:
        self._link.abort()

    def _set_deadline(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self._loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._front.counters.slow_heads += 1
        if self._page is None and not self._head:
            self.abort()  # it never said a word: nothing to answer
        else:
            self._answer_and_close(HTTPStatus.REQUEST_TIMEOUT, "the request did not come in time")

    def _answer_and_close(self, status: int, text: str) -> None:
        self._set_deadline(None)
        if not self._link.is_closing():
            phrase = HTTPStatus(status).phrase
            body = text.encode() + b"\n"
            self._link.write(
                f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                + body
            )
        self._link.close()

    def _read(self, data: bytes) -> None:
        """Take bytes of plain HTTP: heads are looked at, whole requests passed on, an upgrade ends it."""
        try:
            while data:
                data = self._read_head(data) if self._head is not None else self._read_body(data)
        except h11.RemoteProtocolError as error:
            self._front.counters.bad_heads += 1
            self._answer_and_close(error.error_status_hint, f"this is no HTTP request that we take: {error}")

    def _read_head(self, data: bytes) -> bytes:
        """Take a piece of a request head; return what belongs to the next step."""
        assert self._head is not None
        if self._parser is None:
            self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=self._front.limits.head_bytes)
            if self._deadline is None:
                self._set_deadline(self._front.limits.head_seconds)
        self._head += data
        self._parser.receive_data(data)
        event = self._parser.next_event()
        if event is h11.NEED_DATA:
            return b""
        assert isinstance(event, h11.Request), event
        raw, self._head = bytes(self._head), None
        # h11's limit is for heads that are not whole yet; one that came in a single piece is measured here
        if len(event.target) + sum(len(name) + len(value) + 4 for name, value in event.headers) > (
            self._front.limits.head_bytes
        ):
            raise h11.RemoteProtocolError("the request head is too long", error_status_hint=431)
        handler, request = self._upgrade_asked(event)
        if handler is None:
            self._front.counters.plain_requests += 1
            self._set_deadline(self._front.limits.request_seconds)
            return self._pass_on(raw)
        if not isinstance(self._parser.next_event(), h11.EndOfMessage):
            raise h11.RemoteProtocolError("a request for an upgrade has no body here")
        leftover = self._parser.trailing_data[0]
        self._parser = None
        self._set_deadline(None)
        if self._page is None:
            self._take_over(handler, request, leftover)
        else:
            self._link.pause_reading()
            self._head = bytearray(leftover)
            task = self._loop.create_task(self._take_over_from_page(handler, request))
            task.add_done_callback(_let_through)
        return b""

    def _upgrade_asked(self, event: h11.Request) -> tuple[UpgradeHandler | None, UpgradeRequest]:
        headers: dict[str, str] = {}
        for raw_name, raw_value in event.headers:
            name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        target = event.target.decode("ascii")
        request = UpgradeRequest(
            event.method.decode("ascii"), target, headers, self.peer, lambda: self._front.admitted(self)
        )
        tokens = {token.strip().lower() for token in headers.get("connection", "").split(",")}
        if "upgrade" not in tokens:
            return None, request
        return self._front.upgrades.get((path_of(target), headers.get("upgrade", "").strip().lower())), request

    def _read_body(self, data: bytes) -> bytes:
        assert self._parser is not None
        self._parser.receive_data(data)
        return self._pass_on(data)

    def _pass_on(self, raw: bytes) -> bytes:
        """Give aiohttp the part of `raw` that belongs to the present request; return the rest."""
        assert self._parser is not None
        while True:
            event = self._parser.next_event()
            if event is h11.NEED_DATA:
                rest = b""
                break
            if isinstance(event, h11.EndOfMessage):
                rest = self._parser.trailing_data[0]
                self._parser = None
                self._head = bytearray()
                self._set_deadline(None)  # aiohttp's keep-alive timer watches the time between requests
                break
        if self._page is None:
            self._page = self._front.pages()
            self._page_link = _PageLink(self._link)
            self._page.connection_made(self._page_link)
        self._page.data_received(raw[: len(raw) - len(rest)])
        return rest

    def _take_over(self, handler: UpgradeHandler, request: UpgradeRequest, leftover: bytes) -> None:
        try:
            taker = handler(request, self._link)
        except Refused as refusal:
            self._answer_and_close(refusal.status, refusal.text)
            return
        self._front.counters.upgrades += 1
        self._taker = taker
        self._head = None
        taker.connection_made(self._link)
        if leftover:
            taker.data_received(leftover)

    async def _take_over_from_page(self, handler: UpgradeHandler, request: UpgradeRequest) -> None:
        """The connection carried plain requests before: let aiohttp finish its answer, then hand over."""
        page, link = self._page, self._page_link
        assert link is not None
        link.let_go()
        deadline = self._loop.time() + self._front.limits.request_seconds
        # Requests that came in one go wait in a queue that close() would drop; nothing public tells its length.
        while page._messages and not self._link.is_closing() and self._loop.time() < deadline:
            await asyncio.sleep(_QUEUE_LOOK_S)
        page.close()  # wakes it where it waits for a next request; one in progress is finished first
        await page.shutdown(self._front.limits.request_seconds)
        if self._link.is_closing():
            return
        self._page = self._page_link = None
        page.connection_lost(None)
        leftover = bytes(self._head or b"")
        self._take_over(handler, request, leftover)
        self._link.resume_reading()


class _PageLink(asyncio.Transport):
    """The transport as aiohttp sees it; once let go, closing it leaves the connection open."""

    def __init__(self, link: asyncio.Transport) -> None:
        super().__init__()
        self._link = link
        self._let_go = False

    def let_go(self) -> None:
        """From now on aiohttp may write its answer, not close."""
        self._let_go = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._link.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._link.is_closing()

    def close(self) -> None:
        if not self._let_go:
            self._link.close()

    def abort(self) -> None:
        if not self._let_go:
            self._link.abort()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._link.write(data)

    def writelines(self, list_of_data: Any) -> None:
        self._link.writelines(list_of_data)

    def pause_reading(self) -> None:
        if not self._let_go:
            self._link.pause_reading()

    def resume_reading(self) -> None:
        if not self._let_go:
            self._link.resume_reading()

    def is_reading(self) -> bool:
        return self._link.is_reading()

    def get_write_buffer_size(self) -> int:
        return self._link.get_write_buffer_size()


def _let_through(task: "asyncio.Task[None]") -> None:
    """A bug in a handler is the loop's to report."""
    if not task.cancelled() and (error := task.exception()) is not None:
        task.get_loop().call_exception_handler({"message": "an upgrade handler failed", "exception": error})
