"""What one direction of a shaped link does to its frames: rate, delay, loss. Pure: time and chance are given.

A frame waits until the wire is free, takes bits / rate to go out, and arrives a delay later. Frames that would wait
longer than the queue allows are dropped at its end, as a home router's buffer does; a lost frame has used the wire all
the same. Nothing is reordered: jitter never lets a frame overtake the one before it.
"""

import random
from collections import deque

from .plan import Shape

# Frames under way at once. Without a rate nothing else would bound a long delay: 20,000 of 1,514 B are 30 MB.
MAX_FRAMES = 20_000


class Line:
    """One direction of a link. Times are seconds on any clock that never goes back; frames are bytes as on Ethernet."""

    def __init__(self, shape: Shape, chance: random.Random) -> None:
        self.shape = shape
        self.delivered = 0
        self.lost = 0
        self.dropped = 0  # the queue was full
        self._chance = chance
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._wire_free_at = 0.0
        self._last_arrival = 0.0

    def frame_received(self, frame: bytes, now: float) -> None:
        """Take a frame that was sent at this moment."""
        shape = self.shape
        begins = max(now, self._wire_free_at)
        if begins - now > shape.queue_ms / 1000 or len(self._under_way) >= MAX_FRAMES:
            self.dropped += 1
            return
        ends = begins
        if shape.rate_mbit is not None:
            ends += len(frame) * 8 / (shape.rate_mbit * 1_000_000)
            self._wire_free_at = ends
        # Drawn for every frame, so that a seed gives the same losses whatever the rest of the shape is.
        is_lost = self._chance.random() < shape.loss
        jitter_ms = self._chance.random() * shape.jitter_ms
        if is_lost:
            self.lost += 1
            return
        arrives = max(ends + (shape.delay_ms + jitter_ms) / 1000, self._last_arrival)
        self._last_arrival = arrives
        self._under_way.append((arrives, frame))

    def frames_due(self, now: float) -> list[bytes]:
        """Return the frames that have arrived by now, oldest first; each is returned once."""
        due = []
        while self._under_way and self._under_way[0][0] <= now:
            due.append(self._under_way.popleft()[1])
        self.delivered += len(due)
        return due

    def next_timer(self) -> float | None:
        """Return when the next frame arrives, None if none is under way."""
        return self._under_way[0][0] if self._under_way else None
