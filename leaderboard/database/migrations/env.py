"""Alembic runs this file in the connection and transaction of `leaderboard.database.migrate`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
