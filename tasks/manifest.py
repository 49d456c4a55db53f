"""Reads the items of a task from its CSV or JSON lines file. Each error message names the file and the line."""

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from tasks.support.errors import UserError
from tasks.task import SPLITS, Item, Manifest, Split, Task
from tasks.windows import Annotation, cut_windows

COLUMNS = ("path", "label", "split")


class _ClipRow(NamedTuple):
    where: str  # file and line, for messages
    id: str
    path: str
    label: str
    recording: str
    low: bool


class _RecordingRow(NamedTuple):
    where: str
    id: str
    path: str
    recording: str
    low: bool
    offset: float  # seconds from the start of the file
    length: float
    annotations: list[tuple[float, float, str]]


def manifest_files(task: Task) -> dict[str, Path]:
    """Return the files that hold a task's items, by their key in the task file."""
    keys = ("clips",) if task.kind == "classification" else SPLITS
    return {key: task.root / getattr(task, key) for key in keys}


def read_manifest(task: Task) -> Manifest:
    """Read the items of all three splits, in the order of the source files. Audio files are not opened or checked.

    The labels are those of the task file, in its order, or else the sorted labels of the train split. The items of a
    detection task are the windows of its recordings.

    Raises:
        UserError: the manifest is missing, empty or wrong. The message names file and line.
    """
    return _classification(task) if task.kind == "classification" else _detection(task)


def places(task: Task, files: Set[Path]) -> dict[Path, str]:
    """Return the first place (file and line) where a readable manifest names each of these audio files."""
    first: dict[Path, str] = {}
    for manifest in manifest_files(task).values():
        with _opened(task, manifest) as text:
            if task.kind == "classification":
                reader = csv.DictReader(text)
                named = ((row["path"], reader.line_num) for row in reader)
            else:
                named = (
                    (json.loads(line)["path"], number) for number, line in enumerate(text, start=1) if line.strip()
                )
            for path, number in named:
                if task.root / path in files:
                    first.setdefault(task.root / path, f"{manifest}, line {number}")
    return first


# --- classification ---


def _classification(task: Task) -> Manifest:
    file = manifest_files(task)["clips"]
    clips = _read_clips(task, file)
    for split in SPLITS:
        if not clips[split]:
            raise UserError(f"{file} has no clip in the {split} split: train, valid and test each need some.")
    index = _label_index(task, (clip.label for clip in clips["train"]))
    if len(index) < 2:
        raise UserError(f"{file} has only the label {next(iter(index))!r}: a classification task needs two or more.")
    return Manifest(
        task,
        tuple(index),
        {
            split: tuple(
                Item(
                    id=clip.id,
                    path=task.root / clip.path,
                    labels=(_lookup(clip.label, index, task, clip.where),),
                    recording=clip.recording,
                    low=clip.low,
                )
                for clip in clips[split]
            )
            for split in SPLITS
        },
    )


def _read_clips(task: Task, file: Path) -> dict[Split, list[_ClipRow]]:
    clips: dict[Split, list[_ClipRow]] = {split: [] for split in SPLITS}
    seen: dict[str, str] = {}
    with _opened(task, file) as text:
        reader = csv.DictReader(text, strict=True)
        try:
            _check_header(file, reader.fieldnames)
            for row in reader:
                where = f"{file}, line {reader.line_num}"
                # DictReader puts surplus fields under the key None, and the value None into absent fields.
                if None in row or None in row.values():
                    raise UserError(
                        f"{where}: the number of fields differs from the first line's; "
                        'put text that holds a comma between double quotes, "like, this".'
                    )
                if not row["label"]:
                    raise UserError(f"{where}: the label is empty; give every clip one.")
                if row["split"] not in SPLITS:
                    raise UserError(f"{where}: unknown split {row['split']!r}; use one of {', '.join(SPLITS)}.")
                path = _path(row["path"], where)
                name = row.get("id") or path
                _enter(name, where, seen)
                clips[row["split"]].append(
                    _ClipRow(where, name, path, row["label"], row.get("recording") or name, row.get("low") == "1")
                )
        except csv.Error as error:
            # The broken row starts at this line. The reader notices an open quotation mark only at the end of the file.
            where = f"{file}, line {reader.line_num + 1}"
            raise UserError(f"{where}: not valid CSV ({error}); check the quotation marks.") from error
    if not seen:
        raise UserError(f"{file} names no clip: below its first line it needs one line a clip.")
    return clips


def _check_header(file: Path, header: Iterable[str] | None) -> None:
    if header is None:
        raise UserError(f"{file} is empty: it needs a first line {','.join(COLUMNS)} and then one line a clip.")
    for column in COLUMNS:
        if column not in header:
            raise UserError(
                f"{file} has no column {column!r} but {', '.join(map(repr, header))}: "
                f"its first line must name {', '.join(COLUMNS)}, separated by commas."
            )


# --- detection ---


def _detection(task: Task) -> Manifest:
    files = manifest_files(task)
    seen: dict[str, str] = {}
    recordings = {split: _read_recordings(task, files[split], seen) for split in SPLITS}
    index = _label_index(task, (label for entry in recordings["train"] for *_, label in entry.annotations))
    if not index:
        raise UserError(f"{files['train']} has no annotation, so there is no label: annotate it, or list `labels`.")
    items = {split: tuple(_windows(task, recordings[split], index)) for split in SPLITS}
    for split in SPLITS:
        if not items[split]:
            raise UserError(
                f"{files[split]} leaves the {split} split empty: it needs at least one recording "
                f"as long as a window of {task.window_width:g} s."
            )
    return Manifest(task, tuple(index), items)


