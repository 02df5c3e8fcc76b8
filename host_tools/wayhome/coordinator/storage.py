"""The database file: opening, migrating, transactions, and records to rows and back. SQLite behind SQLAlchemy.

WAL with synchronous=FULL: a commit is on the disk when it returns. NORMAL would survive a killed process too, but may
lose the last commits when the power goes, and a lost commit is an address or an id that would be given a second time.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.engine import Row
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from . import hostinfo, tables
from .addresses import ipv6_of, next_address
from .errors import RegistryError
from .model import AuthKey, Node, Ports, Published, User

# Another process may read the file (a backup); wait for it rather than fail at once.
_BUSY_MS = 5000


class Storage:
    """One open database file. Write through `transaction()`; what is raised inside it undoes everything."""

    def __init__(self, engine: AsyncEngine, lock_file: int, path: Path) -> None:
        self._engine = engine
        self._lock_file = lock_file
        self._path = path

    @classmethod
    async def open(cls, path: Path) -> Storage:
        """Open or make the file and bring its schema up to date. Raises RegistryError."""
        lock_file = _lock(path)
        engine = _engine(path)
        storage = cls(engine, lock_file, path)
        try:
            async with storage.transaction() as connection:
                current = await connection.run_sync(_known_revision, path)
            if current != _newest_revision():
                # WAL is chosen outside a transaction, and only now that the file is known to be ours.
                async with storage._translated(), engine.connect() as connection:
                    await connection.run_sync(_choose_wal)
                async with storage.transaction() as connection:
                    await connection.run_sync(_upgrade)
        except BaseException:
            await storage.close()
            raise
        return storage

    async def close(self) -> None:
        await self._engine.dispose()
        os.close(self._lock_file)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """All or nothing: committed when the block is left, undone when it raises. Raises RegistryError."""
        async with self._translated(), self._engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except IntegrityError as error:
            raise RegistryError(
                f"this collides with what is registered already ({error.orig}); nothing was changed"
            ) from error
        except (SQLAlchemyError, sqlite3.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise RegistryError(_in_words(self._path, str(cause))) from error


def _in_words(path: Path, cause: str) -> str:
    if "is full" in cause:
        return f"the disk that holds {path} is full; make room there. Nothing was changed"
    if "readonly" in cause or "unable to open" in cause or "permission" in cause.lower():
        return f"{path} cannot be written ({cause}); give this user the right to, or choose another directory"
    if "not a database" in cause or "malformed" in cause:
        return f"{path} is damaged or not a database of wayhome ({cause}); restore it from a backup, or move it away"
    if "locked" in cause:
        return f"{path} is locked by another program; end that program and try again. Nothing was changed"
    return f"the database {path} failed: {cause}. Nothing was changed"


def _lock(path: Path) -> int:
    """Make sure that we are alone. The kernel lets the lock go with the process, however that ends.

    The lock is on a file beside the database: closing any handle of the database itself would drop SQLite's own locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock_file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RegistryError(
            f"{path.parent} cannot be written ({error.strerror}); give this user the right to, or choose another "
            "directory"
        ) from error
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Made before SQLite does, which would let others read it: hashes and keys are nobody else's business.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except BlockingIOError:
        os.close(lock_file)
        raise RegistryError(
            f"another wayhome serve is using {path}; stop it first, or choose another --state"
        ) from None
    except OSError as error:
        os.close(lock_file)
        raise RegistryError(f"{path} cannot be opened: {error.strerror}") from error
    return lock_file


