"""Migrate the database's schema. The package does this itself: there is no alembic.ini and no step for the user."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

# alembic keeps its context in module globals, so two threads must not migrate at once.
_one_at_a_time = threading.Lock()

# Number of the advisory lock in PostgreSQL, the same in every process. The process that holds it migrates.
_ADVISORY_LOCK = 0xBEA25


def upgrade(engine: sa.Engine, revision: str = "head") -> None:
    """Upgrade the schema to ``revision`` in one transaction. Several processes may call this at once."""
    _migrate(engine, command.upgrade, revision)
    if engine.dialect.name == "sqlite":
        _let_readers_read_while_one_writes(engine)


def downgrade(engine: sa.Engine, revision: str) -> None:
    """Downgrade the schema to ``revision`` in one transaction; ``base`` removes the schema."""
    _migrate(engine, command.downgrade, revision)


def _migrate(engine: sa.Engine, change: Callable[[Config, str], None], revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", "leaderboard.database:migrations")
    # The lock is taken before the schema is read, so that only one process migrates. In SQLite a transaction that has
    # read can no longer wait for the write lock, so it takes the lock when it begins.
    with _one_at_a_time, engine.execution_options(sqlite_begin="IMMEDIATE").begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        config.attributes["connection"] = connection
        change(config, revision)


def _let_readers_read_while_one_writes(engine: sa.Engine) -> None:
    """Set write-ahead logging, which is a property of the file. If the file is busy, a later process sets it."""
    with closing(engine.raw_connection()) as connection, suppress(sqlite3.OperationalError):
        connection.cursor().execute("PRAGMA journal_mode=WAL")
