"""Reads the items of a task from its CSV or JSON lines files. Each error message names the file and the line."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path

from tasks.support.errors import UserError
from tasks.support.text import read_text, why_no_file
from tasks.tables.clips import ClipRow, read_clips
from tasks.tables.labels import absent_labels, find_label, index_labels, refuse_empty_splits
from tasks.tables.recordings import END_SLACK_SECONDS, RecordingRow, Span, read_recordings
from tasks.task import SPLITS, Item, Manifest, Split, Task
from tasks.windows import Annotation, count_windows, cut_windows, positive_windows

MOST_ITEMS = 1_000_000
"""Maximum number of clips or windows of a task. Each takes about 600 bytes of memory before anything is decoded."""

# The file of a recording with more windows than this is opened before they are cut: its length may be a mistake.
_MANY_WINDOWS = 100_000


def manifest_files(task: Task) -> dict[str, Path]:
    """Return the files that hold a task's items, by their key in the task file."""
    keys = ("clips",) if task.kind == "classification" else SPLITS
    return {key: task.root / getattr(task, key) for key in keys}


def read_manifest(task: Task) -> Manifest:
    """Read the items of all three splits, in the order of the source files.

    The labels are those of the task file, in its order, or else the sorted labels of the train split. The items of a
    detection task are the windows of its recordings. Audio files are not opened, apart from recordings with very many
    windows, whose header is read.

    Raises:
        UserError: the manifest is missing, empty or wrong. The message names file and line.
    """
    manifest = _classification(task) if task.kind == "classification" else _detection(task)
    if task.group != "own":
        return manifest
    return dataclasses.replace(manifest, warnings=(*manifest.warnings, *absent_labels(manifest)))


def places(task: Task, files: Set[Path]) -> dict[Path, str]:
    """Return the first place (file and line) where a readable manifest names each of these audio files."""
    first: dict[Path, str] = {}
    if task.kind == "classification":
        rows: list[tuple[str, str]] = [(clip.path, clip.where) for clip in _clips(task)]
    else:
        rows = [(entry.path, entry.where) for entries in _recordings(task).values() for entry in entries]
    for path, where in rows:
        if task.root / path in files:
            first.setdefault(task.root / path, where)
    return first


def _read(task: Task, file: Path) -> str:
    problem = why_no_file(file)
    if problem is not None:
        remedy = (
            f"check the paths in the task file, and --data-dir (they start at {task.root})"
            if task.has_own_files
            else f"run `{task.command}`"
        )
        raise UserError(f"Task {task.name} needs {file}, which {problem}: {remedy}.")
    return read_text(file)


def _first_places(labelled: Iterable[ClipRow | Span]) -> dict[str, str]:
    """Return where each label is written first, in this order."""
    first: dict[str, str] = {}
    for row in labelled:
        first.setdefault(row.label, row.where)
    return first


# --- classification ---


def _clips(task: Task) -> list[ClipRow]:
    file = manifest_files(task)["clips"]
    return read_clips(task, file, _read(task, file))


def _classification(task: Task) -> Manifest:
    file, clips = manifest_files(task)["clips"], _clips(task)
    if len(clips) > MOST_ITEMS:
        raise UserError(f"{file} names {len(clips)} clips, and {MOST_ITEMS} are the most of a task: divide it.")
    train = [clip.label for clip in clips if clip.split == "train"]
    for split in SPLITS:
        if not any(clip.split == split for clip in clips):
            raise UserError(f"{file} has no clip in the {split} split: train, valid and test each need some.")
    index = index_labels(task, train, _first_places(clips))
    if len(index) < 2:
        raise UserError(f"{file} has only the label {next(iter(index))!r}: a classification task needs two or more.")
    items: dict[Split, list[Item]] = {split: [] for split in SPLITS}
    for clip in clips:
        labels = (find_label(clip.label, index, task, clip.where),)
        items[clip.split].append(Item(clip.id, task.root / clip.path, labels, clip.recording, low=clip.low))
    return Manifest(task, tuple(index), {split: tuple(items[split]) for split in SPLITS})


# --- detection ---


def _recordings(task: Task) -> dict[Split, list[RecordingRow]]:
    files = manifest_files(task)
    seen: dict[str, str] = {}
    return {split: read_recordings(task, files[split], _read(task, files[split]), seen) for split in SPLITS}


