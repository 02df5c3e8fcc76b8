"""Constants, clock and randomness on MicroPython's unix port."""

import time
from os import urandom as random_bytes

from micropython import const

__all__ = ["const", "monotonic_ms", "monotonic_us", "random_bytes"]

_last_ticks = time.ticks_ms()
_total_ms = 0
_last_ticks_us = time.ticks_us()
_total_us = 0


def monotonic_ms() -> int:
    """Milliseconds that only grow, from an arbitrary start.

    ticks_ms() wraps (after 12 days on 32 bits), and the cores subtract times as plain integers; so the differences are
    summed here. Right as long as somebody asks at least once in half a period.
    """
    global _last_ticks, _total_ms
    now = time.ticks_ms()
    _total_ms += time.ticks_diff(now, _last_ticks)
    _last_ticks = now
    return _total_ms


def monotonic_us() -> int:
    """Microseconds, for round trips that a person reads.

    ticks_us() wraps too, on 32 bits after 18 minutes: two calls less than 8 minutes apart give the right difference.
    """
    global _last_ticks_us, _total_us
    now = time.ticks_us()
    _total_us += time.ticks_diff(now, _last_ticks_us)
    _last_ticks_us = now
    return _total_us
