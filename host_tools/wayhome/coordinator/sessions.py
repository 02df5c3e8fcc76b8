"""Map streams: the first whole map, then what changed, to those it concerns and to nobody else.

The registry tells of a change and of its audience; each session of the audience remembers it, and soon after, in one
go, is told what its `MapView` makes of all it remembers. A session whose client doesn't take what is sent remembers a
bounded number of changes; beyond that a fresh whole map replaces them.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from random import Random

from wayhomed.wire.keys import short

from .cloned_state import CloneWatch
from .health import Counters
from .map_encoding import KEEP_ALIVE, encode
from .model import Change, Node
from .netmap import MapView, SessionFacts
from .noise_link import NoiseLink
from .presence import Presence
from .registry import NotFound, Registry

log = logging.getLogger(__name__)

# Fixed by the protocol: clients end a poll after 120 s of silence.
# Chosen by us: the keep-alive comes after 50 to 60 s, so that one may be lost in a change of networks.
KEEP_ALIVE_S = 50.0
KEEP_ALIVE_JITTER_S = 10.0

# While this much of a stream waits for the client, nothing is added to it: what changes meanwhile is merged.
UNSENT_BYTES = 64 * 1024
# Changes that a session remembers; a fresh whole map costs less than telling of more.
PENDING_CHANGES = 256
# Changes that come this close together are told together; far below what a person or a path notices.
GATHER_S = 0.02
# Telling everybody takes its time; this many times as long is gathered before it is done again, and never longer than
# the limit. So when all come back at once (a restart), each hears of the others in a few messages, not one by one.
GATHER_PER_TOLD = 4.0
GATHER_MOST_S = 0.5
# Sessions told in one turn of the loop, so that register requests and the relay don't wait for a large fan-out.
TOLD_PER_TURN = 64

_CLONED = (
    "This device's keys are in use in two places at once: each ends the other's connection. If its storage was copied, "
    "log out one of the two and let it join as a device of its own."
)


class MapSession:
    """One client's open poll."""

    __slots__ = (
        "facts",
        "has_notice",
        "keep_alive_at",
        "link",
        "needs_whole_map",
        "node_id",
        "pending",
        "stream",
        "view",
        "zstd",
    )

    def __init__(self, node_id: int, link: NoiseLink, stream: int, facts: SessionFacts, zstd: bool) -> None:
        self.node_id = node_id
        self.link = link
        self.stream = stream
        self.facts = facts
        self.zstd = zstd
        self.view = MapView(node_id, facts)
        self.pending: list[Change] = []
        self.needs_whole_map = False
        self.keep_alive_at = 0.0
        self.has_notice = False  # its user is being told that the state was copied


