"""Registration: every flow of control.md 5.3 as the registry sees it."""

import asyncio
import sqlite3
from datetime import timedelta

import pytest

from coordinator.rig import START, device, key, mesh
from wayhome.coordinator.model import Aspect
from wayhome.coordinator.registry import (
    BadUpdate,
    KeyExpired,
    LoginGone,
    LoginRefused,
    NotFound,
    RegistryError,
    WrongMachine,
)


async def log_in(m, told, user="anna"):
    login = m.registry.begin_login(told)
    return await m.registry.approve_login(login.code, (await m.user(user)).id)


async def test_a_refresh_changes_nothing(tmp_path):
    async with mesh(tmp_path) as m:
        node = await log_in(m, device(1))
        m.changes.clear()
        assert await m.registry.refresh(device(1, "another-name")) == node
        assert m.changes == []
        with pytest.raises(NotFound):
            await m.registry.refresh(device(2))


async def test_a_known_node_key_from_another_machine_is_refused_everywhere(tmp_path):
    async with mesh(tmp_path) as m:
        node = await log_in(m, device(1))
        thief = device(2, node_key=node.node_key)
        secret = await m.key()
        with pytest.raises(WrongMachine):
            await m.registry.refresh(thief)
        with pytest.raises(WrongMachine):
            await m.registry.register_with_key(thief, secret)
        with pytest.raises(WrongMachine):
            m.registry.begin_login(thief)
        with pytest.raises(WrongMachine):
            await m.registry.logout(thief.machine_key, thief.node_key)
        assert m.registry.nodes == {node.id: node}
        await m.registry.register_with_key(device(3), secret)  # not spent by the attempts


async def test_a_key_that_another_machine_registered_meanwhile_cannot_be_approved(tmp_path):
    async with mesh(tmp_path) as m:
        login = m.registry.begin_login(device(2, node_key=key(1, 2)))
        node = await m.registry.register_with_key(device(1), await m.key())
        with pytest.raises(WrongMachine):
            await m.registry.approve_login(login.code, (await m.user()).id)
        assert m.registry.nodes == {node.id: node}


async def test_a_new_node_key_replaces_the_old_one_in_place(tmp_path):
    async with mesh(tmp_path) as m:
        await m.join("peer")
        old = await log_in(m, device(1))
        m.changes.clear()
        login = m.registry.begin_login(device(1, node_key=key(50, 2)))
        assert m.registry.node_by_key(old.node_key) == old  # the old key is served until the new one is let in
        new = await m.registry.approve_login(login.code, old.user_id)
        assert (new.id, new.ipv4, new.ipv6, new.name) == (old.id, old.ipv4, old.ipv6, old.name)
        assert new.node_key == key(50, 2)
        assert m.registry.node_by_key(old.node_key) is None
        assert [change.aspects for change in m.changes] == [{Aspect.NODE_KEY}]


async def test_the_same_machine_for_another_user_is_a_second_node(tmp_path):
    async with mesh(tmp_path) as m:
        annas = await log_in(m, device(1))
        berts = await log_in(m, device(1, node_key=key(50, 2)), "bert")
        tagged = await m.registry.register_with_key(device(1, node_key=key(51, 2)), await m.key(tags=("tag:a",)))
        assert len({annas.id, berts.id, tagged.id}) == 3
        assert len({annas.ipv4, berts.ipv4, tagged.ipv4}) == 3
        again = await m.registry.register_with_key(device(1, node_key=key(52, 2)), await m.key(tags=("tag:b",)))
        assert (again.id, again.tags) == (tagged.id, ("tag:b",))


async def test_logging_out_expires_the_key_and_the_old_key_never_comes_back(tmp_path):
    async with mesh(tmp_path) as m:
        node = await log_in(m, device(1))
        await m.registry.logout(node.machine_key, node.node_key)
        with pytest.raises(KeyExpired):
            await m.registry.refresh(device(1))
        with pytest.raises(KeyExpired):
            await m.registry.register_with_key(device(1), await m.key())
        with pytest.raises(KeyExpired):
            m.registry.begin_login(device(1))
        again = await log_in(m, device(1, node_key=key(50, 2)))
        assert (again.id, again.ipv4, again.expiry) == (node.id, node.ipv4, None)
        await m.registry.logout(key(9), key(9))  # unknown: nothing to do


