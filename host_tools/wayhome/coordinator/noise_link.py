"""Control connections: `/ts2021` taken over, a Noise handshake, HTTP/2 inside; the shell around two pure cores.

```
socket <-> NoiseLink <-> wire.noise.Session <-> Http2Session <-> handle(link, request)
```
The machine key that the handshake proves is the link's for good. Everything that comes over it is checked against it.

Source: protocol reference, "The upgrade: /ts2021", "Noise", "HTTP/2 inside Noise".
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from wayhomed.wire import control, noise
from wayhomed.wire.errors import BadWire
from wayhomed.wire.keys import new_private, public_of, short

from ..http_front import Refused, UpgradeRequest
from .health import Counters
from .http2_session import Allowance, Gone, Http2Fault, Http2Session, Request, TooLarge
from .requests import OLDEST_CAPABILITY

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LinkLimits:
    """Seconds that a link may keep us waiting."""

    first_word_s: float = 10.0  # from our handshake answer to the first record
    request_s: float = 30.0  # from a request's head to its end
    stalled_s: float = 60.0  # during which nothing could be written


class Links:
    """All control connections of a coordinator; makes them, watches their deadlines.

    `handle(link, request)` is called for each whole request and must not block. `now` is a clock in seconds.
    """

    def __init__(
        self,
        noise_private: bytes,
        handle: "Callable[[NoiseLink, Request], None]",
        *,
        counters: Counters,
        random_bytes: Callable[[int], bytes],
        now: Callable[[], float],
        limits: LinkLimits | None = None,
    ) -> None:
        self.public_key = public_of(noise_private)
        self.handle = handle
        self.counters = counters
        self.now = now
        self.limits = limits or LinkLimits()
        self.allowance = Allowance()
        self.open: set[NoiseLink] = set()
        self._serial = 0
        self._noise_private = noise_private
        self._random_bytes = random_bytes
        # Current clients read the challenge and leave it alone; one for the process serves as well as one a connection.
        self._early_payload = control.encode_early_payload(public_of(new_private(random_bytes(32))))

    def upgrade(self, request: UpgradeRequest, transport: asyncio.Transport) -> asyncio.Protocol:
        """Take a connection over (an `UpgradeHandler`). Raises Refused for what is no handshake."""
        if request.method != "POST":
            raise Refused(405, "POST, please")
        try:
            message1 = control.decode_handshake_header(request.headers.get("x-tailscale-handshake", ""))
        except BadWire as error:
            self.counters.bad_handshakes += 1
            raise Refused(400, str(error)) from None
        version = int.from_bytes(message1[:2], "big")
        if version < OLDEST_CAPABILITY:
            self.counters.old_clients += 1
            return self._refuse(
                transport,
                f"this client is too old for this server (capability version {version}, at least "
                f"{OLDEST_CAPABILITY} is needed: release 1.80); please update it",
            )
        try:
            responded = noise.respond(message1, self._noise_private, new_private(self._random_bytes(32)))
        except BadWire as error:
            self.counters.bad_handshakes += 1
            return self._refuse(transport, f"{error}; restart the client, so that it asks for /key again")
        session = Http2Session(self.now(), allowance=self.allowance)
        link = NoiseLink(self, request, responded.machine_public, responded.session, session)
        # The client blocks until it has nine bytes of plaintext: everything goes out with the 101, in one write.
        first = control.UPGRADE_RESPONSE + responded.message
        transport.write(first + responded.session.seal(self._early_payload + session.data_to_send()))
        return link

    def next_serial(self) -> int:
        self._serial += 1
        return self._serial

    def sweep(self) -> None:
        """End what has kept us waiting for too long. To be called every few seconds."""
        now = self.now()
        for link in list(self.open):
            link.sweep(now)

    async def close(self) -> None:
        """Say goodbye on every link, and end them."""
        tasks = [task for link in list(self.open) for task in link.close()]
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    def _refuse(self, transport: asyncio.Transport, text: str) -> asyncio.Protocol:
        """After the 101 a refusal is a Noise error frame; clients show its text."""
        transport.write(control.UPGRADE_RESPONSE + noise.encode_error(text))
        transport.close()
        return asyncio.Protocol()


@dataclass(slots=True)
class _Waits:
    """Since when, in seconds of the links' clock."""

    opened: float
    spoke: bool = False
    blocked: float | None = None
    tasks: dict[int, "asyncio.Task[None]"] = field(default_factory=dict)


