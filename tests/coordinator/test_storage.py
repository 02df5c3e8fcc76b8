"""The database under bad conditions: killed writers, full disks, files that are not ours, two servers at once."""

import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

import wayhome
from coordinator.rig import Clock, device, mesh
from wayhome.coordinator import tables
from wayhome.coordinator.registry import Registry, RegistryError

WRITER = textwrap.dedent(
    """
    import asyncio, os, sys
    from wayhome.coordinator.model import Device
    from wayhome.coordinator.registry import Registry

    async def main():
        registry = await Registry.open(sys.argv[1])
        start = max(registry.nodes, default=0) * 10 + 1
        user = registry.users.get(1) or await registry.create_user("anna")
        print("ready", flush=True)
        for number in range(start, start + 10_000):
            key = number.to_bytes(32, "big")
            _, secret = await registry.create_auth_key(user.id)
            node = await registry.register_with_key(Device(key, key[::-1], {"Hostname": "laptop"}, 113), secret)
            print("joined", node.id, node.ipv4, node.name, flush=True)
            if number % 3 == 0:
                await registry.delete_node(node.id)
                print("deleted", node.id, flush=True)
            else:
                await registry.update_node(node.id, endpoints=[f"192.0.2.1:{number}"])
                print("moved", node.id, number, flush=True)

    asyncio.run(main())
    """
)


def python_path():
    root = Path(wayhome.__file__).parent.parent
    return os.pathsep.join([str(root), str(root.parent / "firmware")])


def start_writer(path):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": python_path()},
    )


async def test_what_was_committed_survives_a_writer_killed_at_any_moment(tmp_path):
    path = tmp_path / "wayhome.db"
    moments = random.Random(7)
    joined, deleted, moved = {}, set(), {}
    for _ in range(5):
        writer = start_writer(path)
        lines = moments.randrange(1, 60)
        for count, line in enumerate(writer.stdout):
            match line.split():
                case ["joined", node_id, ipv4, name]:
                    assert int(node_id) not in joined and ipv4 not in {address for address, _ in joined.values()}
                    joined[int(node_id)] = (ipv4, name)
                case ["deleted", node_id]:
                    deleted.add(int(node_id))
                case ["moved", node_id, port]:
                    moved[int(node_id)] = port
            if count == lines:
                writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        registry = await Registry.open(path)
        for node_id, (ipv4, name) in joined.items():
            node = registry.nodes.get(node_id)
            if node_id in deleted:
                assert node is None
            elif node is not None:
                assert (str(node.ipv4), node.name) == (ipv4, name)
                assert node_id not in moved or node.endpoints == (f"192.0.2.1:{moved[node_id]}",)
            else:
                # Its deletion may have been committed in the moment before it could be reported.
                assert node_id == max(joined) and node_id not in moved
                deleted.add(node_id)
        await registry.close()
    assert len(joined) > 10


async def test_a_restart_loses_nothing(tmp_path):
    async with mesh(tmp_path) as m:
        board = await m.router("board", tags=("tag:router",))
        await m.join("phone", Services=[{"Proto": "peerapi4", "Port": 4000}], NetInfo={"PreferredDERP": 900})
        await m.registry.publish("nas", board.id, "192.168.1.10", "fd00:1::10", ["tcp:80"])
        await m.registry.rename_node(board.id, "home")
        before = [dict(of) for of in (m.registry.users, m.registry.nodes, m.registry.auth_keys, m.registry.published)]
    async with mesh(tmp_path, clock=m.clock) as m:
        after = [dict(of) for of in (m.registry.users, m.registry.nodes, m.registry.auth_keys, m.registry.published)]
    assert after == before


async def test_the_file_is_nobody_elses_to_read(tmp_path):
    async with mesh(tmp_path) as m:
        await m.join()
        for path in tmp_path.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


