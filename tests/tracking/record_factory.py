"""Valid records with the predictions behind them: random, seeded, and consistent with each other."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from leaderboard.records.files import write_record
from leaderboard.records.predictions import PredictedScores, write_predictions
from leaderboard.records.record import (
    Efficiency,
    Environment,
    LayerScore,
    Record,
    Reference,
    Selection,
    SubmissionInfo,
    TaskInfo,
    Trial,
)
from tasks.task import Kind

PROTOCOL = "beans-probe/2"


def make_record(
    directory: Path,
    *,
    submission: str = "wavlm-large",
    kind: Kind = "classification",
    seed: int = 0,
    n_layers: int = 13,
    n_items: int = 80,
    labels: tuple[str, ...] = ("whistle", "trill", "buzz", "click train", "harmonic stack"),
    **overrides: Any,
) -> Path:
    """Write a record and its predictions into ``directory`` and return the record file."""
    rng = np.random.default_rng(seed)
    identity = hashlib.sha256(f"{submission} {kind} {seed}".encode()).hexdigest()[:16]
    task = "mini-calls" if kind == "classification" else "mini-soundscape"
    test = _scores(rng, kind, len(labels), n_items)
    predictions = write_predictions(directory, f"{submission}.{task}.ta.{identity}", test)

    indices = np.arange(n_layers)
    height = 0.4 + 0.4 * np.exp(-((indices - 0.6 * n_layers) ** 2) / n_layers)
    learning_rates = [float(rate) for rate in np.sort(10 ** rng.uniform(-5, -1, size=4))]
    trials = [
        Trial(
            number=number,
            lr=rate,
            valid=[float(value) for value in np.clip(height - rng.uniform(0, 0.1, n_layers), 0, 1)],
            epoch=[int(value) for value in rng.integers(1, 30, n_layers)],
            loss=[float(index + number) for index in range(n_layers)],
            looks=30 * n_layers,
        )
        for number, rate in enumerate(learning_rates)
    ]
    best_trial = np.array([trial.valid for trial in trials]).argmax(axis=0)
    layers = [
        LayerScore(
            index=index,
            name="embeddings" if index == 0 else f"block {index}",
            width=768,
            valid=trials[trial].valid[index],
            test=float(np.clip(trials[trial].valid[index] - rng.uniform(-0.02, 0.06), 0, 1)),
            lr=trials[trial].lr,
            epoch=trials[trial].epoch[index],
        )
        for index, trial in enumerate(best_trial)
    ]
    best = max(layers, key=lambda layer: layer.valid)
    fields: dict[str, Any] = {
        "id": identity,
        "created": datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
        "protocol": PROTOCOL,
        "limit": None,
        "track": "ta",
        "submission": SubmissionInfo(
            name=submission,
            loader="huggingface",
            arguments={"model": f"example/{submission}", "revision": "abc123"},
            about={"authors": "A. Author", "licence": "MIT"},
            weights_sha256=hashlib.sha256(submission.encode()).hexdigest(),
            parameters=94_000_000,
            sample_rate=16_000,
        ),
        "task": TaskInfo(
            name=task,
            kind=kind,
            group="builtin",
            metric="accuracy" if kind == "classification" else "map",
            labels=list(labels),
            split_hash=hashlib.sha256(task.encode()).hexdigest(),
            native_rates=[16_000, 48_000],
            n_train=240,
            n_valid=60,
            n_test=n_items,
        ),
        "metric": "accuracy" if kind == "classification" else "map",
        "valid": best.valid,
        "test": best.test,
        "test_std": 0.0125,
        "test_seeds": [best.test, best.test],
        "ci_low": max(0.0, best.test - 0.04),
        "ci_high": min(1.0, best.test + 0.05),
        "secondary": {"macro_f1": float(rng.uniform()), "balanced_accuracy": float(rng.uniform())},
        "best_layer": best.index,
        "best_layer_name": best.name,
        "lr": best.lr,
        "epoch": best.epoch,
        "flags": ["lr at the edge of the range"],
        "selection": Selection(
            looks=30 * n_layers * len(trials),
            recordings=60,
            optimism=best.valid - best.test,
            alike=sorted({0, best.index}),
        ),
        "reference": Reference(strength=0.1, valid=0.625, test=0.75),
        "layers": layers,
        "trials": trials,
        "epochs": [float(value) for value in np.sort(rng.uniform(0.1, best.valid, size=30))],
        "predictions": predictions,
        "efficiency": Efficiency(
            device="NVIDIA H200", vram_bytes=1_250_000_000, weights_bytes=380_000_000, seconds=0.02
        ),
        "audio": {"normalisation": "zero mean, unit variance", "padding": "none"},
        "seconds": {"features": 12.5, "search": 3.25, "confirm": 1.5},
        "environment": Environment(
            git_commit="0123456789abcdef0123456789abcdef01234567",
            git_dirty=False,
            packages={"torch": "2.11.0"},
            python="3.12.0",
            platform="Linux",
            device="NVIDIA H200",
            driver="600.1",
            precision="fp32",
            threads=2,
        ),
    }
    return write_record(directory, Record(**{**fields, **overrides}))


def _scores(rng: np.random.Generator, kind: Kind, classes: int, items: int) -> PredictedScores:
    scores = rng.normal(size=(2, items, classes)).astype(np.float32)
    if kind == "classification":
        targets = rng.integers(classes, size=items)
        scores[:, np.arange(items), targets] += 2
    else:
        targets = (rng.uniform(size=(items, classes)) < 0.2).astype(np.uint8)
        targets[:, -1] = 0  # one class without a positive in the test split, as in several BEANS tasks
        scores += 2 * targets
    return PredictedScores(
        ids=[f"clip-{index}.wav" for index in range(items)],
        recordings=[f"recording-{index // 4}" for index in range(items)],
        scores=scores,
        targets=targets,
    )
