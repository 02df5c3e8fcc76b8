"""What a node's administrator should hear of: a key that ends soon, and what the client itself warns of. Pure.

A client says it in the map request's DebugFlags ("warn-ip-forwarding-off": control.md 6), with every request anew; it
is kept in memory alone.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from .model import Node

# Chosen by us: a remote board is to be logged in anew before that takes a journey.
WARNED_AHEAD = timedelta(days=28)
# Of what strangers say, the first few and their first words.
WARNINGS = 16
WARNING_CHARACTERS = 64

_PREFIX = "warn-"
# When a key ends is ours to say, and known here exactly.
_OF_THE_KEY = "warn-key-"
_SENTENCES = {
    "warn-disk-not-writable": "it can't write to its disk; what changes there is lost at its next start",
    "warn-ip-forwarding-off": "it offers routes, but its system does not forward packets (IP forwarding is off)",
    "warn-router-unhealthy": "it can't set its own routes or packet filter",
}


class ClientWarnings:
    """What the clients said last, by node id."""

    def __init__(self) -> None:
        self._said: dict[int, tuple[str, ...]] = {}

    def told(self, node_id: int, flags: Sequence[str]) -> None:
        """The node's newest request had these DebugFlags."""
        warnings = [flag for flag in flags if flag.startswith(_PREFIX) and not flag.startswith(_OF_THE_KEY)]
        if warnings:
            self._said[node_id] = tuple(flag[:WARNING_CHARACTERS] for flag in warnings[:WARNINGS])
        else:
            self._said.pop(node_id, None)

    def removed(self, node_id: int) -> None:
        self._said.pop(node_id, None)

    def of(self, node: Node, now: datetime) -> list[str]:
        """Return sentences; those of the client itself may hold a stranger's words."""
        sentences = [_SENTENCES.get(flag, f"it says: {flag}") for flag in self._said.get(node.id, ())]
        if node.expiry is not None and now < node.expiry <= now + WARNED_AHEAD:
            days = -((now - node.expiry) // timedelta(days=1))
            left = "less than a day" if days == 1 else f"{days} days"
            sentences.insert(0, f"its key ends in {left}; log it in again before that, or it is out")
        return sentences
