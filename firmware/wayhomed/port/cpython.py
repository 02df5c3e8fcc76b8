"""Constants, clock and randomness on CPython."""

import time
from os import urandom as random_bytes

__all__ = ["const", "monotonic_ms", "monotonic_us", "random_bytes"]


def const(value):
    """Return the value; MicroPython's compiler folds what is wrapped in const()."""
    return value


def monotonic_ms() -> int:
    """Milliseconds that only grow, from an arbitrary start."""
    return time.monotonic_ns() // 1_000_000


def monotonic_us() -> int:
    """Microseconds that only grow: for round trips that a person reads."""
    return time.monotonic_ns() // 1_000
