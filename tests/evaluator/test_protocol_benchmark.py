"""The evidence for the protocol: its own training gives the probes that the suite trains, and its tables are made."""

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from evaluator.features.samples import Pooled
from evaluator.probes.automatic import stack_of
from evaluator.probes.fit import fit
from evaluator.probes.heads import HEADS
from leaderboard.records.protocol import Protocol
from tasks.task import SPLITS, Metric

ROOT = Path(__file__).resolve().parents[2]
ITEMS, LAYERS, WIDTH, CLASSES = {"train": 70, "valid": 50, "test": 40}, 2, 12, 3


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``benchmarks.protocol``; the benchmarks are no installed package."""
    monkeypatch.syspath_prepend(str(ROOT))
    import benchmarks.protocol.__main__
    import benchmarks.protocol.candidates
    import benchmarks.protocol.training
    import benchmarks.protocol.vectors

    return benchmarks.protocol


def arrays(metric: str) -> dict[str, np.ndarray]:
    """The content of a file of vectors, with classes that can be learned and a scale for each layer."""
    generator = np.random.default_rng(0)
    content: dict[str, np.ndarray] = {"metric": np.array(metric)}
    for split, items in ITEMS.items():
        own = generator.integers(CLASSES, size=items)
        centres = np.eye(CLASSES, WIDTH)[own]
        content[f"targets_{split}"] = own if metric == "accuracy" else np.eye(CLASSES, dtype=np.float32)[own]
        content[f"recordings_{split}"] = np.array([f"{split}{item}" for item in range(items)])
        for layer in range(LAYERS):
            noisy = 10**layer * (centres + generator.normal(size=(items, WIDTH)))
            content[f"pooled_{split}_{layer}"] = noisy.astype(np.float32)
    return content


@pytest.mark.parametrize("metric", ["accuracy", "map"])
def test_the_chosen_rules_are_trained_as_the_suite_trains_them(
    benchmark: ModuleType, metric: Metric, tmp_path: Path
) -> None:
    np.savez(tmp_path / "task.encoder.npz", **arrays(metric))
    vectors = benchmark.vectors.Vectors.read(tmp_path / "task.encoder.npz").scaled("standardised over root")
    winner, seeds = benchmark.candidates.WINNER, (0, 3)
    probes = winner.probes(0)
    looks = range(1, Protocol().epochs + 1)
    # In double precision, rounding cannot hide behind 'close enough'.
    torch.set_default_dtype(torch.float64)
    try:
        doubled = benchmark.vectors.Vectors(
            vectors.task,
            vectors.encoder,
            metric,
            [{split: layer[split].double() for split in SPLITS} for layer in vectors.layers],
            vectors.numbers,
            {split: own if metric == "accuracy" else own.double() for split, own in vectors.targets.items()},
            vectors.recordings,
        )
        ours = benchmark.training.train(doubled, [probes] * LAYERS, seeds, looks=looks, splits=("valid",))
        train, valid = (
            Pooled(torch.stack([layer[split] for layer in doubled.layers], 1), doubled.targets[split], range(LAYERS))
            for split in ("train", "valid")
        )
        theirs = fit(
            stack_of(HEADS.get("ta"), WIDTH, CLASSES, torch.device("cpu")),
            train,
            valid,
            metric=metric,
            rates=[probe.rate for probe in probes],
            seeds=seeds,
            protocol=Protocol(),
            every_epoch=True,
        )
    finally:
        torch.set_default_dtype(torch.float32)
    assert ours.valid.shape == theirs.valid.shape == (100, LAYERS, 2, Protocol().trials)
    assert (ours.valid - theirs.valid).abs().max() < 1e-5
    assert (ours.loss[-1] - theirs.loss).abs().max() < 1e-5
    assert theirs.valid[-1].std() > 0.01, "all probes are alike, so that nothing is compared"


def test_the_candidates_differ_and_the_first_is_the_standard(benchmark: ModuleType) -> None:
    candidates, standard = benchmark.candidates.CANDIDATES, Protocol()
    assert len({candidate.name for candidate in candidates}) == len(candidates)
    for probe in candidates[0].probes(0):
        assert standard.lr_low < probe.rate < standard.lr_high
        assert probe.decay == standard.penalty(probe.rate)


def test_the_comparison_prints_and_writes_the_tables(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for encoder in "abc":
        np.savez(tmp_path / f"task.{encoder}.npz", **arrays("accuracy"))
    monkeypatch.setattr(benchmark.training, "EPOCHS", 3)
    monkeypatch.setattr(benchmark.judge, "EPOCHS", 3)
    monkeypatch.setattr(benchmark.judge, "_TIMED_EPOCHS", 2)
    path = tmp_path / "out.json"
    command = ["benchmarks.protocol", "compare", str(tmp_path), "--seeds", "2", "--only", "AdamW", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", command)
    assert benchmark.__main__.main() == 0
    written = json.loads(path.read_text())
    names = [candidate["rules"]["name"] for candidate in written["candidates"]]
    assert names[:2] == ["beans-probe/2", "beans-probe/1"] and all("AdamW" in name for name in names[2:])
    second, first = written["candidates"][:2]
    assert second["change"] <= 0.025 < first["change"], "three epochs at another scale change nothing"
    assert first["cost"] == 1 and all(candidate["score"] > 0 for candidate in written["candidates"])
    assert [own["encoder"] for own in written["encoders"]] == ["a", "b", "c"]
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
