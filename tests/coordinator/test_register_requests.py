"""POST /machine/register over the real protocol: keys, logins, refusals, and what strangers try."""

import asyncio
import json
import os
import re
from datetime import timedelta
from typing import Any

import pytest

from shared.running_coordinator import Running, running
from wayhome.bench.control_client import ControlClient, Identity
from wayhome.coordinator.attempt_limit import Rate
from wayhome.coordinator.registry import Settings
from wayhomed.wire.keys import NODE, key_text, new_private

EVERY_FIELD = {"User", "Login", "NodeKeyExpired", "MachineAuthorized", "AuthURL", "NodeKeySignature", "Error"}


async def test_a_good_key_lets_in_and_every_field_is_there():
    async with running() as server:
        client = await server.connect()
        answer = await client.register(auth_key=await server.key())
        assert set(answer) == {"status", *EVERY_FIELD}
        assert answer["MachineAuthorized"] and not answer["Error"] and answer["User"]["DisplayName"] == "anna"
        assert client.identity.machine_public == server.node(client).machine_key


async def test_bad_keys_are_refused_with_a_reason_in_a_200():
    async with running() as server:
        used = await server.key(reusable=False)
        assert (await (await server.connect()).register(auth_key=used))["MachineAuthorized"]
        short_lived = await server.key(lifetime=timedelta(seconds=10))
        revoked = await server.key(reusable=True)
        await server.registry.revoke_auth_key(list(server.registry.auth_keys)[-1])
        server.clock.seconds += 20
        for secret, word in ((used, "used"), (short_lived, "expired"), (revoked, "revoked"), ("nonsense", "key")):
            client = await server.connect()
            answer = await client.register(auth_key=secret)
            assert answer["status"] == 200 and word in answer["Error"], (word, answer)
            assert not answer["MachineAuthorized"] and server.registry.node_by_key(client.identity.node_public) is None
        assert server.counters.refused_registrations == 4


async def test_the_same_device_with_the_same_spent_key_is_let_in_again():
    async with running() as server:
        key = await server.key(reusable=False)
        first = await server.connect()
        assert (await first.register(auth_key=key))["MachineAuthorized"]
        again = await server.connect(first.identity)
        assert (await again.register(auth_key=key))["MachineAuthorized"]
        assert (await again.register())["MachineAuthorized"]
        assert len(server.registry.nodes) == 1


async def wait_for_login(server: Running) -> Any:
    async with asyncio.timeout(60):
        while not server.registry.logins:
            await asyncio.sleep(0)
    return server.registry.logins[-1]


async def follow(client: ControlClient, url: str) -> "asyncio.Task[dict[str, Any]]":
    task = asyncio.create_task(client.register(Followup=url))
    await client.ask("POST", "/machine/set-dns")  # whatever was sent before this has been taken up
    assert not task.done()
    return task


async def test_a_login_waits_for_a_person_and_goes_on_by_itself():
    async with running() as server:
        anna = await server.user()
        client = await server.connect()
        first = await client.register(hostname="phone")
        assert first["AuthURL"].startswith("http://mesh.test/register/") and not first["MachineAuthorized"]
        waiting = await follow(client, first["AuthURL"])
        login = await wait_for_login(server)
        assert login.hostname == "phone"
        await server.registry.approve_login(login.code, anna.id)
        answer = await asyncio.wait_for(waiting, 60)
        assert answer["MachineAuthorized"] and answer["Login"]["LoginName"] == "anna"
        assert server.node(client).name == "phone"


async def test_a_refused_login_says_so():
    async with running() as server:
        client = await server.connect()
        waiting = await follow(client, (await client.register())["AuthURL"])
        server.registry.refuse_login((await wait_for_login(server)).code)
        answer = await asyncio.wait_for(waiting, 60)
        assert answer["Error"] and not answer["MachineAuthorized"]


async def test_a_login_that_timed_out_gets_a_new_url():
    async with running(Settings(login_lifetime=timedelta(minutes=15))) as server:
        client = await server.connect()
        url = (await client.register())["AuthURL"]
        waiting = await follow(client, url)
        server.clock.seconds += 16 * 60
        await server.registry.timer_fired()
        answer = await asyncio.wait_for(waiting, 60)
        assert answer["AuthURL"] and answer["AuthURL"] != url


async def test_a_followup_from_before_a_restart_gets_a_new_url():
    async with running() as server:
        client = await server.connect()
        answer = await client.register(Followup="http://mesh.test/register/unknown")
        assert answer["AuthURL"] and not answer["AuthURL"].endswith("/unknown")


async def test_another_machine_cannot_wait_for_a_login():
    async with running() as server:
        client, thief = await server.connect(), await server.connect()
        url = (await client.register())["AuthURL"]
        stolen = await thief.register(Followup=url)
        assert stolen["AuthURL"] != url and not stolen["MachineAuthorized"]


async def test_a_client_that_goes_away_ends_its_waiting():
    async with running() as server:
        client = await server.connect()
        await follow(client, (await client.register())["AuthURL"])
        link = next(iter(server.coordinator.links.open))
        assert len(link._waits.tasks) == 1
        client.close()
        async with asyncio.timeout(60):
            while link._waits.tasks or server.coordinator.links.open:
                await asyncio.sleep(0)


async def test_a_node_key_of_another_machine_is_refused_and_noticed():
    async with running() as server:
        victim = await server.join("victim")
        thief = await server.connect(Identity(node_private=victim.identity.node_private))
        for fields in ({}, {"auth_key": await server.key()}):
            answer = await thief.register(**fields)
            assert answer["Error"] and not answer["MachineAuthorized"]
        assert server.counters.foreign_node_keys == 2
        await thief.register(Expiry="1970-01-01T00:02:03Z")
        assert server.node(victim).machine_key == victim.identity.machine_public
        assert server.node(victim).expiry is None


