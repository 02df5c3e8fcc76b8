"""How often something may be done: a few times at once, then at a steady pace. Pure: time comes as an argument."""


class Pace:
    """At most `burst` times at once, and `every_ms` for each time more."""

    def __init__(self, burst: int, every_ms: int):
        self._most_ms = burst * every_ms
        self._every_ms = every_ms
        self._saved_ms = self._most_ms
        self._last_ms: int | None = None

    def wait_ms(self, now_ms: int) -> int:
        """Return the milliseconds until it may be done; 0 = now."""
        self._advance(now_ms)
        return max(0, self._every_ms - self._saved_ms)

    def done(self, now_ms: int) -> None:
        """Note that it was done."""
        self._advance(now_ms)
        self._saved_ms = max(0, self._saved_ms - self._every_ms)

    def _advance(self, now_ms: int) -> None:
        if self._last_ms is not None and now_ms > self._last_ms:
            self._saved_ms = min(self._most_ms, self._saved_ms + now_ms - self._last_ms)
        if self._last_ms is None or now_ms > self._last_ms:
            self._last_ms = now_ms
