"""A search over all layers and learning rates, compared with other common ways: one task, one backbone, one run.

    python3 -m benchmarks.peers --json peers.json

| way        | steps                                                                                       |
| ---------- | ------------------------------------------------------------------------------------------- |
| suite      | one pass of the backbone, then all layers and 8 rates at once, twice                        |
| one by one | one pass of the backbone, then torch.nn.Linear and Adam for one layer and rate after another |
| rerun      | for every layer and rate, the backbone again in every epoch, as fine-tuning code does       |
| sklearn    | one pass of the backbone, then scikit-learn's logistic regression for one layer and C after another |

All ways have the same number of pairs. The suite is measured on all pairs. The others are measured on some evenly
spread pairs and scaled up; the rerun is measured on one epoch. Early stopping is off: all ways train the same epochs.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.alone import train_alone
from benchmarks.extraction import ALL_MODELS
from benchmarks.report import facts, table
from evaluator.backbone import ready
from evaluator.features.clips import Clip, Shard, waveforms
from evaluator.features.extraction import Extractor
from evaluator.features.store import Features, FeatureStore
from evaluator.probes.heads import HEADS
from evaluator.probes.trainer import Trainer, read_inputs
from leaderboard.records.protocol import Protocol
from tasks.manifest import read_manifest
from tasks.prepare import prepare
from tasks.task import Manifest, load_task

_CPU = torch.device("cpu")
_RATES, _RATES_AT_ONCE = 16, 8
# Range of C, the inverse strength of scikit-learn's penalty. This range is scikit-learn's default for a search.
_STRENGTHS = (1e-4, 1e4)
# Rounding may change one or two predictions.
_TOLERANCE = 0.02

Result = TypeVar("Result")


@dataclass(frozen=True)
class Way:
    """Seconds of a whole search, including the forward pass, and its best validation accuracy.

    Attributes:
        name: name of the way.
        seconds: wall time, scaled up to all pairs.
        pairs: number of measured pairs.
        valid: best validation accuracy of these pairs; None if no probe was trained to the end.
        suite_valid: the suite's best accuracy to compare with; None without a comparison.
    """

    name: str
    seconds: float
    pairs: int
    valid: float | None
    suite_valid: float | None = None


def compare(model: str, task: str, limit: int | None, measured: int, epochs: int) -> tuple[list[Way], int]:
    """Measure every way once. Return the ways, the suite first, and the number of (layer, rate) pairs."""
    rules = Protocol(epochs=epochs)
    low, high = torch.tensor([rules.lr_low, rules.lr_high], dtype=torch.double).log10().tolist()
    rates = torch.logspace(low, high, _RATES, dtype=torch.double).tolist()
    with tempfile.TemporaryDirectory() as directory:
        manifest = _two_splits(task, Path(directory), limit)
        extractor = Extractor.of(ready(ALL_MODELS[model](), _CPU), _CPU)
        extracted, features = _timed(partial(FeatureStore(Path(directory)).extract, extractor, manifest, frames=False))
        searched, found = _timed(partial(_suite, features, rules, rates))
        layers, pairs = len(found), len(found) * _RATES
        chosen = [divmod(int(pair), _RATES) for pair in torch.linspace(0, pairs - 1, measured).round()]
        alone, scores = _timed(partial(_one_by_one, features, rules, rates, chosen))
        per_pair = alone / measured
        epoch = _timed(partial(_rerun, extractor, features))[0]
        regressed, regressions = _timed(partial(_regressions, features, chosen))
    best = max(max(layer) for layer in found)
    return [
        Way("suite", extracted + searched, pairs, best),
        Way(
            "one by one",
            extracted + per_pair * pairs,
            measured,
            max(scores),
            max(found[layer][rate] for layer, rate in chosen),
        ),
        Way("rerun", epoch * epochs * pairs, 0, None),
        Way("sklearn", extracted + regressed / measured * pairs, measured, max(regressions), best),
    ], layers * _RATES


def _two_splits(name: str, directory: Path, limit: int | None) -> Manifest:
    """The train and validation split of a catalogue task, without the test split."""
    prepare(name, directory)
    manifest = read_manifest(load_task(name, data=directory))
    # Items are spread over the split, since its beginning may hold a single class.
    kept = {split: items[:: max(1, len(items) // limit)] if limit else items for split, items in manifest.items.items()}
    return replace(manifest, items={**kept, "test": ()})


def _suite(features: Features, rules: Protocol, rates: list[float]) -> list[list[float]]:
    """Validation accuracy per layer and rate."""
    trainer = Trainer(features, "ta", _CPU, rules)
    found = []
    for start in range(0, _RATES, _RATES_AT_ONCE):
        found += trainer.rates(rates[start : start + _RATES_AT_ONCE], lambda done, total: None)
    return [list(layer) for layer in zip(*(tried.valid for tried in found), strict=True)]


def _split(features: Features, split: str, layer: int) -> tuple[Tensor, Tensor]:
    samples = read_inputs(features, HEADS.get("ta"), Protocol(), split, [layer], _CPU)  # type: ignore[arg-type]
    (batch,) = samples.batches(torch.arange(len(samples.targets))[None])
    ((_, inputs, _),) = batch.pieces()
    return inputs[0], samples.targets


def _one_by_one(features: Features, rules: Protocol, rates: list[float], pairs: list[tuple[int, int]]) -> list[float]:
    """Validation accuracy per pair."""
    found = []
    for layer, rate in pairs:
        train, valid = (_split(features, split, layer) for split in ("train", "valid"))
        classes = len(features.manifest.labels)
        found.append(
            float(train_alone("ta", train, valid, classes=classes, layer=layer, seed=0, lr=rates[rate], protocol=rules))
        )
    return found


def _rerun(extractor: Extractor, features: Features) -> None:
    """Train one probe on the last layer for one epoch, and run the backbone for every batch."""
    clips = {
        split: {clip.index: clip for shard in shards for clip in shard.clips}
        for split, shards in features.plans.items()
    }
    block = len(extractor.blocks) - 1
    head = torch.nn.Linear(extractor.blocks[block].width, len(features.manifest.labels))
    optimiser = torch.optim.Adam(head.parameters())
    for split in ("train", "valid"):
        targets = features.targets(split)  # type: ignore[arg-type]
        for index in torch.randperm(len(targets)).split(32):
            inputs = _encode(extractor, block, [clips[split][item] for item in index.tolist()])  # type: ignore[index]
            if split == "train":
                optimiser.zero_grad()
                cross_entropy(head(inputs), targets[index]).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            else:
                head(inputs).argmax(-1)


def _encode(extractor: Extractor, block: int, clips: list[Clip]) -> Tensor:
    sounds = waveforms(Shard("", tuple(clips)), extractor.model.backbone.sample_rate)
    return extractor.encode(clips, sounds, frames=False).pooled[block][-1]


def _regressions(features: Features, pairs: list[tuple[int, int]]) -> list[float]:
    """Validation accuracy of scikit-learn's logistic regression per (layer, C) pair."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    strengths = torch.logspace(*torch.tensor(_STRENGTHS).log10().tolist(), _RATES).tolist()
    found = []
    for layer, number in pairs:
        (train, answers), (valid, right) = (_split(features, split, layer) for split in ("train", "valid"))
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strengths[number], max_iter=1000))
        model.fit(train.numpy(), answers.numpy())
        found.append(float(model.score(valid.numpy(), right.numpy())))
    return found


