"""The coordinator whole: registry, links, sessions and timers put together; what serves it gives it listeners.

coordinator = Coordinator(registry, noise_private, url)
coordinator.start()
...                     # serve coordinator.routes() and coordinator.upgrades()
await coordinator.close()
"""

import asyncio
import dataclasses
import logging
import random
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from aiohttp import web

from wayhomed.wire import control

from ..http_front import UpgradeHandler
from . import public_api, registration, sessions
from .attempt_limit import Rate
from .health import Counters
from .machine_api import MachineApi
from .model import Aspect, Change
from .noise_link import LinkLimits, Links
from .pages.routes import page_routes
from .pings import Pings
from .registration import Registration
from .registry import Registry, RegistryError, utc_now
from .sessions import Sessions

log = logging.getLogger(__name__)

_TICK_S = 1.0
_REGISTRY_TIMER_MOST_S = 30.0
# What may bring the registry's next timer nearer: a key with another end, or an ephemeral node that left.
_MOVES_TIMER = frozenset({Aspect.JOINED, Aspect.NODE_KEY, Aspect.EXPIRY, Aspect.ONLINE})


class Coordinator:
    """One of a process. Needs a running event loop from `start` on."""

    def __init__(
        self,
        registry: Registry,
        noise_private: bytes,
        url: str,
        *,
        now: Callable[[], float] = time.monotonic,
        today: Callable[[], datetime] = utc_now,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        link_limits: LinkLimits | None = None,
        per_machine: Rate = registration.PER_MACHINE,
        per_source: Rate = registration.PER_SOURCE,
        gather_s: float = sessions.GATHER_S,
    ) -> None:
        self.registry = registry
        self.counters = Counters()
        self.sessions = Sessions(
            registry, counters=self.counters, now=now, today=today, random=random.Random(), gather_s=gather_s
        )
        self.pings = Pings(registry, self.sessions, random_bytes)
        self._today = today
        answers = Registration(
            registry,
            url.rstrip("/"),
            counters=self.counters,
            now=now,
            today=today,
            per_machine=per_machine,
            per_source=per_source,
        )
        api = MachineApi(registry, answers, self.sessions, self.pings, counters=self.counters, today=today)
        self.links = Links(
            noise_private,
            api.handle,
            counters=self.counters,
            random_bytes=random_bytes,
            now=now,
            limits=link_limits,
        )
        self._tasks: list[asyncio.Task[None]] = []

    def routes(self) -> list[web.RouteDef]:
        """Plain HTTP routes, pages included."""
        return [
            *public_api.routes(self.registry, self.links.public_key, self._today),
            *page_routes(self.registry),
        ]

    def upgrades(self) -> dict[tuple[str, str], UpgradeHandler]:
        """What the HTTP front hands over."""
        return {(control.PATH, control.UPGRADE): self.links.upgrade}

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._tick()), loop.create_task(self._registry_timer())]

    async def close(self) -> None:
        """Finish what was asked, say goodbye to every client, stop. The registry stays open."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.sessions.close()
        await self.links.close()
        await self.sessions.settled()

    async def admit(self, node_key: bytes, source: str) -> str | None:
        """Tell our relay which mesh a node key belongs to; None denies it."""
        del source
        return public_api.may_relay(self.registry, node_key, self._today())

    def on_key_gone(self, tell: Callable[[bytes], object]) -> Callable[[], None]:
        """Have `tell` called with each node key that may not use a relay any more; returns what ends that."""
        keys = {node.id: node.node_key for node in self.registry.nodes.values()}

        def changed(change: Change) -> None:
            if change.node_id is None:
                return
            before = keys.get(change.node_id)
            node = change.node
            if node is not None and not node.expired(self._today()):
                keys[node.id] = node.node_key
                if before in (None, node.node_key):
                    return
            else:
                keys.pop(change.node_id, None)
            if before is not None:
                tell(before)

        return self.registry.subscribe(changed)

    def status(self) -> dict[str, Any]:
        """What an operator may want to see, ready for JSON."""
        return {
            "links": len(self.links.open),
            "polls": len(self.sessions),
            "counters": dataclasses.asdict(self.counters),
        }

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self.sessions.tick()
            self.links.sweep()

    async def _registry_timer(self) -> None:
        """Do what is due by the wall's clock. That clock may be set: so it is looked at anew every so often."""
        moved = asyncio.Event()
        end = self.registry.subscribe(lambda change: moved.set() if change.aspects & _MOVES_TIMER else None)
        try:
            while True:
                moved.clear()
                at = self.registry.next_timer()
                wait = _REGISTRY_TIMER_MOST_S if at is None else (at - self._today()).total_seconds()
                with suppress(TimeoutError):
                    await asyncio.wait_for(moved.wait(), min(max(wait, 0.1), _REGISTRY_TIMER_MOST_S))
                try:
                    await self.registry.timer_fired()
                except RegistryError as error:
                    log.error("%s", error)
        finally:
            end()
