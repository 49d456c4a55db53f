"""The file of a record, and the note files beside it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from leaderboard.records.record import SCHEMA_VERSION, Confirmed, Imported, Record, Tracking
from tasks.support.errors import UserError
from tasks.support.files import write_atomically
from tasks.task import explain

NOTES = ("mlflow", "imported", "confirmed")
"""Kinds of notes. A note holds a fact about a record that is no part of it, in ``STEM.NOTE.json`` beside it."""

_Note = TypeVar("_Note", bound=BaseModel)


def record_path(directory: Path, record: Record) -> Path:
    """The path of ``record`` in a records directory."""
    return directory / f"{record.stem}.json"


def write_record(directory: Path, record: Record) -> Path:
    """Write the record as JSON, atomically. Its predictions must be there already."""
    path = record_path(directory, record)
    write_atomically(path, record.model_dump_json(indent=2))
    return path


def read_record(path: Path) -> Record:
    """Read one record.

    Raises:
        UserError: the file is not a record of this schema version.
    """
    try:
        return Record.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(
            f"{path} is not a record of schema version {SCHEMA_VERSION} ({explain(error)}): move it out of the way."
        ) from error


def record_paths(directory: Path) -> Iterator[Path]:
    """All record files of a records directory, sorted by name."""
    notes = tuple(f".{note}.json" for note in NOTES)
    return (path for path in sorted(directory.glob("*.json")) if not path.name.endswith(notes))


def tracking_path(record_file: Path) -> Path:
    """The path of the note of a record's MLflow run."""
    return record_file.with_suffix(".mlflow.json")


def read_tracking(record_file: Path) -> Tracking | None:
    """The record's MLflow run, or None if it was not logged yet.

    Raises:
        UserError: the file exists but is not such a note.
    """
    return _read_note(tracking_path(record_file), Tracking, "does not name an MLflow run", "delete it and push again")


def imported_path(record_file: Path) -> Path:
    """The path of the note of a record's import."""
    return record_file.with_suffix(".imported.json")


def read_imported(record_file: Path) -> Imported | None:
    """The record's import, or None if the record was made here.

    Raises:
        UserError: the file exists but is not such a note.
    """
    path = imported_path(record_file)
    return _read_note(path, Imported, "does not state where a record came from", "delete it with its record")


def confirm(record_file: Path) -> datetime:
    """Write a note that the record was submitted again now, so that the board counts it as the newest of its name."""
    at = datetime.now(UTC)
    write_atomically(record_file.with_suffix(".confirmed.json"), Confirmed(at=at).model_dump_json(indent=2))
    return at


def read_confirmed(record_file: Path) -> datetime | None:
    """When the record was last submitted again, or None if it never was.

    Raises:
        UserError: the file exists but is not such a note.
    """
    path = record_file.with_suffix(".confirmed.json")
    note = _read_note(path, Confirmed, "does not state when a record was submitted again", "delete it")
    return None if note is None else note.at


def _read_note(path: Path, kind: type[_Note], wrong: str, advice: str) -> _Note | None:
    if not path.exists():
        return None
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{path} {wrong} ({explain(error)}): {advice}.") from error