class NoiseLink(asyncio.Protocol):
    """One client's control connection. `machine_key` was proven by its handshake; `source` is where it comes from."""

    __slots__ = (
        "_flush_soon",
        "_gone",
        "_http2",
        "_links",
        "_noise",
        "_progress",
        "_request",
        "_transport",
        "_waits",
        "machine_key",
        "serial",
        "source",
    )

    def __init__(
        self, links: Links, request: UpgradeRequest, machine_key: bytes, session: noise.Session, http2: Http2Session
    ) -> None:
        self.machine_key = machine_key
        self._links = links
        self._request: UpgradeRequest | None = request
        self.source = request.peer[0]
        self.serial = links.next_serial()  # tells this link from every other one, also after it has ended
        self._noise = session
        self._http2 = http2
        self._transport: asyncio.Transport | None = None
        self._waits = _Waits(links.now())
        self._flush_soon = False
        self._gone: dict[int, Callable[[], object]] = {}
        self._progress: dict[int, Callable[[], None]] = {}

    def __repr__(self) -> str:
        return f"<link of {short(self.machine_key)} from {self.source}>"

    # for handlers

    def respond(
        self,
        stream: int,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a whole answer; nothing happens if the stream is gone meanwhile."""
        self._http2.respond(stream, status, body, content_type, headers)
        self._flush_later()

    def start(self, stream: int, content_type: str, *, gone: Callable[[], None], progress: Callable[[], None]) -> None:
        """Begin an answer of status 200 that goes on and on.

        `gone` is called once when the stream or the link has ended from the other side, `progress` when bytes that
        waited may have gone out.
        """
        self._http2.start(stream, 200, content_type)
        if self._http2.is_open(stream):
            self._gone[stream] = gone
            self._progress[stream] = progress
        else:
            asyncio.get_running_loop().call_soon(gone)
        self._flush_later()

    def send(self, stream: int, data: bytes) -> None:
        self._http2.send(stream, data)
        self._flush_later()

    def end(self, stream: int) -> None:
        """End an answer from our side; `gone` is not called."""
        self._gone.pop(stream, None)
        self._progress.pop(stream, None)
        self._http2.end(stream)
        self._flush_later()

    def unsent(self, stream: int) -> int:
        """Bytes of this answer that wait for the client's window or for the network."""
        return self._http2.unsent(stream)

    def run(self, stream: int, work: Coroutine[Any, Any, None], *, until_gone: bool = False) -> None:
        """Run `work` as this stream's task. `until_gone`: nobody needs its result once the stream is gone."""
        task = asyncio.get_running_loop().create_task(work)
        self._waits.tasks[stream] = task
        task.add_done_callback(lambda done: self._finished(stream, done))
        if until_gone:
            self._gone[stream] = lambda: bool(task.cancel())

    def _finished(self, stream: int, task: "asyncio.Task[None]") -> None:
        self._waits.tasks.pop(stream, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # a bug of ours: the loop reports it, and the client isn't left waiting
            task.get_loop().call_exception_handler({"message": f"{self!r}: an answer failed", "exception": error})
            self.respond(stream, 500, b"the server failed; its log says how\n", "text/plain")

    def admit(self) -> None:
        """This link's machine is one of ours: it is no stranger's any more."""
        if self._request is not None:
            self._request.admitted()
            self._request = None

    @property
    def is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    # from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are ones in all but inheritance
        self._transport = cast(asyncio.Transport, transport)
        self._links.open.add(self)
        self._links.counters.sessions += 1

    def data_received(self, data: bytes) -> None:
        links = self._links
        try:
            plaintext = self._noise.feed(data)
            if not plaintext:
                return
            self._waits.spoke = True
            events = self._http2.receive(plaintext, links.now())
        except (BadWire, Http2Fault) as error:
            links.counters.broken_sessions += 1
            log.info("%r ended: %s", self, error)
            self._flush()
            if self._transport is not None:
                self._transport.close()
            return
        for event in events:
            if isinstance(event, Request):
                links.handle(self, event)
            elif isinstance(event, Gone):
                self._stream_gone(event.stream)
            elif isinstance(event, TooLarge):
                links.counters.large_bodies += 1
                log.warning("%r sent a request of more than %d bytes", self, event.limit)
        self._flush()
        self._made_progress()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        # While the client does not read, we don't read either: what it asks would only pile up here.
        self._waits.blocked = self._links.now()
        self._http2.held = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._waits.blocked = None
        self._http2.held = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self._http2.pump()
        self._flush()
        self._made_progress()

    def connection_lost(self, exc: Exception | None) -> None:
        self._links.open.discard(self)
        self._transport = None
        self._request = None
        for stream in list(self._gone):
            self._stream_gone(stream)
        self._progress.clear()
        self._http2.lost()

    # inside

    def sweep(self, now: float) -> None:
        """End the link if it has kept us waiting for too long."""
        limits, waits, transport = self._links.limits, self._waits, self._transport
        if transport is None:
            return
        unfinished = self._http2.oldest_unfinished()
        if waits.blocked is not None and now - waits.blocked > limits.stalled_s:
            self._links.counters.stalled_links += 1
            log.info("%r ended: it has read nothing for %d s", self, limits.stalled_s)
            transport.abort()
        elif not waits.spoke and now - waits.opened > limits.first_word_s:
            self._links.counters.unfinished_handshakes += 1
            log.info("%r ended: it never spoke after the handshake", self)
            transport.abort()
        elif unfinished is not None and now - unfinished > limits.request_s:
            self._links.counters.unfinished_handshakes += 1
            log.info("%r ended: a request did not become whole", self)
            transport.abort()

    def close(self) -> "list[asyncio.Task[None]]":
        """Say goodbye and close; returns the tasks that still work on answers."""
        tasks = list(self._waits.tasks.values())
        for stream in list(self._gone):
            self._stream_gone(stream)
        self._http2.close()
        self._flush()
        if self._transport is not None:
            self._transport.close()
        return tasks

    def _stream_gone(self, stream: int) -> None:
        self._progress.pop(stream, None)
        gone = self._gone.pop(stream, None)
        if gone is not None:
            gone()

    def _made_progress(self) -> None:
        for progress in list(self._progress.values()):
            progress()

    def _flush_later(self) -> None:
        """Many answers of one turn of the loop leave in one write, and in as few records as they fit."""
        if not self._flush_soon and self._transport is not None:
            self._flush_soon = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_soon = False
        data = self._http2.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._noise.seal(data))
