"""Check that the suite can have made a record. Only the record and its predictions are used; nothing is trusted."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from pydantic import ValidationError

from leaderboard.records.flags import DATA, DOUBTS, data_flags, doubts
from leaderboard.records.predictions import PredictedScores
from leaderboard.records.protocol import Protocol
from leaderboard.records.record import SCHEMA_VERSION, Record
from tasks.support.errors import UserError
from tasks.support.text import LONGEST, LONGEST_TEXT, is_plain, printable
from tasks.task import DEFAULT_METRIC, explain

# Limits far above every record that the suite can make, and low enough to be harmless.
_DEPTH = 16
_NAME = 200
_FIRST_YEAR = 2020
# The clock of another machine may be ahead by this much.
_AHEAD = timedelta(hours=1)
# Another machine may compute a score with other last digits.
_ROUNDING = 1e-6

_SUBMISSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_TASK = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TRACK = re.compile(r"[a-z0-9][a-z0-9-]{0,19}")


def parse_record(content: bytes) -> Record:
    """Parse a record from untrusted bytes: plain JSON with finite numbers, without duplicate keys or deep nesting.

    Raises:
        UserError: the bytes are not a record of this schema version.
    """
    try:
        document = json.loads(content, object_pairs_hook=_unique, parse_constant=_no_number)
        _check_values(document)
        return Record.model_validate(document)
    except ValidationError as error:
        raise UserError(f"not a record of schema version {SCHEMA_VERSION} ({explain(error)})") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise UserError(f"not a record: {reason}") from error


def refuse_unpublishable(record: Record) -> None:
    """Raise a UserError for a record that fits no board: its protocol is unknown or its date is impossible."""
    problems = [*_protocol(record), *_date(record, datetime.now(UTC))]
    if problems:
        raise UserError(f"Record {record.id} cannot be published: {'; '.join(problems)}.")


def contradictions(record: Record, now: datetime | None = None) -> list[str]:
    """Contradictory or impossible values in a record, a few words each; empty for every record of the suite."""
    return [
        *_names(record),
        *_protocol(record),
        *_date(record, now or datetime.now(UTC)),
        *_texts(record.model_dump(mode="json")),
        *_task(record),
        *_curves(record),
        *_doubts(record),
        *_data_warnings(record),
    ]


def prediction_problems(record: Record, test: PredictedScores) -> list[str]:
    """Differences in items, classes and seeds between a record and its predictions, and impossible predictions."""
    seeds, items, classes = test.scores.shape
    problems = []
    for what, count, expected in (
        ("seeds", seeds, len(record.test_seeds)),
        ("items", items, record.task.n_test),
        ("classes", classes, len(record.task.labels)),
    ):
        if count != expected:
            problems.append(f"the predictions have {count} {what} and the record {expected}")
    if len(set(test.ids)) != len(test.ids):
        problems.append("the predictions contain an item twice")
    if max(map(len, (*test.ids, *test.recordings)), default=0) > LONGEST:
        problems.append(f"an item's id or recording is longer than {LONGEST} characters")
    if not np.isfinite(test.scores).all():
        problems.append("a predicted score is not a finite number")
    kind = "classification" if test.targets.ndim == 1 else "detection"
    if kind != record.task.kind:
        problems.append(f"the predictions are of a {kind} task and the record of a {record.task.kind} task")
    elif items and not 0 <= test.targets.min() <= test.targets.max() <= (classes - 1 if test.targets.ndim == 1 else 1):
        problems.append("a target in the predictions is none of the classes")
    return problems


def shown(text: str, length: int = 300) -> str:
    """Untrusted text for a terminal: one line, without control characters, cut at ``length`` characters."""
    plain = printable(text, keep="")
    return plain if len(plain) <= length else f"{plain[:length]}…"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _check_values(document: object) -> None:
    """Raise a ValueError for infinite numbers, which `json` reads from 1e999, and for deep nesting."""
    level = [document]
    for _ in range(_DEPTH):
        inside: list[object] = []
        for value in level:
            if isinstance(value, float) and not np.isfinite(value):
                raise ValueError("a number is not finite")
            # Python reads integers of any size; other readers use a float or 64 bits.
            if isinstance(value, int) and abs(value) >= 2**63:
                raise ValueError("a number has more than 64 bits")
            if isinstance(value, dict):
                inside.extend(value.values())
            elif isinstance(value, list):
                inside.extend(value)
        level = inside
    if level:
        raise ValueError("nested too deeply")


def _names(record: Record) -> Iterator[str]:
    for what, name, pattern in (
        ("submission", record.submission.name, _SUBMISSION),
        ("task", record.task.name, _TASK),
        ("track", record.track, _TRACK),
    ):
        if not pattern.fullmatch(name):
            yield f"{what} {name[:40]!r} is not a name: letters, digits, dots and hyphens, not long"
    if record.predictions.file != f"{record.stem}.predictions.safetensors":
        yield f"the predictions file must be called {record.stem}.predictions.safetensors"


def _protocol(record: Record) -> Iterator[str]:
    if not Protocol.is_name(record.protocol):
        yield f"protocol {record.protocol[:80]!r} is none of this suite's"


def _date(record: Record, now: datetime) -> Iterator[str]:
    created = record.created if record.created.tzinfo else record.created.replace(tzinfo=UTC)
    if created.year < _FIRST_YEAR or created.year > now.year + 1 or created > now + _AHEAD:
        yield f"created {record.created.isoformat()}, which is not a time at which it can have been made"


def _texts(document: Mapping[str, Any]) -> Iterator[str]:
    """Texts that are too long or contain invisible characters. Only texts that a user writes may have several lines."""
    free = ("submission.about", "submission.arguments", "efficiency.reason")
    pending: list[tuple[str, object]] = [("", document)]
    while pending:
        where, value = pending.pop()
        if isinstance(value, Mapping):
            for key, inner in value.items():
                if len(key) > _NAME or not is_plain(key):
                    yield f"a key of {where or 'the record'} is too long or contains control characters"
                else:
                    pending.append((f"{where}.{key}" if where else key, inner))
        elif isinstance(value, list):
            pending.extend((where, inner) for inner in value)
        elif isinstance(value, str):
            multiline = where.startswith(free)
            if len(value) > (LONGEST_TEXT if multiline else LONGEST):
                yield f"{where} is {len(value)} characters long"
            elif not is_plain(value.replace("\n", " ").replace("\t", " ") if multiline else value):
                yield f"{where} contains control characters"


def _task(record: Record) -> Iterator[str]:
    task = record.task
    if record.metric != task.metric or task.metric != DEFAULT_METRIC[task.kind]:
        yield f"a {task.kind} task is not scored by {record.metric}"
    if not task.labels or len(set(task.labels)) != len(task.labels):
        yield "task.labels is empty or contains a name twice"


def _curves(record: Record) -> Iterator[str]:
    """Contradictions between layers, trials, and the chosen layer."""
    layers = len(record.layers)
    if [layer.index for layer in record.layers] != list(range(layers)):
        yield "the layers are not numbered from 0"
    if any(len(trial.valid) != layers or len(trial.epoch) != layers for trial in record.trials):
        yield f"a trial does not have one score and one epoch for each of the {layers} layers"
    if any(trial.loss is not None and len(trial.loss) != layers for trial in record.trials):
        yield f"a trial does not have one loss for each of the {layers} layers"
    if record.best_layer >= layers:
        yield f"best_layer {record.best_layer} is none of the {layers} layers"
    elif record.best_layer_name != record.layers[record.best_layer].name:
        yield "best_layer_name is not the name of best_layer"
    if record.ci_low > record.ci_high:
        yield "ci_low is above ci_high"


def _doubts(record: Record) -> Iterator[str]:
    """Contradictions between what the record says of the choice on validation, and its other numbers."""
    expected = [*doubts(record.test, record.reference, record.selection), *data_flags(record.data_warnings)]
    for flag in (*DOUBTS, *DATA):
        if (flag in record.flags) != (flag in expected):
            yield f"the flag {flag} is {'missing' if flag in expected else 'set'}, against the record's numbers"
    if record.selection is None:
        return
    alike, looks = record.selection.alike, [trial.looks for trial in record.trials if trial.looks is not None]
    if alike != sorted(set(alike)):
        yield "selection.alike is not sorted, or has a layer twice"
    if record.best_layer not in alike or max(alike) >= len(record.layers):
        yield f"selection.alike lacks the best layer, or has one that is none of the {len(record.layers)} layers"
    if looks and sum(looks) != record.selection.looks:
        yield f"selection.looks is {record.selection.looks}, and the trials have {sum(looks)} together"
    if abs(record.valid - record.test - record.selection.optimism) > _ROUNDING:
        yield "selection.optimism is not the difference of valid and test"
    if record.selection.recordings > record.task.n_valid:
        yield f"{record.selection.recordings} recordings of validation, which has {record.task.n_valid} items"


def _data_warnings(record: Record) -> Iterator[str]:
    """Contradictions between what the record counts of the task's sounds, and the sizes of the splits."""
    task, warnings = record.task, record.data_warnings or []
    if len({warning.kind for warning in warnings}) != len(warnings):
        yield "data_warnings has a kind twice"
    for warning in warnings:
        for split, count, most in (
            ("train", warning.train, task.n_train),
            ("valid", warning.valid, task.n_valid),
            ("test", warning.test, task.n_test),
        ):
            if count > most:
                yield f"data_warnings counts {count} {warning.kind} items of {split}, which has {most}"
        if not warning.train + warning.valid + warning.test:
            yield f"data_warnings has the kind {warning.kind} and counts no item"
        if warning.kind == "shared" and sum(map(bool, (warning.train, warning.valid, warning.test))) < 2:
            yield "data_warnings counts shared sounds in one split only"
