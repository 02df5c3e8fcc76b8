"""The DERP relay on asyncio: what RelayCore decides, carried by transports.

No task and no timer per packet: bytes that came in one read are handled at once, and what they caused is written in one
go per receiver. A task exists only while a connection's admission is asked for.
"""

import asyncio
import ipaddress
import logging
import secrets
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any, cast

from wayhomed.wire import derp
from wayhomed.wire.keys import NODE, key_text, public_of, short

from ..http_front import Refused, UpgradeRequest
from . import websocket
from .core import NoRoom, RelayCore, Session, State
from .settings import RelaySettings

log = logging.getLogger(__name__)

Admit = Callable[[bytes, str], Awaitable[str | None]]

# Where http_front shall hand connections to Relay.upgrade.
UPGRADES = (("/derp", "derp"), ("/derp", "websocket"))

_WRITE_AT_ONCE_BYTES = 64 * 1024
# After the relay has ended a connection, so long may its last bytes take.
_LAST_WORDS_SECONDS = 2.0
_TCP_KEEP_ALIVE_SECONDS = 600
_TCP_USER_TIMEOUT_MS = 15_000
# struct tcp_info of <linux/tcp.h>: tcpi_bytes_acked, there since Linux 4.1
_TCP_INFO_BYTES = 232
_BYTES_ACKED_AT = 120


async def admit_nobody(node_key: bytes, source: str) -> str | None:
    """Deny everybody: what a relay does that was not told whom to take."""
    del node_key, source
    return None


