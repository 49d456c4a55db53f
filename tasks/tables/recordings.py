"""Reads the JSON lines of a detection task: one recording per line, with its annotations."""

import io
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tasks.support.errors import UserError
from tasks.support.text import short
from tasks.tables.fields import check_name, enter, read_path
from tasks.task import Task

# A recording of 30 years. Larger numbers would overflow when they are converted to samples.
_MOST_SECONDS = 1e9
# The length of a recording may be rounded, so that an annotation to its end seems to be longer.
END_SLACK_SECONDS = 0.1


class Span(NamedTuple):
    """One annotation: ``st`` and ``ed`` in seconds from the start of its recording."""

    where: str
    st: float
    ed: float
    label: str


class RecordingRow(NamedTuple):
    """One line. ``where`` is its file and line, for messages; ``offset`` and ``length`` are in seconds."""

    where: str
    id: str
    path: str
    recording: str
    low: bool
    offset: float
    length: float
    annotations: list[Span]


def read_recordings(task: Task, file: Path, text: str, seen: dict[str, str]) -> list[RecordingRow]:
    """Read the lines of a file, in their order.

    Args:
        task: the task of the recordings.
        file: the file, for messages.
        text: its content.
        seen: the place of every id that was read; new ones are added.

    Raises:
        UserError: a line is wrong. The message names the line, and the number of the annotation.
    """
    recordings = []
    for number, line in enumerate(io.StringIO(text, newline=""), start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            entry = json.loads(line, object_pairs_hook=_unique)
        except RecursionError as error:
            raise UserError(f"{where}: not valid JSON (nested too deeply); write one JSON object a line.") from error
        except ValueError as error:
            raise UserError(f"{where}: not valid JSON ({error}); write one JSON object a line.") from error
        if not isinstance(entry, dict):
            raise UserError(f"{where}: not a JSON object; write one object of path, length, annotations a line.")
        recordings.append(_recording(task, entry, where, seen))
    return recordings


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return values


def _recording(task: Task, entry: dict[str, Any], where: str, seen: dict[str, str]) -> RecordingRow:
    path = read_path(task, _get(entry, "path", where), where)
    name = _name(entry, "id", path, where)
    enter(name, where, seen)
    length = _time(task, entry, "length", where)
    if length == 0:
        raise UserError(f"{where}: 'length' is 0; give the recording's length in seconds.")
    annotations = _get(entry, "annotations", where)
    if not isinstance(annotations, list):
        raise UserError(f"{where}: 'annotations' is not a list; write [] where there are none.")
    spans = [
        _span(task, annotation, length, f"{where}, annotation {number}")
        for number, annotation in enumerate(annotations, start=1)
    ]
    offset = _time(task, entry, "offset", where) if "offset" in entry else 0.0
    low = entry.get("low", False)
    if low not in (True, False):
        raise UserError(f"{where}: 'low' is {short(low)}; write true for a recording of the few-label split, or false.")
    return RecordingRow(where, name, path, _name(entry, "recording", name, where), bool(low), offset, length, spans)


def _span(task: Task, annotation: Any, length: float, place: str) -> Span:
    if not isinstance(annotation, dict):
        raise UserError(f'{place}: not an object; write {{"st": 0.5, "ed": 1.5, "label": "name"}}.')
    # Data of BEANS are read as BEANS reads them, including their mistakes.
    own = task.group == "own"
    least = 0.0 if own else -sys.float_info.max
    st, ed = _time(task, annotation, "st", place, least), _time(task, annotation, "ed", place, least)
    if own and ed < st:
        raise UserError(f"{place}: ends ({ed:g} s) before it starts ({st:g} s); exchange 'st' and 'ed'.")
    if own and st >= length:
        raise UserError(
            f"{place}: starts at {st:g} s, but the recording ends at {length:g} s (its 'length'); are these"
            " milliseconds or samples? Write seconds from the start of the recording, or correct 'length'."
        )
    label = _get(annotation, "label", place)
    # Some BEANS tasks have integer labels. True is an integer in Python, but not a label.
    if isinstance(label, bool) or not isinstance(label, str | int) or not str(label).strip():
        raise UserError(f"{place}: label {short(label)} is neither text nor a whole number; name the label.")
    check_name("label", str(label), place)
    return Span(place, st, ed, str(label))


def _get(entry: dict[str, Any], key: str, where: str) -> Any:
    if key not in entry:
        raise UserError(f"{where}: the key {key!r} is missing; it has {', '.join(map(repr, entry)) or 'none'}.")
    return entry[key]


def _name(entry: dict[str, Any], key: str, default: str, where: str) -> str:
    value = entry.get(key, default)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise UserError(f"{where}: {key!r} is {short(value)}; write text, or leave the key out.")
    check_name(key, str(value), where)
    return str(value)


def _time(task: Task, entry: dict[str, Any], key: str, where: str, least: float = 0.0) -> float:
    value = _get(entry, key, where)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    most = _MOST_SECONDS if task.group == "own" else sys.float_info.max
    # NaN and infinity also fail this comparison.
    if not number or not least <= value <= most:
        raise UserError(f"{where}: {key!r} is {short(value)}; write a time in seconds, 0 or more.")
    return float(value)
