"""POST /machine/map over the real protocol: polls, lite updates, and the other paths below /machine/."""

import asyncio
import json
import os
from typing import Any

import pytest
import zstandard

from shared.running_coordinator import Running, running
from wayhome.bench.control_client import ConnectionEnded, ControlClient, Identity, MapStream
from wayhomed.wire.control import MapFrameDecoder
from wayhomed.wire.keys import NODE, key_text

FIRST = {
    "Node",
    "DERPMap",
    "Peers",
    "DNSConfig",
    "Domain",
    "CollectServices",
    "PacketFilters",
    "UserProfiles",
    "ControlTime",
    "Debug",
}


async def ended(stream: MapStream) -> None:
    async with asyncio.timeout(60):
        while not stream.ended:
            await asyncio.sleep(0)
    stream._messages.clear()
    with pytest.raises(ConnectionEnded):
        await stream.message()


@pytest.mark.parametrize("zstd", [True, False])
async def test_a_poll_begins_with_the_whole_map_as_the_client_asked_for_it(zstd: bool):
    async with running() as server:
        client = await server.join("laptop")
        first = await client.poll(zstd=zstd).message()
        assert set(first) >= FIRST
        assert first["CollectServices"] is False and first["Debug"] == {"DisableLogTail": True}
        assert first["Node"]["Name"].startswith("laptop.") and len(first["Node"]["Addresses"]) == 2


async def test_texts_go_out_as_utf_8_without_escapes():
    async with running() as server:
        await server.registry.rename_user((await server.user()).id, "anna", "Änna ☃")
        client = await server.join()
        answer = await client.ask("POST", "/machine/map", client.map_body(Stream=False))
        (payload,) = MapFrameDecoder().feed(answer.body)
        assert "Änna ☃".encode() in payload and b"\\u" not in payload


async def test_a_single_map_is_one_frame_and_leaves_the_poll_alone():
    async with running() as server:
        client = await server.join()
        stream = client.poll()
        await stream.message()
        answer = await client.ask("POST", "/machine/map", client.map_body(Stream=False, Compress="zstd"))
        (payload,) = MapFrameDecoder().feed(answer.body)
        assert set(json.loads(zstandard.ZstdDecompressor().decompress(payload))) >= FIRST
        assert not stream.ended


async def test_a_lite_update_is_stored_answered_empty_and_leaves_the_poll_alone():
    async with running() as server:
        client = await server.join()
        stream = client.poll()
        await stream.message()
        client.hostinfo["NetInfo"] = {"PreferredDERP": 900}
        answer = await client.update(Endpoints=["192.0.2.1:41641"], EndpointTypes=[2])
        assert (answer.status, answer.body) == (200, b"")
        node = server.node(client)
        assert node.endpoints == ("192.0.2.1:41641",) and node.home_derp == 900
        assert not stream.ended and len(server.coordinator.sessions) == 1


async def test_hostinfo_without_netinfo_keeps_the_home_relay():
    async with running() as server:
        client = await server.join()
        client.hostinfo["NetInfo"] = {"PreferredDERP": 900}
        await client.update()
        del client.hostinfo["NetInfo"]
        await client.update()
        assert server.node(client).home_derp == 900


async def test_a_poll_that_names_no_endpoints_says_nothing_about_them():
    async with running() as server:
        client = await server.join()
        await client.update(Endpoints=["192.0.2.1:41641"])
        await client.poll(Endpoints=[]).message()
        assert server.node(client).endpoints == ("192.0.2.1:41641",)


async def test_a_newer_poll_replaces_the_older_and_the_node_stays_online():
    async with running() as server:
        client, friend = await server.join("laptop"), await server.join("friend")
        watching = friend.poll()
        await watching.message()
        older = client.poll()
        await older.message()
        await watching.until(lambda m: patched(m, server, client).get("Online") is True)
        newer = client.poll()
        assert (await newer.message())["Node"]
        await ended(older)
        server.time_passes(30)
        assert server.registry.is_online(server.node(client).id) and len(server.coordinator.sessions) == 2
        assert server.counters.replaced_polls == 1


def patched(message: dict[str, Any], server: Running, client: ControlClient) -> dict[str, Any]:
    """Return what a message says about a client's node, in a patch or a whole peer."""
    node_id = server.node(client).id
    for peer in message.get("PeersChangedPatch", []) + message.get("PeersChanged", []):
        if peer.get("NodeID", peer.get("ID")) == node_id:
            return dict(peer)
    return {}


