"""Who is told what, and how much of it: true deltas to those who may see a node, nothing to the others."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable

from shared.running_coordinator import Running, running
from wayhome.bench.control_client import ControlClient, MapStream
from wayhome.coordinator.sessions import PENDING_CHANGES, UNSENT_BYTES


async def all_joined(server: Running, count: int, user: str) -> list[tuple[ControlClient, MapStream]]:
    """Let `count` devices of a user join and poll; returns once nothing more is said."""
    clients = [await server.join(f"{user}-{number}", user=user) for number in range(count)]
    return [(client, client.poll(zstd=False)) for client in clients]


async def quiet(streams: list[MapStream]) -> None:
    """Return once everything that is on its way has been said and taken."""
    silent = 0
    seen = -1
    async with asyncio.timeout(60):
        while silent < 5:
            await asyncio.sleep(0.05)
            total = sum(len(stream.frames) for stream in streams)
            silent = silent + 1 if total == seen else 0
            seen = total
    for stream in streams:
        stream._messages.clear()
        stream.frames.clear()


async def test_with_200_nodes_one_endpoint_change_is_under_1_kb_a_viewer_and_nothing_for_the_others():
    async with running() as server:
        annas, berts = await all_joined(server, 100, "anna"), await all_joined(server, 100, "bert")
        streams = [stream for _, stream in annas + berts]
        await quiet(streams)
        mover = annas[7][0]
        await mover.update(Endpoints=["198.51.100.7:41641", "192.168.1.7:41641", "[2001:db8::7]:41641"])
        async with asyncio.timeout(60):
            while not all(stream.frames for client, stream in annas if client is not mover):
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        for client, stream in annas:
            assert sum(stream.frames) < (1024 if client is not mover else 1), stream.frames
            assert len(stream.frames) == (0 if client is mover else 1)
        assert [sum(stream.frames) for _, stream in berts] == [0] * 100


async def test_what_changes_within_a_moment_is_told_in_one_message():
    async with running(gather_s=1.0) as server:
        (_, watching), (mover, _) = await all_joined(server, 2, "anna")
        await quiet([watching])
        for last in range(1, 9):
            await mover.update(Endpoints=[f"192.0.2.{last}:1"])
        told = await watching.until(lambda m: m.get("PeersChangedPatch"))
        assert told["PeersChangedPatch"][0]["Endpoints"] == ["192.0.2.8:1"]


async def test_a_new_relay_and_new_endpoints_come_as_two_messages():
    # stock clients around 1.90 take only the first of several changes of one peer in one message
    async with running() as server:
        (_, watching), (mover, own) = await all_joined(server, 2, "anna")
        await quiet([watching, own])
        mover.hostinfo["NetInfo"] = {"PreferredDERP": 900}
        await mover.update(Endpoints=["192.0.2.1:1"])
        (first,), (second,) = [(await watching.message())["PeersChangedPatch"] for _ in range(2)]
        assert first == {"NodeID": 2, "DERPRegion": 900} and second == {"NodeID": 2, "Endpoints": ["192.0.2.1:1"]}


async def test_a_peer_that_leaves_is_removed_and_one_that_comes_is_added():
    async with running() as server:
        ((_, stream),) = await all_joined(server, 1, "anna")
        await quiet([stream])
        second = await server.join("second")
        added = await stream.until(lambda m: "PeersChanged" in m)
        assert [peer["ID"] for peer in added["PeersChanged"]] == [2]
        await server.registry.delete_node(server.node(second).id)
        removed = await stream.until(lambda m: "PeersRemoved" in m)
        assert removed["PeersRemoved"] == [2]


async def churn(server: Running, nodes: list[int], rounds: int, after_each: Callable[[], Awaitable[None]]) -> None:
    for turn in range(rounds):
        for node_id in nodes:
            endpoints = [f"192.0.2.{turn % 250}:{1000 + n}" for n in range(100)]
            await server.registry.update_node(node_id, endpoints=endpoints)
        await after_each()


async def test_a_viewer_that_reads_too_slowly_gets_a_whole_map_and_costs_no_more_than_its_share():
    async with running() as server:
        annas = await all_joined(server, 10, "anna")
        slow = await server.join("slow", window_bytes=65_535)
        slow_stream = slow.poll(zstd=False)
        await quiet([slow_stream, *(stream for _, stream in annas)])
        fast_stream = annas[0][1]
        movers = [server.node(client).id for client, _ in annas[1:]]
        slow.pause()
        session = server.coordinator.sessions.of_node(server.node(slow).id)
        assert session is not None

        async def told() -> None:
            await asyncio.sleep(0.03)
            assert session.link.unsent(session.stream) < UNSENT_BYTES + 300_000
            assert len(session.pending) <= PENDING_CHANGES

        async with asyncio.timeout(60):
            while not server.counters.slow_viewers:
                await churn(server, movers, 10, told)
        assert not fast_stream.ended and fast_stream.frames
        slow.resume()
        whole = await slow_stream.until(lambda m: len(m.get("Peers", [])) == 10, seconds=20)
        told_now = {peer["ID"]: peer["Endpoints"] for peer in whole["Peers"]}
        await quiet([slow_stream])
        for node_id in movers:
            assert told_now[node_id] == list(server.registry.nodes[node_id].endpoints)


async def test_a_client_that_reads_nothing_at_all_is_let_go_and_the_others_go_on():
    async with running() as server:
        annas = await all_joined(server, 3, "anna")
        stuck = await server.join("stuck", window_bytes=1 << 26)  # so that nothing but the network holds us up
        await stuck.poll(zstd=False).message()
        await quiet([stream for _, stream in annas])
        stuck.pause()
        links = server.coordinator.links.open
        link = next(link for link in links if link.machine_key == stuck.identity.machine_public)
        for transport in (stuck._transport, link._transport):
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 4096)
        movers = [server.node(client).id for client, _ in annas]

        async def told() -> None:
            await asyncio.sleep(0.03)

        async with asyncio.timeout(60):
            while link._waits.blocked is None:
                await churn(server, movers, 5, told)
        server.time_passes(61)
        assert server.counters.stalled_links == 1
        async with asyncio.timeout(60):
            while len(server.coordinator.sessions) > 3:
                await asyncio.sleep(0.01)
        assert (await annas[1][0].update()).status == 200


async def test_the_same_message_is_encoded_once_for_all_who_get_it():
    async with running() as server:
        annas = await all_joined(server, 20, "anna")
        await quiet([stream for _, stream in annas])
        texts: list[bytes] = []
        for _, stream in annas[1:]:
            stream.on_message = texts.append
        await annas[0][0].update(Endpoints=["192.0.2.1:41641"])
        async with asyncio.timeout(60):
            while len(texts) < 19:
                await asyncio.sleep(0.01)
        assert len(set(texts)) == 1 and json.loads(texts[0])["PeersChangedPatch"]
