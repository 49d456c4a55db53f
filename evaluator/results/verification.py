"""Does a record say what its predictions say? Everything that can be computed again without the backbone is."""

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from evaluator.probes.search import best_of_layer, select
from evaluator.results.assemble import metrics_on_test
from leaderboard.records.plausibility import contradictions, parse_record, prediction_problems
from leaderboard.records.predictions import PredictedScores, read_predictions
from leaderboard.records.protocol import Protocol
from leaderboard.records.record import Record
from tasks.manifest import read_manifest
from tasks.prepare import why_not_prepared
from tasks.subsets import few_labels, limit, shots
from tasks.support.errors import UserError
from tasks.task import Manifest, Split, Task, catalogue_names, load_task

# A score may be added up in another order on another machine.
_TOLERANCE = 1e-6
# A grid is spelt with six digits in the protocol's name.
_SPELLING = 1e-5
# What a protocol may ask of whoever checks it; a record's protocol is anybody's text.
_MOST = {"bootstrap": 10_000, "seeds": 1_000, "trials": 100_000}

_TRAIN = re.compile(r"all|low|([1-9][0-9]*)-shot(?:-seed([1-9][0-9]*))?")


class Verifier:
    """Checks records against themselves, their predictions, and the tasks that are prepared below ``data``."""

    def __init__(self, data: Path) -> None:
        self._catalogue = {name: load_task(name, data=data) for name in catalogue_names()}
        self._manifests: dict[tuple[str, int | None, str], Manifest] = {}

    def problems(self, path: Path) -> list[str]:
        """What does not check out in the record at ``path``, a few words each; none where all does."""
        try:
            record = parse_record(path.read_bytes())
            rules = parse_protocol(record.protocol)
            # What follows relies on lists of equal length.
            found = contradictions(record)
            if found:
                return found
            test = read_predictions(path.parent, record)
            found = prediction_problems(record, test)
            if not found:
                found = [*_rules(record, rules), *_selection(record), *self._data(record, rules, test)]
                found += _metrics(record, rules, test)
        except UserError as error:
            return [str(error).removesuffix(".")]
        return found

    def _data(self, record: Record, rules: Protocol, test: PredictedScores) -> Iterator[str]:
        """What the suite knows of the task: its facts always, its items where they are prepared here."""
        task = self._catalogue.get(record.task.name)
        if record.task.group == "own":
            return
        if task is None or task.group != record.task.group:
            yield f"the suite has no task {record.task.name} in the group {record.task.group}"
            return
        if task.kind != record.task.kind or (task.labels is not None and list(task.labels) != record.task.labels):
            yield f"kind or labels are not those of {task.name}"
        if record.limit is None:
            yield from _published(task, record, rules, test)
        if why_not_prepared(task) is None:
            yield from _same_items(self._manifest(task, record.limit, rules.train), record, test)

    def _manifest(self, task: Task, at_most: int | None, train: str) -> Manifest:
        key = (task.name, at_most, train)
        if key not in self._manifests:
            manifest = read_manifest(task)
            if at_most is not None:
                manifest = limit(manifest, at_most)
            drawn = _TRAIN.fullmatch(train)
            assert drawn is not None
            if train == "low":
                manifest = few_labels(manifest)
            elif train != "all":
                manifest = shots(manifest, int(drawn[1]), int(drawn[2] or 0))
            self._manifests[key] = manifest
        return self._manifests[key]


def parse_protocol(name: str) -> Protocol:
    """The rules that a protocol's name stands for.

    Raises:
        UserError: no rules of this suite have that name.
    """
    # A plus sign also occurs in a number such as 1e+06.
    version, *departures = re.split(r"\+(?=[a-z_]+=)", name)
    known = {field.name: field.default for field in fields(Protocol) if field.name != "version"}
    values: dict[str, Any] = {}
    if version != Protocol.version:
        raise UserError(f"protocol {version} is not known here: this suite has {Protocol.version}")
    for departure in departures:
        key, _, text = departure.partition("=")
        if key not in known:
            raise UserError(f"protocol {name}: there is no rule {key}")
        try:
            values[key] = _value(text, known[key])
        except ValueError as error:
            raise UserError(f"protocol {name}: {key} cannot be {text}") from error
        if key in _MOST and values[key] > _MOST[key]:
            raise UserError(f"protocol {name}: {key} is above {_MOST[key]}")
    rules = Protocol(**values)
    if rules.name != name:
        raise UserError(f"protocol {name} is spelt {rules.name} by this suite")
    if not _TRAIN.fullmatch(rules.train) or rules.precision not in ("fp32", "bf16"):
        raise UserError(f"protocol {name}: train or precision is none of this suite's")
    return rules


