"""Users, nodes, auth keys, addresses, published devices."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("folded_name", sa.Text, nullable=False, unique=True),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "auth_keys",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("secret_hash", sa.LargeBinary, nullable=False),
        sa.Column("user_id", sa.Integer, sa.ForeignKey("users.id", ondelete="CASCADE")),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("reusable", sa.Boolean, nullable=False),
        sa.Column("ephemeral", sa.Boolean, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("expiry", sa.BigInteger),
        sa.Column("used", sa.BigInteger),
        sa.Column("revoked", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "addresses",
        sa.Column("ipv4", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("router_id", sa.Integer),
        sa.Column("device_name", sa.Text),
        sa.Column("given", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("router_id", "device_name"),
    )
    op.create_table(
        "nodes",
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
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("expiry", sa.BigInteger),
        sa.Column("ephemeral", sa.Boolean, nullable=False),
        sa.Column("last_seen", sa.BigInteger),
        sa.Column("approved", sa.JSON, nullable=False),
        sa.Column("auth_key_id", sa.Integer, sa.ForeignKey("auth_keys.id", ondelete="SET NULL")),
        sqlite_autoincrement=True,
    )
    # One node for a machine and its owner; nobody, the owner of tagged nodes, counts as an owner too.
    op.create_index("one_node_per_machine_and_user", "nodes", ["machine_key", "user_id"], unique=True)
    op.create_index(
        "one_tagged_node_per_machine", "nodes", ["machine_key"], unique=True, sqlite_where=sa.text("user_id IS NULL")
    )
    op.create_table(
        "published",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("node_id", sa.Integer, sa.ForeignKey("nodes.id", ondelete="CASCADE"), nullable=False),
        sa.Column("ipv4", sa.BigInteger, sa.ForeignKey("addresses.ipv4"), nullable=False, unique=True),
        sa.Column("target4", sa.Text, nullable=False),
        sa.Column("target6", sa.Text),
        sa.Column("ports", sa.JSON, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
