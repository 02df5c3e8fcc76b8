"""How long to wait after the n-th failure in a row.

Source: control.md section 13: n*n*10 ms, at most 30 s, times a random factor of 0.5 to 1.5.
"""

from wayhomed.port import const

_STEP_MS = const(10)
LIMIT_MS = const(30_000)


class Backoff:
    """Counts failures in a row and says how long to wait after the latest."""

    def __init__(self, limit_ms: int = LIMIT_MS):
        self._limit_ms = limit_ms
        self.failures = 0

    def failed(self, random_byte: int) -> int:
        """Count a failure; return the milliseconds to wait. random_byte (0..255) spreads a crowd of clients."""
        self.failures += 1
        # The square passes the limit long before it grows big; the cap also keeps it a small int.
        failures = min(self.failures, 1000)
        wait_ms = min(failures * failures * _STEP_MS, self._limit_ms)
        return wait_ms * (256 + 2 * random_byte) // 512

    def succeeded(self) -> None:
        """Forget the failures."""
        self.failures = 0
