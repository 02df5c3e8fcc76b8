"""What time limits must not do, seen on CPython up to 3.11 with wait_for()."""

import asyncio

import pytest

from wayhomed.port.tasks import wait_for_event


async def test_a_cancellation_in_the_moment_of_the_event_is_not_swallowed():
    event = asyncio.Event()

    async def wait():
        while True:
            await wait_for_event(event, 60_000)
            event.clear()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    event.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)
