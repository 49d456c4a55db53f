"""Verify a record: compute everything again that its predictions, trials and task determine, without the backbone."""

import hashlib
import math
from collections.abc import Iterator
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
from tasks.subsets import limit, select_train
from tasks.support.errors import UserError
from tasks.task import Manifest, Split, Task, catalogue_names, load_task
from tasks.train_part import TrainPart

# Another machine may add up a score in another order.
_TOLERANCE = 1e-6
# The protocol names of earlier records write the rates of a grid with six digits only.
_RATE_TOLERANCE = 1e-5


class Verifier:
    """Verifies records against their own fields, their predictions, and the tasks that are prepared below ``data``."""

    def __init__(self, data: Path) -> None:
        self._catalogue = {name: load_task(name, data=data) for name in catalogue_names()}
        self._manifests: dict[tuple[str, int | None, str], Manifest] = {}

    def problems(self, path: Path) -> list[str]:
        """The errors in the record at ``path``, a few words each; empty if the record is right."""
        try:
            record = parse_record(path.read_bytes())
            rules = Protocol.parse(record.protocol)
            # The later checks need lists of equal length.
            problems = contradictions(record)
            if problems:
                return problems
            test = read_predictions(path.parent, record)
            problems = prediction_problems(record, test)
            if not problems:
                problems = [*_rules(record, rules), *_selection(record), *self._data(record, rules, test)]
                problems += _metrics(record, rules, test)
        except UserError as error:
            return [str(error).removesuffix(".")]
        return problems

    def _data(self, record: Record, rules: Protocol, test: PredictedScores) -> Iterator[str]:
        """Compare with the task: with its facts always, with its items if they are prepared here."""
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
            self._manifests[key] = select_train(manifest, TrainPart.parse(train))
        return self._manifests[key]


def _rules(record: Record, rules: Protocol) -> Iterator[str]:
    """Check that the record follows its protocol."""
    if len(record.test_seeds) != rules.seeds:
        yield f"{len(record.test_seeds)} test seeds, where the protocol has {rules.seeds}"
    trials = len(rules.grid) or rules.trials
    if len(record.trials) != trials:
        yield f"{len(record.trials)} trials, where the protocol has {trials}"
    for trial in record.trials:
        if rules.grid:
            allowed = any(math.isclose(trial.lr, rate, rel_tol=_RATE_TOLERANCE) for rate in rules.grid)
        else:
            allowed = rules.lr_low * (1 - _RATE_TOLERANCE) <= trial.lr <= rules.lr_high * (1 + _RATE_TOLERANCE)
        if not allowed:
            yield f"trial {trial.number} has the learning rate {trial.lr:g}, which the protocol does not search"
            break
    if max((record.epoch, len(record.epochs), *(max(trial.epoch) for trial in record.trials))) > rules.epochs:
        yield f"more epochs than the protocol's {rules.epochs}"
    if record.environment.precision != rules.precision:
        yield f"precision {record.environment.precision}, where the protocol has {rules.precision}"


def _selection(record: Record) -> Iterator[str]:
    """Check that layer, rate and epoch are those that validation selects among the trials."""
    choice = select(record.trials)
    if (choice.layer, choice.lr, choice.epoch, choice.valid) != (
        record.best_layer,
        record.lr,
        record.epoch,
        record.valid,
    ):
        yield (
            f"validation chooses layer {choice.layer}, rate {choice.lr:g}, epoch {choice.epoch}, but the record has "
            f"{record.best_layer}, {record.lr:g}, {record.epoch}"
        )
    for layer in record.layers:
        best = best_of_layer(record.trials, layer.index)
        if (best.valid, best.lr, best.epoch) != (layer.valid, layer.lr, layer.epoch):
            yield f"the curve at layer {layer.index} is not the best of the trials"
            break


def _published(task: Task, record: Record, rules: Protocol, test: PredictedScores) -> Iterator[str]:
    """Compare with the published counts and ids of a catalogue task, for which no audio is needed."""
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
    """Check that the record was measured on the data that are prepared here."""
    if manifest.split_hash != record.task.split_hash:
        yield f"measured on other data than {manifest.task.name} as it is prepared here (the split hash differs)"
        return
    prepared = {item.id: (item.recording, sorted(set(item.labels))) for item in manifest.items["test"]}
    predicted = {
        name: (recording, [int(target)] if target.ndim == 0 else [int(label) for label in target.nonzero()[0]])
        for name, recording, target in zip(test.ids, test.recordings, test.targets, strict=True)
    }
    if prepared != predicted:
        wrong = sum(prepared.get(name) != value for name, value in predicted.items()) or len(prepared) - len(predicted)
        yield f"the predictions give {wrong} test items another recording or other labels than {manifest.task.name} has"
    recordings = len({item.recording for item in manifest.items["valid"]})
    if record.selection is not None and record.selection.recordings != recordings:
        yield f"{record.selection.recordings} recordings of validation, where {manifest.task.name} has {recordings}"
    if list(manifest.labels) != record.task.labels:
        yield f"task.labels are not those of {manifest.task.name}"


def _metrics(record: Record, rules: Protocol, test: PredictedScores) -> Iterator[str]:
    """Compute every test score again from the predictions, and compare."""
    computed = metrics_on_test(record.metric, test, rules)
    recorded = record.model_dump(include=set(computed))
    if set(recorded["secondary"]) != set(computed["secondary"]):
        yield f"secondary metrics are {', '.join(sorted(recorded['secondary']))}"
        return
    for key, value in computed.items():
        for name, again, stored in _pairs(key, value, recorded[key]):
            if not math.isclose(again, stored, rel_tol=0, abs_tol=_TOLERANCE):
                yield f"{name} is {stored:.6f} in the record and {again:.6f} from the predictions"


def _pairs(key: str, computed: Any, recorded: Any) -> Iterator[tuple[str, float, float]]:
    """The numbers of one field, each with its name, computed again and as recorded."""
    if isinstance(computed, dict):
        yield from ((f"{key}.{name}", value, recorded[name]) for name, value in computed.items())
    elif isinstance(computed, list):
        yield from ((f"{key}[{place}]", *pair) for place, pair in enumerate(zip(computed, recorded, strict=True)))
    else:
        yield key, computed, recorded
