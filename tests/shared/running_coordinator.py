"""A coordinator on a loopback port inside the test's own process, with clocks that the test owns.

async with running() as server:
    anna = await server.join("laptop")
    stream = anna.poll()
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import ClientSession, web

from wayhome.bench.control_client import ControlClient, Identity
from wayhome.coordinator.app import Coordinator
from wayhome.coordinator.model import Node, User
from wayhome.coordinator.registry import Registry, Settings
from wayhome.http_front import Front, FrontLimits, make_front
from wayhomed.wire.keys import new_private

NOISE_PRIVATE = new_private(b"\x33" * 32)


class OwnClock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.seconds

    def today(self) -> datetime:
        return datetime(2026, 11, 23, tzinfo=UTC) + timedelta(seconds=self.seconds)


class Running:
    """What `running` gives: the coordinator, its parts, and ways to come to it."""

    def __init__(self, registry: Registry, coordinator: Coordinator, clock: OwnClock) -> None:
        self.registry = registry
        self.coordinator = coordinator
        self.clock = clock
        self.counters = coordinator.counters
        self.front: Front
        self.port = 0
        self.clients: list[ControlClient] = []
        self._users: dict[str, User] = {}
        self._keys: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def user(self, name: str = "anna") -> User:
        if name not in self._users:
            self._users[name] = await self.registry.create_user(name)
        return self._users[name]

    async def key(self, user: str = "anna", **options: Any) -> str:
        """Return an auth key: a reusable one, made once, unless options say otherwise."""
        owner = await self.user(user)
        if options:
            return (await self.registry.create_auth_key(owner.id, **options))[1]
        if user not in self._keys:
            self._keys[user] = (await self.registry.create_auth_key(owner.id, reusable=True, lifetime=None))[1]
        return self._keys[user]

    async def connect(self, identity: Identity | None = None, **options: Any) -> ControlClient:
        """Open a control connection; not registered yet."""
        server = self.coordinator.links.public_key
        client = await ControlClient.connect("127.0.0.1", self.port, server, identity, **options)
        self.clients.append(client)
        return client

    async def join(self, hostname: str = "laptop", user: str = "anna", **options: Any) -> ControlClient:
        """Connect and register by auth key."""
        client = await self.connect(**options)
        client.hostinfo["Hostname"] = hostname
        answer = await client.register(auth_key=await self.key(user))
        assert answer["MachineAuthorized"], answer
        return client

    def node(self, client: ControlClient) -> Node:
        node = self.registry.node_by_key(client.identity.node_public)
        assert node is not None
        return node

    async def get(self, path: str) -> tuple[int, bytes]:
        async with ClientSession() as session, session.get(self.url + path) as answer:
            return answer.status, await answer.read()

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        async with ClientSession() as session, session.post(self.url + path, data=body) as answer:
            return answer.status, await answer.read()

    def time_passes(self, seconds: float) -> None:
        """Let time pass and have done what is due, as the coordinator's own timers would."""
        self.clock.seconds += seconds
        self.coordinator.sessions.tick()
        self.coordinator.links.sweep()


@asynccontextmanager
async def running(
    settings: Settings | None = None, limits: FrontLimits | None = None, **options: Any
) -> AsyncIterator[Running]:
    """Serve until the block ends; every client that was made through it is closed then. options: see Coordinator."""
    clock = OwnClock()
    with TemporaryDirectory() as folder:
        registry = await Registry.open(Path(folder) / "wayhome.db", settings or Settings(), clock=clock.today)
        coordinator = Coordinator(
            registry, NOISE_PRIVATE, "http://mesh.test", now=clock.now, today=clock.today, **options
        )
        made = Running(registry, coordinator, clock)
        app = web.Application()
        app.add_routes(coordinator.routes())
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        assert runner.server is not None
        made.front = make_front(runner.server, coordinator.upgrades(), limits)
        server = await asyncio.get_running_loop().create_server(made.front, "127.0.0.1", 0, backlog=1024)
        made.port = server.sockets[0].getsockname()[1]
        try:
            yield made
        finally:
            for client in made.clients:
                client.close()
            server.close()
            await coordinator.close()
            made.front.close()
            await runner.cleanup()
            await registry.close()