def _windows(task: Task, recordings: Iterable[_RecordingRow], index: Mapping[str, int]) -> Iterator[Item]:
    width, shift = task.window_width, task.window_shift
    assert width is not None and shift is not None  # Task checks it
    for entry in recordings:
        annotations = [
            Annotation(st, ed, _lookup(label, index, task, entry.where)) for st, ed, label in entry.annotations
        ]
        for window in cut_windows(entry.length, annotations, width, shift):
            yield Item(
                id=f"{entry.id}@{_seconds(window.start)}-{_seconds(window.end)}",
                path=task.root / entry.path,
                labels=window.labels,
                recording=entry.recording,
                window=(entry.offset + window.start, entry.offset + window.end),
                low=entry.low,
            )


def _seconds(time: float) -> str:
    # Microseconds, because `:g` keeps six digits: neighbouring windows of a long recording would get the same id.
    return f"{time:.6f}".rstrip("0").rstrip(".")


def _read_recordings(task: Task, file: Path, seen: dict[str, str]) -> list[_RecordingRow]:
    recordings = []
    with _opened(task, file) as text:
        for number, line in enumerate(text, start=1):
            if not line.strip():
                continue
            where = f"{file}, line {number}"
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise UserError(f"{where}: not valid JSON ({error}); write one JSON object a line.") from error
            if not isinstance(entry, dict):
                raise UserError(f"{where}: not a JSON object; write one object of path, length, annotations a line.")
            recordings.append(_recording(task, entry, where, seen))
    return recordings


def _recording(task: Task, entry: dict[str, Any], where: str, seen: dict[str, str]) -> _RecordingRow:
    path = _path(_get(entry, "path", where), where)
    name = str(entry.get("id", path))
    _enter(name, where, seen)
    length = _time(entry, "length", where)
    if length == 0:
        raise UserError(f"{where}: 'length' is 0; give the recording's length in seconds.")
    annotations = _get(entry, "annotations", where)
    if not isinstance(annotations, list):
        raise UserError(f"{where}: 'annotations' is not a list; write [] where there are none.")
    spans = []
    for number, annotation in enumerate(annotations, start=1):
        place = f"{where}, annotation {number}"
        if not isinstance(annotation, dict):
            raise UserError(f'{place}: not an object; write {{"st": 0.5, "ed": 1.5, "label": "name"}}.')
        # Data of BEANS are read as BEANS reads them, including their mistakes.
        least = 0.0 if task.group == "own" else -sys.float_info.max
        st, ed = _time(annotation, "st", place, least), _time(annotation, "ed", place, least)
        if ed < st and task.group == "own":
            raise UserError(f"{place}: ends ({ed:g} s) before it starts ({st:g} s); exchange 'st' and 'ed'.")
        label = _get(annotation, "label", place)
        # Some BEANS tasks have integer labels. True is an integer in Python, but not a label.
        if isinstance(label, bool) or not isinstance(label, str | int) or label == "":
            raise UserError(f"{place}: label {label!r} is neither text nor a whole number; name the label.")
        spans.append((st, ed, str(label)))
    offset = _time(entry, "offset", where) if "offset" in entry else 0.0
    recording, low = str(entry.get("recording", name)), entry.get("low") is True
    return _RecordingRow(where, name, path, recording, low, offset, length, spans)


def _get(entry: dict[str, Any], key: str, where: str) -> Any:
    if key not in entry:
        raise UserError(f"{where}: the key {key!r} is missing; it has {', '.join(map(repr, entry)) or 'none'}.")
    return entry[key]


def _time(entry: dict[str, Any], key: str, where: str, least: float = 0.0) -> float:
    value = _get(entry, key, where)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # NaN and infinity also fail this comparison.
    if not number or not least <= value <= sys.float_info.max:
        raise UserError(f"{where}: {key!r} is {value!r}; write a time in seconds, 0 or more.")
    return float(value)


# --- both kinds ---


@contextmanager
def _opened(task: Task, file: Path) -> Iterator[TextIO]:
    """Open the file as text, for `csv` and for reading line by line. A byte-order mark at its start is skipped."""
    if not file.is_file():
        remedy = (
            f"check the paths in the task file, and --data-dir (they start at {task.root})"
            if task.has_own_files
            else f"run `{task.command}`"
        )
        raise UserError(f"Task {task.name} needs {file}, which does not exist: {remedy}.")
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            yield text
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text ({error.reason}): save it with that encoding.") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): check its permissions and the disk.") from error


def _path(path: object, where: str) -> str:
    if not isinstance(path, str) or not path:
        raise UserError(f"{where}: path {path!r} is not the name of a file; name one, relative or absolute.")
    return path


def _enter(name: str, where: str, seen: dict[str, str]) -> None:
    """Store an id (or the path used as id) and its place in ``seen``. A second use of the same file fails."""
    first = seen.setdefault(os.path.normpath(name), where)
    if first is not where:
        raise UserError(f"{where}: {name} was named before ({first}); name every file once, in one split.")


def _label_index(task: Task, train_labels: Iterable[str]) -> dict[str, int]:
    names = task.labels if task.labels is not None else sorted(set(train_labels))
    return {name: index for index, name in enumerate(names)}


def _lookup(label: str, index: Mapping[str, int], task: Task, where: str) -> int:
    if label not in index and task.unknown_label is not None:
        label = task.unknown_label
    if label not in index:
        source = "the labels of the task file" if task.labels is not None else "the labels of the train split"
        raise UserError(f"{where}: label {label!r} is not among {source}; correct it, or list it under `labels`.")
    return index[label]