class Relay:
    """One relay. Use it inside a running event loop.

    `private_key` is 32 bytes (clamped). `admit(node_key, source_ip)` is awaited once a connection and gives the id of
    the mesh that the key belongs to, or None; an exception counts as None.
    """

    def __init__(self, settings: RelaySettings, private_key: bytes, admit: Admit = admit_nobody) -> None:
        self.public_key = public_of(private_key)
        self.settings = settings
        self._admit = admit
        self._random = secrets.SystemRandom()
        self._core = RelayCore(settings, private_key, self.public_key, secrets.token_bytes, self._random.random)
        self._timer: asyncio.TimerHandle | None = None

    def upgrade(self, request: UpgradeRequest, transport: asyncio.Transport) -> asyncio.Protocol:
        """Take over a connection that asked for DERP. Raises Refused. Fits http_front.UpgradeHandler.

        Register it for both (path, upgrade) in UPGRADES.
        """
        if request.method != "GET":
            raise Refused(405, "DERP begins with GET")
        if request.headers.get("upgrade", "").lower() == "websocket" and websocket.wants_derp(request):
            answer = websocket.answer_to(request)
            carrier = websocket.WebSocketCarrier(self.new_connection(request))
            transport.write(answer)
            return carrier
        answer = b""
        if request.headers.get("derp-fast-start") != "1":
            answer = derp.encode_upgrade_response(self.public_key)
        connection = self.new_connection(request)
        if answer:
            transport.write(answer)
        return connection

    def new_connection(self, request: UpgradeRequest) -> "DerpConnection":
        """Return the protocol for a connection whose HTTP part is done. Raises Refused when there is no room."""
        connection = DerpConnection(self, self._core, request)
        loop = asyncio.get_running_loop()
        try:
            connection.session = self._core.connected(_source(request.peer[0]), connection, loop.time())
        except NoRoom as error:
            raise Refused(503, str(error)) from error
        self._set_timer()
        return connection

    def disconnect(self, node_key: bytes) -> int:
        """End every connection of a node whose right to be here has ended; return how many there were."""
        count = self._core.disconnect(node_key)
        self.flush()
        return count

    def counters(self) -> dict[str, Any]:
        """Return what happened since the start, ready for JSON."""
        return self._core.counters()

    def clients(self) -> list[dict[str, Any]]:
        """Return who is connected, ready for JSON: one entry a connection, oldest first."""
        now = asyncio.get_running_loop().time()
        sessions = sorted((s for s in self._core.sessions if s.state is State.OPEN), key=lambda s: s.number)
        return [
            {
                "node_key": key_text(NODE, session.key),
                "mesh": session.mesh_id,
                "source": session.source,
                "connected_s": round(now - session.connected_at, 1),
                "home": session.is_home,
                "bytes_in": session.bytes_in,
                "bytes_out": session.bytes_out,
                "packets_in": session.packets_in,
                "packets_out": session.packets_out,
                "packets_dropped": session.packets_dropped,
                "waiting_packets": session.queue.packets,
                "waiting_bytes": session.queue.size_bytes + session.link.unsent_bytes(),
            }
            for session in sessions
        ]

    def close(self) -> None:
        """End every connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for session in list(self._core.sessions):
            session.link.abort()

    def flush(self) -> None:
        """Write what waits for clients that take bytes; close what has ended."""
        ready = self._core.ready
        while ready:
            ready.pop().link.write_ready()

    async def admission(self, node_key: bytes, address: str) -> str | None:
        """Return the mesh of a client that waits for it, None if it may not come in."""
        try:
            return await self._admit(node_key, address)
        except Exception:
            # Whoever is asked may fail in any way; the door stays shut then.
            log.exception("could not find out whether to admit %s", short(node_key))
            return None

    def _set_timer(self) -> None:
        at = self._core.next_timer()
        if self._timer is None and at is not None:
            self._timer = asyncio.get_running_loop().call_at(at, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for session in list(self._core.blocked):
            session.link.note_progress(now)
        self._core.timer_fired(now)
        self.flush()
        self._set_timer()


class DerpConnection(asyncio.Protocol):
    """One connection behind its HTTP head: a session of the core, and the transport that carries it."""

    __slots__ = ("_acked", "_core", "_loop", "_paused", "_relay", "_request", "_task", "_transport", "session")

    session: Session

    def __init__(self, relay: Relay, core: RelayCore, request: UpgradeRequest) -> None:
        self._relay = relay
        self._core = core
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._paused = False
        self._acked = 0

    # --- from the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport is one in all but inheritance.
        self._transport = link = cast(asyncio.Transport, transport)
        link.set_write_buffer_limits(high=self._relay.settings.write_buffer_bytes)
        _tune(link.get_extra_info("socket"))
        self.write_ready()

    def data_received(self, data: bytes) -> None:
        core, session = self._core, self.session
        now = self._loop.time()
        more = core.received(session, data, now)
        self._relay.flush()
        while more:
            more = core.received(session, b"", now)
            self._relay.flush()
        if session.read_again_at > now:
            self._pause_reading()
            self._loop.call_at(session.read_again_at, self._read_again)
        elif session.state is State.ASKING and self._task is None:
            self._pause_reading()
            self._task = self._loop.create_task(self._ask())

    def eof_received(self) -> bool:
        return False  # half-closed connections are of no use to anybody here

    def pause_writing(self) -> None:
        self._paused = True
        self._acked = self._bytes_acked()
        self._core.writing_blocked(self.session, self._loop.time())

    def resume_writing(self) -> None:
        self._paused = False
        self._core.writing_resumed(self.session)
        self._relay.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._task is not None:
            self._task.cancel()
        self._core.lost(self.session)
        self._transport = None
        self._relay.flush()

    # --- from the relay ---

    def write_ready(self) -> None:
        """Write what waits, as far as the transport takes it; close if the session has ended."""
        transport, session = self._transport, self.session
        if transport is None:
            return  # connection_made comes next, and writes
        if session.state is State.ENDED:
            self._close(transport)
            return
        if transport.is_closing():
            return  # connection_lost comes next
        while session.queue and not self._paused:
            transport.write(self._core.take(session, _WRITE_AT_ONCE_BYTES))

    def note_progress(self, now: float) -> None:
        """Tell the core if the client has taken bytes since it was asked last."""
        acked = self._bytes_acked()
        if acked != self._acked:
            self._acked = acked
            self._core.writing_progressed(self.session, now)

    def unsent_bytes(self) -> int:
        """Return what waits in the transport, and can't be dropped any more."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- inside ---

    async def _ask(self) -> None:
        session = self.session
        mesh_id = await self._relay.admission(session.key, self._request.peer[0])
        self._task = None
        self._core.admitted(session, mesh_id, self._loop.time())
        if session.state is State.OPEN:
            self._request.admitted()
            log.info("client %s of mesh %s came from %s", short(session.key), mesh_id, session.source)
            self._read_again()
        self._relay.flush()
        # What was held back while we asked.
        self.data_received(b"")

    def _pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def _read_again(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _close(self, transport: asyncio.Transport) -> None:
        if transport.is_closing():
            return
        if self.session.key:
            log.info("client %s is out: %s", short(self.session.key), self.session.end_reason)
        if self._paused:
            transport.abort()
            return
        transport.close()
        self._loop.call_later(_LAST_WORDS_SECONDS, self.abort)

    def _bytes_acked(self) -> int:
        """Return how many bytes the other side's TCP has taken, or where that can't be had, what it has not."""
        transport = self._transport
        if transport is None:
            return 0
        carrier = transport.get_extra_info("socket")
        if sys.platform == "linux" and carrier is not None and carrier.family in (socket.AF_INET, socket.AF_INET6):
            info = carrier.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
            if len(info) >= _BYTES_ACKED_AT + 8:
                return int(struct.unpack_from("=Q", info, _BYTES_ACKED_AT)[0])
        return transport.get_write_buffer_size()


def _tune(carrier: Any) -> None:
    """Let TCP find out about clients that have vanished, as the reference relay does."""
    if carrier is None or carrier.family not in (socket.AF_INET, socket.AF_INET6):
        return
    carrier.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    carrier.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        carrier.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _TCP_KEEP_ALIVE_SECONDS)
        carrier.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_USER_TIMEOUT_MS)


def _source(address: str) -> str:
    """Return what counts as one source: an IPv4 address, or the /64 of an IPv6 one, since anybody has so many."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address  # a unix socket has none
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return address.removeprefix("::ffff:")
