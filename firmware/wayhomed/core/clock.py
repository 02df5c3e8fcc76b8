"""What time it is, how far that is to be believed, and what may be done to the machine's own clock.

    build date      the floor: it has passed for sure. Nothing before it, nor 20 years after it, is ever believed
    saved time      a trusted time that was written down: it has passed too. In the same boot it is still trusted
    machine's clock a guess, if it lies between the two floors and the limit
    time servers    trusted where most that answered agree: nobody vouches for them, so they can't go behind the saved
                    time, and a single one can't move the machine's clock by more than a year
    coordinator     trusted: its key authenticates it. It overrules the time servers
    time service    a clock that another service of this machine keeps is its owner's choice: trusted, never touched

Time is counted by the boot clock (milliseconds that nobody can set and that go on in suspend), so it stays right
whatever happens to the machine's clock. That one is moved for WireGuard's sake, whose handshakes carry it: peers refuse
one that carries an earlier time than they have seen (whitepaper section 5.4.2). So it never steps back while the tunnel
stands: there it is slowed down, or left as it is.
"""

from wayhomed.port import const

from . import times

# Chosen by us
_YEAR_S = const(31_557_600)
BELIEVED_S = const(631_152_000)  # 20 years
_DOUBTFUL_S = _YEAR_S  # a clock so far past all we know may be a dead battery's
_LONE_STEP_S = _YEAR_S
_APART_MS = const(300_000)  # trusted sources that differ by more contradict each other
_COORDINATOR_MS = const(5_000)  # how far off the coordinator's word may be: whole seconds, and it was on its way
_RIGHT_MS = const(300_000)  # the machine's clock will do for a certificate's dates
# The machine's clock is left alone within these: what the source's word is worth, and what nobody notices.
_FINE_MS = const(500)
_COARSE_MS = const(10_000)
_STEP_MS = const(2_000)
MAX_SLEW_MS = const(2_000_000)  # at 0.5 ms a second: 46 days
SAVE_EVERY_MS = const(3_600_000)


class Trust:
    """Who vouches for the time, the higher the better."""

    NONE = 0
    SERVERS = 1
    COORDINATOR = 2
    SERVICE = 3


_SOURCES = {
    Trust.NONE: "nobody yet",
    Trust.SERVERS: "time servers",
    Trust.COORDINATOR: "the coordinator",
    Trust.SERVICE: "this machine's own time service",
}


class Do:
    """What the machine's clock needs."""

    NOTHING = 0
    STEP = 1
    SLEW = 2  # by so many milliseconds, little by little
    LEAVE = 3  # it is wrong, and can't be set while the tunnel stands