def _engine(path: Path) -> AsyncEngine:
    engine = create_async_engine(sa.URL.create("sqlite+aiosqlite", database=str(path)), pool_size=1, max_overflow=1)

    @event.listens_for(engine.sync_engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        # Python's own guesses about when a transaction begins would leave DDL outside; we say BEGIN ourselves.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("foreign_keys = ON", "synchronous = FULL", f"busy_timeout = {_BUSY_MS}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _choose_wal(connection: sa.Connection) -> None:
    cursor = connection.connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _newest_revision() -> str | None:
    return ScriptDirectory.from_config(_config()).get_current_head()


def _known_revision(connection: sa.Connection, path: Path) -> str | None:
    """The schema that the file has; None for a new file. Raises RegistryError for one that we don't know."""
    found = sa.inspect(connection).get_table_names()
    if "alembic_version" not in found:
        if found:
            raise RegistryError(f"{path} is another program's database; choose another --state. Nothing was changed")
        return None
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is not None and revision not in {
        script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()
    }:
        raise RegistryError(
            f"{path} was written by a newer version of wayhome (schema {revision}, this one knows up to "
            f"{_newest_revision()}); install that version or a newer one. Nothing was changed"
        )
    return revision


def _upgrade(connection: sa.Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


# Records to rows and back


def node_row(node: Node) -> dict[str, Any]:
    """A node as its row, without the id. IPv6 follows from IPv4, and what is advertised from Hostinfo."""
    return {
        "machine_key": node.machine_key,
        "node_key": node.node_key,
        "disco_key": node.disco_key,
        "user_id": node.user_id,
        "tags": list(node.tags),
        "hostname": node.hostname,
        "name": node.name,
        "name_pinned": node.name_pinned,
        "ipv4": int(node.ipv4),
        "hostinfo": dict(node.hostinfo),
        "endpoints": list(node.endpoints),
        "endpoint_types": list(node.endpoint_types),
        "home_derp": node.home_derp,
        "cap": node.cap,
        "created": node.created,
        "expiry": node.expiry,
        "ephemeral": node.ephemeral,
        "last_seen": node.last_seen,
        "approved": [str(prefix) for prefix in node.approved],
        "auth_key_id": node.auth_key_id,
    }


def node_from(row: Row[Any]) -> Node:
    ipv4 = IPv4Address(row.ipv4)
    return Node(
        id=row.id,
        machine_key=row.machine_key,
        node_key=row.node_key,
        disco_key=row.disco_key,
        user_id=row.user_id,
        tags=tuple(row.tags),
        hostname=row.hostname,
        name=row.name,
        name_pinned=row.name_pinned,
        ipv4=ipv4,
        ipv6=ipv6_of(ipv4),
        hostinfo=row.hostinfo,
        endpoints=tuple(row.endpoints),
        endpoint_types=tuple(row.endpoint_types),
        home_derp=row.home_derp,
        cap=row.cap,
        created=row.created,
        expiry=row.expiry,
        ephemeral=row.ephemeral,
        last_seen=row.last_seen,
        advertised=hostinfo.facts(row.hostinfo).advertised,
        approved=tuple(ip_network(text) for text in row.approved),
        auth_key_id=row.auth_key_id,
    )


def user_from(row: Row[Any]) -> User:
    return User(id=row.id, name=row.name, display_name=row.display_name, created=row.created)


def auth_key_from(row: Row[Any]) -> AuthKey:
    return AuthKey(
        id=row.id,
        user_id=row.user_id,
        tags=tuple(row.tags),
        reusable=row.reusable,
        ephemeral=row.ephemeral,
        created=row.created,
        expiry=row.expiry,
        used=row.used,
        revoked=row.revoked,
    )


def published_from(row: Row[Any]) -> Published:
    ipv4 = IPv4Address(row.ipv4)
    return Published(
        id=row.id,
        name=row.name,
        node_id=row.node_id,
        ipv4=ipv4,
        ipv6=ipv6_of(ipv4),
        target4=IPv4Address(row.target4),
        target6=None if row.target6 is None else IPv6Address(row.target6),
        ports=tuple(Ports(*ports) for ports in row.ports),
        created=row.created,
    )


# Statements whose conditions are the point


async def spend_auth_key(connection: AsyncConnection, key_id: int, now: datetime) -> bool:
    """Use a key once, if it may be used: of any number of transactions that try with a one-off key, one gets True.

    The condition stands in the UPDATE itself, so it holds between processes too and not only within one event loop.
    """
    keys = tables.auth_keys.c
    result = await connection.execute(
        sa.update(tables.auth_keys)
        .where(
            keys.id == key_id,
            keys.revoked.is_(None),
            sa.or_(keys.expiry.is_(None), keys.expiry > now),
            sa.or_(keys.reusable, keys.used.is_(None)),
        )
        .values(used=now)
    )
    return result.rowcount == 1


async def insert(connection: AsyncConnection, table: sa.Table, values: Mapping[str, Any]) -> int:
    """Insert a row; return its new id."""
    result = await connection.execute(sa.insert(table).values(**values))
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])


async def update_node(connection: AsyncConnection, before: Node, after: Node) -> None:
    """Write the columns in which two states of a node differ."""
    old, new = node_row(before), node_row(after)
    columns = {name: value for name, value in new.items() if old[name] != value}
    if columns:
        await connection.execute(sa.update(tables.nodes).where(tables.nodes.c.id == before.id).values(**columns))


async def new_address(
    connection: AsyncConnection,
    pool: IPv4Network,
    now: datetime,
    *,
    router_id: int | None = None,
    device_name: str | None = None,
) -> IPv4Address:
    """Give an address that nobody ever had; to a published device with its router and name, so that it can be kept."""
    given = tables.addresses.c.ipv4
    last = await connection.scalar(
        sa.select(sa.func.max(given)).where(given.between(int(pool.network_address), int(pool.broadcast_address)))
    )
    ipv4 = next_address(pool, None if last is None else IPv4Address(last))
    row = {"ipv4": int(ipv4), "given": now, "router_id": router_id, "device_name": device_name}
    await insert(connection, tables.addresses, row)
    return ipv4


async def kept_address(connection: AsyncConnection, router_id: int, device_name: str) -> IPv4Address | None:
    """The address that a router's published device of this name had before."""
    addresses = tables.addresses.c
    known = await connection.scalar(
        sa.select(addresses.ipv4).where(addresses.router_id == router_id, addresses.device_name == device_name)
    )
    return None if known is None else IPv4Address(known)
