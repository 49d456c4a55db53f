"""Open the leaderboard's database: a SQLite file, also one that can only be read, or PostgreSQL."""

import os
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from leaderboard.database.migrate import is_current, upgrade
from tasks.support.databases import sqlite_file
from tasks.support.errors import UserError

# Seconds to wait for the write of another process, and for the answer of a server.
BUSY_TIMEOUT = 60
CONNECT_TIMEOUT = 10


def open_engine(address: str) -> sa.Engine:
    """An engine for the database, with the newest schema. A SQLite file that cannot be written is opened for reading.

    Raises:
        UserError: the address is none that this suite can open, or the file can only be read and has an older schema.
    """
    file = sqlite_file(address)
    if file is not None and file.is_file() and not all(os.access(path, os.W_OK) for path in (file, file.parent)):
        engine = _reading(file)
        if not is_current(engine):
            raise UserError(
                f"Leaderboard database {file} has an older schema and cannot be written: run the command once where"
                " the home can be written."
            )
        return engine
    engine = make_engine(address)
    upgrade(engine)
    return engine


def make_engine(address: str) -> sa.Engine:
    """An engine without a connection pool, because connections do not survive a fork or a restart of the server."""
    try:
        url = sa.make_url(address)
        if url.drivername in ("postgres", "postgresql"):
            url = url.set(drivername="postgresql+psycopg")
        kind = url.get_backend_name()
        if kind not in ("sqlite", "postgresql"):
            raise UserError(f"Leaderboard database {shown(address)}: only sqlite:/// and postgresql:// are supported.")
        timeout = {"timeout": BUSY_TIMEOUT} if kind == "sqlite" else {"connect_timeout": CONNECT_TIMEOUT}
        arguments = {key: value for key, value in timeout.items() if key not in url.query}
        engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=arguments)
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        raise UserError(
            "BEANS_DATABASE_URL is not an address this suite can open: "
            "write sqlite:////absolute/path.db or postgresql://user:password@host:5432/name."
        ) from error
    if kind == "sqlite":
        _prepare_sqlite(engine)
    return engine


def _reading(file: Path) -> sa.Engine:
    """An engine for a SQLite file that cannot be written, for example on a disk that is mounted read-only."""
    # SQLite creates files beside the database, also to read it, unless it is opened as one that nobody writes.
    mode = "mode=ro" if file.with_name(f"{file.name}-wal").exists() else "mode=ro&immutable=1"
    engine = sa.create_engine(
        "sqlite://",
        poolclass=sa.NullPool,
        creator=lambda: sqlite3.connect(f"{file.resolve().as_uri()}?{mode}", uri=True),
    )
    _let_sqlalchemy_begin(engine)
    return engine


def _prepare_sqlite(engine: sa.Engine) -> None:
    database = engine.url.database
    if not database or database == ":memory:":
        raise UserError("The leaderboard needs a database file: write sqlite:////absolute/path.db.")
    try:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"Directory {Path(database).parent} for the leaderboard database cannot be created ({error.strerror}): "
            "set BEANS_HOME or BEANS_DATABASE_URL to a place that can be written."
        ) from error
    _let_sqlalchemy_begin(engine)


def _let_sqlalchemy_begin(engine: sa.Engine) -> None:
    """By default Python's driver starts transactions itself. With these two listeners SQLAlchemy starts them."""

    @sa.event.listens_for(engine, "connect")
    def _leave_transactions_alone(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('sqlite_begin', 'DEFERRED')}")


def shown(address: str) -> str:
    """The address without password and query, because the query may contain a password too."""
    try:
        return sa.make_url(address).set(query={}).render_as_string(hide_password=True)
    except ArgumentError:
        return "(unreadable address)"
