"""The database's schema, step by step (Alembic). A step once released is never changed; add a new one."""
