"""Notices one state directory used in two places: two clients with the same keys end each other's poll in turn. Pure.

A client that reconnects (a new network, a sleep, a restart) comes over a new link and never over the old one again. So
it is not the change of links that tells, but the return to one that had been left.
"""

from collections.abc import Hashable
from dataclasses import dataclass

WINDOW_S = 120.0
_REMEMBERED = 8  # polls of a node
RETURNS = 2  # how often somebody must have come back to a link that was replaced


@dataclass(slots=True)
class _Poll:
    at: float
    link: Hashable
    source: str


class CloneWatch:
    """Told of every poll; times are seconds of one clock. Remembers the last few polls of a node."""

    def __init__(self) -> None:
        self._polls: dict[int, tuple[_Poll, ...]] = {}
        self._noticed: dict[int, float] = {}

    def poll_began(self, node_id: int, link: Hashable, source: str, now: float) -> tuple[str, ...]:
        """Return the sources of the clones when they are noticed (once in each window), else nothing."""
        known = self._polls.get(node_id, ())
        if len(known) == 1 and known[0].link == link:
            known = ()  # the usual client: poll after poll over its one link needs no memory
        polls = self._polls[node_id] = (*known[1 - _REMEMBERED :], _Poll(now, link, source))
        recent = [poll for poll in polls if now - poll.at <= WINDOW_S]
        seen: set[Hashable] = set()
        returns = 0
        for before, poll in zip([None, *recent], recent, strict=False):
            if poll.link in seen and before is not None and before.link != poll.link:
                returns += 1
            seen.add(poll.link)
        if returns < RETURNS or now - self._noticed.get(node_id, -WINDOW_S) < WINDOW_S:
            return ()
        self._noticed[node_id] = now
        return tuple(sorted({poll.source for poll in recent}))

    def is_suspected(self, node_id: int, now: float) -> bool:
        """Whether clones of this node were noticed within the last window."""
        return now - self._noticed.get(node_id, -2 * WINDOW_S) < WINDOW_S

    def forget(self, node_id: int) -> None:
        self._polls.pop(node_id, None)
        self._noticed.pop(node_id, None)
