"""A record together with its file, so that a new record is not read back from disk."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from leaderboard.records.files import (
    has_other_version,
    imported_path,
    read_confirmed,
    read_record,
    read_tracking,
    record_paths,
    write_record,
)
from leaderboard.records.predictions import PredictedScores, check_predictions, read_predictions
from leaderboard.records.record import Record, Tracking
from tasks.support.errors import UserError


@dataclass(frozen=True)
class StoredRecord:
    """A record and its file.

    Attributes:
        record: the content of the file.
        path: the file; predictions and notes are beside it.
    """

    record: Record
    path: Path

    @classmethod
    def read(cls, path: Path) -> "StoredRecord":
        """Read a record file.

        Raises:
            UserError: the file is not a record of this schema version.
        """
        return cls(read_record(path), path)

    @classmethod
    def write(cls, directory: Path, record: Record, predictions: PredictedScores) -> "StoredRecord":
        """Write the record. Its predictions must be in ``directory`` already."""
        stored = cls(record, write_record(directory, record))
        # Fills the cache of the property.
        stored.__dict__["predictions"] = predictions
        return stored

    def rewrite(self, record: Record) -> "StoredRecord":
        """Replace the record by one with the same id and the same predictions."""
        return StoredRecord(record, write_record(self.path.parent, record))

    @cached_property
    def predictions(self) -> PredictedScores:
        """The test scores, read once.

        Raises:
            UserError: the file is missing or is not the one that the record was made with.
        """
        return read_predictions(self.path.parent, self.record)

    def check_predictions(self) -> None:
        """Compare the predictions with the record's checksum, unless they were read already.

        Raises:
            UserError: the file is missing or is not the one that the record was made with.
        """
        if "predictions" not in self.__dict__:
            check_predictions(self.path.parent, self.record)

    @property
    def tracking(self) -> Tracking | None:
        """Its MLflow run, or None if it was not logged yet."""
        return read_tracking(self.path)

    @property
    def confirmed(self) -> datetime | None:
        """When it was last submitted again, or None if it never was."""
        return read_confirmed(self.path)


def find_record(name: str, records: Path) -> Path:
    """Find a record file. ``name`` is its path or the id of the record.

    Raises:
        UserError: there is no such record.
    """
    if name.endswith(".json"):
        if not Path(name).is_file():
            raise UserError(f"Record {name} does not exist: `beans records list` shows those that are there.")
        return Path(name)
    path = next(_of_id(records, name), None) if name else None
    if path is None:
        raise UserError(f"No record in {records} has the id {name!r}: `beans records list` shows their ids.")
    return path


def made_here(records: Path, record_id: str) -> StoredRecord | None:
    """The record of this id that was made here, with its predictions; None if it must be computed.

    Imported records do not count: they replace no measurement. A record whose predictions are lost or damaged is
    incomplete. A record file that cannot be read is renamed to end in ``.damaged``, so that its place is free.

    Raises:
        UserError: the record is of another schema version.
    """
    for path in _of_id(records, record_id):
        if imported_path(path).exists():
            continue
        try:
            stored = StoredRecord.read(path)
        except UserError:
            if has_other_version(path):
                raise
            path.replace(path.with_name(f"{path.name}.damaged"))
            continue
        with suppress(UserError):
            stored.check_predictions()
            return stored
    return None


def _of_id(records: Path, record_id: str) -> Iterator[Path]:
    return (path for path in record_paths(records) if path.name.endswith(f".{record_id}.json"))
