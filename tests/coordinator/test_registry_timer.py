"""The running coordinator does what time brings, also when that comes sooner than it thought as it went to sleep."""

import asyncio
from datetime import timedelta

from shared.running_coordinator import running
from wayhome.coordinator.model import Aspect, Change


async def test_a_key_whose_end_was_moved_near_is_announced_then_and_not_when_the_timer_would_have_looked():
    async with running() as server:
        node = server.node(await server.join())
        ran_out = asyncio.Event()

        def changed(change: Change) -> None:
            if change.node_id == node.id and Aspect.EXPIRED in change.aspects:
                ran_out.set()

        server.registry.subscribe(changed)
        server.coordinator.start()
        await asyncio.sleep(0)  # the timer finds nothing due, and sleeps for as long as it ever does: 30 s
        await server.registry.expire_node(node.id, server.clock.today() + timedelta(seconds=0.2))
        assert not ran_out.is_set()
        server.clock.seconds += 1
        async with asyncio.timeout(25):
            await ran_out.wait()
