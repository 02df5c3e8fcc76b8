"""How often somebody may try to register: pure token buckets by machine key or source address, bounded in number."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """`burst` tries at once, then one each `seconds`."""

    burst: int
    seconds: float


class AttemptLimit:
    """Failed tries cost; whoever has none left waits. Times are seconds of one clock.

    At most `remembered` are kept: forgetting the one that has been quiet for longest gives it a full bucket, no more.
    """

    def __init__(self, rate: Rate, remembered: int = 10_000) -> None:
        self._rate = rate
        self._remembered = remembered
        self._spent: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # who -> (tries spent, as of)

    def wait_s(self, who: Hashable, now: float) -> float:
        """Return how long `who` has to wait before the next try; 0 if it may try now."""
        over = self._spent_now(who, now) - (self._rate.burst - 1)
        return max(0.0, over * self._rate.seconds)

    def failed(self, who: Hashable, now: float) -> None:
        """Count a try that came to nothing."""
        self._spent[who] = (self._spent_now(who, now) + 1, now)
        self._spent.move_to_end(who)
        if len(self._spent) > self._remembered:
            self._spent.popitem(last=False)

    def _spent_now(self, who: Hashable, now: float) -> float:
        spent, at = self._spent.get(who, (0.0, now))
        return max(0.0, spent - (now - at) / self._rate.seconds)