async def test_a_node_is_offline_ten_seconds_after_its_last_poll_ended():
    async with running() as server:
        client, friend = await server.join("laptop"), await server.join("friend")
        await client.poll().message()
        watching = friend.poll()
        await watching.message()
        client.close()
        await settled(lambda: len(server.coordinator.sessions) == 1)
        server.time_passes(9)
        await server.coordinator.sessions.settled()
        assert server.registry.is_online(server.node(client).id)
        server.time_passes(2)
        message = await watching.until(lambda m: patched(m, server, client).get("Online") is False)
        assert patched(message, server, client)["LastSeen"]


async def test_a_node_that_comes_back_in_time_was_never_away():
    async with running() as server:
        client, friend = await server.join("laptop"), await server.join("friend")
        stream = client.poll()
        await stream.message()
        watching = friend.poll()
        await watching.message()
        client.reset(stream.stream)
        await settled(lambda: len(server.coordinator.sessions) == 1)
        server.time_passes(5)
        again = await server.connect(client.identity)
        await again.poll().message()
        server.time_passes(30)
        await server.coordinator.sessions.settled()
        assert server.registry.is_online(server.node(client).id)


async def settled(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


async def test_silence_is_broken_by_keep_alives_exactly_as_clients_know_them():
    async with running() as server:
        plain, packed = await server.join("plain"), await server.join("packed")
        streams = plain.poll(zstd=False), packed.poll()
        for stream in streams:
            await stream.message()
        texts: list[bytes] = []
        await asyncio.sleep(0.1)
        for stream in streams:
            stream.on_message = texts.append
        server.time_passes(49)
        await plain.update()
        assert texts == []
        server.time_passes(11.5)
        await settled(lambda: len(texts) == 2)
        assert texts == [b'{"KeepAlive":true}'] * 2
        server.time_passes(40)
        await plain.update()
        assert len(texts) == 2


async def test_an_unknown_node_key_is_a_404():
    async with running() as server:
        client = await server.connect()
        for body in (client.map_body(Stream=True), client.map_body(OmitPeers=True)):
            assert (await client.ask("POST", "/machine/map", body)).status == 404
        assert server.counters.unknown_node_keys == 2


async def test_a_node_key_of_another_machine_is_a_404_and_noticed():
    async with running() as server:
        victim = await server.join("victim")
        stream = victim.poll()
        await stream.message()
        thief = await server.connect(Identity(node_private=victim.identity.node_private))
        for body in (thief.map_body(Stream=True), thief.map_body(OmitPeers=True, Endpoints=["203.0.113.66:1"])):
            assert (await thief.ask("POST", "/machine/map", body)).status == 404
        assert server.counters.foreign_node_keys == 2
        assert server.node(victim).endpoints == () and not stream.ended


async def test_a_deleted_node_is_told_by_the_end_of_its_poll_and_a_404():
    async with running() as server:
        client = await server.join()
        stream = client.poll()
        await stream.message()
        await server.registry.delete_node(server.node(client).id)
        await asyncio.wait_for(ended(stream), 60)
        assert (await client.ask("POST", "/machine/map", client.map_body(Stream=True))).status == 404


async def test_an_expired_node_keeps_its_poll_and_learns_of_it():
    async with running() as server:
        client = await server.join()
        stream = client.poll()
        await stream.message()
        await server.registry.expire_node(server.node(client).id)
        message = await stream.until(lambda m: "Node" in m)
        assert message["Node"]["Expired"] is True and not stream.ended


async def test_an_old_client_is_told_so():
    async with running() as server:
        client = await server.join()
        answer = await client.ask("POST", "/machine/map", client.map_body(Version=112))
        assert answer.status == 400 and b"too old" in answer.body


@pytest.mark.parametrize(
    "fields",
    [
        {"Endpoints": ["192.0.2.1:1"] * 1025},
        {"Endpoints": ["nonsense"]},
        {"Endpoints": ["192.0.2.1:99999"]},
        {"Endpoints": {"a": 1}},
        {"Hostinfo": {"RoutableIPs": ["10.0.0.0/8"] * 1000}},
        {"Hostinfo": {"RoutableIPs": ["ten"]}},
        {"Hostinfo": {"deep": [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]}},
        {"Hostinfo": {"long": "x" * 100_000}},
        {"DiscoKey": "discokey:xyz"},
        {"Stream": "yes"},
        {"Version": "130"},
    ],
)
async def test_a_request_of_wrong_values_is_a_400_in_words_and_changes_nothing(fields: dict[str, Any]):
    async with running() as server:
        client = await server.join()
        before = server.node(client)
        answer = await client.ask("POST", "/machine/map", client.map_body(OmitPeers=True, **fields))
        assert answer.status == 400 and len(answer.body) > 10
        assert server.node(client) == before
        assert (await client.poll().message())["Node"]


async def test_a_client_that_resets_its_poll_at_once_is_tolerated():
    async with running() as server:
        client = await server.join()
        for _ in range(5):
            client.reset(client.poll().stream)
        assert (await client.poll().message())["Node"]
        await settled(lambda: len(server.coordinator.sessions) == 1)


async def test_a_poll_survives_the_smallest_windows():
    async with running() as server:
        for number in range(30):
            await server.join(f"peer-{number}")
        client = await server.join(window_bytes=65_535)
        first = await client.poll(zstd=False).message()
        assert len(first["Peers"]) == 30


async def test_a_ping_is_answered_over_noise():
    async with running() as server:
        client = await server.join()
        node_id = server.node(client).id
        assert await server.coordinator.pings.ping_node(node_id) is False  # no poll is open
        stream = client.poll()
        await stream.message()
        waiting = asyncio.create_task(server.coordinator.pings.ping_node(node_id))
        request = (await stream.until(lambda m: "PingRequest" in m))["PingRequest"]
        assert request["URLIsNoise"] is True and not request.get("Types")
        path = "/" + request["URL"].split("/", 3)[3]
        other = await server.join("other")
        assert (await other.ask("HEAD", path)).status == 404
        assert not waiting.done()
        assert (await client.ask("HEAD", path)).status == 200
        assert await asyncio.wait_for(waiting, 60) is True
        assert (await client.ask("HEAD", path)).status == 404
        assert await server.coordinator.pings.ping_node(node_id, seconds=0.01) is False


async def test_the_other_paths_answer_as_a_small_server_may():
    async with running() as server:
        client = await server.join()
        body = {"NodeKey": key_text(NODE, client.identity.node_public)}
        for method, path, status in (
            ("POST", "set-dns", 501),
            ("POST", "update-health", 200),
            ("POST", "audit-log", 200),
            ("POST", "id-token", 501),
            ("PATCH", "set-device-attr", 501),
            ("POST", "feature/query", 501),
            ("GET", "whoami", 404),
            ("GET", "map", 404),
            ("POST", "tka/bootstrap", 404),
            ("GET", "ssh/action/1", 404),
            ("GET", "webclient/x", 404),
        ):
            assert (await client.ask(method, f"/machine/{path}", body)).status == status, path
        assert (await client.ask("GET", "/")).status == 404
        absolute = await client.ask("POST", "https://other.example:1/machine/map?x=1", client.map_body(OmitPeers=True))
        assert absolute.status == 200


async def test_one_machine_may_be_two_nodes_of_two_people():
    async with running() as server:
        first = await server.join("laptop", user="anna")
        second = await server.connect(Identity(machine_private=first.identity.machine_private))
        assert (await second.register(auth_key=await server.key("bert")))["MachineAuthorized"]
        streams = first.poll(), second.poll()
        assert [(await stream.message())["Node"]["ID"] for stream in streams] == [1, 2]
        assert len(server.coordinator.sessions) == 2


async def test_a_state_used_in_two_places_is_noticed_and_both_users_told():
    async with running() as server:
        one = await server.join()
        two = await server.connect(one.identity)
        streams = []
        for _ in range(4):
            for client in (one, two):
                server.clock.seconds += 1
                stream = client.poll()
                await stream.message()
                streams.append(stream)
        assert server.counters.cloned_states == 1 and server.counters.replaced_polls == 7
        notice = await streams[-1].until(lambda m: "Health" in m)
        assert "two places" in notice["Health"][0]
        server.time_passes(130)
        assert (await streams[-1].until(lambda m: "Health" in m))["Health"] == []


async def test_random_requests_are_answered_and_nothing_else_is_disturbed():
    async with running() as server:
        client = await server.join()
        stream = client.poll()
        await stream.message()
        for _ in range(50):
            answer = await client.ask("POST", "/machine/map", os.urandom(50))
            assert answer.status == 400
        assert not stream.ended
