"""Tasks, time limits and the mailbox."""

import asyncio

from wayhomed.port import tasks
from wayhomed.port.tasks import Mailbox, run_all, sleep_ms, wait_for_event, within


def run(coroutine):
    result = asyncio.run(coroutine)
    asyncio.new_event_loop()  # under MicroPython the loop outlives run()
    return result


async def forever(ended, name):
    try:
        while True:
            await sleep_ms(10_000)
    finally:
        ended.append(name)


def test_the_first_to_end_ends_the_others():
    ended = []

    async def main():
        await run_all(forever(ended, "a"), sleep_ms(1), forever(ended, "b"))

    run(main())
    assert sorted(ended) == ["a", "b"]


def test_the_first_failure_comes_out_after_all_have_ended():
    ended = []

    async def fail():
        await sleep_ms(1)
        raise ValueError("broken")

    async def main():
        try:
            await run_all(forever(ended, "a"), fail())
        except ValueError as error:
            return str(error)

    assert run(main()) == "broken"
    assert ended == ["a"]


def test_cancelling_the_group_ends_its_members():
    ended = []

    async def main():
        task = asyncio.create_task(run_all(forever(ended, "a"), forever(ended, "b")))
        await sleep_ms(5)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            ended.append("cancelled")

    run(main())
    assert sorted(ended) == ["a", "b", "cancelled"]


def test_a_time_limit_names_what_took_too_long():
    async def main():
        try:
            await within(5, sleep_ms(10_000), "the coffee")
        except OSError as error:
            return error.args[1]

    assert run(main()).startswith("the coffee")


def test_an_event_is_waited_for_and_no_longer():
    async def main():
        event = asyncio.Event()
        silent = await wait_for_event(event, 5)
        event.set()
        return silent, await wait_for_event(event, 5)

    assert run(main()) == (False, True)


def test_a_full_mailbox_drops_its_oldest():
    async def main():
        mailbox = Mailbox(2)
        for item in (1, 2, 3):
            mailbox.put(item)
        return await mailbox.take_all(), mailbox.dropped, mailbox.take_now()

    assert run(main()) == ([2, 3], 1, [])


def test_a_mailbox_wakes_its_reader():
    async def main():
        mailbox = Mailbox(2)

        async def put():
            await sleep_ms(1)
            mailbox.put("news")

        task = asyncio.create_task(put())
        got = await mailbox.take_all()
        await task
        return got

    assert run(main()) == ["news"]


def test_a_group_that_is_cancelled_while_it_ends_lets_its_members_finish_and_is_cancelled_still():
    told = []

    async def orderly():
        try:
            await sleep_ms(10_000)
        finally:
            told.append("puts things in order")
            await sleep_ms(20)
            told.append("has put things in order")

    async def outer():
        await run_all(orderly(), sleep_ms(1))
        told.append("goes on")
        await sleep_ms(10_000)

    async def main():
        task = asyncio.create_task(outer())
        while not told:
            await sleep_ms(1)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            told.append("cancelled")

    run(main())
    assert told == ["puts things in order", "has put things in order", "cancelled"]


def test_a_group_that_is_cancelled_before_its_members_begin_ends_at_once():
    async def main():
        task = asyncio.create_task(run_all(sleep_ms(10_000), sleep_ms(10_000)))
        await sleep_ms(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return "cancelled"

    assert run(main()) == "cancelled"


def told_of_shortage():
    """Return the list in which the lines about memory appear from now on."""
    lines = []
    tasks.tell_shortage[0] = lines.append
    return lines


async def without_memory():
    await sleep_ms(1)
    raise MemoryError


def test_memory_that_runs_out_among_others_is_told_once_and_comes_out_like_a_broken_connection():
    lines, ended = told_of_shortage(), []

    async def main():
        for waiting in (run_all(forever(ended, "a"), run_all(without_memory())), within(5_000, without_memory(), "it")):
            try:
                await waiting
            except OSError as error:
                ended.append(error.args[-1])

    run(main())
    assert ended == ["a", "out of memory", "out of memory"]
    assert len(lines) == 2 and lines[0].startswith("out of memory (")


def test_a_started_task_that_memory_runs_out_in_ends_and_is_told():
    lines = told_of_shortage()

    async def main():
        await tasks.start(without_memory())

    run(main())
    assert len(lines) == 1


def test_what_lasts_is_run_anew_when_memory_ran_out_but_not_after_another_error():
    lines, tries = told_of_shortage(), []

    async def one(name):
        tries.append(name)
        if len(tries) == 1:
            raise MemoryError
        if len(tries) == 2:
            await run_all(without_memory())
        raise ValueError("broken")

    async def main():
        try:
            await tasks.lasting(one, "a")
        except ValueError as error:
            return str(error)

    real, tasks._RECOVER_MS = tasks._RECOVER_MS, 1
    try:
        assert run(main()) == "broken"
    finally:
        tasks._RECOVER_MS = real
    assert tries == ["a", "a", "a"]
    assert len(lines) == 2
