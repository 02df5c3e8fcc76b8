"""The HTTP front over real loopback sockets: pages and upgrades on one listener, no byte lost between them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from wayhome.http_front import Front, FrontLimits, Refused, UpgradeRequest, make_front, path_of

UPGRADE = b"POST /echo HTTP/1.1\r\nHost: h\r\nUpgrade: Shout\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n"


class Shout(asyncio.Protocol):
    """Answers every byte in upper case."""

    def __init__(self, request: UpgradeRequest) -> None:
        self.request = request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.link = transport

    def data_received(self, data: bytes) -> None:
        if b"admit" in data:
            self.request.admitted()
        self.link.write(data.upper())


def shout(request: UpgradeRequest, transport: asyncio.Transport) -> asyncio.Protocol:
    if "x-refuse" in request.headers:
        raise Refused(403, "not you")
    transport.write(b"101!")
    return Shout(request)


Exchange = Callable[[bytes, bytes], Awaitable[bytes]]


@asynccontextmanager
async def front(limits: FrontLimits | None = None) -> AsyncIterator[tuple[Front, int]]:
    async def page(request: web.Request) -> web.Response:
        body = await request.read()
        await asyncio.sleep(0)
        return web.Response(text=f"{request.method} {request.path} {len(body)}")

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", page)
    runner = web.AppRunner(app)
    await runner.setup()
    made = make_front(runner.server, {("/echo", "shout"): shout}, limits)
    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
    try:
        yield made, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        made.close()
        await runner.cleanup()


async def say(port: int, sent: bytes, until: bytes) -> bytes:
    """Send bytes on a new connection; return the answer up to and including `until`, b"" for until: up to its close."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        async with asyncio.timeout(60):
            return await (reader.readuntil(until) if until else reader.read())
    finally:
        writer.close()


async def test_bytes_that_come_with_the_upgrade_request_reach_its_handler():
    async with front() as (_, port):
        assert await say(port, UPGRADE + b"hello", b"HELLO") == b"101!HELLO"


async def test_an_upgrade_is_taken_however_its_bytes_were_cut():
    async with front() as (_, port):
        sent = UPGRADE + b"hello"
        for cut in range(1, len(sent)):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent[:cut])
            await asyncio.sleep(0)
            writer.write(sent[cut:])
            assert await reader.readexactly(9) == b"101!HELLO"
            writer.close()


async def test_an_absolute_target_finds_the_same_handler():
    async with front() as (_, port):
        sent = UPGRADE.replace(b"/echo", b"http://h:80/echo?x=1")
        assert await say(port, sent + b"a", b"A") == b"101!A"


async def test_plain_requests_are_answered_by_the_pages_and_the_connection_kept():
    async with front() as (made, port):
        get = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
        post = b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12345"
        chunked = b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        answer = await say(port, get + post + chunked, b"POST /c 3")
        assert b"GET /a 0" in answer and b"POST /b 5" in answer
        assert made.counters.plain_requests == 3 and made.counters.connections == 1


async def test_a_kept_connection_can_still_be_upgraded_after_plain_requests():
    async with front() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
        await reader.readuntil(b"GET /a 0")
        writer.write(UPGRADE + b"hello")
        assert await reader.readexactly(9) == b"101!HELLO"
        writer.write(b"more")
        assert await reader.readexactly(4) == b"MORE"
        writer.close()


async def test_an_upgrade_sent_right_behind_a_request_waits_for_that_requests_answer():
    async with front() as (_, port):
        answer = await say(port, b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n" + UPGRADE + b"hello", b"HELLO")
        assert answer.index(b"GET /a 0") < answer.index(b"101!HELLO")


async def test_requests_sent_in_one_go_before_an_upgrade_are_all_answered_first():
    async with front() as (_, port):
        gets = b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(5))
        answer = await say(port, gets + UPGRADE + b"hello", b"HELLO")
        assert [answer.count(b"GET /%d 0" % number) for number in range(5)] == [1] * 5
        assert answer.index(b"GET /4 0") < answer.index(b"101!HELLO")


async def test_an_upgrade_nobody_knows_goes_to_the_pages():
    async with front() as (_, port):
        assert (await say(port, UPGRADE.replace(b"Shout", b"Whisper"), b"POST /echo 0")).startswith(b"HTTP/1.1 200")


async def test_a_handler_that_refuses_is_an_http_answer_and_a_close():
    async with front() as (_, port):
        answer = await say(port, UPGRADE.replace(b"Host: h", b"Host: h\r\nX-Refuse: 1"), b"")
        assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n") and answer.endswith(b"not you\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 40_000, b"431"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (UPGRADE.replace(b"Content-Length: 0", b"Content-Length: 4") + b"abcd", b"400"),
    ],
)
async def test_a_head_that_is_no_request_is_refused_in_words(sent: bytes, status: bytes):
    async with front() as (made, port):
        answer = await say(port, sent, b"")
        assert answer.split(b" ")[1] in (status, b"400") and made.counters.bad_heads == 1
        assert (await say(port, UPGRADE + b"x", b"X")) == b"101!X"


async def test_a_head_that_never_ends_is_given_up():
    async with front(FrontLimits(head_seconds=0.05)) as (made, port):
        assert (await say(port, b"GET / HTTP/1.1\r\nHost", b"")).startswith(b"HTTP/1.1 408")
        assert await say(port, b"", b"") == b""
        assert made.counters.slow_heads == 2


async def test_a_body_that_never_ends_is_given_up():
    async with front(FrontLimits(request_seconds=0.05)) as (_, port):
        sent = b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12"
        assert (await say(port, sent, b"")).startswith(b"HTTP/1.1 408")


async def test_idle_strangers_make_room_for_new_ones_and_the_admitted_stay():
    async with front(FrontLimits(strangers_per_address=3)) as (made, port):
        friend_reader, friend = await asyncio.open_connection("127.0.0.1", port)
        friend.write(UPGRADE + b"admit")
        await friend_reader.readexactly(9)
        strangers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        assert await say(port, UPGRADE + b"x", b"X") == b"101!X"
        friend.write(b"still here")
        assert await friend_reader.readexactly(10) == b"STILL HERE"
        assert made.strangers <= 3 and made.counters.ended_to_make_room >= 17
        for _, writer in [*strangers, (None, friend)]:
            writer.close()


async def test_a_full_server_says_so():
    async with front(FrontLimits(connections=1)) as (_, port):
        _, first = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.01)
        assert b"503" in await say(port, UPGRADE, b"")
        first.close()


@pytest.mark.parametrize(
    ("target", "path"),
    [("/a?b", "/a"), ("/", "/"), ("http://h/a/b?c", "/a/b"), ("https://h", "/"), ("/x?y=http://z/w", "/x")],
)
def test_the_path_of_a_target(target: str, path: str):
    assert path_of(target) == path
