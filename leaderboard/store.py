"""The leaderboard's database, on SQLite or PostgreSQL through the same code. The record files remain the truth."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from leaderboard.migrate import upgrade
from leaderboard.predictions import check_predictions
from leaderboard.ranking import Result, Said, said
from leaderboard.record import Record, Tracking, read_confirmed, read_record, read_tracking, record_paths
from leaderboard.verification import refuse_unpublishable
from tasks.errors import UserError

# Seconds to wait for another process's write, and for a server that does not answer.
BUSY_TIMEOUT = 60
CONNECT_TIMEOUT = 10


# The columns that are fields of `Result` too.
_COLUMNS = tuple(field.name for field in fields(Result) if field.name not in {"run", *Said.__annotations__})


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """Time in UTC. SQLite keeps no zone, so none is stored and UTC is put back on reading."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """To UTC, without the zone."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """With the zone."""
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """What `leaderboard.migrations` builds; a test holds the two together."""

    type_annotation_map = {float: sa.Double}  # noqa: RUF012


class StoredResult(Base):
    """One record: the columns of `Result` for the board, and the whole record as JSON."""

    __tablename__ = "results"

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
    best_layer: Mapped[int]
    best_layer_name: Mapped[str]
    parameters: Mapped[int] = mapped_column(sa.BigInteger)
    vram_bytes: Mapped[int | None] = mapped_column(sa.BigInteger)
    vram_reason: Mapped[str]
    device: Mapped[str]
    tracking_uri: Mapped[str | None]
    experiment_id: Mapped[str | None]
    run_id: Mapped[str | None]
    # When it was last submitted: of the results of one name, the one with the latest is the current one.
    confirmed: Mapped[datetime] = mapped_column(UtcDateTime)
    # Text and not a JSON type: what is read back is what was written, to the last digit.
    document: Mapped[str] = mapped_column(sa.Text)


class Store:
    """The database at one SQLAlchemy address. Nothing is touched before the first call of a method.

    Every method raises UserError when the database cannot be opened, reached or used.
    """

    def __init__(self, url: str) -> None:
        self._address = url
        self._opened: sa.Engine | None = None

    def publish(
        self, record: Record, tracking: Tracking | None = None, *, confirmed: datetime | None = None
    ) -> list[str]:
        """Put one record on the board; doing it again changes nothing, and adds ``tracking`` when it is new.

        Args:
            record: whole and validated; `publish_file` also looks at its predictions.
            tracking: its MLflow run.
            confirmed: when it was last submitted, if later than it was made.

        Returns:
            What the submitter should know, a sentence each: another model has the same name.

        Raises:
            UserError: the protocol or the date is none that a board could place.
        """
        with self.transaction() as connection:
            result = _upsert(connection, record, tracking, confirmed)
            # After the write, which has the lock: a transaction of SQLite that has read first cannot wait for it.
            return _namesakes(connection, result)

    def publish_file(self, path: Path) -> list[str]:
        """Put the record at ``path`` on the board with the notes beside it, if the predictions there are its own.

        Returns:
            As `publish`.

        Raises:
            UserError: the record or a note cannot be read, or the predictions are missing or not the record's.
        """
        record = read_record(path)
        check_predictions(path.parent, record)
        return self.publish(record, read_tracking(path), confirmed=read_confirmed(path))

    def results(self, submission: str | None = None) -> list[Result]:
        """Every result ever published, of one submission or of all, superseded ones too; submitted last, last."""
        with self.transaction() as connection:
            # SQLite has no JSON type to cast text to, and PostgreSQL takes nothing out of text.
            as_json = sa.cast if connection.dialect.name == "postgresql" else sa.type_coerce
            query = sa.select(
                *(getattr(StoredResult, name) for name in _COLUMNS),
                as_json(StoredResult.document, sa.JSON)["submission"],
                StoredResult.tracking_uri,
                StoredResult.experiment_id,
                StoredResult.run_id,
            )
            if submission is not None:
                query = query.where(StoredResult.submission == submission)
            rows = connection.execute(query.order_by(StoredResult.confirmed, StoredResult.record_id)).all()
        found = []
        for row in rows:
            *values, info, uri, experiment, run = row
            tracking = Tracking(uri=uri, experiment_id=experiment, run_id=run) if run else None
            found.append(Result(**dict(zip(_COLUMNS, values, strict=True)), **said(info), run=tracking))
        return found

    def record(self, record_id: str) -> Record | None:
        """One whole record, or None when it is not here."""
        with self.transaction() as connection:
            document = connection.scalar(sa.select(StoredResult.document).where(StoredResult.record_id == record_id))
        return None if document is None else Record.model_validate_json(document)

    def rebuild(self, records: Path) -> int:
        """Replace everything by the record files in ``records``, all or nothing.

        The records alone are enough; predictions that lie beside them must be theirs.

        Returns:
            How many records the board holds now.

        Raises:
            UserError: the directory is missing, a file cannot be read as a record, or predictions are not the record's;
                the database is as it was.
        """
        if not records.is_dir():
            raise UserError(f"There is no directory {records}: the board was left as it is; check BEANS_HOME.")
        found = set()
        with self.transaction() as connection:
            connection.execute(sa.delete(StoredResult))
            for path in record_paths(records):
                try:
                    record, tracking, confirmed = read_record(path), read_tracking(path), read_confirmed(path)
                    if (records / record.predictions.file).exists():
                        check_predictions(records, record)
                except OSError as error:
                    raise UserError(f"{path} cannot be read ({error.strerror}): mend or move it.") from error
                _upsert(connection, record, tracking, confirmed)
                found.add(record.id)
        return len(found)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A connection in one transaction; the schema is brought up to date before the first."""
        try:
            if self._opened is None:
                engine = _engine(self._address)
                upgrade(engine)
                self._opened = engine
            with self._opened.begin() as connection:
                yield connection
        except DBAPIError as error:
            # The database may have been replaced under us: look at its schema again next time.
            self._opened = None
            reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
            raise UserError(
                f"Leaderboard database {_shown(self._address)} cannot be used ({reason}): "
                "check that it is there and running, or set BEANS_DATABASE_URL."
            ) from error
        except CommandError as error:
            raise UserError(
                f"Leaderboard database {_shown(self._address)} was made by another version of the suite ({error}): "
                "update the suite, or set BEANS_DATABASE_URL to a new database and run `beans leaderboard rebuild`."
            ) from error


