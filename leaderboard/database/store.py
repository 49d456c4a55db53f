"""The leaderboard's database, in SQLite or PostgreSQL. It holds copies of the record files, which can rebuild it."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from leaderboard.database.cache import Latest
from leaderboard.database.engine import open_engine, shown
from leaderboard.ranking.columns import COLUMNS, stored_values
from leaderboard.records.failure import Failure
from leaderboard.records.files import record_paths
from leaderboard.records.plausibility import refuse_unpublishable
from leaderboard.records.record import Record, Tracking
from leaderboard.records.result import Result, SubmissionFacts, submission_facts
from leaderboard.records.stored import StoredRecord
from tasks.support.databases import damaged_file
from tasks.support.errors import UserError

Version = tuple[tuple[int, int], ...]
"""The value of `Store.version`: per table, the number of rows and the sum of their change numbers."""

# The columns that are also fields of `Result`.
_COLUMNS = tuple(
    field.name for field in fields(Result) if field.name not in {"run", "stored", *SubmissionFacts.__annotations__}
)
# The columns that entries of the board's list store.
_STORED = tuple(entry.key for entry in COLUMNS if entry.stored)
_SQL_TYPES: dict[type | None, type[sa.types.TypeEngine[Any]]] = {
    int: sa.BigInteger,
    float: sa.Double,
    str: sa.String,
    bool: sa.Boolean,
}
# Few enough for the sum over millions of rows, and enough that two changes do not give the same sum.
_BITS_OF_CHANGE = 40


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """Time in UTC. SQLite stores no time zone, so the zone is removed before writing and added after reading."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Convert to UTC and remove the zone."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Add the zone."""
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """The schema that `leaderboard.database.migrations` builds. A test compares the two."""

    type_annotation_map = {float: sa.Double}  # noqa: RUF012


class StoredResult(Base):
    """One record, as the columns of `Result`. The complete record is a `StoredDocument`."""

    __tablename__ = "results"
    __table_args__ = tuple(sa.Column(entry.key, _SQL_TYPES[entry.file_type]) for entry in COLUMNS if entry.stored)

    record_id: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    protocol: Mapped[str]
    limit: Mapped[int | None]
    track: Mapped[str]
    submission: Mapped[str] = mapped_column(index=True)
    weights_sha256: Mapped[str] = mapped_column(sa.String(64))
    task: Mapped[str]
    group: Mapped[str]
    metric: Mapped[str]
    split_hash: Mapped[str] = mapped_column(sa.String(64))
    test: Mapped[float]
    test_std: Mapped[float]
    ci_low: Mapped[float]
    ci_high: Mapped[float]
    valid: Mapped[float]
    best_layer: Mapped[int]
    best_layer_name: Mapped[str]
    last_layer: Mapped[int]
    parameters: Mapped[int] = mapped_column(sa.BigInteger)
    vram_bytes: Mapped[int | None] = mapped_column(sa.BigInteger)
    vram_reason: Mapped[str]
    device: Mapped[str]
    tracking_uri: Mapped[str | None]
    experiment_id: Mapped[str | None]
    run_id: Mapped[str | None]
    # When it was last submitted. Of the results of one name, the last submitted one is the current one.
    confirmed: Mapped[datetime] = mapped_column(UtcDateTime)
    predictions_file: Mapped[str]
    predictions_sha256: Mapped[str] = mapped_column(sa.String(64))
    # The record's `submission` as JSON, from which `submission_facts` reads what the board shows.
    submission_json: Mapped[str] = mapped_column(sa.Text)
    # A random number that is drawn again whenever the row is written. `Store.version` adds these numbers up.
    changed: Mapped[int] = mapped_column(sa.BigInteger, index=True)


class StoredDocument(Base):
    """One complete record as JSON. It has its own table, because long texts make SQLite slow to read other columns."""

    __tablename__ = "documents"

    record_id: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    # Text and not a JSON type, so that every digit is read back as it was written.
    document: Mapped[str] = mapped_column(sa.Text)


class StoredFailure(Base):
    """One `Failure`."""

    __tablename__ = "failures"

    failure_id: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    submission: Mapped[str]
    weights_sha256: Mapped[str] = mapped_column(sa.String(64))
    task: Mapped[str]
    track: Mapped[str]
    protocol: Mapped[str]
    limit: Mapped[int | None]
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    kind: Mapped[str]
    reason: Mapped[str] = mapped_column(sa.String(500))
    changed: Mapped[int] = mapped_column(sa.BigInteger)


class Store:
    """The database at one SQLAlchemy address. It is opened by the first call of a method.

    Results are cached, and read again after any process has changed the database. Every method raises a UserError if
    the database cannot be opened, reached or used.
    """

    def __init__(self, url: str) -> None:
        self._address = url
        self._opened: sa.Engine | None = None
        self._read: Latest[Version, list[Result]] = Latest()

    def publish(
        self, record: Record, tracking: Tracking | None = None, *, confirmed: datetime | None = None
    ) -> list[str]:
        """Put one record on the board. A second call changes nothing, except that it adds a new ``tracking``.

        Args:
            record: a complete, validated record; `publish_stored` also checks its predictions.
            tracking: its MLflow run.
            confirmed: when it was last submitted, if later than it was made.

        Returns:
            Warnings for the submitter, one sentence each: another model has the same name.

        Raises:
            UserError: the record's protocol is unknown or its date is impossible.
        """
        with self.transaction() as connection:
            result = _upsert(connection, record, tracking, confirmed)
            # After the write, which takes the lock: in SQLite a transaction that has read first cannot wait for it.
            return _namesakes(connection, result)

    def publish_stored(self, stored: StoredRecord) -> list[str]:
        """Check the predictions of a stored record, then put it on the board as `publish` does.

        Raises:
            UserError: a note cannot be read, or the predictions are missing or have another checksum.
        """
        stored.check_predictions()
        return self.publish(stored.record, stored.tracking, confirmed=stored.confirmed)

    def publish_failure(self, failure: Failure) -> None:
        """Store a failed attempt. A result with the same key deletes it."""
        values = {**asdict(failure), "failure_id": failure.failure_id, "changed": secrets.randbits(_BITS_OF_CHANGE)}
        with self.transaction() as connection:
            statement = _insert(connection)(StoredFailure).values(values)
            newer = StoredFailure.at <= statement.excluded.at
            connection.execute(
                statement.on_conflict_do_update(index_elements=[StoredFailure.failure_id], set_=values, where=newer)
            )

    def failures(self) -> list[Failure]:
        """Every stored failure. Failures with a later result are already deleted."""
        columns = [getattr(StoredFailure, field.name) for field in fields(Failure)]
        with self.transaction() as connection:
            return [Failure(*row) for row in connection.execute(sa.select(*columns).order_by(StoredFailure.failure_id))]

    def version(self) -> Version:
        """A value that changes whenever a result or a failure is written or deleted."""
        tables = (StoredResult, StoredFailure)
        sums = [sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(table.changed), 0)) for table in tables]
        with self.transaction() as connection:
            return tuple((count, int(total)) for count, total in (connection.execute(query).one() for query in sums))

    def results(self, submission: str | None = None) -> list[Result]:
        """Every published result, also superseded ones, of one submission or of all. The last submitted one is last."""
        # The version is read first. If a result is written meanwhile, the next call sees a new version and reads again.
        cached = self._read.get(self.version(), self._all_results)
        return [result for result in cached if submission is None or result.submission == submission]

    def _all_results(self) -> list[Result]:
        columns = [getattr(StoredResult, name) for name in (*_COLUMNS, *_STORED)]
        run = [getattr(StoredResult, name) for name in ("tracking_uri", "experiment_id", "run_id")]
        query = sa.select(StoredResult.submission_json, *run, *columns)
        with self.transaction() as connection:
            rows = connection.execute(query.order_by(StoredResult.confirmed, StoredResult.record_id)).all()
        # All results of a submission have the same JSON: parse it once.
        facts = {row[0]: submission_facts(json.loads(row[0])) for row in rows}
        return [
            Result(
                **dict(zip(_COLUMNS, values[: len(_COLUMNS)], strict=True)),
                **facts[info],
                run=Tracking(uri=uri, experiment_id=experiment, run_id=run_id) if run_id else None,
                stored=dict(zip(_STORED, values[len(_COLUMNS) :], strict=True)),
            )
            for info, uri, experiment, run_id, *values in rows
        ]

    def record(self, record_id: str) -> Record | None:
        """One complete record, or None if the database does not contain it."""
        query = sa.select(StoredDocument.document).where(StoredDocument.record_id == record_id)
        with self.transaction() as connection:
            document = connection.scalar(query)
        return None if document is None else Record.model_validate_json(document)

    def rebuild(self, records: Path) -> int:
        """Replace all results by the record files in ``records``, in one transaction. Failures stay: they have no file.

        Predictions may be missing. If they exist, their checksum must match.

        Returns:
            The number of records on the board.

        Raises:
            UserError: the directory is missing, a file is no record, or predictions have another checksum; then the
                database does not change.
        """
        if not records.is_dir():
            raise UserError(f"There is no directory {records}: the board was not changed; check BEANS_HOME.")
        ids = set()
        with self.transaction() as connection:
            connection.execute(sa.delete(StoredResult))
            connection.execute(sa.delete(StoredDocument))
            for path in record_paths(records):
                try:
                    stored = StoredRecord.read(path)
                    if (records / stored.record.predictions.file).exists():
                        stored.check_predictions()
                except OSError as error:
                    raise UserError(f"{path} cannot be read ({error.strerror}): repair or move it.") from error
                _upsert(connection, stored.record, stored.tracking, stored.confirmed)
                ids.add(stored.record.id)
        return len(ids)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A connection in one transaction. The first call also migrates the schema."""
        try:
            if self._opened is None:
                self._opened = open_engine(self._address)
            with self._opened.begin() as connection:
                yield connection
        except DBAPIError as error:
            # Another database may have replaced this one: the next call checks the schema again.
            self._opened = None
            reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
            if file := damaged_file(self._address, reason):
                raise UserError(
                    f"Leaderboard database {file} is damaged ({reason}): delete it and run `beans leaderboard rebuild`,"
                    " which reads all records and profiles again."
                ) from error
            raise UserError(
                f"Leaderboard database {shown(self._address)} cannot be used ({reason}): "
                "check that it exists and runs, or set BEANS_DATABASE_URL."
            ) from error
        except CommandError as error:
            raise UserError(
                f"Leaderboard database {shown(self._address)} was made by another version of the suite ({error}): "
                "update the suite, or set BEANS_DATABASE_URL to a new database and run `beans leaderboard rebuild`."
            ) from error


