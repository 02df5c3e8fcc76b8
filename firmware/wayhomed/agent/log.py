"""The daemon's log: one line an event, to stderr or the system's log, and the newest kept in a ring in RAM.

Keys appear only in their short public form; whoever logs takes care of that. Text from strangers is made printable.
"""

from wayhomed.core import times
from wayhomed.port import const

ERROR = const(3)  # RFC 5424 severities
WARNING = const(4)
INFO = const(6)
DEBUG = const(7)
RING_LINES = const(400)
_MAX_LINE = const(500)
_NAMES = {ERROR: "error", WARNING: "warning", INFO: "info", DEBUG: "debug"}


class Log:
    """Where events go. write(severity, line) puts a line out; clock() is seconds since 1970."""

    def __init__(self, write, clock, level: int = INFO):
        self._write = write
        self._clock = clock
        self._level = level
        self._ring: list = []
        self._last = ""
        self._repeated = 0

    def error(self, text: str) -> None:
        self.event(ERROR, text)

    def warning(self, text: str) -> None:
        self.event(WARNING, text)

    def info(self, text: str) -> None:
        self.event(INFO, text)

    def debug(self, text: str) -> None:
        self.event(DEBUG, text)

    def event(self, severity: int, text: str) -> None:
        """Log one line. The same line again is only counted: a retry loop must not wear out flash or hide the rest."""
        if severity > self._level:
            return
        text = printable(text)
        if text == self._last:
            self._repeated += 1
            return
        if self._repeated:
            repeated, self._repeated = self._repeated, 0
            self._put(INFO, "(the line before came %d times more)" % repeated)
        self._last = text
        self._put(severity, text)

    def _put(self, severity: int, text: str) -> None:
        line = times.text_from_seconds(self._clock()) + " " + _NAMES[severity] + " " + text
        if len(self._ring) >= RING_LINES:
            self._ring.pop(0)
        self._ring.append(line)
        self._write(severity, text)

    def lines(self) -> list:
        """Return the newest lines, oldest first."""
        return list(self._ring)


def printable(text: str) -> str:
    """Return text fit for a terminal: one line, no control characters, bounded."""
    return "".join([c if " " <= c != "\x7f" and not "\x80" <= c < "\xa0" else "?" for c in text[:_MAX_LINE]])
