"""Rows of BEANS' lists, as in a BEANS checkout and in the copy on Hugging Face, and the item of each row."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tasks.prepare.entries import ClipEntry, Entry, RecordingEntry, Sound, label_text
from tasks.support.errors import UserError
from tasks.task import Split, Task

Row = Mapping[str, Any]
"""One line of a list: ``path`` and ``label``, or ``path``, ``length`` and ``annotations``."""


def in_low(task: Task, train: Iterable[Row], low: Iterable[Row]) -> list[bool]:
    """Return for each row of the train split whether the few-label variant keeps it.

    If several rows have one name and label, the first ones are kept: as many as ``low`` has of them.
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
    return task.ids.item(row["path"], label), label


def entry(task: Task, split: Split, row: Row, sound: Sound, low: bool, where: str) -> Entry:
    """Return the item that a row describes.

    Args:
        task: decides whether the item is a clip or a recording.
        split: of the row.
        row: in the form of BEANS. Annotations are a list of {st, ed, label}; a label may be text or a number.
        sound: the place of its audio.
        low: whether the few-label variant of the train split keeps it.
        where: the row's place, for messages.

    Raises:
        UserError: no label, or times that are not numbers.
    """
    name, label = _name_and_label(task, row)
    recording = task.ids.recording_of(name)
    if task.kind == "classification":
        if row["label"] is None or row["label"] == "":
            raise UserError(f"{where}: the label is empty; this is not the list that BEANS writes.")
        return ClipEntry(name, split, label, sound, recording, low)
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
    return RecordingEntry(name, split, length, annotations, sound, recording, low)


def _name(label: object) -> str:
    # A missing label is NaN in BEANS' lists and None in parquet.
    return "nan" if label is None else label_text(label)


def _seconds(value: object, where: str, key: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise UserError(f"{where}: {key!r} is {value!r} and not a time in seconds.")
    return float(value)