async def test_logging_out_removes_an_ephemeral_node(tmp_path):
    async with mesh(tmp_path) as m:
        node = await m.join(ephemeral=True)
        await m.registry.logout(node.machine_key, node.node_key)
        assert not m.registry.nodes
        assert m.last_change().aspects == {Aspect.REMOVED}


async def test_expiry_may_be_shortened_by_the_client_and_never_extended(tmp_path):
    async with mesh(tmp_path, node_expiry=timedelta(days=10)) as m:
        node = await log_in(m, device(1, expiry=START + timedelta(days=400)))
        assert node.expiry == START + timedelta(days=10)
        node = await m.registry.refresh(device(1, expiry=START + timedelta(days=5)))
        assert node.expiry == START + timedelta(days=5)
        node = await m.registry.refresh(device(1, expiry=START + timedelta(days=8)))
        assert node.expiry == START + timedelta(days=5)
        tagged = await m.join(tags=("tag:router",))
        assert tagged.expiry is None


async def test_a_key_that_runs_out_is_announced_once_when_its_time_comes(tmp_path):
    async with mesh(tmp_path, node_expiry=timedelta(days=10)) as m:
        node = await log_in(m, device(1))
        m.changes.clear()
        m.clock.pass_by(days=9)
        await m.registry.timer_fired()
        assert m.changes == [] and m.registry.next_timer() == node.expiry
        m.clock.pass_by(days=1)
        await m.registry.timer_fired()
        await m.registry.timer_fired()
        assert [(change.node_id, change.aspects) for change in m.changes] == [(node.id, {Aspect.EXPIRED})]
        with pytest.raises(KeyExpired):
            await m.registry.refresh(device(1))


async def test_an_ephemeral_node_is_removed_after_it_stayed_away(tmp_path):
    async with mesh(tmp_path) as m:
        node = await m.join(ephemeral=True)
        await m.registry.set_online(node.id, True)
        assert m.registry.next_timer() is None
        m.clock.pass_by(days=3)
        await m.registry.timer_fired()
        await m.registry.set_online(node.id, False)
        m.clock.pass_by(minutes=29)
        await m.registry.timer_fired()
        assert node.id in m.registry.nodes
        m.clock.pass_by(minutes=1)
        await m.registry.timer_fired()
        assert node.id not in m.registry.nodes


async def test_a_restart_gives_ephemeral_nodes_their_time_again(tmp_path):
    async with mesh(tmp_path) as m:
        node = await m.join(ephemeral=True)
        m.clock.pass_by(minutes=29)
    async with mesh(tmp_path, clock=m.clock) as m:
        m.clock.pass_by(minutes=29)
        await m.registry.timer_fired()
        assert node.id in m.registry.nodes
        m.clock.pass_by(minutes=1)
        await m.registry.timer_fired()
        assert not m.registry.nodes


async def test_a_waiting_client_goes_on_by_itself_once_it_is_let_in(tmp_path):
    async with mesh(tmp_path) as m:
        login = m.registry.begin_login(device(1, "annas-phone"))
        assert (login.hostname, login.os) == ("annas-phone", "linux")
        assert login.fingerprint == "0100 0000 0000 0000"
        assert m.registry.logins == [login]
        waiting = asyncio.ensure_future(m.registry.wait_for_login(login.id, key(1)))
        await asyncio.sleep(0)
        node = await m.registry.approve_login(login.code.lower().replace("-", " "), (await m.user()).id)
        assert await waiting == node
        assert m.registry.logins == []
        with pytest.raises(LoginGone):
            await m.registry.approve_login(login.code, node.user_id)


async def test_of_two_who_approve_at_once_one_does(tmp_path):
    async with mesh(tmp_path) as m:
        login = m.registry.begin_login(device(1))
        user = await m.user()
        answers = await asyncio.gather(
            *(m.registry.approve_login(login.code, user.id) for _ in range(2)), return_exceptions=True
        )
        assert sorted(type(answer).__name__ for answer in answers) == ["LoginGone", "Node"]


