"""The watchdogs are fed while everything gets on, and never otherwise."""

import asyncio

from wayhomed.agent.watchdog import WORK_MS, Progress, feed


class Log:
    def __init__(self):
        self.lines = []

    def error(self, text):
        self.lines.append(text)

    warning = error


class Stop(Exception):
    pass


def fed(progress, periods_ms, for_ms, happens=lambda now_ms: None):
    """Return ([milliseconds at which each was fed], log) after so much time of the test's own clock."""
    now = [0]
    times = [[] for _ in periods_ms]
    log = Log()

    async def sleep(pause_ms):
        now[0] += pause_ms
        happens(now[0])
        if now[0] > for_ms:
            raise Stop

    feeders = [(period_ms, lambda at=at: times[at].append(now[0])) for at, period_ms in enumerate(periods_ms)]
    try:
        asyncio.run(feed(progress, feeders, log, sleep, lambda: now[0]))
    except Stop:
        pass
    return times, log.lines


def test_each_is_fed_at_half_the_shortest_period():
    times, lines = fed(Progress(), [60_000, 30_000], 60_000)
    assert times == [[0, 15_000, 30_000, 45_000, 60_000]] * 2
    assert lines == []


def test_who_is_stuck_has_the_watchdogs_go_hungry_and_is_named_once():
    progress = Progress()
    progress.due("the data plane", 60_000)
    times, lines = fed(progress, [60_000], 1_000_000)
    assert times[0][-1] <= 60_000 + WORK_MS
    assert times[0][-1] > WORK_MS
    assert lines == ["no sign of life from the data plane: the watchdog is not fed any more"]


def test_who_is_heard_of_in_time_is_not_late():
    progress = Progress()
    progress.due("the relay links", 0)
    times, lines = fed(progress, [60_000], 1_000_000, lambda now_ms: progress.due("the relay links", now_ms))
    assert times[0][-1] >= 970_000
    assert lines == []


def test_a_task_that_gets_on_again_has_the_watchdogs_fed_again():
    progress = Progress()
    progress.due("the data plane", 0)

    def happens(now_ms):
        if now_ms >= 500_000:
            progress.due("the data plane", now_ms)

    times, lines = fed(progress, [60_000], 1_000_000, happens)
    assert not [at for at in times[0] if WORK_MS < at < 500_000]
    assert [at for at in times[0] if at >= 500_000]
    assert lines[-1] == "all tasks get on again: the watchdog is fed"


def test_a_task_that_waits_for_what_may_never_come_is_not_late():
    progress = Progress()
    progress.due("the coordinator's session", 0)
    progress.rests("the coordinator's session")
    assert progress.late(10**9) == []
    progress.rests("one that was never heard of")