class Sessions:
    """All open polls, one a node.

    `now` is a clock in seconds, `today` the wall's; `tick` is to be called about once a second.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        counters: Counters,
        now: Callable[[], float],
        today: Callable[[], datetime],
        random: Random,
        presence: Presence | None = None,
        gather_s: float = GATHER_S,
    ) -> None:
        self._registry = registry
        self._counters = counters
        self._now = now
        self._today = today
        self._random = random
        self._gather_s = gather_s
        self._presence = presence or Presence()
        self._clones = CloneWatch()
        self._by_node: dict[int, MapSession] = {}
        self._dirty: dict[MapSession, None] = {}
        self._flush_at: asyncio.Handle | None = None
        self._telling_since: float | None = None
        self._gather_until = 0.0
        self._online_changes: deque[tuple[int, bool]] = deque()
        self._online_task: asyncio.Task[None] | None = None
        self._unsubscribe = registry.subscribe(self._changed)

    def __len__(self) -> int:
        return len(self._by_node)

    def of_node(self, node_id: int) -> MapSession | None:
        return self._by_node.get(node_id)

    def close(self) -> None:
        self._unsubscribe()
        if self._flush_at is not None:
            self._flush_at.cancel()

    async def settled(self) -> None:
        """Return once the registry knows who is online."""
        while self._online_task is not None:
            await asyncio.shield(self._online_task)

    # polls

    def begin(self, node: Node, link: NoiseLink, stream: int, facts: SessionFacts, zstd: bool) -> None:
        """Answer a poll: the whole map at once, and what changes from then on. It ends the node's older poll."""
        now = self._now()
        self._watch_clones(node, link, now)
        older = self._by_node.pop(node.id, None)
        session = MapSession(node.id, link, stream, facts, zstd)
        self._by_node[node.id] = session
        if self._presence.poll_began(node.id):
            self._tell_online(node.id, True)
        if older is not None:
            self._counters.replaced_polls += 1
            self._dirty.pop(older, None)
            older.link.end(older.stream)
            self._presence.poll_ended(node.id, now)
        link.start(
            stream,
            "application/json",
            gone=lambda: self._ended(session),
            progress=lambda: self._progressed(session),
        )
        self._counters.maps += 1
        self._send(session, encode(session.view.full(self._registry.world, self._today()), zstd), now)
        if self._clones.is_suspected(node.id, now):
            session.has_notice = True
            self._send(session, encode({"Health": [_CLONED]}, zstd), now)

    def send_to(self, node_id: int, message: dict[str, object]) -> bool:
        """Send a message of its own kind (a ping, a notice) to a node's poll; False if it has none."""
        session = self._by_node.get(node_id)
        if session is None:
            return False
        self._send(session, encode(message, session.zstd), self._now())
        return True

    def _ended(self, session: MapSession) -> None:
        self._dirty.pop(session, None)
        if self._by_node.get(session.node_id) is session:
            del self._by_node[session.node_id]
            self._presence.poll_ended(session.node_id, self._now())

    def _end(self, session: MapSession) -> None:
        session.link.end(session.stream)
        self._ended(session)

    def _watch_clones(self, node: Node, link: NoiseLink, now: float) -> None:
        sources = self._clones.poll_began(node.id, link.serial, link.source, now)
        if sources:
            self._counters.cloned_states += 1
            log.warning(
                "node %s (%s): its state is used in two places at once, from %s; log out one of them",
                node.name,
                short(node.machine_key),
                " and ".join(sources),
            )

    # changes

    def _changed(self, change: Change) -> None:
        """The registry has committed something; it must not wait for us."""
        if change.node is None and change.node_id is not None:
            self._presence.removed(change.node_id)
            self._clones.forget(change.node_id)
        by_node = self._by_node
        for node_id in (
            change.audience
            if len(change.audience) <= len(by_node)
            else [node_id for node_id in by_node if node_id in change.audience]
        ):
            session = by_node.get(node_id)
            if session is None or session.needs_whole_map:
                continue
            if len(session.pending) >= PENDING_CHANGES:
                session.pending.clear()
                session.needs_whole_map = True
                self._counters.slow_viewers += 1
                log.info("%r takes its updates too slowly: it gets a whole map instead", session.link)
            else:
                session.pending.append(change)
            self._dirty[session] = None
        if self._dirty and self._flush_at is None:
            wait_s = max(self._gather_s, self._gather_until - self._now())
            self._flush_at = asyncio.get_running_loop().call_later(wait_s, self._flush)

    def _flush(self) -> None:
        """Tell some of the sessions that have something to be told; the rest in the loop's next turn."""
        self._flush_at = None
        now = self._now()
        if self._telling_since is None:
            self._telling_since = now
        for _ in range(min(TOLD_PER_TURN, len(self._dirty))):
            session = next(iter(self._dirty))
            del self._dirty[session]
            self._tell(session, now)
        if self._dirty:
            self._flush_at = asyncio.get_running_loop().call_soon(self._flush)
        else:
            now = self._now()
            took_s = now - self._telling_since
            self._telling_since = None
            self._gather_until = now + min(GATHER_MOST_S, GATHER_PER_TOLD * took_s)

    def _tell(self, session: MapSession, now: float) -> None:
        if session.link.unsent(session.stream) > UNSENT_BYTES:
            return  # _progressed comes back to it
        node = self._registry.nodes.get(session.node_id)
        if node is None:
            self._end(session)  # deleted: its next poll is answered 404
            return
        world, today = self._registry.world, self._today()
        if session.needs_whole_map:
            session.needs_whole_map = False
            self._counters.maps += 1
            self._send(session, encode(session.view.full(world, today), session.zstd), now)
            return
        changes, session.pending = session.pending, []
        message = session.view.delta(world, changes, today)
        if message is not None:
            self._counters.deltas += 1
            self._send(session, encode(message, session.zstd), now)

    def _progressed(self, session: MapSession) -> None:
        if (session.pending or session.needs_whole_map) and session not in self._dirty:
            self._dirty[session] = None
            if self._flush_at is None:
                self._flush_at = asyncio.get_running_loop().call_soon(self._flush)

    def _send(self, session: MapSession, frame: bytes, now: float) -> None:
        session.keep_alive_at = now + KEEP_ALIVE_S + self._random.random() * KEEP_ALIVE_JITTER_S
        self._counters.map_bytes += len(frame)
        session.link.send(session.stream, frame)

    # time

    def tick(self) -> None:
        """Send keep-alives that are due; let go of nodes whose grace is over."""
        now = self._now()
        for session in self._by_node.values():
            if session.has_notice and not self._clones.is_suspected(session.node_id, now):
                session.has_notice = False
                self._send(session, encode({"Health": []}, session.zstd), now)
            if session.keep_alive_at <= now:
                self._send(session, KEEP_ALIVE[session.zstd], now)
        for node_id in self._presence.gone(now):
            self._tell_online(node_id, False)

    def _tell_online(self, node_id: int, online: bool) -> None:
        """Have the registry know; in the order in which it happened."""
        self._online_changes.append((node_id, online))
        if self._online_task is None:
            self._online_task = asyncio.get_running_loop().create_task(self._drain_online())

    async def _drain_online(self) -> None:
        try:
            while self._online_changes:
                node_id, online = self._online_changes.popleft()
                await _ignoring_deleted(self._registry.set_online(node_id, online))
        finally:
            self._online_task = None


async def _ignoring_deleted(work: Awaitable[None]) -> None:
    try:
        await work
    except NotFound:
        pass