def _detection(task: Task) -> Manifest:
    files, recordings = manifest_files(task), _recordings(task)
    every = list(itertools.chain.from_iterable(recordings.values()))
    spans = [span for entry in every for span in entry.annotations]
    train = [span.label for entry in recordings["train"] for span in entry.annotations]
    index = index_labels(task, train, _first_places(spans))
    if not index:
        raise UserError(f"{files['train']} has no annotation, so there is no label: annotate it, or list `labels`.")
    _check_counts(task, every)
    items = {split: tuple(_windows(task, recordings[split], index)) for split in SPLITS}
    for split in SPLITS:
        if not items[split]:
            raise UserError(
                f"{files[split]} leaves the {split} split empty: it needs at least one recording "
                f"as long as a window of {task.window_width:g} s."
            )
    manifest = Manifest(task, tuple(index), items)
    if task.group != "own":
        return manifest
    refuse_empty_splits(manifest)
    return dataclasses.replace(manifest, warnings=tuple(_doubts(task, every)))


def _window(task: Task) -> tuple[float, float]:
    """Return the width of a window and the time from one window to the next, in seconds."""
    assert task.window_width is not None and task.window_shift is not None  # Task checks it
    return task.window_width, task.window_shift


def _check_counts(task: Task, recordings: Sequence[RecordingRow]) -> None:
    """Raise a UserError for more windows than a task may have, before they are cut."""
    total = 0
    for entry in recordings:
        count = count_windows(entry.length, *_window(task))
        if count > _MANY_WINDOWS:
            _check_length(task, entry)
        total += count
        if total > MOST_ITEMS:
            raise UserError(
                f"{entry.where}: there are more than {MOST_ITEMS} windows up to here, which are the most of a task"
                f" (this recording of {entry.length:g} s gives {count} windows): choose a larger window_shift than"
                f" {task.window_shift:g} s, or correct 'length'."
            )


def _check_length(task: Task, entry: RecordingRow) -> None:
    """Raise a UserError if a recording is longer than its file. A file that cannot be read is reported later."""
    from tasks.sound import read_header

    try:
        header = read_header(task.root / entry.path)
    except UserError:
        return
    seconds = header.frames / header.sample_rate
    _, shift = _window(task)
    # The last window may end after the recording, by less than a shift.
    if entry.offset + entry.length > seconds + shift + END_SLACK_SECONDS:
        raise UserError(
            f"{entry.where}: 'length' is {entry.length:g} s, but {task.root / entry.path} ends after {seconds:g} s;"
            " is this a number of milliseconds or samples? Write seconds."
        )


def _windows(task: Task, recordings: Iterable[RecordingRow], index: Mapping[str, int]) -> Iterator[Item]:
    for entry in recordings:
        annotations = [
            Annotation(span.st, span.ed, find_label(span.label, index, task, span.where)) for span in entry.annotations
        ]
        path = task.root / entry.path
        for window in cut_windows(entry.length, annotations, *_window(task)):
            yield Item(
                id=f"{entry.id}@{_seconds(window.start)}-{_seconds(window.end)}",
                path=path,
                labels=window.labels,
                recording=entry.recording,
                window=(entry.offset + window.start, entry.offset + window.end),
                low=entry.low,
            )


def _seconds(time: float) -> str:
    # Microseconds, because `:g` keeps six digits: neighbouring windows of a long recording would get the same id.
    return f"{time:.6f}".rstrip("0").rstrip(".")


def _doubts(task: Task, recordings: Sequence[RecordingRow]) -> Iterator[str]:
    """Yield a sentence for each kind of annotation or recording that is probably a mistake."""
    width, shift = _window(task)
    spans = [(entry, span) for entry in recordings for span in entry.annotations]
    late = [span.where for entry, span in spans if span.ed > entry.length + END_SLACK_SECONDS]
    if late:
        yield _counted(late, "annotation ends after its recording", "annotations end after their recordings")
    idle = [
        span.where
        for entry, span in spans
        if next(
            positive_windows(Annotation(span.st, span.ed, 0), count_windows(entry.length, width, shift), width, shift),
            None,
        )
        is None
    ]
    if idle:
        yield (
            f"{_counted(idle, 'annotation makes no window positive', 'annotations make no window positive')}: its"
            " length is 0, or it lies between two windows or after the last one"
        )
    brief = [entry.where for entry in recordings if not count_windows(entry.length, width, shift)]
    if brief:
        words = "too short for a window and not used"
        yield _counted(brief, f"recording is {words}", f"recordings are {words}")


def _counted(places: Sequence[str], one: str, several: str) -> str:
    """Return a number with its noun, and the first of the places."""
    if len(places) == 1:
        return f"1 {one} ({places[0]})"
    return f"{len(places)} {several} (the first: {places[0]})"
