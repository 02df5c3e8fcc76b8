"""What a client is told: whole maps and true deltas, as JSON-ready dicts. Pure: no clock, no I/O.

    view = MapView(node_id, SessionFacts(capver=130, is_go_client=True))
    first = view.full(registry.world, now)
    later = view.delta(registry.world, changes, now)      # None: nothing for this viewer

Treat what is returned as read-only: parts are shared between viewers. A `SharedMessage` is the very same object for
every viewer that gets it, so its encoding can be kept in `.encoded` (any key, e.g. "zstd").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .model import Change

if TYPE_CHECKING:
    from .policy import World


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """capver: of the viewer's request. is_go_client: its Hostinfo has a GoVersion."""

    capver: int
    is_go_client: bool


class SharedMessage(dict[str, Any]):
    """A message that several viewers get alike; `encoded` keeps its encoded forms."""

    __slots__ = ("encoded",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.encoded: dict[str, bytes] = {}


class MapView:
    """What one client has been told by one stream, and so what it still has to be told."""

    def __init__(self, viewer_id: int, facts: SessionFacts) -> None: ...

    def full(self, world: World, now: datetime) -> dict[str, Any]:
        """The first message of a stream: everything. Raises KeyError if the viewer is no node (any more)."""
        raise NotImplementedError

    def delta(self, world: World, changes: Iterable[Change], now: datetime) -> dict[str, Any] | None:
        """What has to be said after these changes (all committed, in order); None if nothing."""
        raise NotImplementedError


def full_map(world: World, viewer_id: int, facts: SessionFacts, now: datetime) -> dict[str, Any]:
    """One whole map without a stream."""
    return MapView(viewer_id, facts).full(world, now)
