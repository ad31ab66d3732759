"""What alembic runs to migrate: on the connection, and within the transaction, that it is handed."""

from __future__ import annotations

from alembic import context

from pybench.harness.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite can roll back a change of the schema too, as the transaction was begun explicitly.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
