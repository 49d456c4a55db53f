"""A connection to MLflow that fails quickly, prints nothing, and reports the failure in one sentence."""

from __future__ import annotations

import logging
import os
import re
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tasks.support.databases import damaged_file, sqlite_file

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCK_SECONDS = 60
CONNECT_SECONDS = 5
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
# A server that is down is noticed after two attempts of 4 s. After its first answer a server may take longer, because a
# file may be large.
FIRST_REQUEST = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}
LATER_REQUESTS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
EVERY_REQUEST = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
NOISY_LOGGERS = ("mlflow", "alembic", "urllib3.connectionpool", "matplotlib")
CREDENTIALS = re.compile(r"(?<=://)[^/\s]+@")


class TrackingError(Exception):
    """A record could not be sent. The message states the address, the reason, and the command that sends it later.

    Attributes:
        down: MLflow cannot be reached, so that sending any other record would fail too.
    """

    def __init__(self, message: str, *, down: bool = False) -> None:
        super().__init__(message)
        self.down = down


def address(uri: str) -> str:
    """The tracking address without user name, password and query, so that it may be shown and stored."""
    return CREDENTIALS.sub("", uri).partition("?")[0]


@contextmanager
def connect(uri: str, records: Path, what: str = "record", again: str = "beans records push") -> Iterator[MlflowClient]:
    """A client that has reached MLflow. It holds a lock against other processes, prints nothing, and retries little.

    Args:
        uri: MLflow's tracking address.
        records: the directory of the files to send.
        what: the kind of file, for the error.
        again: the command that sends it later, for the error.

    Raises:
        TrackingError: MLflow cannot be reached, or a request fails.
    """
    with _environment(EVERY_REQUEST), _quiet():
        from filelock import FileLock
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            # Two processes at once would delete each other's unfinished run, or read an incomplete schema.
            lock = _lock_path(uri, records)
            lock.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock, timeout=LOCK_SECONDS):
                _open_database(uri)
                client = MlflowClient(tracking_uri=uri)
                with _environment(FIRST_REQUEST):
                    client.search_experiments(max_results=1)
                with _environment(LATER_REQUESTS):
                    yield client
        except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
            reason, down = _explain(error)
            if file := damaged_file(uri, reason):
                raise TrackingError(
                    f"MLflow's database {file} is damaged ({reason}), so it did not store the {what}: delete the file;"
                    f" the {what} is kept, and `{again}` sends everything again.",
                    down=True,
                ) from error
            raise TrackingError(
                f"MLflow at {address(uri)} did not store the {what} ({reason}): the {what} is kept, and"
                f" `{again}` sends it later.",
                down=down,
            ) from error


def _lock_path(uri: str, records: Path) -> Path:
    database = sqlite_file(uri)
    return records / ".mlflow.lock" if database is None else database.with_name(f".{database.name}.lock")


def _open_database(uri: str) -> None:
    """Connect to the database, and fail at once where MLflow would retry for minutes.

    A new SQLite database is made beside its place and moved there when it is complete.
    """
    dialect = urlsplit(uri).scheme.partition("+")[0]
    if dialect not in DATABASES:
        return
    import sqlalchemy
    from mlflow import MlflowClient

    database = sqlite_file(uri)
    if database is not None and not database.exists():
        for stale in database.parent.glob(f".{database.name}.*.new*"):
            stale.unlink(missing_ok=True)
        new = database.with_name(f".{database.name}.{uuid.uuid4().hex}.new")
        MlflowClient(tracking_uri=f"sqlite:///{new}").search_experiments(max_results=1)
        new.replace(database)
    arguments = {"connect_timeout": CONNECT_SECONDS} if dialect in ("postgresql", "mysql") else {}
    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool, connect_args=arguments)
    sqlalchemy.inspect(engine).get_table_names()


def is_http(uri: str) -> bool:
    """Whether the address is a server's. A server has its own place for artifacts."""
    return urlsplit(uri).scheme in ("http", "https")


def _explain(error: BaseException) -> tuple[str, bool]:
    """The reason of a failure, on one short line without credentials, and whether MLflow cannot be reached at all."""
    import requests
    from filelock import Timeout
    from sqlalchemy.exc import OperationalError

    reason, down = str(error), False
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, requests.ConnectionError | requests.Timeout):
            # The reason ends urllib3's message: "HTTPConnection(...): Failed to ...: [Errno 111] Connection refused".
            urllib3_error = cause.args[0] if cause.args else cause
            reason, down = str(getattr(urllib3_error, "reason", urllib3_error)).rpartition(": ")[2], True
        down = down or isinstance(cause, OperationalError | Timeout)
        cause = cause.__cause__ or cause.__context__
    line = CREDENTIALS.sub("", reason).strip().partition("\n")[0].removeprefix("(sqlite3.DatabaseError) ")
    return line[:200].rstrip(". "), down


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables that the user has not set, while the block runs. MLflow reads them at every request."""
    unset = {key: value for key, value in values.items() if key not in os.environ}
    os.environ.update(unset)
    try:
        yield
    finally:
        for key in unset:
            os.environ.pop(key, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress MLflow's own warnings and log messages. Every failure is raised as an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow  # noqa: F401  # the first import sets the levels of its loggers

        loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
