"""Lookups in threads: a name server that never answers holds nobody up."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from wayhomed.port import net, net_cpython

LIMIT_S = 60  # only ends a test that has failed
STUCK = "stuck.example.net"


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> set:
    """The lookups that are under way: none yet, whatever tests before this one have given up."""
    fresh: set = set()
    monkeypatch.setattr(net_cpython, "_lookups", fresh)
    return fresh


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, lookups: set) -> Iterator[threading.Event]:
    """Names are looked up at once, but STUCK only when this is set."""
    event = threading.Event()

    def look_up(host: str, *_more, **_named):
        if host == STUCK:
            event.wait(LIMIT_S)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        yield event
    finally:
        event.set()
        while lookups:
            time.sleep(0.005)


async def give_up() -> None:
    task = asyncio.create_task(net.resolve(STUCK, 30_000))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_lookup_without_an_answer_does_not_hold_up_the_end(answers, lookups):
    asyncio.run(give_up())
    assert not answers.is_set()
    assert len(lookups) == 1, "it still goes on"


def test_lookups_without_an_answer_do_not_hold_up_the_next(answers):
    async def main():
        for _ in range(20):
            await give_up()
        return await net.resolve("relay.example.net", 30_000)

    assert asyncio.run(main()) == [b"\xc0\x00\x02\x07"]
    assert not answers.is_set()


def test_lookups_without_an_answer_do_not_pile_up_without_end(answers, lookups):
    async def main():
        for _ in range(32):
            await give_up()
        with pytest.raises(OSError, match="without an answer") as refused:
            await net.resolve("relay.example.net", 30_000)
        assert refused.value.errno == 11
        answers.set()
        while lookups:
            await asyncio.sleep(0.005)
        return await net.resolve("relay.example.net", 30_000)

    assert asyncio.run(main()) == [b"\xc0\x00\x02\x07"]


def test_an_answer_arrives(answers):
    async def main():
        waiting = asyncio.create_task(net.resolve(STUCK, 30_000))
        await asyncio.sleep(0)
        answers.set()
        return await waiting

    assert asyncio.run(main()) == [b"\xc0\x00\x02\x07"]