def _upsert(connection: sa.Connection, record: Record, tracking: Tracking | None, confirmed: datetime | None) -> Result:
    refuse_unpublishable(record)
    result = Result.of(record, tracking)
    values: dict[str, Any] = {name: getattr(result, name) for name in _COLUMNS}
    values["confirmed"] = max(confirmed, result.created) if confirmed else result.created
    values["document"] = record.model_dump_json()
    if tracking is not None:
        values |= {"tracking_uri": tracking.uri, "experiment_id": tracking.experiment_id, "run_id": tracking.run_id}
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(StoredResult).values(values)
    # Whoever knows of no later submission does not undo one.
    known, new = StoredResult.confirmed, statement.excluded.confirmed
    values["confirmed"] = sa.case((known > new, known), else_=new)
    connection.execute(statement.on_conflict_do_update(index_elements=[StoredResult.record_id], set_=values))
    return result


def _namesakes(connection: sa.Connection, result: Result) -> list[str]:
    """Say so where the latest other result of the same name on the same board is one of another model."""
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
    found = f"with other weights ({other.weights_sha256[:8]} and not {own.weights_sha256[:8]})"
    when = f"{other.confirmed:%Y-%m-%d %H:%M} UTC"
    if (own.confirmed, own.record_id) > (other.confirmed, other.record_id):
        return [
            f"The name {result.submission} was used {found} until {when}: those results no longer count on the board; "
            "give one of the two models another name if both should stay."
        ]
    return [
        f"The name {result.submission} was used {found} later, at {when}: this result does not count on the board; "
        "give one of the two models another name, or submit this one again."
    ]


def _engine(address: str) -> sa.Engine:
    """An engine without a pool: connections survive neither forks nor restarts of the server."""
    try:
        url = sa.make_url(address)
        if url.drivername in ("postgres", "postgresql"):
            url = url.set(drivername="postgresql+psycopg")
        kind = url.get_backend_name()
        if kind not in ("sqlite", "postgresql"):
            raise UserError(f"Leaderboard database {_shown(address)}: only sqlite:/// and postgresql:// are supported.")
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


def _prepare_sqlite(engine: sa.Engine) -> None:
    database = engine.url.database
    if not database or database == ":memory:":
        raise UserError("The leaderboard needs a database file: write sqlite:////absolute/path.db.")
    try:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"Directory {Path(database).parent} for the leaderboard database cannot be made ({error.strerror}): "
            "set BEANS_HOME or BEANS_DATABASE_URL to a place that can be written."
        ) from error

    # Python's driver opens transactions when it sees fit; these two make them begin where the code says so.
    @sa.event.listens_for(engine, "connect")
    def _leave_transactions_alone(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('sqlite_begin', 'DEFERRED')}")


def _shown(address: str) -> str:
    """The address without its password, which may also hide in the query."""
    try:
        return sa.make_url(address).set(query={}).render_as_string(hide_password=True)
    except ArgumentError:
        return "(unreadable address)"
