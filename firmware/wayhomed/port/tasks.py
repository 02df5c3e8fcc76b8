"""Tasks and time limits, on what both Pythons' asyncio have in common.

Absent under MicroPython: TaskGroup, Queue, timeout(), shield. `asyncio.sleep()` is a shared singleton there, hence
sleep_ms() here.
"""

import asyncio
import gc

from . import MICROPYTHON

_TIMED_OUT = 110  # ETIMEDOUT
_ENOMEM = 12
_RECOVER_MS = 1_000  # until what memory was short for begins anew
tell_shortage = [lambda text: None]  # who is told, in one line, that memory ran out


class OutOfMemory(OSError):
    """What a MemoryError becomes where tasks meet: like a broken connection, it ends one thing and not the daemon."""


def memory_freed(error) -> OutOfMemory:
    """Free what can be freed after a MemoryError and tell of it; return what is raised in its stead."""
    gc.collect()
    tell_shortage[0]("out of memory (%s): what needed it is dropped" % (str(error) or "an allocation failed"))
    return OutOfMemory(_ENOMEM, "out of memory")


def start(coroutine):
    """Return a task that ends quietly, but not untold, when memory runs out in it."""

    async def guarded():
        try:
            await coroutine
        except MemoryError as error:
            memory_freed(error)
        except OutOfMemory:
            pass  # told already

    return asyncio.create_task(guarded())


async def lasting(make, *args):
    """Return make(*args)'s result; where memory runs out in it, it is made and run anew a little later."""
    while True:
        try:
            return await make(*args)
        except MemoryError as error:
            memory_freed(error)
        except OutOfMemory:
            pass
        await sleep_ms(_RECOVER_MS)


if MICROPYTHON:
    limited = asyncio.wait_for
else:

    async def limited(awaitable, seconds):
        """Return the result; asyncio.TimeoutError when it takes longer, and what is awaited is cancelled."""
        # Not wait_for(): up to Python 3.11 it swallows a cancellation that comes in the moment of the result.
        async with asyncio.timeout(seconds):
            return await awaitable


async def sleep_ms(milliseconds: int) -> None:
    """Do nothing for a while."""
    await asyncio.sleep(milliseconds / 1000)


async def within(timeout_ms: int, coroutine, what: str):
    """Return the coroutine's result; when it takes longer, cancel it and raise OSError (ETIMEDOUT) naming `what`.

    A MemoryError comes out as OutOfMemory.
    """
    try:
        return await limited(coroutine, timeout_ms / 1000)
    except asyncio.TimeoutError:
        raise OSError(_TIMED_OUT, what + ": no answer within " + str(timeout_ms // 1000) + " s")
    except MemoryError as error:
        raise memory_freed(error)


async def wait_for_event(event, timeout_ms: int) -> bool:
    """Wait until the event is set; False if the time ran out first."""
    try:
        await limited(event.wait(), timeout_ms / 1000)
    except asyncio.TimeoutError:
        return False
    return True


async def run_all(*coroutines) -> None:
    """Run all at once until the first of them ends or fails; end the others; raise what the first one raised.

    The board's task group: leaving it ends every task that was started in it, also when it is cancelled from outside.
    A MemoryError comes out as OutOfMemory.
    """
    ended = asyncio.Event()
    left = asyncio.Event()
    running = []
    outcome: "list[BaseException]" = []

    async def watch(coroutine):
        running.append(coroutine)
        try:
            await coroutine
        except asyncio.CancelledError:
            raise
        except MemoryError as error:
            outcome.append(memory_freed(error))
        except BaseException as error:
            outcome.append(error)
        finally:
            running.remove(coroutine)
            left.set()
        ended.set()

    tasks = [asyncio.create_task(watch(coroutine)) for coroutine in coroutines]
    try:
        await ended.wait()
    finally:
        for task in tasks:
            task.cancel()
        # Not `await task`: a cancellation that comes while we wait would go on to the task and cut short what it still
        # has to put in order, and nobody could tell it from the task's own end.
        is_cancelled = False
        while running:
            left.clear()
            try:
                await left.wait()
            except asyncio.CancelledError:
                is_cancelled = True
        if is_cancelled:
            raise asyncio.CancelledError
    if outcome:
        raise outcome[0]


class Mailbox:
    """A bounded queue with one reader; when full, the oldest is dropped (for packets the newest is worth more)."""

    def __init__(self, limit: int):
        self._limit = limit
        self._items: list = []
        self._filled = asyncio.Event()
        self.dropped = 0

    def put(self, item) -> None:
        if len(self._items) >= self._limit:
            self._items.pop(0)
            self.dropped += 1
        self._items.append(item)
        self._filled.set()

    async def take_all(self) -> list:
        """Return all that is there, oldest first, waiting for at least one."""
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        items, self._items = self._items, []
        return items

    def take_now(self) -> list:
        """Return all that is there, perhaps nothing."""
        items, self._items = self._items, []
        return items
