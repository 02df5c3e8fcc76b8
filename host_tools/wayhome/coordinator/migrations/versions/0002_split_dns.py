"""Resolvers of their own for parts of the DNS."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "split_dns",
        sa.Column("suffix", sa.Text, primary_key=True),
        sa.Column("resolvers", sa.JSON, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
