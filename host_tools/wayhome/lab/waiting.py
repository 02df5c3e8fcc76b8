"""Waiting for real processes: look at the real state until it is so, with a deadline that ends a hopeless test."""

import time
from collections.abc import Callable
from typing import TypeVar

from ..errors import HostError

_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.1

Seen = TypeVar("Seen")


class NotInTime(HostError):
    """A condition did not come true before its deadline."""


def wait_until(condition: Callable[[], Seen], seconds: float, what: str) -> Seen:
    """Return condition()'s first true value. Raises NotInTime, saying what was waited for, after so many seconds."""
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE_S
    while True:
        seen = condition()
        if seen:
            return seen
        if time.monotonic() >= deadline:
            raise NotInTime(f"waited {seconds:g} s for {what}; the last look showed {seen!r}")
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_S)
