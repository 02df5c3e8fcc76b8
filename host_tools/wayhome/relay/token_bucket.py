"""A rate limit that lets bursts through."""


class TokenBucket:
    """Holds up to `burst` tokens and gains `rate` of them a second; starts full. A rate of 0 means no limit.

    Times are seconds of any clock that only grows.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def spend(self, amount: float, now: float) -> float:
        """Take tokens, going into debt if need be; return the seconds until the debt is paid."""
        if not self._rate:
            return 0.0
        self._refill(now)
        self._tokens -= amount
        return -self._tokens / self._rate if self._tokens < 0 else 0.0

    def try_spend(self, amount: float, now: float) -> bool:
        """Take tokens if there are enough of them; tell whether there were."""
        if not self._rate:
            return True
        self._refill(now)
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True

    def _refill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
