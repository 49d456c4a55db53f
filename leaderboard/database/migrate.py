"""Migrate the database's schema. The package does this itself: there is no alembic.ini and no step for the user."""

import json
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import Any

import sqlalchemy as sa
from alembic import command, op
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

# alembic keeps its context in module globals, so two threads must not migrate at once.
_one_at_a_time = threading.Lock()

# Number of the advisory lock in PostgreSQL, the same in every process. The process that holds it migrates.
_ADVISORY_LOCK = 0xBEA25

# Documents read at once: enough to be fast, and few enough to limit the memory.
_AT_ONCE = 200


def upgrade(engine: sa.Engine, revision: str = "head") -> None:
    """Upgrade the schema to ``revision`` in one transaction. Several processes may call this at once."""
    _migrate(engine, command.upgrade, revision)
    if engine.dialect.name == "sqlite":
        _let_readers_read_while_one_writes(engine)


def is_current(engine: sa.Engine) -> bool:
    """Whether the schema is the newest one. Nothing is written."""
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    return current == ScriptDirectory.from_config(_config()).get_current_head()


def downgrade(engine: sa.Engine, revision: str) -> None:
    """Downgrade the schema to ``revision`` in one transaction; ``base`` removes the schema."""
    _migrate(engine, command.downgrade, revision)


def fill_results(readers: Mapping[str, Callable[[dict[str, Any]], object]]) -> None:
    """Fill new columns of the table of results. Only a migration may call this.

    Args:
        readers: by the name of a column, a function that reads its value from the JSON of a record. The record may be
            of any older version of the suite.
    """
    connection = op.get_bind()
    documents = sa.table("documents", sa.column("record_id"), sa.column("document"))
    results = sa.table("results", sa.column("record_id"), *map(sa.column, readers))
    update = (
        sa.update(results)
        .where(results.c.record_id == sa.bindparam("of"))
        .values({name: sa.bindparam(f"new_{name}") for name in readers})
    )

    def values(record_id: str, document: str) -> dict[str, object]:
        record = json.loads(document)
        return {"of": record_id, **{f"new_{name}": read(record) for name, read in readers.items()}}

    ids = list(connection.scalars(sa.select(documents.c.record_id)))
    for start in range(0, len(ids), _AT_ONCE):
        some = documents.c.record_id.in_(ids[start : start + _AT_ONCE])
        rows = connection.execute(sa.select(documents).where(some)).all()
        connection.execute(update, [values(record_id, document) for record_id, document in rows])


def _migrate(engine: sa.Engine, change: Callable[[Config, str], None], revision: str) -> None:
    config = _config()
    # The lock is taken before the schema is read, so that only one process migrates. In SQLite a transaction that has
    # read can no longer wait for the write lock, so it takes the lock when it begins.
    with _one_at_a_time, engine.execution_options(sqlite_begin="IMMEDIATE").begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        config.attributes["connection"] = connection
        change(config, revision)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "leaderboard.database:migrations")
    return config


def _let_readers_read_while_one_writes(engine: sa.Engine) -> None:
    """Set write-ahead logging, which is a property of the file. If the file is busy, a later process sets it."""
    with closing(engine.raw_connection()) as connection, suppress(sqlite3.OperationalError):
        connection.cursor().execute("PRAGMA journal_mode=WAL")