async def test_a_refused_client_is_told_so_however_often_it_asks(tmp_path):
    async with mesh(tmp_path) as m:
        login = m.registry.begin_login(device(1))
        waiting = asyncio.ensure_future(m.registry.wait_for_login(login.id, key(1)))
        await asyncio.sleep(0)
        m.registry.refuse_login(login.code)
        with pytest.raises(LoginRefused):
            await waiting
        with pytest.raises(LoginRefused):
            await m.registry.wait_for_login(login.id, key(1))
        with pytest.raises(LoginGone):
            m.registry.refuse_login(login.code)
        assert m.registry.begin_login(device(1)).id != login.id


async def test_a_login_lasts_fifteen_minutes(tmp_path):
    async with mesh(tmp_path) as m:
        login = m.registry.begin_login(device(1))
        waiting = asyncio.ensure_future(m.registry.wait_for_login(login.id, key(1)))
        await asyncio.sleep(0)
        assert m.registry.next_timer() == START + timedelta(minutes=15)
        m.clock.pass_by(minutes=15)
        await m.registry.timer_fired()
        with pytest.raises(LoginGone):
            await waiting
        with pytest.raises(LoginGone, match="codes last 15 minutes"):
            m.registry.find_login(login.code)


async def test_asking_again_gives_the_same_login_while_it_is_young_and_then_a_different_one(tmp_path):
    async with mesh(tmp_path) as m:
        login = m.registry.begin_login(device(1))
        m.clock.pass_by(minutes=7)
        assert m.registry.begin_login(device(1)) == login
        m.clock.pass_by(minutes=1)
        later = m.registry.begin_login(device(1))
        assert (later.id != login.id, later.code != login.code) == (True, True)
        assert m.registry.logins == [later]


async def test_another_machine_learns_nothing_of_a_login(tmp_path):
    async with mesh(tmp_path) as m:
        login = m.registry.begin_login(device(1))
        with pytest.raises(LoginGone):
            await m.registry.wait_for_login(login.id, key(2))


async def test_one_stranger_cannot_take_every_place_among_the_logins(tmp_path):
    async with mesh(tmp_path, logins_max=8) as m:
        honest = m.registry.begin_login(device(1, source="192.0.2.1"))
        for number in range(100, 150):
            m.registry.begin_login(device(number, source=f"2001:db8::{number}"))
        assert len(m.registry.logins) == 8
        assert m.registry.find_login(honest.id) == honest


async def test_when_everybody_waits_for_one_login_a_newcomer_is_asked_to_come_back(tmp_path):
    async with mesh(tmp_path, logins_max=4) as m:
        for number in range(1, 5):
            m.registry.begin_login(device(number, source=f"192.0.2.{number}"))
        with pytest.raises(RegistryError, match="too many"):
            m.registry.begin_login(device(9, source="192.0.2.9"))


async def test_a_waiting_stranger_takes_little_memory(tmp_path):
    async with mesh(tmp_path) as m:
        login = m.registry.begin_login(device(1, Env="x" * 60_000, OSVersion="y" * 2000, TPM={"a": [1] * 500}))
        assert len(str(login.device.hostinfo)) < 500
        with pytest.raises(BadUpdate, match="at most"):
            m.registry.begin_login(device(2, Env="x" * 70_000))


async def test_keys_that_are_no_keys_are_refused(tmp_path):
    async with mesh(tmp_path) as m:
        for bad in (bytes(32), b"short"):
            with pytest.raises(BadUpdate):
                await m.registry.register_with_key(device(1, node_key=bad), await m.key())
            with pytest.raises(BadUpdate):
                m.registry.begin_login(device(1, node_key=bad))


async def test_whoever_asked_may_go_away_and_the_change_is_whole_all_the_same(tmp_path):
    async with mesh(tmp_path) as m:
        secret = await m.key()
        backup = sqlite3.connect(tmp_path / "wayhome.db", isolation_level=None)
        backup.execute("BEGIN IMMEDIATE")  # the registration has to wait for it, in the midst of its work
        asking = asyncio.ensure_future(m.registry.register_with_key(device(1), secret))
        for _ in range(20):
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        backup.execute("ROLLBACK")
        backup.close()
        await m.user("bert")  # comes after it
        before = dict(m.registry.nodes)
        assert [node.machine_key for node in before.values()] == [key(1)]
    async with mesh(tmp_path, clock=m.clock) as m:
        assert dict(m.registry.nodes) == before