def _value(text: str, default: object) -> object:
    """A rule's value, of the type of its default; numbers are positive and finite."""
    if isinstance(default, str):
        return text
    if isinstance(default, tuple):
        return tuple(_positive(part) for part in text.split(","))
    number = _positive(text)
    return int(text) if isinstance(default, int) else number


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(text)
    return number


def _rules(record: Record, rules: Protocol) -> Iterator[str]:
    """The record did what its protocol says."""
    if len(record.test_seeds) != rules.seeds:
        yield f"{len(record.test_seeds)} test seeds, where the protocol has {rules.seeds}"
    trials = len(rules.grid) or rules.trials
    if len(record.trials) != trials:
        yield f"{len(record.trials)} trials, where the protocol has {trials}"
    for trial in record.trials:
        if rules.grid:
            allowed = any(math.isclose(trial.lr, rate, rel_tol=_SPELLING) for rate in rules.grid)
        else:
            allowed = rules.lr_low * (1 - _SPELLING) <= trial.lr <= rules.lr_high * (1 + _SPELLING)
        if not allowed:
            yield f"trial {trial.number} has the learning rate {trial.lr:g}, which the protocol does not search"
            break
    if max((record.epoch, len(record.epochs), *(max(trial.epoch) for trial in record.trials))) > rules.epochs:
        yield f"more epochs than the protocol's {rules.epochs}"
    if record.environment.precision != rules.precision:
        yield f"precision {record.environment.precision}, where the protocol has {rules.precision}"


def _selection(record: Record) -> Iterator[str]:
    """Layer, rate and epoch are those that validation chooses among the trials."""
    choice = select(record.trials)
    if (choice.layer, choice.lr, choice.epoch, choice.valid) != (
        record.best_layer,
        record.lr,
        record.epoch,
        record.valid,
    ):
        yield (
            f"validation chooses layer {choice.layer}, rate {choice.lr:g}, epoch {choice.epoch}, and the record says "
            f"{record.best_layer}, {record.lr:g}, {record.epoch}"
        )
    for layer in record.layers:
        best = best_of_layer(record.trials, layer.index)
        if (best.valid, best.lr, best.epoch) != (layer.valid, layer.lr, layer.epoch):
            yield f"the curve at layer {layer.index} is not the best of the trials"
            break


def _published(task: Task, record: Record, rules: Protocol, test: PredictedScores) -> Iterator[str]:
    """What is published of a catalogue task holds wherever its audio is."""
    counts: dict[Split, int] = {"valid": record.task.n_valid, "test": record.task.n_test}
    if rules.train == "all":
        counts["train"] = record.task.n_train
    for split, count in counts.items():
        expected = task.published.items.get(split)
        if expected not in (None, count):
            yield f"{count} {split} items, where {task.name} has {expected}"
    ids = hashlib.sha256("\n".join(sorted(test.ids)).encode()).hexdigest()
    if task.published.ids_sha256.get("test") not in (None, ids):
        yield f"the test items are not those of {task.name}"


def _same_items(manifest: Manifest, record: Record, test: PredictedScores) -> Iterator[str]:
    """The record is about the data that lie here."""
    if manifest.split_hash != record.task.split_hash:
        yield f"measured on other data than {manifest.task.name} as it is prepared here (the split hash differs)"
        return
    here = {item.id: (item.recording, sorted(set(item.labels))) for item in manifest.items["test"]}
    there = {
        name: (recording, [int(target)] if target.ndim == 0 else [int(label) for label in target.nonzero()[0]])
        for name, recording, target in zip(test.ids, test.recordings, test.targets, strict=True)
    }
    if here != there:
        wrong = sum(here.get(name) != value for name, value in there.items()) or len(here) - len(there)
        yield f"the predictions give {wrong} test items another recording or other labels than {manifest.task.name} has"
    if list(manifest.labels) != record.task.labels:
        yield f"task.labels are not those of {manifest.task.name}"


def _metrics(record: Record, rules: Protocol, test: PredictedScores) -> Iterator[str]:
    """Every test score, computed again from the predictions."""
    again = metrics_on_test(record.metric, test, rules)
    said = record.model_dump(include=set(again))
    if set(said["secondary"]) != set(again["secondary"]):
        yield f"secondary metrics are {', '.join(sorted(said['secondary']))}"
        return
    for key, value in again.items():
        for name, here, there in _pairs(key, value, said[key]):
            if not math.isclose(here, there, rel_tol=0, abs_tol=_TOLERANCE):
                yield f"{name} is {there:.6f} in the record and {here:.6f} from the predictions"


def _pairs(key: str, here: Any, there: Any) -> Iterator[tuple[str, float, float]]:
    if isinstance(here, dict):
        yield from ((f"{key}.{name}", value, there[name]) for name, value in here.items())
    elif isinstance(here, list):
        yield from ((f"{key}[{place}]", *pair) for place, pair in enumerate(zip(here, there, strict=True)))
    else:
        yield key, here, there
