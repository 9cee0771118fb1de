"""Alembic's entry: runs the revisions on the connection that `Migrations` holds."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
