"""Import record files that somebody sent. A file may be hostile, so every part is checked before it is accepted."""

import getpass
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from filelock import FileLock

from leaderboard.records.files import (
    NOTES,
    imported_path,
    read_imported,
    read_record,
    record_path,
    record_paths,
    write_record,
)
from leaderboard.records.plausibility import contradictions, parse_record, shown
from leaderboard.records.record import Imported, Record
from tasks.support.errors import UserError
from tasks.support.files import write_atomically
from tasks.support.home import Home

# A record of 100 layers and 100 trials has 1 MB; the scores of the largest BEANS task have 16 MB.
MOST_ENTRIES = 10_000
MOST_RECORD_BYTES = 8 * 2**20
MOST_PREDICTIONS_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Arrival:
    """The result of importing one file.

    Attributes:
        file: its name, safe to print.
        state: "accepted", "present" if the same record is here already, or "refused".
        reason: why it was refused, "" otherwise.
        record: the record, if accepted or present.
        path: its file in the home's records; in a dry run the file it would get.
    """

    file: str
    state: Literal["accepted", "present", "refused"]
    reason: str = ""
    record: Record | None = None
    path: Path | None = None


def receive(
    directory: Path, home: Home, problems: Callable[[Path], list[str]], *, dry_run: bool = False
) -> Iterator[Arrival]:
    """Import the records in ``directory`` into the home's records. Each record is imported completely or not at all.

    Subdirectories are not read and links are not followed. Note files are ignored, because they belong to another home.

    Args:
        directory: the directory that somebody sent.
        home: the home that stores accepted records.
        problems: returns the errors in a record file, whose predictions are beside it.
        dry_run: write nothing, and yield what would happen.

    Raises:
        UserError: the directory is missing, contains no record, or contains too many files.
    """
    names = _listed(directory)
    known = _Known(home.records)
    for name in names:
        try:
            record, predictions = _read(directory, name, problems)
            path = known.place(record)
            if path is not None:
                yield Arrival(shown(name), "present", record=record, path=path)
                continue
            if not dry_run:
                _keep(record, predictions, home, directory)
            known.add(record)
            yield Arrival(shown(name), "accepted", record=record, path=record_path(home.records, record))
        except UserError as error:
            yield Arrival(shown(name), "refused", reason=shown(str(error).removesuffix("."), 1_000))


def _listed(directory: Path) -> list[str]:
    """Names of the files that may be records, sorted."""
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory: name the directory that contains the record files.")
    notes = tuple(f".{note}.json" for note in NOTES)
    names: list[str] = []
    with os.scandir(directory) as entries:
        for number, entry in enumerate(entries):
            if number == MOST_ENTRIES:
                raise UserError(f"{directory} contains more than {MOST_ENTRIES} files: import them in parts.")
            if entry.name.endswith(".json") and not entry.name.endswith(notes):
                names.append(entry.name)
    if not names:
        raise UserError(
            f"{directory} contains no record file (*.json): name the directory that contains the record files."
        )
    return sorted(names)


def _read(directory: Path, name: str, problems: Callable[[Path], list[str]]) -> tuple[Record, bytes]:
    """A checked record and the content of its predictions file. Raises a UserError with the errors in them."""
    record = parse_record(_content(directory / name, MOST_RECORD_BYTES))
    # File names are made from names in the record, so these are checked before any file is opened or written.
    _refuse(contradictions(record))
    predictions = _content(directory / record.predictions.file, MOST_PREDICTIONS_BYTES)
    # Check the bytes that will be stored: the sender's directory may change meanwhile.
    with tempfile.TemporaryDirectory(prefix="beans-import-") as staging:
        (Path(staging) / record.predictions.file).write_bytes(predictions)
        errors = problems(write_record(Path(staging), record))
    _refuse([error.replace(f"{staging}{os.sep}", "") for error in errors])
    return record, predictions


def _refuse(problems: list[str]) -> None:
    """Raise a UserError with the first few of ``problems``; do nothing if the list is empty."""
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError("; ".join(problems[:3]) + more)


def _content(path: Path, at_most: int) -> bytes:
    """The bytes of a plain file of limited size. Links, devices and pipes are refused and not read."""
    try:
        # `O_NONBLOCK`, because opening a pipe would wait for a writer.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise UserError(f"the file {path.name} is missing") from error
    except OSError as error:
        # Linux's own message for a link here speaks of too many levels of links.
        reason = "it is a link" if path.is_symlink() else error.strerror
        raise UserError(f"the file {path.name} cannot be read: {reason}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UserError(f"{path.name} is no plain file")
    with os.fdopen(handle, "rb") as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise UserError(f"the file {path.name} is larger than {at_most // 2**20} MiB")
    return content


class _Known:
    """The records of this home: their ids, and the weights of each submission name among records made here."""

    def __init__(self, records: Path) -> None:
        self._records = records
        self._by_id: dict[str, tuple[str, Path]] = {}
        self._weights: dict[str, set[str]] = {}
        for path in record_paths(records):
            # Broken files are skipped here; `beans records verify` reports them.
            with suppress(UserError):
                record = read_record(path)
                self._by_id[record.id] = _digest(record), path
                if read_imported(path) is None:
                    self._weights.setdefault(record.submission.name, set()).add(record.submission.weights_sha256)

    def add(self, record: Record) -> None:
        """Add the id of an imported record."""
        self._by_id[record.id] = _digest(record), record_path(self._records, record)

    def place(self, record: Record) -> Path | None:
        """The path of an identical record, or None if the record is new.

        Raises:
            UserError: another record has its id, or another model has its name.
        """
        if record.id in self._by_id:
            digest, path = self._by_id[record.id]
            if digest == _digest(record):
                return path
            raise UserError(f"another record with the id {record.id} is here already: that one is kept")
        others = self._weights.get(record.submission.name, set()) - {record.submission.weights_sha256}
        if others:
            raise UserError(
                f"the name {record.submission.name} stands for a model with other weights here "
                f"({min(others)[:8]} and not {record.submission.weights_sha256[:8]}): ask the sender to rename it"
            )
        return None


def _digest(record: Record) -> str:
    return hashlib.sha256(record.model_dump_json().encode()).hexdigest()


def _keep(record: Record, predictions: bytes, home: Home, directory: Path) -> None:
    """Write predictions, note and record. The record is last: if it exists, the others exist too."""
    path = record_path(home.records, record)
    home.locks.mkdir(parents=True, exist_ok=True)
    with FileLock(home.locks / f"{record.id}.lock"):
        if any(home.records.glob(f"*.{record.id}.json")):
            raise UserError(f"a record with the id {record.id} was made here just now: that one is kept")
        note = Imported(at=datetime.now(UTC), by=_user(), directory=str(directory.resolve()))
        write_atomically(home.records / record.predictions.file, predictions)
        write_atomically(imported_path(path), note.model_dump_json(indent=2))
        write_record(home.records, record)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user may have no name.
        return f"user {os.getuid()}"
