"""The daemon's log: one line an event, to stderr or the system's log, and the newest kept in a ring in RAM.

Keys appear only in their short public form; whoever logs takes care of that. Text from strangers is made printable.
Nobody can flood it: a line that comes again and again is counted and told once in a while, and so are lines too many.
"""

from wayhomed.core import times
from wayhomed.core.pace import Pace
from wayhomed.port import const

from .visible_text import is_hidden

ERROR = const(3)  # RFC 5424 severities
WARNING = const(4)
INFO = const(6)
DEBUG = const(7)
RING_LINES = const(400)
_MAX_LINE = const(500)
_NAMES = {ERROR: "error", WARNING: "warning", INFO: "info", DEBUG: "debug"}
# So many times within a minute a line is written, for what comes and goes must be told as it is; after that it is
# counted, and told again with its number after 1 minute, 10 minutes, and then once an hour.
_OFTEN = const(4)
_WINDOWS_S = (60, 600, 3600)
_KNOWN_LINES = const(48)
_HIDDEN_TEXTS = const(7)
# Of all lines together: a burst, then one in two seconds. Debug lines are asked for, and not held back.
_BURST = const(200)
_EVERY_MS = const(2_000)


class _Repeated:
    """A line that was written lately: since when, how often written and how often only counted since, and patience."""

    def __init__(self, now_s: int):
        self.since_s = now_s
        self.written = 1
        self.counted = 0
        self.patience = 0  # which of _WINDOWS_S


class Log:
    """Where events go. write(severity, line) puts a line out; clock() is seconds since 1970."""

    def __init__(self, write, clock, level: int = INFO):
        self._write = write
        self._clock = clock
        self._level = level
        self._ring: list = []
        self.hidden: list = []  # texts that stand in no line
        self._recent: dict = {}  # text -> _Repeated
        self._last = ""
        self._pace = Pace(_BURST, _EVERY_MS)
        self._left_out = 0

    def tell_time_by(self, clock) -> None:
        """Have lines carry this clock's seconds since 1970 from now on."""
        self._clock = clock

    def hide(self, secret: str) -> None:
        """Have this text left out of every line from now on: whoever we told it may say it back to us."""
        if secret and secret not in self.hidden:
            self.hidden = self.hidden[-_HIDDEN_TEXTS:] + [secret]

    def write_to(self, write) -> None:
        """Have lines go elsewhere from now on: the system's log may have begun anew."""
        self._write = write

    def change_level(self, level: int) -> None:
        """Log from now on what is at least as severe as this."""
        self._level = level

    def error(self, text: str) -> None:
        self.event(ERROR, text)

    def warning(self, text: str) -> None:
        self.event(WARNING, text)

    def info(self, text: str) -> None:
        self.event(INFO, text)

    def debug(self, text: str) -> None:
        self.event(DEBUG, text)

    def event(self, severity: int, text: str) -> None:
        """Log one line, unless it came often lately: a retry loop must not wear out flash or hide the rest."""
        if severity > self._level:
            return
        for secret in self.hidden:
            text = text.replace(secret, "(left out)")
        text = printable(text)
        now_s = self._clock()
        self._tell_counted(now_s)
        again = self._recent.get(text)
        if again is not None:
            # The same line as the last one says nothing new, however rarely it comes.
            if again.written >= _OFTEN or text == self._last:
                again.counted += 1
                return
            again.written += 1
        else:
            if len(self._recent) >= _KNOWN_LINES:
                self._forget(min(self._recent, key=lambda known: self._recent[known].since_s))
            self._recent[text] = _Repeated(now_s)
        self._last = text
        self._put(severity, text)

    def _tell_counted(self, now_s: int) -> None:
        """Tell what was counted long enough, and forget what did not come again."""
        for text in sorted(self._recent):
            again = self._recent[text]
            # a clock that was set back would count for ever
            if 0 <= now_s - again.since_s < _WINDOWS_S[again.patience]:
                continue
            if not again.counted:
                self._forget(text)
                continue
            self._put(INFO, _counted_text(text, again, now_s))
            again.since_s = now_s
            again.written = _OFTEN
            again.counted = 0
            again.patience = min(again.patience + 1, len(_WINDOWS_S) - 1)

    def _forget(self, text: str) -> None:
        again = self._recent.pop(text)
        if again.counted:
            self._put(INFO, _counted_text(text, again, self._clock()))
        if text == self._last:
            self._last = ""

    def _put(self, severity: int, text: str) -> None:
        now_ms = self._clock() * 1000
        if severity < DEBUG:
            if self._pace.wait_ms(now_ms):
                self._left_out += 1
                return
            self._pace.done(now_ms)
        if self._left_out:
            left_out, self._left_out = self._left_out, 0
            self._put_out(WARNING, "%d lines were left out: too many in a short time" % left_out)
        self._put_out(severity, text)

    def _put_out(self, severity: int, text: str) -> None:
        if len(self._ring) >= RING_LINES:
            self._ring.pop(0)
        self._ring.append(_line(self._clock(), severity, text))
        self._write(severity, text)

    def lines(self) -> list:
        """Return the newest lines, oldest first, and what is counted at the moment."""
        now_s = self._clock()
        counting = [
            _line(now_s, INFO, _counted_text(text, self._recent[text], now_s))
            for text in sorted(self._recent)
            if self._recent[text].counted
        ]
        return self._ring + counting


def _line(now_s: int, severity: int, text: str) -> str:
    return times.text_from_seconds(now_s) + " " + _NAMES[severity] + " " + text


def _counted_text(text: str, again, now_s: int) -> str:
    minutes = max(1, (now_s - again.since_s + 59) // 60)
    return "repeated %d times within %d min: %s" % (again.counted, minutes, text)


def printable(text: str) -> str:
    """Return text fit for a terminal: one line, nothing in it that steers the display, bounded."""
    return "".join(["?" if is_hidden(letter) else letter for letter in text[:_MAX_LINE]])
