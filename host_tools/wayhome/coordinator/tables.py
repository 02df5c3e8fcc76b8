"""The database's tables as they are after the newest migration; a test compares the two.

Times are microseconds since 1970 in UTC: they sort and compare in SQL. Ids are never given twice, deleted rows' ids
neither (AUTOINCREMENT), and an IPv4 address is a row of `addresses` for ever: whoever has it refers to that row.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(sa.types.TypeDecorator[datetime]):
    """An aware datetime kept as whole microseconds since 1970."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Any) -> datetime | None:
        return None if value is None else _EPOCH + value * _MICROSECOND


metadata = sa.MetaData()

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("folded_name", sa.Text, nullable=False, unique=True),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("created", Instant, nullable=False),
    sqlite_autoincrement=True,
)

auth_keys = sa.Table(
    "auth_keys",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("secret_hash", sa.LargeBinary, nullable=False),
    sa.Column("user_id", sa.Integer, sa.ForeignKey("users.id", ondelete="CASCADE")),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("reusable", sa.Boolean, nullable=False),
    sa.Column("ephemeral", sa.Boolean, nullable=False),
    sa.Column("created", Instant, nullable=False),
    sa.Column("expiry", Instant),
    sa.Column("used", Instant),
    sa.Column("revoked", Instant),
    sqlite_autoincrement=True,
)

# Every address ever given. router_id and device_name remember which published device had it, also when the device is
# not published any more or the router is gone: no foreign keys therefore.
addresses = sa.Table(
    "addresses",
    metadata,
    sa.Column("ipv4", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("router_id", sa.Integer),
    sa.Column("device_name", sa.Text),
    sa.Column("given", Instant, nullable=False),
    sa.UniqueConstraint("router_id", "device_name"),
)

nodes = sa.Table(
    "nodes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("machine_key", sa.LargeBinary, nullable=False),
    sa.Column("node_key", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("disco_key", sa.LargeBinary, nullable=False),
    sa.Column("user_id", sa.Integer, sa.ForeignKey("users.id", ondelete="RESTRICT")),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("hostname", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("name_pinned", sa.Boolean, nullable=False),
    sa.Column("ipv4", sa.BigInteger, sa.ForeignKey("addresses.ipv4"), nullable=False, unique=True),
    sa.Column("hostinfo", sa.JSON, nullable=False),
    sa.Column("endpoints", sa.JSON, nullable=False),
    sa.Column("endpoint_types", sa.JSON, nullable=False),
    sa.Column("home_derp", sa.Integer, nullable=False),
    sa.Column("cap", sa.Integer, nullable=False),
    sa.Column("created", Instant, nullable=False),
    sa.Column("expiry", Instant),
    sa.Column("ephemeral", sa.Boolean, nullable=False),
    sa.Column("last_seen", Instant),
    sa.Column("approved", sa.JSON, nullable=False),
    sa.Column("auth_key_id", sa.Integer, sa.ForeignKey("auth_keys.id", ondelete="SET NULL")),
    sa.Index("one_node_per_machine_and_user", "machine_key", "user_id", unique=True),
    sa.Index("one_tagged_node_per_machine", "machine_key", unique=True, sqlite_where=sa.text("user_id IS NULL")),
    sqlite_autoincrement=True,
)

split_dns = sa.Table(
    "split_dns",
    metadata,
    sa.Column("suffix", sa.Text, primary_key=True),
    sa.Column("resolvers", sa.JSON, nullable=False),
    sa.Column("created", Instant, nullable=False),
)

published = sa.Table(
    "published",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("node_id", sa.Integer, sa.ForeignKey("nodes.id", ondelete="CASCADE"), nullable=False),
    sa.Column("ipv4", sa.BigInteger, sa.ForeignKey("addresses.ipv4"), nullable=False, unique=True),
    sa.Column("target4", sa.Text, nullable=False),
    sa.Column("target6", sa.Text),
    sa.Column("ports", sa.JSON, nullable=False),
    sa.Column("created", Instant, nullable=False),
    sqlite_autoincrement=True,
)
