"""How old a WireGuard session is, on a machine whose clock may be set at any moment.

WireGuard says when a session began by the wall clock. A board comes up in 1970 and learns the time later: between the
two moments that WireGuard names, the clock may have jumped by decades. So the jumps are noted, seen as changes of the
wall clock against the monotonic one, and each time is read by the clock that ran then.
"""

from wayhomed.port import const

# Chosen by us
_ROUNDING_MS = const(2_000)  # whole seconds on one side, two readings one after the other
_BEFORE_MS = const(200_000)  # a session is over after 180 s: what began longer before we did does not matter
_MAX_SPANS = const(8)


class Handshakes:
    """Times of handshakes read as ages. wall_s: seconds since 1970; now_ms: monotonic milliseconds."""

    def __init__(self, wall_s: int, now_ms: int):
        self._offset_ms = 1000 * wall_s - now_ms
        self._since_ms = now_ms - _BEFORE_MS
        self._looked_ms = now_ms
        self._past: list = []  # (offset, from, until) of clocks that ran before

    def look(self, wall_s: int, now_ms: int) -> None:
        """Note what both clocks show. The more often this is called, the better is known when the clock was set."""
        offset_ms = 1000 * wall_s - now_ms
        if abs(offset_ms - self._offset_ms) > _ROUNDING_MS:
            self._past.append((self._offset_ms, self._since_ms, now_ms))
            if len(self._past) > _MAX_SPANS:
                self._past.pop(0)
            self._offset_ms = offset_ms
            self._since_ms = self._looked_ms
        self._looked_ms = now_ms

    def age_s(self, handshake_s: int, wall_s: int, now_ms: int) -> int | None:
        """Return how long ago a handshake was, None if it was never, or long ago. Of two readings the older counts.

        handshake_s: as WireGuard has it, 0 = never.
        """
        self.look(wall_s, now_ms)
        if not handshake_s:
            return None
        oldest = None
        for offset_ms, since_ms, until_ms in self._past + [(self._offset_ms, self._since_ms, now_ms)]:
            at_ms = 1000 * handshake_s - offset_ms
            if since_ms - _ROUNDING_MS <= at_ms <= until_ms + _ROUNDING_MS:
                age_s = max(0, (now_ms - at_ms) // 1000)
                oldest = age_s if oldest is None else max(oldest, age_s)
        return oldest
