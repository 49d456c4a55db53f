"""The entries of a finished BEANS checkout: its CSV files or JSON lines, and the audio that they name."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks.prepare.entries import Clip, Entry, Recording, Sound, item_id, label_text, recording_of, unique
from tasks.support.errors import UserError
from tasks.task import SPLITS, Split, Task

# Of each task the folder below BEANS' data directory, and what the list of a split is called in it.
LISTS = {
    "bats": ("egyptian_fruit_bats", "annotations.{}.csv"),
    "cbi": ("cbi", "annotations.{}.csv"),
    "dcase": ("dcase", "{}.jsonl"),
    "dogs": ("dogs", "annotations.{}.csv"),
    "enabirds": ("enabirds", "{}.jsonl"),
    "esc50": ("esc50", "meta/esc50.{}.csv"),
    "hainan-gibbons": ("hainan_gibbons", "{}.jsonl"),
    "hiceas": ("hiceas", "{}.jsonl"),
    "humbugdb": ("HumBugDB", "data/metadata/{}.csv"),
    "rfcx": ("rfcx", "{}.jsonl"),
    "speech-commands": ("speech_commands", "{}.csv"),
    "watkins": ("watkins", "annotations.{}.csv"),
}

Row = Mapping[str, Any]
"""One line of a list: ``path`` and ``label``, or ``path``, ``length`` and ``annotations``."""


def read(task: Task, root: Path) -> list[Entry]:
    """The items of a task, as BEANS' own preparation left them.

    Args:
        task: one of the twelve.
        root: the BEANS checkout, its ``data`` directory, or the task's folder in there.

    Raises:
        UserError: a list or the audio it names is missing, or a line that does not hold together.
    """
    folder = _folder(task, root)
    lists = {split: _rows(task, _list(task, folder, split)) for split in SPLITS}
    low_list = _list(task, folder, "train-low")
    low_rows = _rows(task, low_list) if low_list.is_file() else []
    low = in_low(task, (row for _, row in lists["train"]), (row for _, row in low_rows))
    files = {split: [_audio(task, folder, row["path"], where) for where, row in lists[split]] for split in SPLITS}
    # Several rows may name one file.
    named = dict.fromkeys(file for split in SPLITS for file in files[split])
    missing = [str(file) for file in named if not file.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of the audio files that the lists in {folder} name are missing, such as "
            f"{', '.join(missing[:3])}: finish BEANS' preparation of this task, or prepare with another --from."
        )
    entries = (
        entry(task, split, row, Sound(file), split == "train" and low[number], where)
        for split in SPLITS
        for number, ((where, row), file) in enumerate(zip(lists[split], files[split], strict=True))
    )
    return unique(entries)


def in_low(task: Task, train: Iterable[Row], low: Iterable[Row]) -> list[bool]:
    """Of each row of the train split, whether the few-label variant keeps it.

    Of several rows with one name and label it keeps the first, as many as its own rows ``low`` are.
    """
    left = Counter(_name_and_label(task, row) for row in low)
    kept = []
    for row in train:
        key = _name_and_label(task, row)
        kept.append(left[key] > 0)
        left[key] -= 1
    return kept


def _name_and_label(task: Task, row: Row) -> tuple[str, str]:
    label = label_text(row.get("label", ""))
    return item_id(task.name, row["path"], label), label


def entry(task: Task, split: Split, row: Row, sound: Sound, low: bool, where: str) -> Entry:
    """The item that a row describes.

    Args:
        task: decides whether it is a clip or a recording.
        split: of the row.
        row: as BEANS writes it. Annotations are a list of {st, ed, label}; a label may be text or a number.
        sound: where its audio lies.
        low: whether the few-label variant of the train split keeps it.
        where: the row's place, for messages.

    Raises:
        UserError: no label, or times that are not numbers.
    """
    name, label = _name_and_label(task, row)
    recording = recording_of(task.name, name)
    if task.kind == "classification":
        if row["label"] is None or row["label"] == "":
            raise UserError(f"{where}: the label is empty; this is not the list that BEANS writes.")
        return Clip(name, split, label, sound, recording, low)
    length = _seconds(row["length"], where, "length")
    if length <= 0:
        raise UserError(f"{where}: the length is {length:g} s; this is not the list that BEANS writes.")
    spans = row["annotations"]
    if not isinstance(spans, list) or not all(
        isinstance(span, dict) and {"st", "ed", "label"} <= set(span) for span in spans
    ):
        raise UserError(f"{where}: 'annotations' is not a list of st, ed and label, as BEANS writes it.")
    annotations = tuple(
        (_seconds(span["st"], where, "st"), _seconds(span["ed"], where, "ed"), _name(span["label"])) for span in spans
    )
    return Recording(name, split, length, annotations, sound, recording, low)


def _name(label: object) -> str:
    # A label that is missing is NaN in BEANS' lists, and nothing at all in parquet.
    return "nan" if label is None else label_text(label)


def _seconds(value: object, where: str, key: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise UserError(f"{where}: {key!r} is {value!r} and not a time in seconds.")
    return float(value)


# --- the checkout's files ---


def _list(task: Task, folder: Path, split: str) -> Path:
    return folder / LISTS[task.name][1].format(split)


def _folder(task: Task, root: Path) -> Path:
    """The task's folder, which holds the lists of all three splits."""
    name = LISTS[task.name][0]
    candidates = (root / "data" / name, root / name, root)
    folder = next((path for path in candidates if any(_list(task, path, split).is_file() for split in SPLITS)), None)
    missing = [file for split in SPLITS if not (file := _list(task, folder or candidates[0], split)).is_file()]
    if missing:
        raise UserError(
            f"{missing[0]} does not exist: --source must point at a BEANS checkout (or its data directory) in which "
            f"BEANS' own preparation of {task.name} has finished."
        )
    assert folder is not None  # or all three were missing
    return folder


