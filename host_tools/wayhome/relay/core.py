"""The relay's decisions: who is there, which packet goes to whom, what is dropped, who has to leave.

Pure: bytes and times (seconds of any clock that only grows) go in; what is to be written stands in each session's
queue, and `ready` names the sessions that have something to be written or have ended.

```
connected() --> SHAKING --ClientInfo--> ASKING --admitted()--> OPEN
                   |                      |                      |
                   +----------------------+--- bad bytes, deadline, no admission, no room ---> ENDED
```
Source: protocol reference, DERP sections 2 to 6.
"""

import enum
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any

from wayhomed.wire import derp
from wayhomed.wire.errors import BadWire
from wayhomed.wire.keys import KEY_BYTES

from . import payload as payloads
from .send_queue import SendQueue
from .settings import RelaySettings
from .token_bucket import TokenBucket

# After so many frames the caller gets to write, so that a burst which came in one piece can't overflow the queues of
# somebody who reads.
_FRAMES_AT_ONCE = 32
_TICK_SECONDS = 1.0
_GONE_PER_SECOND = 1.0
_GONE_BURST = 3.0
_HEADER = struct.Struct(derp.HEADER)
_FRAME_MOST_BYTES = KEY_BYTES + derp.PACKET_MOST_BYTES


class State(enum.Enum):
    SHAKING = "shaking"
    ASKING = "asking"
    OPEN = "open"
    ENDED = "ended"


class NoRoom(Exception):
    """A connection more than the relay takes; the text says which limit."""

    def __init__(self, limit: str, text: str) -> None:
        super().__init__(text)
        self.limit = limit


class Seat:
    """All connections of one node key in one mesh; `active`, the newest or last heard, receives."""

    __slots__ = ("active", "key", "reached", "sessions")

    def __init__(self, key: bytes, first: "Session") -> None:
        self.key = key
        self.sessions = [first]
        self.active = first
        # Node keys that got packets from here, oldest first (a dict as ordered set): they are told when we leave.
        self.reached: dict[bytes, None] = {}


class Session:
    """One connection. Public attributes are for reading; RelayCore alone changes them."""

    __slots__ = (
        "blocked_since",
        "bytes_in",
        "bytes_out",
        "connected_at",
        "decoder",
        "end_reason",
        "frames",
        "gone_bucket",
        "held",
        "is_home",
        "keep_alive_seconds",
        "keep_alive_tick",
        "key",
        "link",
        "mesh",
        "mesh_id",
        "number",
        "packets_dropped",
        "packets_in",
        "packets_out",
        "queue",
        "rate_bucket",
        "read_again_at",
        "seat",
        "source",
        "state",
    )

    def __init__(self, number: int, source: str, link: Any, settings: RelaySettings, now: float) -> None:
        self.number = number  # counts up, so that an older session has a lower one
        self.source = source
        self.link = link  # whatever carries this session; nothing here looks into it
        self.state = State.SHAKING
        self.connected_at = now
        self.decoder = derp.DerpDecoder(settings.client_info_bytes)
        self.queue = SendQueue(settings.queue_packets, settings.queue_bytes)
        self.rate_bucket = TokenBucket(settings.client_bytes_per_second, settings.client_burst_bytes, now)
        self.gone_bucket = TokenBucket(_GONE_PER_SECOND, _GONE_BURST, now)
        self.frames: list[tuple[int, bytes]] = []  # cut out and not yet looked at
        self.held = b""  # came while we asked whether to admit
        self.key = b""
        self.mesh_id = ""
        self.mesh: dict[bytes, Seat] = {}
        self.seat: Seat | None = None
        self.is_home = False
        self.end_reason = ""
        self.read_again_at = now  # nothing shall be read from this client before
        self.blocked_since: float | None = None  # since when it takes no bytes
        self.keep_alive_seconds = 0.0
        self.keep_alive_tick = 0
        self.bytes_in = self.bytes_out = self.packets_in = self.packets_out = self.packets_dropped = 0


