"""Records whose every number follows from their predictions, computed here item by item and by scikit-learn."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np
from factory import make_record
from sklearn.metrics import balanced_accuracy_score, f1_score

from leaderboard.records.files import write_record
from leaderboard.records.predictions import PredictedScores, write_predictions
from leaderboard.records.record import Record

PROTOCOL = "beans-probe/2+trials=3+seeds=2+bootstrap=200"
RATES = (1e-2, 1e-1, 1.0)
LAYERS = 4


def write_consistent(
    directory: Path,
    submission: str = "model",
    *,
    kind: str = "classification",
    task: str = "mine",
    group: str = "own",
    labels: tuple[str, ...] = ("a", "b", "c"),
    ids: list[str] | None = None,
    recordings: list[str] | None = None,
    targets: np.ndarray | None = None,
    counts: tuple[int, int] = (30, 10),
    split_hash: str = "0" * 64,
    seed: int = 0,
    stated: bool = False,
    **changes: Any,
) -> Path:
    """Write a record and its predictions into ``directory``; the record's file is returned.

    With ``stated`` the record states how its probe was chosen, and with both flags of doubt. Without, it is a record
    of an older version.
    """
    rng = np.random.default_rng(seed)
    classification = kind == "classification"
    ids = ids if ids is not None else [f"clip-{number}" for number in range(24)]
    recordings = recordings if recordings is not None else [f"recording-{number // 3}" for number in range(len(ids))]
    if targets is None:
        targets = rng.integers(len(labels), size=len(ids))
        if not classification:
            targets = (rng.uniform(size=(len(ids), len(labels))) < 0.3).astype(np.uint8)
            targets[:, -1] = 0  # a class without a positive, as in several BEANS tasks
    # Few different scores, so that some are equal and the order of equal ones counts.
    scores = rng.integers(-4, 4, size=(2, len(ids), len(labels))).astype(np.float32)
    test = PredictedScores(ids, recordings, scores, targets)

    trials: list[dict[str, Any]] = [
        {
            "number": number,
            "lr": rate,
            "valid": [float(value) for value in rng.integers(0, 4, LAYERS) / 4],
            "epoch": [int(value) for value in rng.integers(1, 30, LAYERS)],
            "looks": 30 * LAYERS + number if stated else None,
        }
        for number, rate in enumerate(RATES)
    ]
    if stated:
        for trial in trials:
            trial["loss"] = [float(value) for value in rng.integers(1, 3, LAYERS) / 2]
    losses = [trial.get("loss", [0.0] * LAYERS) for trial in trials]
    points = [
        (-trial["valid"][layer], layer, loss[layer], trial["epoch"][layer], trial["lr"])
        for trial, loss in zip(trials, losses, strict=True)
        for layer in range(LAYERS)
    ]
    best = [min(point for point in points if point[1] == layer) for layer in range(LAYERS)]
    chosen = min(points)
    layers = [
        {"index": layer, "name": f"block {layer}", "width": 8, "valid": -valid, "test": 0.5, "lr": lr, "epoch": epoch}
        for valid, layer, _, epoch, lr in best
    ]
    metric = "accuracy" if classification else "map"
    fields: dict[str, Any] = {
        "task": {
            "name": task,
            "kind": kind,
            "group": group,
            "metric": metric,
            "labels": list(labels),
            "split_hash": split_hash,
            "native_rates": [16000],
            "n_train": counts[0],
            "n_valid": counts[1],
            "n_test": len(ids),
        },
        "valid": -chosen[0],
        "best_layer": chosen[1],
        "best_layer_name": f"block {chosen[1]}",
        "epoch": chosen[3],
        "lr": chosen[4],
        "layers": layers,
        "trials": trials,
        "epochs": [0.5] * 30,
        **_scores(metric, test),
    }
    if stated:
        fields |= {
            "selection": {
                "looks": 30 * LAYERS * 3 + 3,
                "recordings": 7,
                "optimism": fields["valid"] - fields["test"],
                "alike": sorted({chosen[1], 0, 3}),
            },
            "reference": {"strength": 10.0, "valid": 0.5, "test": min(fields["test"] + 0.05, 1.0)},
            "flags": [*changes.pop("flags", []), "undertrained", "few-validation-recordings"],
        }
    made = make_record(submission, task, metric=metric, **{"protocol": PROTOCOL, **changes})
    record = Record.model_validate({**made.model_dump(), **fields})
    predictions = write_predictions(directory, record.stem, test)
    return write_record(directory, record.model_copy(update={"predictions": predictions}))


def _scores(metric: str, test: PredictedScores) -> dict[str, Any]:
    every = list(range(len(test.ids)))
    per_seed = [_metric(metric, scores, test.targets, every) for scores in test.scores]
    if metric == "accuracy":
        present = sorted(set(test.targets.tolist()))
        secondary = {
            "balanced_accuracy": np.mean([balanced_accuracy_score(test.targets, s.argmax(1)) for s in test.scores]),
            "macro_f1": np.mean(
                [f1_score(test.targets, s.argmax(1), labels=present, average="macro") for s in test.scores]
            ),
        }
    else:
        classes = [column for column in range(test.targets.shape[1]) if test.targets[:, column].any()]
        secondary = {
            "map_present_classes": np.mean(
                [_precision(s[:, column], test.targets[:, column], every) for s in test.scores for column in classes]
            ),
            "macro_f1": np.mean([f1_score(test.targets, s > 0, average="macro", zero_division=0) for s in test.scores]),
        }
    low, high = np.quantile(_resampled(metric, test), [0.025, 0.975])
    return {
        "test": statistics.fmean(per_seed),
        "test_std": statistics.stdev(per_seed),
        "test_seeds": per_seed,
        "ci_low": float(low),
        "ci_high": float(high),
        "secondary": {name: float(value) for name, value in secondary.items()},
    }


def _resampled(metric: str, test: PredictedScores) -> list[float]:
    """The bootstrap as one would do it by hand: draw recordings, list their items, score the list."""
    rng = np.random.default_rng(0)
    names = sorted(set(test.recordings))
    found = []
    for _ in range(200):
        drawn = [names[place] for place in rng.integers(len(names), size=len(names))]
        items = [
            item for item, name in enumerate(test.recordings) for _ in range(drawn.count(name))
        ]  # copies of an item stand side by side
        found.append(float(np.mean([_metric(metric, scores, test.targets, items) for scores in test.scores])))
    return found


def _metric(metric: str, scores: np.ndarray, targets: np.ndarray, items: list[int]) -> float:
    if metric == "accuracy":
        return statistics.fmean(scores[item].argmax() == targets[item] for item in items)
    return float(
        np.mean([_precision(scores[:, column], targets[:, column], items) for column in range(targets.shape[1])])
    )


def _precision(scores: np.ndarray, targets: np.ndarray, items: list[int]) -> float:
    """BEANS' average precision: the mean of the precision at each positive; 0 without one."""
    hits, precisions = 0, []
    for rank, item in enumerate(sorted(items, key=lambda item: -scores[item]), start=1):
        if targets[item]:
            hits += 1
            precisions.append(hits / rank)
    return statistics.fmean(precisions) if precisions else 0.0
