"""How long a server that has no time for us wants to be left alone. Source: RFC 9110 sections 5.6.7 and 10.2.3."""

from wayhomed.core import times
from wayhomed.port import const
from wayhomed.wire.errors import BadWire

# Fixed by the protocol (control.md 5.2): without a usable wish 5 to 10 s, and no wish of more than an hour counts.
_LEAST_MS = const(5_000)
_LONGEST_S = const(3_600)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def wait_ms(value: str, now_s: int, random_byte: int) -> int:
    """Return the milliseconds to wait, by the value of Retry-After ("" for none): seconds, or a date.

    now_s: seconds since 1970, 0 while the clock is not to be trusted; random_byte (0..255) spreads a crowd of clients.
    """
    seconds = _seconds(value.strip(), now_s)
    if not 0 < seconds <= _LONGEST_S:
        return _LEAST_MS + _LEAST_MS * random_byte // 255
    return seconds * 1000 + 1000 * random_byte // 255


def _seconds(value: str, now_s: int) -> int:
    """Return the wish in seconds, 0 if there is none that we understand."""
    if 0 < len(value) <= 9 and not [digit for digit in value if digit not in "0123456789"]:
        return int(value)
    words = value.split(" ")  # Sun, 06 Nov 1994 08:49:37 GMT
    if len(words) != 6 or words[2] not in _MONTHS or not now_s:
        return 0
    text = "%s-%02d-%sT%sZ" % (words[3], _MONTHS.index(words[2]) + 1, words[1], words[4])
    try:
        return times.seconds_from_text(text) - now_s
    except BadWire:
        return 0
