"""Run by alembic inside the connection and transaction that `leaderboard.database.migrate` hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
