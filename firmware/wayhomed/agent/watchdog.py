"""The watchdogs: fed while the daemon's loop turns and its main tasks get on, and never otherwise.

A task that is stuck leaves the loop turning, so each of the main ones says by when it will be heard of again. Who is
not heard of in time is named in the log, and the watchdogs go hungry: systemd's then restarts the daemon, the kernel's
the machine.
"""

from wayhomed.port import const, monotonic_ms
from wayhomed.port.tasks import sleep_ms

WORK_MS = const(180_000)  # longer than anything takes that is under way and will end well


class Progress:
    """By when each task is heard of again, in milliseconds of monotonic_ms()."""

    def __init__(self):
        self._due_ms: dict = {}

    def due(self, task: str, at_ms: int) -> None:
        """Note that a task gets on, and will be heard of again at that time."""
        self._due_ms[task] = at_ms

    def rests(self, task: str) -> None:
        """Note that a task waits for what may never come, or has ended as it should."""
        self._due_ms.pop(task, None)

    def late(self, now_ms: int) -> list:
        """Return the names of tasks that should have been heard of by now and for as long as work may take."""
        return sorted([task for task in self._due_ms if now_ms - self._due_ms[task] > WORK_MS])


async def feed(progress: Progress, feeders: list, log, sleep=sleep_ms, clock=monotonic_ms) -> None:
    """Feed at half the shortest period, as long as nobody is late; for ever.

    feeders: [(period in ms, function that feeds)], at least one. sleep and clock are the tests' to replace.
    """
    pause_ms = max(100, min([period_ms for period_ms, _feed in feeders]) // 2)
    told: list = []
    while True:
        late = progress.late(clock())
        if late != told:
            if late:
                log.error("no sign of life from %s: the watchdog is not fed any more" % " and ".join(late))
            else:
                log.warning("all tasks get on again: the watchdog is fed")
            told = late
        if not late:
            for _period_ms, feed_one in feeders:
                feed_one()
        await sleep(pause_ms)
