"""The database's schema, brought up to date by the package itself: no alembic.ini, no step for the user."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

# alembic keeps its context in module globals, so two threads must not migrate at once.
_one_at_a_time = threading.Lock()

# Any number, the same in every process: who holds it in PostgreSQL migrates, the others wait.
_ADVISORY_LOCK = 0xBEA25


def upgrade(engine: sa.Engine, revision: str = "head") -> None:
    """Bring the schema to ``revision`` in one transaction; safe when several processes do so at once."""
    _migrate(engine, command.upgrade, revision)
    if engine.dialect.name == "sqlite":
        _let_readers_read_while_one_writes(engine)


def downgrade(engine: sa.Engine, revision: str) -> None:
    """Take the schema back to ``revision`` (``base`` removes it) in one transaction."""
    _migrate(engine, command.downgrade, revision)


def _migrate(engine: sa.Engine, change: Callable[[Config, str], None], revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", "leaderboard.database:migrations")
    # Who looks at the schema first changes it. SQLite's lock is taken at the beginning, since a transaction that has
    # read cannot wait for it any more.
    with _one_at_a_time, engine.execution_options(sqlite_begin="IMMEDIATE").begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        config.attributes["connection"] = connection
        change(config, revision)


def _let_readers_read_while_one_writes(engine: sa.Engine) -> None:
    """Write-ahead logging is a property of the file; a process that cannot set it now leaves it to the next."""
    with closing(engine.raw_connection()) as connection, suppress(sqlite3.OperationalError):
        connection.cursor().execute("PRAGMA journal_mode=WAL")
