"""The file of a record, and the note files beside it."""

import json
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


def has_other_version(path: Path) -> bool:
    """Whether a file is a record of another schema version, and not a damaged one."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION


def record_paths(directory: Path) -> Iterator[Path]:
    """All record files of a records directory, sorted by name."""
    notes = tuple(f".{note}.json" for note in NOTES)
    return (path for path in sorted(directory.glob("*.json")) if not path.name.endswith(notes))


def tracking_path(record_file: Path) -> Path:
    """The path of the note of a record's MLflow run."""
    return record_file.with_suffix(".mlflow.json")


def read_tracking(record_file: Path) -> Tracking | None:
    """The record's MLflow run, or None if it was not logged yet.

    None for a damaged note too: the next time that the record is logged, the run is found in MLflow, and the note is
    written again.
    """
    return _read_note(tracking_path(record_file), Tracking)


def imported_path(record_file: Path) -> Path:
    """The path of the note of a record's import."""
    return record_file.with_suffix(".imported.json")


def read_imported(record_file: Path) -> Imported | None:
    """The record's import, or None if the record was made here.

    Raises:
        UserError: the file exists but is not such a note.
    """
    path = imported_path(record_file)
    note = _read_note(path, Imported)
    if note is None and path.exists():
        raise UserError(f"{path} does not state where a record came from: delete it with its record.")
    return note


def confirm(record_file: Path) -> datetime:
    """Write a note that the record was submitted again now, so that the board counts it as the newest of its name."""
    at = datetime.now(UTC)
    write_atomically(record_file.with_suffix(".confirmed.json"), Confirmed(at=at).model_dump_json(indent=2))
    return at


def read_confirmed(record_file: Path) -> datetime | None:
    """When the record was last submitted again, or None if it never was, or if the note of it is damaged."""
    note = _read_note(record_file.with_suffix(".confirmed.json"), Confirmed)
    return None if note is None else note.at


def _read_note(path: Path, kind: type[_Note]) -> _Note | None:
    """The note in a file, or None if there is none that can be read."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