def _timed(run: Callable[[], Result]) -> tuple[float, Result]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def main() -> int:
    """Run from the command line. Return 1 if another way finds a better validation score."""
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.peers", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", choices=sorted(ALL_MODELS), default="hubert-base", help="(hubert-base)")
    parser.add_argument("--task", default="mini-calls", help="a classification task of the catalogue (mini-calls)")
    parser.add_argument("--limit", type=int, metavar="N", help="at most so many items a split")
    parser.add_argument("--measured", type=int, default=26, metavar="N", help="pairs measured of each peer (26)")
    parser.add_argument("--epochs", type=int, default=100, metavar="N", help="epochs (100)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the numbers here")
    arguments = parser.parse_args()
    ways, pairs = compare(arguments.model, arguments.task, arguments.limit, arguments.measured, arguments.epochs)
    suite = ways[0]
    rows = [
        [
            way.name,
            f"{way.seconds:,.0f}",
            f"{way.seconds / suite.seconds:,.1f}",
            "-" if way.valid is None else f"{way.valid:.3f}",
            "-" if way.suite_valid is None else f"{way.suite_valid:.3f}",
            str(way.pairs),
        ]
        for way in ways
    ]
    header = ["way", "seconds", "times the suite", "best validation", "suite's, same pairs", "pairs measured"]
    print(table(header, rows))
    print(f"\n{arguments.model} with random weights on {arguments.task}, {pairs} pairs, {arguments.epochs} epochs.")
    if arguments.json:
        machine = facts(_CPU, shlex.join(["python3", "-m", "benchmarks.peers", *sys.argv[1:]]))
        content = {"machine": machine, "pairs": pairs, "ways": [asdict(way) for way in ways]}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")
    better = [way.name for way in ways if way.valid is not None and way.valid > (way.suite_valid or 1) + _TOLERANCE]
    if better:
        print(f"A better validation score was found by: {', '.join(better)}.", file=sys.stderr)
    return 1 if better else 0


if __name__ == "__main__":
    sys.exit(main())
