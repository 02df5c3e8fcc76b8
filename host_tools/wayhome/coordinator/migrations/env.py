"""Alembic's entry: brings one open connection, inside its transaction, to the newest schema. `storage` calls it.

The transaction is the caller's, so a crash half-way leaves the schema as it was.
"""

from alembic import context

from wayhome.coordinator.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite can't alter most of a table in place
)
context.run_migrations()