def _audio(task: Task, folder: Path, path: str, where: str) -> Path:
    # Paths start at the checkout, which need not be there when only the task's folder is.
    start = f"data/{LISTS[task.name][0]}/"
    if not path.startswith(start):
        raise UserError(f"{where}: {path} is not below {start}: these are not BEANS' files of {task.name}.")
    return folder / path.removeprefix(start)


def _rows(task: Task, file: Path) -> list[tuple[str, Row]]:
    """Rows with their places. Every row has the keys that its kind needs, and a path that is text."""
    try:
        rows = _csv(file) if task.kind == "classification" else _json_lines(file)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as UTF-8 text ({error}): copy it again.") from error
    for where, row in rows:
        if not isinstance(row["path"], str) or not row["path"]:
            raise UserError(f"{where}: path {row['path']!r} is not the name of a file.")
    return rows


def _csv(file: Path) -> list[tuple[str, Row]]:
    import pandas as pd

    try:
        # A label may be called nan.
        frame = pd.read_csv(file, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(f"{file} is not a CSV file ({error}): let BEANS prepare the task again.") from error
    for column in ("path", "label"):
        if column not in frame:
            raise UserError(
                f"{file} has no column {column!r} but {', '.join(map(str, frame))}: let BEANS prepare the task again."
            )
    pairs = zip(frame["path"].tolist(), frame["label"].tolist(), strict=True)
    return [
        (f"{file}, line {number}", {"path": path, "label": label})
        for number, (path, label) in enumerate(pairs, start=2)
    ]


def _json_lines(file: Path) -> list[tuple[str, Row]]:
    rows: list[tuple[str, Row]] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{where}: not valid JSON ({error}): let BEANS prepare the task again.") from error
        if not isinstance(row, dict) or not {"path", "length", "annotations"} <= set(row):
            raise UserError(f"{where}: not an object of path, length and annotations, as BEANS writes it.")
        rows.append((where, row))
    return rows