class RelayCore:
    """All sessions of one relay.

    `random_bytes(n)` gives nonces; `jitter()` a number from 0 up to 1, asked once a session.
    """

    def __init__(
        self,
        settings: RelaySettings,
        private_key: bytes,
        public_key: bytes,
        random_bytes: Callable[[int], bytes],
        jitter: Callable[[], float],
    ) -> None:
        self.settings = settings
        self._private_key = private_key
        self._server_key_frame = derp.encode_server_key(public_key)
        self._random_bytes = random_bytes
        self._jitter = jitter
        self.ready: set[Session] = set()
        self.sessions: set[Session] = set()
        self.blocked: set[Session] = set()
        self._shaking: dict[Session, None] = {}  # oldest first
        self._per_source: Counter[str] = Counter()
        self._meshes: dict[str, dict[bytes, Seat]] = {}
        self._keep_alive_at: dict[int, set[Session]] = {}  # by tick, so that a session can be taken out at once
        self._ticked = 0
        self.totals: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()

    # --- connections come and go ---

    def connected(self, source: str, link: Any, now: float) -> Session:
        """Take a new connection in; its queue holds ServerKey. Raises NoRoom when a limit is reached."""
        settings = self.settings
        if len(self.sessions) >= settings.connections:
            self.refusals["connections"] += 1
            raise NoRoom("connections", "this relay has no room for more connections")
        if self._per_source[source] >= settings.connections_per_source:
            self.refusals["connections_per_source"] += 1
            raise NoRoom("connections_per_source", "too many connections from your address")
        if len(self._shaking) >= settings.handshakes:
            # The oldest goes, not the new one: an honest client is through within a round trip, and so gets in even
            # while somebody fills the list.
            self._end(next(iter(self._shaking)), "handshakes")
        self.totals["connections"] += 1
        session = Session(self.totals["connections"], source, link, settings, now)
        if not self.sessions:
            self._ticked = int(now)
        self.sessions.add(session)
        self._per_source[source] += 1
        self._shaking[session] = None
        session.queue.add_control(self._server_key_frame)
        self.ready.add(session)
        return session

    def lost(self, session: Session) -> None:
        """The connection is gone; nothing more is written to it."""
        self._end(session, "closed")
        self.ready.discard(session)
        # They know each other; parted, both are freed at once, with the 30 KB of a TLS connection, and not when the
        # garbage collector comes round, which counts objects and not bytes.
        session.link = None

    def admitted(self, session: Session, mesh_id: str | None, now: float) -> None:
        """Answer what an ASKING session waits for: its mesh, or None if it may not come in.

        What it has sent meanwhile is handled by the next received(session, b"", now).
        """
        if session.state is not State.ASKING:
            return
        if mesh_id is None:
            self._end(session, "not admitted")
            return
        settings = self.settings
        try:
            answer = derp.encode_server_info(
                self._private_key,
                session.key,
                self._random_bytes(24),
                settings.client_bytes_per_second,
                settings.client_burst_bytes,
            )
        except BadWire:
            self._end(session, "bad bytes")
            return
        del self._shaking[session]
        session.state = State.OPEN
        session.decoder.max_payload = _FRAME_MOST_BYTES
        self._sit_down(session, mesh_id)
        session.queue.add_control(answer)
        self.ready.add(session)
        self._plan_keep_alive(session, now)
        self.totals["admitted"] += 1

    def disconnect(self, key: bytes) -> int:
        """End every connection of a node key, also one about to be admitted; return how many there were."""
        ending = [s for s in self._shaking if s.key == key]
        for mesh in self._meshes.values():
            seat = mesh.get(key)
            if seat is not None:
                ending += seat.sessions
        for session in ending:
            self._end(session, "disconnected by the coordinator")
        return len(ending)

    # --- bytes come in ---

    def received(self, session: Session, data: bytes, now: float) -> bool:
        """Handle bytes as they came. True: write what is ready, then call again with b"".

        When the state has become ASKING, admission of `key` is to be found out; read no more until then.
        """
        if data:
            session.bytes_in += len(data)
            self.totals["bytes_in"] += len(data)
        try:
            if session.state is State.OPEN:
                return self._open_received(session, data, now)
            if session.state is State.SHAKING:
                self._shaking_received(session, data)
            elif session.state is State.ASKING:
                session.held += data
                if len(session.held) > self.settings.queue_bytes + _FRAME_MOST_BYTES:
                    # The carrier stopped reading; more than one read can't come.
                    raise BadWire("too much before admission")
        except BadWire:
            self._end(session, "bad bytes")
        return False

    def _shaking_received(self, session: Session, data: bytes) -> None:
        session.decoder.append(data)
        frame = session.decoder.next_frame()
        if frame is None:
            return
        kind, payload = frame
        if kind != derp.CLIENT_INFO:
            raise BadWire("the first frame is not ClientInfo")
        # A mesh key in it is not looked at: this relay belongs to no group of relays, so nobody gets its rights.
        session.key, _ = derp.decode_client_info(payload, self._private_key)
        session.state = State.ASKING

    def _open_received(self, session: Session, data: bytes, now: float) -> bool:
        if session.held:
            data = session.held + data
            session.held = b""
        if data:
            wait = session.rate_bucket.spend(len(data), now)
            if wait:
                session.read_again_at = now + wait
                self.totals["reads_delayed"] += 1
        # Also without new bytes: some may have waited in the decoder since the handshake.
        session.frames += session.decoder.feed(data)
        frames = session.frames
        if len(frames) > _FRAMES_AT_ONCE:
            session.frames = frames[_FRAMES_AT_ONCE:]
            frames = frames[:_FRAMES_AT_ONCE]
        else:
            session.frames = []
        seat = session.seat
        if frames and seat is not None:
            seat.active = session
        for kind, payload in frames:
            if kind == derp.SEND_PACKET:
                self._packet_received(session, payload, now)
            else:
                self._other_received(session, kind, payload)
        return bool(session.frames)

    def _packet_received(self, session: Session, payload: bytes, now: float) -> None:
        if len(payload) < KEY_BYTES:
            raise BadWire("a packet without its key")
        destination = payload[:KEY_BYTES]
        packet = payload[KEY_BYTES:]
        session.packets_in += 1
        is_disco = payloads.is_disco(packet)
        if not is_disco and not payloads.is_carried(packet, session.key):
            self._drop(session, "neither disco nor WireGuard")
            return
        seat = session.mesh.get(destination)
        if seat is None:
            self._drop(session, "nobody there")
            if is_disco and session.gone_bucket.try_spend(1, now):
                self._control(session, derp.encode_peer_gone(destination, derp.GONE_NOT_HERE))
            return
        own = session.seat
        assert own is not None
        if destination not in own.reached:
            own.reached[destination] = None
            if len(own.reached) > self.settings.remembered_receivers:
                del own.reached[next(iter(own.reached))]
        receiver = seat.active
        frame = _HEADER.pack(derp.RECV_PACKET, len(payload)) + session.key + packet
        dropped = receiver.queue.add_packet(frame, is_disco)
        if dropped:
            receiver.packets_dropped += dropped
            self.drops["slow reader, disco" if is_disco else "slow reader"] += dropped
        self.ready.add(receiver)

    def _other_received(self, session: Session, kind: int, payload: bytes) -> None:
        if kind == derp.NOTE_PREFERRED:
            session.is_home = derp.decode_note_preferred(payload)
        elif kind == derp.PING:
            self._control(session, derp.encode_pong(derp.decode_ping(payload)))
        elif kind in (derp.FORWARD_PACKET, derp.WATCH_CONNS, derp.CLOSE_PEER):
            raise BadWire("a frame that only relays may send")
        else:
            self.totals["frames_skipped"] += 1

    # --- bytes go out ---

    def take(self, session: Session, bytes_most: int) -> bytes:
        """Return bytes to be written to a session, b"" if there are none."""
        frames, packets = session.queue.take(bytes_most)
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        session.packets_out += packets
        session.bytes_out += len(data)
        self.totals["packets_out"] += packets
        self.totals["bytes_out"] += len(data)
        return data

    def writing_blocked(self, session: Session, now: float) -> None:
        """The client takes no more bytes for now."""
        if session.state is not State.ENDED:
            session.blocked_since = now
            self.blocked.add(session)

    def writing_progressed(self, session: Session, now: float) -> None:
        """The client has taken some bytes, though it is not through with them."""
        if session.blocked_since is not None:
            session.blocked_since = now

    def writing_resumed(self, session: Session) -> None:
        """The client takes bytes again."""
        session.blocked_since = None
        self.blocked.discard(session)
        if session.queue:
            self.ready.add(session)

    # --- time passes ---

    def next_timer(self) -> float | None:
        """Return when timer_fired() wants to be called; None while nobody is connected."""
        return self._ticked + _TICK_SECONDS if self.sessions else None

    def timer_fired(self, now: float) -> None:
        """End handshakes and writes that take too long; send the keep-alives that are due."""
        self._end_slow_handshakes(now)
        for session in list(self.blocked):
            if session.blocked_since is not None and now - session.blocked_since >= self.settings.write_seconds:
                self._end(session, "took no bytes")
        for tick in range(self._ticked + 1, int(now) + 1):
            for session in self._keep_alive_at.pop(tick, ()):
                # One that takes no bytes needs no more of them to know that we live.
                if session.blocked_since is None:
                    self._control(session, derp.encode_keep_alive())
                self._plan_keep_alive(session, now)
        self._ticked = int(now)

    def _end_slow_handshakes(self, now: float) -> None:
        while self._shaking:
            oldest = next(iter(self._shaking))
            if now - oldest.connected_at < self.settings.handshake_seconds:
                return
            self._end(oldest, "slow handshake")

    def _plan_keep_alive(self, session: Session, now: float) -> None:
        settings = self.settings
        if not session.keep_alive_seconds:
            # Chosen once a session, so that clients which came at the same instant are not all served at the same.
            session.keep_alive_seconds = (
                settings.keep_alive_seconds + settings.keep_alive_jitter_seconds * self._jitter()
            )
        session.keep_alive_tick = max(int(now + session.keep_alive_seconds), self._ticked + 1)
        self._keep_alive_at.setdefault(session.keep_alive_tick, set()).add(session)

    # --- what is known about it ---

    def counters(self) -> dict[str, Any]:
        """Return what happened since the start and who is there, ready for JSON."""
        names = ("connections", "admitted", "bytes_in", "bytes_out", "packets_in", "packets_out")
        totals = {name: self.totals[name] for name in (*names, "reads_delayed", "frames_skipped")}
        totals["packets_in"] += sum(session.packets_in for session in self.sessions)
        return {
            "clients": sum(len(mesh) for mesh in self._meshes.values()),
            "open_connections": len(self.sessions),
            "handshakes": len(self._shaking),
            **totals,
            "drops": dict(self.drops),
            "endings": dict(self.endings),
            "refusals": dict(self.refusals),
        }

    # --- inside ---

    def _sit_down(self, session: Session, mesh_id: str) -> None:
        session.mesh_id = mesh_id
        session.mesh = self._meshes.setdefault(mesh_id, {})
        seat = session.mesh.get(session.key)
        if seat is None:
            session.seat = session.mesh[session.key] = Seat(session.key, session)
            return
        session.seat = seat
        seat.sessions.append(session)
        seat.active = session
        if len(seat.sessions) > self.settings.connections_per_key:
            self._end(seat.sessions[0], "too many of one key")

    def _stand_up(self, session: Session) -> None:
        seat = session.seat
        if seat is None:
            return
        session.seat = None
        seat.sessions.remove(session)
        if seat.sessions:
            if seat.active is session:
                seat.active = seat.sessions[-1]
            return
        del session.mesh[seat.key]
        for key in seat.reached:
            other = session.mesh.get(key)
            if other is not None:
                self._control(other.active, derp.encode_peer_gone(seat.key, derp.GONE_DISCONNECTED))
        if not session.mesh:
            del self._meshes[session.mesh_id]

    def _end(self, session: Session, reason: str) -> None:
        """Take a session out of everything; `link` sees the end by `state` and `end_reason`."""
        if session.state is State.ENDED:
            return
        session.state = State.ENDED
        session.end_reason = reason
        self.endings[reason] += 1
        self.totals["packets_in"] += session.packets_in
        self.sessions.discard(session)
        self._shaking.pop(session, None)
        self.blocked.discard(session)
        self._per_source[session.source] -= 1
        if not self._per_source[session.source]:
            del self._per_source[session.source]
        waiting = self._keep_alive_at.get(session.keep_alive_tick)
        if waiting is not None:
            waiting.discard(session)
        self._stand_up(session)
        lost = session.queue.clear()
        if lost:
            self.drops["receiver left"] += lost
        session.frames = []
        session.held = b""
        self.ready.add(session)

    def _control(self, session: Session, frame: bytes) -> None:
        if session.queue.add_control(frame):
            self.drops["control"] += 1
        self.ready.add(session)

    def _drop(self, session: Session, reason: str) -> None:
        session.packets_dropped += 1
        self.drops[reason] += 1
