import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvloop
from aiohttp import web

from relay.people import SERVER_PRIVATE
from wayhome.http_front import make_front
from wayhome.relay import pages
from wayhome.relay.admission import Everybody
from wayhome.relay.service import UPGRADES, Admit, Relay
from wayhome.relay.settings import RelaySettings


def pytest_asyncio_loop_factories(config, item):
    """Run every test on both loops: they differ in when they pause a writer, and in their TLS."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Place:
    """A relay on a loopback port."""

    def __init__(self, relay: Relay, port: int) -> None:
        self.relay = relay
        self.port = port


Serve = Callable[..., Awaitable[Place]]


@pytest.fixture
async def serve():
    """Start relays behind the HTTP front; they end with the test."""
    undo = []

    async def start(settings: RelaySettings | None = None, admit: Admit | None = None, tls=None) -> Place:
        relay = Relay(settings or RelaySettings(), SERVER_PRIVATE, admit or Everybody())
        app = web.Application()
        app.add_routes(pages.routes())
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        front = make_front(runner.server, dict.fromkeys(UPGRADES, relay.upgrade))
        server = await asyncio.get_running_loop().create_server(front, "127.0.0.1", 0, ssl=tls)
        undo.append((server, relay, front, runner))
        return Place(relay, server.sockets[0].getsockname()[1])

    yield start
    for server, relay, front, runner in undo:
        server.close()
        relay.close()
        front.close()
        await runner.cleanup()
