"""Records that somebody sent, as files. They are taken for hostile until every part of them has been checked."""

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
    """What became of one file.

    Attributes:
        file: its name, fit to be printed.
        state: accepted; present, because the same record is here already; or refused.
        reason: why it was refused, "" otherwise.
        record: what was accepted or is present.
        path: where that lies below the home's records, or would lie.
    """

    file: str
    state: Literal["accepted", "present", "refused"]
    reason: str = ""
    record: Record | None = None
    path: Path | None = None


def receive(
    directory: Path, home: Home, problems: Callable[[Path], list[str]], *, dry_run: bool = False
) -> Iterator[Arrival]:
    """Take the records in ``directory`` into the home's records, each whole or not at all.

    Only the directory itself is read, no link is followed, and notes that lie there are left: they are of another home.

    Args:
        directory: what somebody sent.
        home: where accepted records go.
        problems: what does not check out in a record file that lies beside its predictions.
        dry_run: accept nothing, and say what would be.

    Raises:
        UserError: the directory is missing, holds no record, or far too many files.
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
    """Names of the files that may be records, in order."""
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory: name the one that holds the record files.")
    notes = tuple(f".{note}.json" for note in NOTES)
    names: list[str] = []
    with os.scandir(directory) as entries:
        for number, entry in enumerate(entries):
            if number == MOST_ENTRIES:
                raise UserError(f"{directory} holds more than {MOST_ENTRIES} files: import them in parts.")
            if entry.name.endswith(".json") and not entry.name.endswith(notes):
                names.append(entry.name)
    if not names:
        raise UserError(f"{directory} holds no record file (*.json): name the directory that the records lie in.")
    return sorted(names)


def _read(directory: Path, name: str, problems: Callable[[Path], list[str]]) -> tuple[Record, bytes]:
    """A record and the content of its predictions file, checked; a UserError says what is wrong with them."""
    record = parse_record(_content(directory / name, MOST_RECORD_BYTES))
    # The record's names are those of its files: they are checked before any file is called so.
    _refuse(contradictions(record))
    predictions = _content(directory / record.predictions.file, MOST_PREDICTIONS_BYTES)
    # What is checked must be what is kept: the sender's directory may change meanwhile.
    with tempfile.TemporaryDirectory(prefix="beans-import-") as staging:
        (Path(staging) / record.predictions.file).write_bytes(predictions)
        found = problems(write_record(Path(staging), record))
    _refuse([problem.replace(f"{staging}{os.sep}", "") for problem in found])
    return record, predictions


def _refuse(problems: list[str]) -> None:
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError("; ".join(problems[:3]) + more)


def _content(path: Path, at_most: int) -> bytes:
    """The bytes of a plain file that is not too large; links, devices and pipes are refused without being read."""
    try:
        # Opening a pipe would wait for somebody to write.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise UserError(f"the file {path.name} is missing") from error
    except OSError as error:
        # Linux has no other word for a link here.
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
    """The records that are here: which ids are taken, and which model each name stands for in what was made here."""

    def __init__(self, records: Path) -> None:
        self._records = records
        self._by_id: dict[str, tuple[str, Path]] = {}
        self._weights: dict[str, set[str]] = {}
        for path in record_paths(records):
            # A file that is broken here is for `beans records verify` to tell of.
            with suppress(UserError):
                record = read_record(path)
                self._by_id[record.id] = _digest(record), path
                if read_imported(path) is None:
                    self._weights.setdefault(record.submission.name, set()).add(record.submission.weights_sha256)

    def add(self, record: Record) -> None:
        """One more."""
        self._by_id[record.id] = _digest(record), record_path(self._records, record)

    def place(self, record: Record) -> Path | None:
        """Where the very same record lies already, or None where it can be taken in.

        Raises:
            UserError: its id or its name is that of another.
        """
        if record.id in self._by_id:
            digest, path = self._by_id[record.id]
            if digest == _digest(record):
                return path
            raise UserError(f"a record of the id {record.id} is here already, and it is another: that one is kept")
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
    """Write predictions, note and record, the record last: where it stands, the others stand too."""
    path = record_path(home.records, record)
    home.locks.mkdir(parents=True, exist_ok=True)
    with FileLock(home.locks / f"{record.id}.lock"):
        if any(home.records.glob(f"*.{record.id}.json")):
            raise UserError(f"a record of the id {record.id} was made here just now: that one is kept")
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