class Saved:
    """A trusted time that was written down: time_ms since 1970, and where it came from.

    boot and up_ms: which boot of the machine, and its boot clock then.
    """

    def __init__(self, time_ms: int, trust: int, boot: str, up_ms: int):
        self.time_ms = time_ms
        self.trust = trust
        self.boot = boot
        self.up_ms = up_ms

    def as_json(self) -> dict:
        return {
            "Time": times.text_from_seconds(self.time_ms // 1000),
            "TimeMs": self.time_ms,
            "Trust": self.trust,
            "Boot": self.boot,
            "UpMs": self.up_ms,
        }


def saved_from_json(fields):
    """Return the Saved that a file says, None for what can't be one."""
    if not isinstance(fields, dict):
        return None
    numbers: list = [fields.get(name) for name in ("TimeMs", "Trust", "UpMs")]
    for number in numbers:
        if not isinstance(number, int) or number is True or number is False or not 0 <= number < 1 << 62:
            return None
    time_ms, trust, up_ms = numbers
    boot = fields.get("Boot")
    if not isinstance(boot, str) or trust not in _SOURCES or trust == Trust.NONE:
        return None
    return Saved(time_ms, trust, boot, up_ms)


class Clock:
    """The time. up_ms: the boot clock in milliseconds; system_ms: the machine's clock, milliseconds since 1970.

    boot: which boot of the machine this is; saved: what was written down last, or None.
    """

    def __init__(self, build_s: int, saved: Saved | None, boot: str, system_ms: int, up_ms: int):
        self._first_ms = build_s * 1000
        self._last_ms = (build_s + BELIEVED_S) * 1000
        self._boot = boot
        self._saved_up_ms: int | None = None
        self.trust = Trust.NONE
        self.lone = False  # a single time server vouches for it, and nobody else
        self.contradiction = ""  # of two trusted sources, in words
        self._floor_ms = self._first_ms
        if saved is not None and not self._first_ms <= saved.time_ms <= self._last_ms:
            saved = None
        if saved is not None:
            self._floor_ms = saved.time_ms
        if saved is not None and boot and saved.boot == boot and saved.up_ms <= up_ms:
            self.trust = saved.trust
            self._set(saved.time_ms + up_ms - saved.up_ms, up_ms)
            self._saved_up_ms = saved.up_ms
        else:
            self._guess(system_ms, up_ms)

    def _set(self, time_ms: int, up_ms: int) -> None:
        self._base_ms = time_ms - up_ms

    def _guess(self, system_ms: int, up_ms: int) -> None:
        self._set(system_ms if self._plausible(system_ms) else self._floor_ms, up_ms)

    def _plausible(self, system_ms: int) -> bool:
        return self._floor_ms <= system_ms <= self._last_ms

    # --- Questions ---

    @property
    def trusted(self) -> bool:
        return self.trust != Trust.NONE

    def now_ms(self, up_ms: int) -> int:
        """Return the best guess, milliseconds since 1970."""
        return self._base_ms + up_ms

    def trusted_now_s(self, up_ms: int) -> int:
        """Return seconds since 1970, 0 while nobody vouches for them."""
        return self.now_ms(up_ms) // 1000 if self.trusted else 0

    def floor_s(self) -> int:
        """Return a time that has passed for sure, seconds since 1970."""
        return self._floor_ms // 1000

    def is_right(self, system_ms: int, up_ms: int) -> bool:
        """Tell whether the machine's clock will do for whoever judges dates by it."""
        return self.trusted and abs(system_ms - self.now_ms(up_ms)) <= _RIGHT_MS

    def is_floor(self, system_ms: int) -> bool:
        """Tell whether nothing is known but what time has passed."""
        return not self.trusted and not self._plausible(system_ms)

    def is_doubtful(self, system_ms: int) -> bool:
        """Tell whether the machine's clock may well be too late, so that the tunnel should not start with it yet."""
        return not self.trusted and system_ms > self._floor_ms + _DOUBTFUL_S * 1000

    def words(self, system_ms: int, up_ms: int) -> str:
        """Return who vouches for the time, or why nobody does."""
        if self.trusted:
            return _SOURCES[self.trust]
        if system_ms < self._floor_ms:
            return "not known: this machine's clock shows %s, and %s has passed" % (
                _day(system_ms),
                _day(self._floor_ms),
            )
        if system_ms > self._last_ms:
            return "not known: this machine's clock shows %s" % _day(system_ms)
        return "not certain: nobody has confirmed this machine's clock yet"

    # --- What the sources say ---

    def service_keeps(self, system_ms: int, up_ms: int) -> bool:
        """Note that another service keeps the machine's clock; tell whether the time is trusted by it."""
        if not self._first_ms <= system_ms <= self._last_ms:
            return False
        self._believe(Trust.SERVICE, system_ms, up_ms)
        return True

    def service_is_gone(self) -> None:
        """Note that nobody else keeps the machine's clock any more: the time stays trusted, others may refine it."""
        if self.trust == Trust.SERVICE:
            self.trust = Trust.COORDINATOR

    def coordinator_told(self, time_s: int, up_ms: int) -> bool:
        """Take the coordinator's time (from a session that its key authenticates); tell whether it was believed."""
        time_ms = time_s * 1000
        if not self._first_ms <= time_ms <= self._last_ms or self.trust == Trust.SERVICE:
            return False
        if self.trusted and abs(time_ms - self.now_ms(up_ms)) <= _COORDINATOR_MS:
            time_ms = self.now_ms(up_ms)  # another source has it more exactly
        self._believe(Trust.COORDINATOR, time_ms, up_ms)
        return True

    def servers_agreed(self, time_ms: int, servers: int, up_ms: int) -> bool:
        """Take the time on which so many servers agree; tell whether it was believed."""
        if not self._floor_ms <= time_ms <= self._last_ms or self.trust == Trust.SERVICE:
            return False
        if self.trust == Trust.COORDINATOR:
            if abs(time_ms - self.now_ms(up_ms)) > _APART_MS:
                self.contradiction = "the time servers say %s, the coordinator %s; the coordinator is believed" % (
                    times.text_from_seconds(time_ms // 1000),
                    times.text_from_seconds(self.now_ms(up_ms) // 1000),
                )
                return False
            self.contradiction = ""
            self._set(time_ms, up_ms)
            return True
        self._believe(Trust.SERVERS, time_ms, up_ms)
        self.lone = servers == 1
        return True

    def _believe(self, trust: int, time_ms: int, up_ms: int) -> None:
        self.trust = trust
        self.lone = False
        self.contradiction = ""
        self._set(time_ms, up_ms)

    # --- The machine's clock ---

    def advice(self, system_ms: int, up_ms: int, tunnel_stands: bool) -> tuple:
        """Return (what to Do, milliseconds): STEP to that time, SLEW by that much, LEAVE it wrong by that much."""
        if self.trust == Trust.SERVICE:
            return Do.NOTHING, 0
        if not self.trusted:
            if self._plausible(system_ms) or (system_ms > self._last_ms and tunnel_stands):
                return Do.NOTHING, 0
            return Do.STEP, self.now_ms(up_ms)
        off_ms = self.now_ms(up_ms) - system_ms
        if abs(off_ms) <= (_COARSE_MS if self.trust == Trust.COORDINATOR else _FINE_MS):
            return Do.NOTHING, 0
        if off_ms > 0:
            if self.lone and off_ms > _LONE_STEP_S * 1000 and self._plausible(system_ms):
                return Do.LEAVE, off_ms
            return (Do.STEP, self.now_ms(up_ms)) if off_ms >= _STEP_MS else (Do.SLEW, off_ms)
        if not tunnel_stands and off_ms <= -_STEP_MS:
            return Do.STEP, self.now_ms(up_ms)
        return (Do.SLEW, off_ms) if off_ms >= -MAX_SLEW_MS else (Do.LEAVE, off_ms)

    # --- What is written down ---

    def save_due_ms(self, up_ms: int) -> int | None:
        """Return the milliseconds until the time is to be written down; None while there is none worth it."""
        if not self.trusted:
            return None
        if self._saved_up_ms is None:
            return 0
        return max(0, self._saved_up_ms + SAVE_EVERY_MS - up_ms)

    def to_save(self, up_ms: int) -> Saved:
        """Return what to write down. Only a trusted time is: a wrong guess would be a floor for ever."""
        return Saved(self.now_ms(up_ms), self.trust, self._boot, up_ms)

    def saved(self, up_ms: int) -> None:
        """Note that it was written down, or that it could not be: tried again an hour later in either case."""
        self._saved_up_ms = up_ms


def _day(time_ms: int) -> str:
    return times.text_from_seconds(max(time_ms // 1000, 1))[:10]


# --- Agreement of time servers (RFC 5905 section 11.2.1, in short) ---


class Sample:
    """What one server's answer means: time_ms since 1970 at the moment at_ms of the boot clock, give or take."""

    def __init__(self, time_ms: int, at_ms: int, give_or_take_ms: int):
        self.time_ms = time_ms
        self.at_ms = at_ms
        self.give_or_take_ms = give_or_take_ms


MAX_ROOT_DISTANCE_MS = const(1_500)  # RFC 5905 appendix A.5.5: MAXDIST
_SLACK_MS = const(20)  # servers' own differences


def sample(answer, asked_ms: int, answered_ms: int) -> Sample | None:
    """Return the Sample of a wire.ntp.Answer, None if its server is too far from true time itself.

    asked_ms, answered_ms: when our question left and the answer came, by the boot clock.
    """
    delay_ms = max(0, answered_ms - asked_ms - (answer.sent_ms - answer.received_ms))
    if answer.root_distance_ms > MAX_ROOT_DISTANCE_MS:
        return None
    return Sample(answer.sent_ms + delay_ms // 2, answered_ms, delay_ms // 2 + answer.root_distance_ms + _SLACK_MS)


def agreed(samples: list, up_ms: int) -> tuple | None:
    """Return (milliseconds since 1970 at up_ms, how many agree), None unless most of the samples have a time in common.

    The time is the middle of what the agreeing ones leave possible.
    """
    edges = []
    for taken in samples:
        at_ms = taken.time_ms + up_ms - taken.at_ms
        edges.append((at_ms - taken.give_or_take_ms, -1))
        edges.append((at_ms + taken.give_or_take_ms, 1))
    edges.sort()
    most = together = 0
    first_ms = last_ms = 0
    for index, (edge_ms, kind) in enumerate(edges):
        together -= kind
        if together > most:
            most = together
            first_ms, last_ms = edge_ms, edges[index + 1][0]
    if not most or most * 2 <= len(samples):
        return None
    return (first_ms + last_ms) // 2, most
