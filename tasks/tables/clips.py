"""Reads the CSV of a classification task: one row per clip."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tasks.support.errors import UserError
from tasks.support.text import short
from tasks.tables.fields import check_name, enter, read_path
from tasks.task import SPLITS, Split, Task

COLUMNS = ("path", "label", "split")
_OPTIONAL = ("id", "recording", "low")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}
_LOW = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}


class ClipRow(NamedTuple):
    """One row. ``where`` is its file and line, for messages."""

    where: str
    id: str
    path: str
    label: str
    split: Split
    recording: str
    low: bool


def read_clips(task: Task, file: Path, text: str) -> list[ClipRow]:
    """Read the rows of a CSV, in their order.

    Columns are separated by commas, semicolons or tabs, as in the first line. Spaces around the names of columns and
    splits, and capital letters in them, are ignored.

    Args:
        task: the task of the clips.
        file: the CSV, for messages.
        text: its content.

    Raises:
        UserError: the first line or a row is wrong. The message names the line.
    """
    separator = _separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    clips: list[ClipRow] = []
    seen: dict[str, str] = {}
    names: dict[Split, tuple[str, str]] = {}
    line = 0
    try:
        header = next(reader, None)
        places = _columns(file, header, separator)
        line = reader.line_num
        for row in reader:
            line = reader.line_num
            # Spreadsheets write rows without any text below a table.
            if not any(map(str.strip, row)):
                continue
            where = f"{file}, line {line}"
            if len(row) != len(header or ()):
                raise UserError(
                    f"{where}: the number of fields differs from the first line's; put text that holds a"
                    f' {_SEPARATORS[separator][:-1]} between double quotes, "like{separator} this".'
                )
            values = {name: row[place] for name, place in places.items()}
            clips.append(_clip(task, values, where, seen))
            _check_split_name(clips[-1].split, values["split"], where, names)
    except csv.Error as error:
        # The broken row starts at this line. The reader notices an open quotation mark only at the end of the file.
        where = f"{file}, line {line + 1}"
        raise UserError(f"{where}: not valid CSV ({error}); check the quotation marks.") from error
    if not clips:
        raise UserError(f"{file} names no clip: below its first line it needs one line a clip.")
    return clips


def _separator(text: str) -> str:
    """Return the separator by which the first line names the needed columns; a comma if none does."""
    for separator in _SEPARATORS:
        try:
            header = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
        except csv.Error:
            continue
        if set(COLUMNS) <= {_plain(name) for name in header}:
            return separator
    return ","


def _columns(file: Path, header: Sequence[str] | None, separator: str) -> dict[str, int]:
    """Return the place of every column that is read, by its name."""
    if not header:
        raise UserError(f"{file} is empty: it needs a first line {','.join(COLUMNS)} and then one line a clip.")
    names = [_plain(name) for name in header]
    for column in COLUMNS:
        if column not in names:
            raise UserError(
                f"{file} has no column {column!r} but {', '.join(map(short, header))}: "
                f"its first line must name {', '.join(COLUMNS)}, separated by commas."
            )
    for column in (*COLUMNS, *_OPTIONAL):
        if names.count(column) > 1:
            first = names.index(column)
            both = f"{first + 1} and {names.index(column, first + 1) + 1}"
            raise UserError(f"{file} has the column {column!r} twice, as columns {both}: rename or remove one.")
    return {name: place for place, name in enumerate(names) if name in (*COLUMNS, *_OPTIONAL)}


def _clip(task: Task, values: Mapping[str, str], where: str, seen: dict[str, str]) -> ClipRow:
    path = read_path(task, values["path"], where)
    label = values["label"]
    if not label.strip():
        raise UserError(f"{where}: the label is empty; give every clip one.")
    check_name("label", label, where)
    split = _SPLIT_NAMES.get(_plain(values["split"]))
    if split is None:
        raise UserError(
            f"{where}: unknown split {short(values['split'])}; use one of {', '.join(SPLITS)}"
            " (training, validation, val, dev and testing are read as these)."
        )
    low = _LOW.get(_plain(values.get("low", "")))
    if low is None:
        raise UserError(f"{where}: low is {short(values['low'])}; write 1 for a clip of the few-label split, or 0.")
    name = values.get("id") or path
    recording = values.get("recording") or name
    check_name("id", name, where)
    check_name("recording", recording, where)
    enter(name, where, seen)
    return ClipRow(where, name, path, label, split, recording, low)


def _check_split_name(split: Split, written: str, where: str, names: dict[Split, tuple[str, str]]) -> None:
    """Check that a table has one name for each split: `dev` beside `valid` may be another part of the data."""
    name, first = names.setdefault(split, (_plain(written), where))
    if name != _plain(written):
        raise UserError(
            f"{where}: the split {written!r} means {split}, which is called {name!r} before ({first}); write one name"
            " for each split."
        )


def _plain(name: str) -> str:
    return name.strip().casefold()
