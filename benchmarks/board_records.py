"""A home full of made-up results, as large and as consistent as real results."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import torch

from evaluator.probes.metrics import score
from leaderboard.database.standings import catalogue
from leaderboard.database.store import Store
from leaderboard.ranking import resamples
from leaderboard.records.files import record_path
from leaderboard.records.predictions import PredictedScores, write_predictions
from leaderboard.records.protocol import Protocol
from leaderboard.records.record import Predictions, Record, file_stem
from leaderboard.records.stored import StoredRecord
from tasks.support.home import Home
from tasks.task import Task

TRACKS = ("ta", "twa")
# The sizes of a large encoder under the standard protocol.
LAYERS, TRIALS, EPOCHS, SEEDS = 26, 16, 100, 5
# There are few test items and classes, so that the resamples of a thousand submissions take a minute. A record states
# both numbers, and no page reads the predictions themselves.
ITEMS, RECORDINGS, CLASSES = 60, 20, 4
_FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_FAMILIES = ("AVES", "BEATs", "HuBERT", "WavLM", "Perch", "BirdNET", "CLAP", "AST")
_LICENCES = ("MIT", "Apache-2.0", "CC-BY-NC-4.0", "BSD-3-Clause")
_DATA = (("AudioSet", "general audio"), ("LibriSpeech", "speech"), ("Xeno-canto", "animals"), ("FMA", "music"))


@dataclass(frozen=True)
class _Outcome:
    """The scores of one encoder on one task: its predictions and resamples files, and the numbers of its record.

    Several submissions share one outcome. Each has its own names for the files.
    """

    predictions: Path
    sha256: str
    resamples: Path
    seeds: tuple[float, ...]
    ci_low: float
    ci_high: float

    @property
    def test(self) -> float:
        return float(np.mean(self.seeds))


def fill(home: Home, submissions: int, *, variants: int = 40, seed: int = 0, report: Callable[[str], None]) -> int:
    """Write records of many submissions on BEANS' tasks in both tracks, and rebuild the board from them.

    Args:
        home: an empty home, whose database is filled.
        submissions: number of submissions.
        variants: number of different outcomes per task and track; a submission draws one of them.
        seed: seed of all random numbers.
        report: receives a sentence about each finished step.

    Returns:
        The number of records on the board.
    """
    rng = np.random.default_rng(seed)
    tasks = [task for task in catalogue() if task.group in ("core", "auxiliary")]
    home.records.mkdir(parents=True)
    parts = home.root / "outcomes"
    outcomes = {
        (task.name, track): [_outcome(parts, task, track, number, variants, rng) for number in range(variants)]
        for task in tasks
        for track in TRACKS
    }
    report(f"{len(outcomes) * variants} outcomes are resampled")
    for number in range(submissions):
        # A good encoder is good on most tasks, as in a real ranking.
        quality = rng.uniform(0, variants)
        for task in tasks:
            for track in TRACKS:
                place = int(np.clip(rng.normal(quality, variants / 8), 0, variants - 1))
                _write(home.records, number, task, track, outcomes[task.name, track][place], rng)
    report(f"{submissions * len(tasks) * len(TRACKS)} records are written")
    return Store(home.database_url).rebuild(home.records)


def _outcome(directory: Path, task: Task, track: str, number: int, variants: int, rng: np.random.Generator) -> _Outcome:
    ids = [f"{task.name}-{item:03d}" for item in range(ITEMS)]
    recordings = [f"recording-{item % RECORDINGS:02d}" for item in range(ITEMS)]
    answers = np.arange(ITEMS) % CLASSES
    truth = np.eye(CLASSES, dtype=np.float32)[answers]
    strength = 0.3 + 2.5 * number / variants
    scores = (truth * strength + rng.normal(size=(SEEDS, ITEMS, CLASSES))).astype(np.float32)
    targets = answers.astype(np.int64) if task.metric == "accuracy" else truth.astype(np.uint8)
    found = PredictedScores(ids, recordings, scores, targets)
    seeds = score(task.metric, torch.from_numpy(scores), torch.from_numpy(targets)).double()
    record_id = f"{number:016x}"
    predictions = write_predictions(directory, file_stem("outcome", task.name, track, record_id), found)
    drawn = _Outcome(directory / predictions.file, predictions.sha256, directory, tuple(seeds.tolist()), 0.0, 1.0)
    record = _record("outcome", number, task, track, record_id, predictions, drawn, rng)
    low, high = np.quantile(
        resamples.scored(StoredRecord(record, record_path(directory, record))).resampled, [0.025, 0.975]
    )
    return replace(drawn, resamples=resamples.resamples_path(directory, record), ci_low=float(low), ci_high=float(high))


def _write(records: Path, number: int, task: Task, track: str, outcome: _Outcome, rng: np.random.Generator) -> None:
    name = f"encoder-{number:04d}"
    record_id = f"{rng.integers(2**63):016x}"
    stem = file_stem(name, task.name, track, record_id)
    predictions = Predictions(file=f"{stem}.predictions.safetensors", sha256=outcome.sha256)
    record = _record(name, number, task, track, record_id, predictions, outcome, rng)
    # Hard links to the same file, since 24,000 copies would fill the disk.
    os.link(outcome.predictions, records / predictions.file)
    os.link(outcome.resamples, resamples.resamples_path(records, record))
    record_path(records, record).write_text(record.model_dump_json(indent=2), encoding="utf-8")


def _record(
    name: str,
    number: int,
    task: Task,
    track: str,
    record_id: str,
    predictions: Predictions,
    outcome: _Outcome,
    rng: np.random.Generator,
) -> Record:
    best = int(rng.integers(4, LAYERS))
    curve = [outcome.test * math.exp(-(((layer - best) / LAYERS) ** 2)) for layer in range(LAYERS)]
    rates = sorted(10 ** rng.uniform(-5, -1, TRIALS))
    trials = [
        {
            "number": trial,
            "lr": rate,
            "valid": [value * (1 - 0.02 * abs(trial - TRIALS / 2)) for value in curve],
            "epoch": rng.integers(20, EPOCHS, LAYERS).tolist(),
        }
        for trial, rate in enumerate(rates)
    ]
    layers = [
        {
            "index": layer,
            "name": f"block {layer}",
            "width": 1024,
            "valid": value,
            "test": value,
            "lr": 1e-3,
            "epoch": 40,
        }
        for layer, value in enumerate(curve)
    ]
    data, domain = _DATA[number % len(_DATA)]
    items = task.published.items
    return Record.model_validate(
        {
            "id": record_id,
            "created": _FIRST_DAY + timedelta(minutes=10 * number),
            "protocol": Protocol().name,
            "limit": None,
            "track": track,
            "submission": {
                "name": name,
                "loader": "huggingface",
                "arguments": {"model": f"nobody/{name}", "revision": "main", "sample_rate": 16000},
                "about": {
                    "description": "An encoder that nobody trained, for measuring how fast the board is drawn.",
                    "family": _FAMILIES[number % len(_FAMILIES)],
                    "authors": "Nobody et al.",
                    "licence": _LICENCES[number % len(_LICENCES)],
                    "paper": "https://arxiv.org/abs/0000.00000",
                    "pretraining": [{"data": data, "domain": domain, "hours": 960.0, "collections": []}],
                },
                "weights_sha256": f"{number:064x}",
                "parameters": 90_000_000 + 250_000 * (number % 900),
                "sample_rate": 16000,
            },
            "task": {
                "name": task.name,
                "kind": task.kind,
                "group": task.group,
                "metric": task.metric,
                "labels": [f"species {label}" for label in range(CLASSES)],
                "split_hash": f"{0:064x}",
                "native_rates": [44100],
                "n_train": items.get("train", 600),
                "n_valid": items.get("valid", 200),
                "n_test": ITEMS,
            },
            "metric": task.metric,
            "valid": max(max(trial["valid"]) for trial in trials),
            "test": outcome.test,
            "test_std": float(np.std(outcome.seeds, ddof=1)),
            "test_seeds": list(outcome.seeds),
            "ci_low": outcome.ci_low,
            "ci_high": outcome.ci_high,
            "secondary": {"macro_f1": outcome.test},
            "best_layer": best,
            "best_layer_name": f"block {best}",
            "lr": 1e-3,
            "epoch": 40,
            "flags": [],
            "layers": layers,
            "trials": trials,
            "epochs": [outcome.test * (1 - math.exp(-epoch / 8)) for epoch in range(EPOCHS)],
            "predictions": predictions.model_dump(),
            "efficiency": {
                "device": "NVIDIA H200",
                "vram_bytes": 2**29 + 2**20 * (number % 700),
                "weights_bytes": 2**28,
                "seconds": 0.0123,
                "reason": "",
            },
            "audio": {"sample_rate": "16000", "resampling": "soxr HQ", "padding": "masked exactly"},
            "seconds": {"load": 4.1, "features": 41.2, "search": 33.9, "test": 1.2, "interval": 0.4},
            "environment": {
                "git_commit": "0" * 40,
                "git_dirty": False,
                "packages": {"torch": "2.11.0", "torchaudio": "2.11.0", "transformers": "5.17.0", "numpy": "2.4.0"},
                "python": "3.11.7",
                "platform": "Linux x86_64",
                "device": "NVIDIA H200",
                "driver": None,
                "precision": "fp32",
                "threads": 2,
            },
        }
    )
