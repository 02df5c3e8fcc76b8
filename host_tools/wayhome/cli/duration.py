"""Durations as people type them: 90m, 24h, 7d."""

import re
from datetime import timedelta

from ..errors import HostError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST = timedelta(days=3660)


def parse_duration(text: str) -> timedelta:
    """Return the duration of a number and a unit (s, m, h, d, w), more than zero and at most ten years.

    Raises HostError that shows how to write one.
    """
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", text.strip().lower())
    if match is None:
        raise HostError(f"{text!r} is no duration; write a number and a unit (s, m, h, d, w), such as 90m, 24h or 7d")
    duration = timedelta(**{_UNITS[match[2]]: int(match[1])})
    if not timedelta() < duration <= _LONGEST:
        raise HostError(f"{text!r} is not between one second and ten years")
    return duration