async def test_logout_ends_the_key_and_an_ephemeral_node():
    async with running() as server:
        lasting, passing = await server.join("lasting"), await server.connect()
        await passing.register(auth_key=await server.key(ephemeral=True))
        for client in (lasting, passing):
            await client.register(Expiry="1970-01-01T00:02:03Z")
        assert server.registry.node_by_key(passing.identity.node_public) is None
        assert server.node(lasting).expired(server.clock.today())
        assert (await lasting.register())["NodeKeyExpired"]


async def test_a_new_node_key_takes_the_old_ones_place():
    async with running() as server:
        client = await server.join()
        before = server.node(client)
        old = client.identity.node_public
        client.identity.node_private = new_private(os.urandom(32))
        answer = await client.register(auth_key=await server.key(), OldNodeKey=key_text(NODE, old))
        assert answer["MachineAuthorized"]
        after = server.node(client)
        assert (after.id, after.ipv4, after.ipv6) == (before.id, before.ipv4, before.ipv6)
        assert server.registry.node_by_key(old) is None


@pytest.mark.parametrize(("version", "status"), [(137, 429), (136, 200)])
async def test_who_fails_too_often_is_told_to_wait(version: int, status: int):
    async with running(per_machine=Rate(burst=3, seconds=10)) as server:
        client = await server.connect(version=version)
        for _ in range(3):
            assert "too many" not in (await client.register(auth_key="x"))["Error"]
        answer = await client.ask("POST", "/machine/register", client.register_body(auth_key="x"))
        assert answer.status == status and "too many" in answer.json()["Error"]
        assert answer.headers.get("retry-after") == ("10" if status == 429 else None)
        server.clock.seconds += 10
        assert (await client.register(auth_key=await server.key()))["MachineAuthorized"]
        assert server.counters.throttled_registrations == 1


async def test_a_crowd_behind_one_address_that_guesses_keys_is_slowed_down():
    async with running(per_source=Rate(burst=5, seconds=1)) as server:
        key = await server.key()
        for _ in range(5):
            await (await server.connect()).register(auth_key="guess")
        assert "too many" in (await (await server.connect()).register(auth_key="guess"))["Error"]
        server.clock.seconds += 1
        assert (await (await server.connect()).register(auth_key=key))["MachineAuthorized"]


async def test_an_old_client_that_got_past_the_handshake_is_told_so():
    async with running() as server:
        client = await server.connect()
        answer = await client.register(auth_key=await server.key(), Version=100)
        assert "too old" in answer["Error"] and not server.registry.nodes


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", "JSON"),
        (b"{}", "node_key|NodeKey"),
        (b'{"NodeKey":[]}', r"\$.NodeKey"),
        (b"[" * 100_000, "nested"),
        (
            json.dumps({"NodeKey": "nodekey:" + "a" * 64, "Expiry": "9999-12-31T23:59:59-12:00"}).encode(),
            r"calendar.*\$.Expiry",
        ),
        (json.dumps({"NodeKey": "nodekey:" + "a" * 64, "Hostinfo": {"Hostname": 1}}).encode(), r"\$.Hostinfo.Hostname"),
    ],
)
async def test_a_body_that_cannot_be_read_is_a_400_that_names_the_place(body: bytes, place: str):
    async with running() as server:
        client = await server.connect()
        answer = await client.ask("POST", "/machine/register", body)
        assert answer.status == 400
        assert re.search(place, answer.body.decode())
        assert (await client.register(auth_key=await server.key()))["MachineAuthorized"]
        assert server.counters.bad_requests == 1


async def test_a_body_over_the_limit_is_a_413_and_noticed():
    async with running() as server:
        client = await server.connect()
        answer = await client.ask("POST", "/machine/register", b"{" + b" " * (1 << 20))
        assert answer.status == 413 and server.counters.large_bodies == 1
        assert (await client.register(auth_key=await server.key()))["MachineAuthorized"]


async def test_of_fifty_clients_with_one_one_off_key_exactly_one_gets_in_a_hundred_times():
    async with running(per_machine=Rate(10_000, 1), per_source=Rate(10_000, 1)) as server:
        clients = await asyncio.gather(*(server.connect() for _ in range(50)))
        for _ in range(100):
            key = await server.key(reusable=False)
            for client in clients:
                client.identity = Identity(machine_private=client.identity.machine_private)
            answers = await asyncio.gather(*(client.register(auth_key=key) for client in clients))
            assert [answer["MachineAuthorized"] for answer in answers].count(True) == 1
            assert all(answer["Error"] for answer in answers if not answer["MachineAuthorized"])
            # out again, so that each round begins like the first
            for node_id in list(server.registry.nodes):
                await server.registry.delete_node(node_id)


async def test_a_bug_of_ours_is_a_500_and_reported_and_the_connection_goes_on(caplog: pytest.LogCaptureFixture):
    async with running() as server:
        client = await server.connect()
        key, whole = await server.key(), server.registry.register_with_key

        async def broken(*_: object) -> None:
            raise KeyError("bug")

        server.registry.register_with_key = broken
        answer = await client.register(auth_key=key)
        assert answer["status"] == 500 and "KeyError" in caplog.text
        server.registry.register_with_key = whole
        assert (await client.register(auth_key=key))["MachineAuthorized"]
