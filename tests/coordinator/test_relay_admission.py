"""What a relay beside the coordinator hears of node keys: who may come in, and whose time is over."""

import os

from shared.running_coordinator import running
from wayhomed.wire.keys import NODE, key_text, new_private


async def test_only_keys_of_nodes_that_have_not_expired_are_admitted():
    async with running() as server:
        client = await server.join()
        key = client.identity.node_public
        assert await server.coordinator.admit(key, "192.0.2.1") == server.registry.settings.suffix
        assert await server.coordinator.admit(bytes(31) + b"\1", "192.0.2.1") is None
        await server.registry.expire_node(server.node(client).id)
        assert await server.coordinator.admit(key, "192.0.2.1") is None


async def test_keys_that_end_are_told_once():
    async with running() as server:
        there_before = await server.join("before")
        gone: list[bytes] = []
        end = server.coordinator.on_key_gone(gone.append)
        came_later = await server.join("later")
        await server.registry.delete_node(server.node(there_before).id)
        assert gone == [there_before.identity.node_public]
        old = came_later.identity.node_public
        came_later.identity.node_private = new_private(os.urandom(32))
        await came_later.register(auth_key=await server.key(), OldNodeKey=key_text(NODE, old))
        assert gone[1:] == [old]
        await came_later.update(Endpoints=["192.0.2.1:1"])
        assert len(gone) == 2
        await server.registry.expire_node(server.node(came_later).id)
        assert gone[2:] == [came_later.identity.node_public]
        end()
