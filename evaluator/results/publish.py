"""Publish a stored record: log it to MLflow, write it to the board's database, compute its resamples.

The record file is written first, and the other places are copies. If a service is down, the record is sent later.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from evaluator.results.outcome import Outcome
from evaluator.tracking.connection import TrackingError, address
from evaluator.tracking.runs import log_record
from leaderboard.database.store import Store
from leaderboard.ranking.resamples import scored
from leaderboard.records.failure import Failure, FailureKind, for_others
from leaderboard.records.files import confirm, read_tracking, record_paths
from leaderboard.records.flags import sentence
from leaderboard.records.record import Tracking
from leaderboard.records.stored import StoredRecord
from tasks.support.errors import UserError
from tasks.support.home import Home

STREAMED = "Its frames did not fit the disk (--frames-budget), so the backbone ran in every epoch."

NO_REFERENCE = (
    "Train items times classes are too many for logistic regression, which would show how well it was trained."
)


def publish(stored: StoredRecord, home: Home, *, reused: bool) -> Outcome:
    """Publish one record to MLflow, to the board and for the rank intervals. A second call changes nothing.

    A failure is not raised; it becomes a warning of the outcome. The flags of the record are warnings too.

    Args:
        stored: the record.
        home: the home with the addresses of MLflow and the database.
        reused: the record existed before this run, and counts as submitted again.
    """
    record = stored.record
    warnings = [sentence(flag, record) or flag for flag in record.flags]
    if record.reference is None and not reused:
        warnings.append(NO_REFERENCE)
    if "frames" in record.audio and not reused:
        warnings.append(STREAMED)
    logged = log(stored, home.tracking_uri, home.artifacts, warnings.append)
    if isinstance(logged, TrackingError):
        warnings.append(str(logged))
    warnings += show(stored, home, again=reused).warnings
    try:
        # Computed here and not when the board is drawn, because it takes seconds.
        scored(stored)
    except UserError as error:
        warnings.append(f"{error} Its rank has no interval.")
    return Outcome(
        submission=record.submission.name,
        task=record.task.name,
        track=record.track,
        record=record,
        path=stored.path,
        reused=reused,
        warnings=tuple(warnings),
        tracking=logged if isinstance(logged, Tracking) else stored.tracking,
    )


def log(
    stored: StoredRecord, uri: str, artifacts: Path, complain: Callable[[str], None] = lambda sentence: None
) -> Tracking | TrackingError:
    """Log the record to MLflow. Returns its run, or the error, which must not make the evaluation fail."""
    try:
        return log_record(stored, uri, artifacts, complain)
    except TrackingError as error:
        return error
    except (UserError, ValueError) as error:
        return TrackingError(f"{stored.path} was not sent to MLflow: {error}")
    # A library that draws a figure may raise any exception.
    except Exception as error:
        return TrackingError(f"{stored.path} was not sent to MLflow ({type(error).__name__}: {error}).")


@dataclass(frozen=True)
class Shown:
    """Whether the board holds a record, and warnings for the submitter, one sentence each."""

    done: bool
    warnings: tuple[str, ...]


def show(stored: StoredRecord, home: Home, *, again: bool = False) -> Shown:
    """Put a record on the board.

    Args:
        stored: the record.
        home: where the board's database is.
        again: the record was submitted again, and becomes the newest of its name.
    """
    advice = "The record is kept: `beans leaderboard rebuild` puts it on the board."
    try:
        if again:
            confirm(stored.path)
        return Shown(True, tuple(Store(home.database_url).publish_stored(stored)))
    except UserError as error:
        return Shown(False, (f"{error} {advice}",))
    except OSError as error:
        return Shown(False, (f"{error.filename} cannot be written ({error.strerror}). {advice}",))


def publish_all(paths: Iterable[Path], home: Home) -> Iterator[str]:
    """Log records to MLflow and put them on the board. Yields each failure; a service that is down is tried once."""
    mlflow = board = True
    for path in paths:
        try:
            stored = StoredRecord.read(path)
        except UserError as error:
            yield str(error)
            continue
        logged = log(stored, home.tracking_uri, home.artifacts) if mlflow else None
        if isinstance(logged, TrackingError):
            yield f"{path.name}: {logged}"
            mlflow = not logged.down
        shown = show(stored, home) if board else Shown(True, ())
        yield from (f"{path.name}: {sentence}" for sentence in shown.warnings)
        board = board and shown.done


def push(records: Path, uri: str, artifacts: Path) -> Iterator[tuple[Path, Tracking | TrackingError]]:
    """Log every record of a directory that has no MLflow run yet, sorted by file name.

    A run that is noted, but that MLflow at this address no longer has, is logged again. A record
    that fails does not stop the others. If MLflow is down, that error is the last item.
    """
    for path in record_paths(records):
        note = read_tracking(path)
        if note is not None and note.uri != address(uri):
            continue
        try:
            logged = log(StoredRecord.read(path), uri, artifacts)
        except UserError as error:
            logged = TrackingError(f"{path} was not sent to MLflow: {error}")
        if logged == note:
            continue
        yield path, logged
        if isinstance(logged, TrackingError) and logged.down:
            return


def publish_failure(
    home: Home,
    *,
    submission: str,
    weights_sha256: str,
    task: str,
    track: str,
    protocol: str,
    limit: int | None,
    kind: FailureKind,
    reason: str,
) -> None:
    """Store on the board why a cell is empty. Raises nothing if the board is down: the user sees the reason anyway."""
    failure = Failure(
        submission=submission,
        weights_sha256=weights_sha256,
        task=task,
        track=track,
        protocol=protocol,
        limit=limit,
        at=datetime.now(UTC),
        kind=kind,
        reason=for_others(reason),
    )
    with suppress(UserError):
        Store(home.database_url).publish_failure(failure)
