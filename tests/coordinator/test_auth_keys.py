"""Auth keys: who they let in, how often, and what is kept of them."""

import asyncio
import sqlite3
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from coordinator.rig import START, device, key, mesh
from wayhome.coordinator.registry import BadAuthKey, NotFound, RegistryError
from wayhome.coordinator.storage import spend_auth_key


async def test_one_off_lets_one_device_in(tmp_path):
    async with mesh(tmp_path) as m:
        secret = await m.key()
        await m.registry.register_with_key(device(1), secret)
        with pytest.raises(BadAuthKey, match="has been used"):
            await m.registry.register_with_key(device(2), secret)


async def test_a_reusable_key_lets_many_in(tmp_path):
    async with mesh(tmp_path) as m:
        secret = await m.key(reusable=True)
        ids = [(await m.registry.register_with_key(device(number), secret)).id for number in range(1, 6)]
        assert ids == [1, 2, 3, 4, 5]


async def test_fifty_at_the_same_instant_with_a_one_off_key_exactly_one_gets_in_every_time(tmp_path):
    async with mesh(tmp_path) as m:
        for turn in range(100):
            secret = await m.key()
            answers = await asyncio.gather(
                *(m.registry.register_with_key(device(turn * 50 + number + 1), secret) for number in range(50)),
                return_exceptions=True,
            )
            assert sum(not isinstance(answer, Exception) for answer in answers) == 1
            assert sum(isinstance(answer, BadAuthKey) for answer in answers) == 49
        assert len(m.registry.nodes) == 100


async def test_the_database_itself_lets_a_one_off_key_be_spent_once(tmp_path):
    """Without the registry's lock: several connections try in transactions of their own."""
    async with mesh(tmp_path) as m:
        user = await m.user()
        created, _ = await m.registry.create_auth_key(user.id)
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'wayhome.db'}", connect_args={"timeout": 30})

    async def spend():
        async with engine.connect() as connection:
            await connection.execute(sa.text("BEGIN IMMEDIATE"))
            spent = await spend_auth_key(connection, created.id, START)
            await connection.commit()
            return spent

    try:
        assert sorted(await asyncio.gather(*(spend() for _ in range(10)))) == [False] * 9 + [True]
    finally:
        await engine.dispose()


async def test_the_same_device_may_repeat_its_request_without_spending_the_key_again(tmp_path):
    async with mesh(tmp_path) as m:
        secret = await m.key()
        first = await m.registry.register_with_key(device(1), secret)
        assert await m.registry.register_with_key(device(1), secret) == first
        m.clock.pass_by(days=1)
        assert await m.registry.register_with_key(device(1), secret) == first
        assert await m.registry.register_with_key(device(1), "nonsense") == first
        with pytest.raises(BadAuthKey):
            await m.registry.register_with_key(device(1, node_key=key(77, 2)), secret)


async def test_an_expired_or_revoked_key_lets_nobody_in_and_says_why(tmp_path):
    async with mesh(tmp_path) as m:
        expiring = await m.key(lifetime=timedelta(minutes=5))
        lasting = await m.key(lifetime=None, reusable=True)
        m.clock.pass_by(minutes=5)
        with pytest.raises(BadAuthKey, match="has expired"):
            await m.registry.register_with_key(device(1), expiring)
        m.clock.pass_by(days=4000)
        node = await m.registry.register_with_key(device(1), lasting)
        await m.registry.revoke_auth_key(node.auth_key_id)
        with pytest.raises(BadAuthKey, match="is revoked"):
            await m.registry.register_with_key(device(2), lasting)
        assert node.id in m.registry.nodes
        with pytest.raises(NotFound):
            await m.registry.revoke_auth_key(99)


@pytest.mark.parametrize("secret", ["", "tskey-auth-1-2", "wayhome-auth-1-" + "A" * 43, "wayhome-auth-99-" + "A" * 43])
async def test_a_key_that_was_never_made_tells_nothing_about_those_that_were(tmp_path, secret):
    async with mesh(tmp_path) as m:
        await m.key()
        with pytest.raises(BadAuthKey, match="not known here"):
            await m.registry.register_with_key(device(1), secret)


async def test_the_secret_is_nowhere_in_the_database(tmp_path):
    async with mesh(tmp_path) as m:
        secret = await m.key()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert secret.rsplit("-", 1)[1].encode() not in content
    rows = sqlite3.connect(tmp_path / "wayhome.db").execute("SELECT length(secret_hash) FROM auth_keys").fetchall()
    assert rows == [(32,)]


async def test_a_key_is_of_a_user_or_tagged_and_never_both(tmp_path):
    async with mesh(tmp_path) as m:
        user = await m.user()
        for user_id, tags in ((None, ()), (user.id, ("tag:router",))):
            with pytest.raises(RegistryError, match="either"):
                await m.registry.create_auth_key(user_id, tags)
        with pytest.raises(RegistryError, match="cannot be a tag"):
            await m.registry.create_auth_key(None, ("Router!",))
        node = await m.join(tags=("router",))
        assert (node.user_id, node.tags) == (None, ("tag:router",))
        with pytest.raises(NotFound):
            await m.registry.create_auth_key(99)
        with pytest.raises(RegistryError, match="above zero"):
            await m.registry.create_auth_key(user.id, lifetime=timedelta(0))


async def test_keys_and_their_use_survive_a_restart(tmp_path):
    async with mesh(tmp_path) as m:
        used, unused = await m.key(), await m.key()
        await m.registry.register_with_key(device(1), used)
        kept = dict(m.registry.auth_keys)
    async with mesh(tmp_path, clock=m.clock) as m:
        assert dict(m.registry.auth_keys) == kept
        with pytest.raises(BadAuthKey):
            await m.registry.register_with_key(device(2), used)
        assert (await m.registry.register_with_key(device(2), unused)).id == 2
        assert [auth_key.state(m.clock()) for auth_key in m.registry.auth_keys.values()] == ["used", "used"]


async def test_a_users_keys_go_with_the_user_who_must_have_no_devices_left(tmp_path):
    async with mesh(tmp_path) as m:
        secret = await m.key()
        node = await m.registry.register_with_key(device(1), secret)
        with pytest.raises(RegistryError, match="laptop"):
            await m.registry.delete_user(1)
        await m.registry.delete_node(node.id)
        await m.registry.delete_user(1)
        assert not m.registry.auth_keys and not m.registry.users
        with pytest.raises(BadAuthKey):
            await m.registry.register_with_key(device(1), secret)
        assert (await m.user("bert")).id == 2