def _upsert(connection: sa.Connection, record: Record, tracking: Tracking | None, confirmed: datetime | None) -> Result:
    refuse_unpublishable(record)
    result = Result.of(record, tracking, stored_values(record))
    values: dict[str, Any] = {name: getattr(result, name) for name in _COLUMNS} | dict(result.stored)
    values["confirmed"] = max(confirmed, result.created) if confirmed else result.created
    values["submission_json"] = record.submission.model_dump_json()
    values["changed"] = secrets.randbits(_BITS_OF_CHANGE)
    if tracking is not None:
        values |= {"tracking_uri": tracking.uri, "experiment_id": tracking.experiment_id, "run_id": tracking.run_id}
    insert = _insert(connection)
    statement = insert(StoredResult).values(values)
    # A writer that does not know of a later submission must not overwrite its time.
    known, new = StoredResult.confirmed, statement.excluded.confirmed
    values["confirmed"] = sa.case((known > new, known), else_=new)
    connection.execute(statement.on_conflict_do_update(index_elements=[StoredResult.record_id], set_=values))
    whole = {"record_id": record.id, "document": record.model_dump_json()}
    document = insert(StoredDocument).values(whole)
    connection.execute(document.on_conflict_do_update(index_elements=[StoredDocument.record_id], set_=whole))
    same = ("submission", "weights_sha256", "task", "track", "protocol")
    connection.execute(
        sa.delete(StoredFailure).where(
            *(getattr(StoredFailure, name) == getattr(result, name) for name in same),
            StoredFailure.limit.is_not_distinct_from(result.limit),
        )
    )
    return result


