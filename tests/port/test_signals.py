"""Signals, as the event loop hears them; each test is a copy of this process that sends them to itself."""

import asyncio

from shared.forked import exit_code_of
from wayhomed.port import process, runtime
from wayhomed.port.ffi import libc
from wayhomed.port.tasks import wait_for_event

PATIENCE_MS = 60_000


def send(number) -> None:
    libc().func("i", "kill", "ii")(libc().func("i", "getpid", "")(), number)


def heard(wanted, act, listen) -> bool:
    """Tell whether the loop hears each of the wanted signals after act(). listen(callbacks) has it listen."""

    async def wait():
        arrived = []
        event = asyncio.Event()

        def callback(number):
            def note():
                arrived.append(number)
                event.set()

            return note

        listen({number: callback(number) for number in wanted})
        act()
        while sorted(arrived) != sorted(wanted):
            event.clear()
            if not await wait_for_event(event, PATIENCE_MS):
                return False
        return True

    return asyncio.run(wait())


def hears_two_kinds():
    def act():
        send(process.SIGUSR1)
        send(process.SIGHUP)

    return 7 if heard([process.SIGUSR1, process.SIGHUP], act, runtime.on_signals) else 1


def test_each_signal_has_its_own_callback_called_and_kills_nobody():
    assert exit_code_of(hears_two_kinds) == 7


def hears_again_and_again():
    async def wait():
        times = []
        event = asyncio.Event()

        def note():
            times.append(1)
            event.set()

        runtime.on_signals({process.SIGHUP: note})
        for _ in range(5):
            event.clear()
            send(process.SIGHUP)
            if not await wait_for_event(event, PATIENCE_MS):
                return 1
        return 7 if len(times) == 5 else 2

    return asyncio.run(wait())


def test_a_signal_is_heard_every_time():
    assert exit_code_of(hears_again_and_again) == 7


def hears_what_was_held_back():
    # one that came before, one while they are held back
    process.hold_signals([process.SIGTERM])
    send(process.SIGHUP)
    return 7 if heard([process.SIGTERM, process.SIGHUP], lambda: None, runtime.on_signals) else 1


def test_signals_that_were_held_back_are_heard_by_who_listens_next():
    assert exit_code_of(hears_what_was_held_back) == 7


def hears_both_ways_to_stop():
    async def wait():
        event = asyncio.Event()
        runtime.on_stop_signals(event.set)
        for number in (process.SIGINT, process.SIGTERM):
            event.clear()
            send(number)
            if not await wait_for_event(event, PATIENCE_MS):
                return 1
        return 7

    return asyncio.run(wait())


def test_ctrl_c_and_sigterm_ask_to_stop_and_raise_nothing():
    assert exit_code_of(hears_both_ways_to_stop) == 7


def is_not_asked():
    send(process.SIGUSR1)
    return 7


def test_a_signal_that_nobody_asked_for_does_what_it_always_did():
    assert exit_code_of(is_not_asked) == -process.SIGUSR1
