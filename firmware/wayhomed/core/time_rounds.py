"""When the time servers are asked, and which of them.

A round asks all of them once. Until the time is trusted, rounds follow each other with growing pauses; after that there
is one every two hours. A server that sends a kiss of death (RFC 5905 section 7.4) is left alone for a day, or asked
less often if it only says that we ask too often.
"""

from wayhomed.port import const

# Chosen by us
_FIRST_MS = const(1_000)
_LONGEST_MS = const(300_000)
_TRUSTED_MS = const(7_200_000)
_TOO_OFTEN_MS = const(3_600_000)
_REFUSED_MS = const(86_400_000)


class TimeRounds:
    """Says when the next round is due. Addresses are (ip bytes, port)."""

    def __init__(self):
        self._pause_ms = _FIRST_MS
        self._next_ms: int | None = None  # None: now
        self._left_alone: dict = {}  # server -> until when

    def due_ms(self, now_ms: int) -> int:
        """Return the milliseconds until the next round."""
        return 0 if self._next_ms is None else max(0, self._next_ms - now_ms)

    def now(self) -> None:
        """Have a round at once: the network has changed. The pauses begin anew."""
        self._next_ms = None
        self._pause_ms = _FIRST_MS

    def may_ask(self, server: tuple, now_ms: int) -> bool:
        return self._left_alone.get(server, now_ms) <= now_ms

    def refused(self, server: tuple, code: str, now_ms: int) -> None:
        """Note a kiss of death."""
        self._left_alone[server] = now_ms + (_TOO_OFTEN_MS if code == "RATE" else _REFUSED_MS)

    def ended(self, trusted: bool, now_ms: int, random_byte: int) -> None:
        """Note the end of a round. random_byte (0..255) spreads the boards of a street after a power cut."""
        if trusted:
            self._pause_ms = _FIRST_MS
            wait_ms = _TRUSTED_MS
        else:
            wait_ms = self._pause_ms
            self._pause_ms = min(self._pause_ms * 2, _LONGEST_MS)
        self._next_ms = now_ms + wait_ms * (256 + random_byte) // 384
        for server in [server for server in self._left_alone if self._left_alone[server] <= now_ms]:
            del self._left_alone[server]