def _insert(connection: sa.Connection) -> Any:
    """The database's own insert, which can also update an existing row."""
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert


def _namesakes(connection: sa.Connection, result: Result) -> list[str]:
    """A warning if the latest other result with the same name on the same board is of another model."""
    same = [
        getattr(StoredResult, name) == getattr(result, name) for name in ("submission", "protocol", "track", "group")
    ]
    limit = StoredResult.limit.is_(None) if result.limit is None else StoredResult.limit == result.limit
    columns = (StoredResult.weights_sha256, StoredResult.confirmed, StoredResult.record_id)
    query = sa.select(*columns).where(*same, limit)
    latest = query.order_by(StoredResult.confirmed.desc(), StoredResult.record_id.desc())
    own = connection.execute(query.where(StoredResult.record_id == result.record_id)).one()
    other = connection.execute(latest.where(StoredResult.record_id != result.record_id).limit(1)).first()
    if other is None or other.weights_sha256 == own.weights_sha256:
        return []
    which = f"with other weights ({other.weights_sha256[:8]} and not {own.weights_sha256[:8]})"
    when = f"{other.confirmed:%Y-%m-%d %H:%M} UTC"
    if (own.confirmed, own.record_id) > (other.confirmed, other.record_id):
        return [
            f"The name {result.submission} was used {which} until {when}: those results no longer count on the board; "
            "give one of the two models another name if both should stay."
        ]
    return [
        f"The name {result.submission} was used {which} later, at {when}: this result does not count on the board; "
        "give one of the two models another name, or submit this one again."
    ]