async def test_a_commit_is_on_the_disk_and_foreign_keys_hold(tmp_path):
    async with mesh(tmp_path) as m:
        async with m.registry._storage.transaction() as db:
            pragmas = [
                (await db.exec_driver_sql(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            ]
        assert pragmas == ["wal", 2, 1]


async def test_a_second_server_on_the_same_file_is_refused(tmp_path):
    async with mesh(tmp_path) as m:
        with pytest.raises(RegistryError, match="another wayhome serve"):
            await Registry.open(tmp_path / "wayhome.db")
        await m.join()
    await (await Registry.open(f"sqlite:///{tmp_path}/wayhome.db")).close()


async def test_a_database_of_a_newer_version_is_left_as_it_is(tmp_path):
    async with mesh(tmp_path) as m:
        await m.join()
    path = tmp_path / "wayhome.db"
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(RegistryError, match=r"newer version of wayhome \(schema 9999"):
        await Registry.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all, but text" * 200, b"SQLite format 3\0" + b"\xff" * 4096])
async def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path, content):
    path = tmp_path / "wayhome.db"
    path.write_bytes(content)
    with pytest.raises(RegistryError, match="not a database"):
        await Registry.open(path)
    assert path.read_bytes() == content


async def test_another_programs_database_is_left_as_it_is(tmp_path):
    path = tmp_path / "wayhome.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (title)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(RegistryError, match="another program's"):
        await Registry.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("path", ["/proc/wayhome/wayhome.db", "/dev/null/wayhome.db"])
async def test_a_directory_that_cannot_be_written_is_named(path):
    with pytest.raises(RegistryError, match=rf"{os.path.dirname(path)} cannot be written"):
        await Registry.open(path)


async def test_only_sqlite_is_offered(tmp_path):
    with pytest.raises(RegistryError, match="postgresql"):
        await Registry.open("postgresql://localhost/wayhome")


async def test_an_older_schema_half_way_up_is_as_if_never_begun(tmp_path, monkeypatch):
    from wayhome.coordinator import storage

    def fails(connection):
        connection.exec_driver_sql("CREATE TABLE users (id INTEGER)")
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(storage, "_upgrade", fails)
        with pytest.raises(RegistryError, match="disk I/O error"):
            await Registry.open(tmp_path / "wayhome.db")
    async with mesh(tmp_path) as m:
        assert (await m.join()).id == 1


def test_the_tables_are_what_the_migrations_make(tmp_path):
    import asyncio

    async def make():
        await (await Registry.open(tmp_path / "wayhome.db", clock=Clock())).close()

    asyncio.run(make())
    engine = create_engine(f"sqlite:///{tmp_path / 'wayhome.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    engine.dispose()


FULL_DISK = textwrap.dedent(
    """
    import asyncio, os, pathlib, sys
    from wayhome.coordinator.model import Device
    from wayhome.coordinator.registry import Registry, RegistryError

    async def main(state):
        registry = await Registry.open(state / "wayhome.db")
        user = await registry.create_user("anna")
        changes = []
        registry.subscribe(changes.append)
        _, secret = await registry.create_auth_key(user.id, reusable=True)
        node = await registry.register_with_key(Device(b"m" * 32, b"n" * 32, {"Hostname": "first"}, 113), secret)
        filler = open(state / "filler", "wb", buffering=0)
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass
        before = dict(registry.nodes), dict(registry.users), len(changes)
        refused = 0
        for number in range(1, 30):
            key = number.to_bytes(32, "big")
            hostinfo = {"Hostname": "late", "Env": "x" * 30000}
            for attempt in (
                registry.register_with_key(Device(key, key[::-1], hostinfo, 113), secret),
                registry.update_node(node.id, hostinfo=hostinfo),
                registry.create_user(f"user{number}"),
            ):
                try:
                    await attempt
                except RegistryError as error:
                    assert "is full" in str(error) and "Nothing was changed" in str(error), error
                    refused += 1
                else:
                    before = dict(registry.nodes), dict(registry.users), len(changes)
                assert (dict(registry.nodes), dict(registry.users), len(changes)) == before
        assert refused > 50, refused
        await registry.set_online(node.id, True)
        await registry.set_online(node.id, False)
        assert not registry.is_online(node.id)
        os.unlink(filler.name)
        filler.close()
        key = (99).to_bytes(32, "big")
        late = await registry.register_with_key(Device(key, key[::-1], {"Hostname": "late"}, 113), secret)
        nodes = dict(registry.nodes)
        await registry.close()
        registry = await Registry.open(state / "wayhome.db")
        for node_id, kept in nodes.items():
            assert registry.nodes[node_id].ipv4 == kept.ipv4
        assert registry.nodes.keys() == nodes.keys()
        await registry.close()
        print("all well", late.id)

    asyncio.run(main(pathlib.Path(sys.argv[1])))
    """
)


@pytest.mark.lab
def test_a_full_disk_refuses_changes_in_words_and_nothing_is_half_done(tmp_path):
    """On a small disk of its own, mounted in a mount namespace that ends with the process."""
    state = tmp_path / "state"
    state.mkdir()
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            'mount -t tmpfs -o size=1m small "$1" && exec "$2" -c "$3" "$1"',
            "sh",
            str(state),
            sys.executable,
            FULL_DISK,
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": python_path()},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "all well" in done.stdout


async def test_a_commit_that_fails_leaves_memory_as_it_was_and_tells_nobody(tmp_path):
    async with mesh(tmp_path) as m:
        node, board = await m.join(), await m.router()
        nas = await m.registry.publish("nas", board.id, "192.168.1.10")
        user, secret = await m.user(), await m.key()
        m.changes.clear()

        def state():
            world = m.registry.world
            return (
                [dict(of) for of in (world.users, world.nodes, world.published, m.registry.auth_keys)],
                [set(of) for of in (world.names, world.by_node_key, world.routers, world.online)],
            )

        before = state()
        async with m.registry._storage.transaction() as db:
            for table in ("users", "nodes", "auth_keys", "published"):
                for verb in ("INSERT", "UPDATE", "DELETE"):
                    await db.exec_driver_sql(
                        f"CREATE TRIGGER no_{verb}_{table} AFTER {verb} ON {table} "
                        "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
                    )
        attempts = [
            lambda: m.registry.create_user("bert"),
            lambda: m.registry.rename_user(user.id, "bert"),
            lambda: m.registry.create_auth_key(user.id),
            lambda: m.registry.revoke_auth_key(1),
            lambda: m.registry.register_with_key(device(1), secret),
            lambda: m.registry.update_node(node.id, endpoints=["192.0.2.1:1"]),
            lambda: m.registry.rename_node(node.id, "other"),
            lambda: m.registry.expire_node(node.id),
            lambda: m.registry.logout(node.machine_key, node.node_key),
            lambda: m.registry.delete_node(board.id),
            lambda: m.registry.unapprove_route(board.id, "192.168.1.0/24"),
            lambda: m.registry.publish("tv", board.id, "192.168.1.11"),
            lambda: m.registry.unpublish(nas.name),
        ]
        for attempt in attempts:
            with pytest.raises(RegistryError):
                await attempt()
            assert state() == before
        assert m.changes == []
