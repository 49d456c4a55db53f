"""What the trainer makes of a task's features, whatever the memory."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from evaluator.features.extraction import Block
from evaluator.features.samples import Pooled
from evaluator.probes import trainer
from evaluator.probes.search import Choice, Tried
from evaluator.probes.trainer import Trainer
from leaderboard.records.protocol import Protocol

RATES = [1e-3, 1e-2]


class FewFeatures:
    """Three layers of one width, two of another, drawn from a seed; remembers which layers were read together."""

    def __init__(self) -> None:
        self.blocks = (Block((0, 2, 3), 6, 50.0), Block((1, 4), 4, 25.0))
        counts = {"train": 40, "valid": 20, "test": 20}
        items = {name: [SimpleNamespace(recording=str(i)) for i in range(count)] for name, count in counts.items()}
        task = SimpleNamespace(metric="accuracy")
        self.manifest = SimpleNamespace(task=task, items=items, labels=("a", "b"))
        self.streamed = None
        self.read: list[tuple[int, ...]] = []
        self.asked: list[tuple[bool, float]] = []

    def samples(
        self,
        split: str,
        layers: Any,
        device: torch.device,
        *,
        frames: bool,
        standardise: bool = False,
        multiplier: float = 1.0,
    ) -> Pooled:
        width = next(block.width for block in self.blocks if set(layers) <= set(block.layers))
        self.read += [tuple(layers)] if split == "train" else []
        generator = torch.Generator().manual_seed(len(self.manifest.items[split]))
        targets = torch.randint(2, (len(self.manifest.items[split]),), generator=generator)
        drawn = torch.randn(5, len(targets), 6, generator=generator) + targets[None, :, None] * 0.5
        drawn = drawn[list(layers), :, :width].transpose(0, 1)
        self.asked.append((standardise, multiplier))
        return Pooled(drawn * multiplier if standardise else drawn, targets, layers)

    def targets(self, split: str) -> Tensor:
        return self.samples(split, [0], torch.device("cpu"), frames=False).targets


def searched(features: FewFeatures) -> tuple[list[Tried], list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    made = Trainer(features, "ta", torch.device("cpu"), Protocol(epochs=6))  # type: ignore[arg-type]
    return made.rates(RATES, lambda done, total: told.append((done, total))), told


def test_layers_trained_in_groups_are_those_trained_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task too large for the memory must not change a score."""
    plenty, little = FewFeatures(), FewFeatures()
    expected, _ = searched(plenty)
    assert set(plenty.read) == {(0, 2, 3), (1, 4)}
    # Room for two layers of the wider block.
    monkeypatch.setattr(trainer, "_MEMORY", 2 * 4 * (60 * 6 + 5 * 2 * (2 * 6 + 2) + 8 * 2 * 20 * 2))
    found, told = searched(little)
    assert found == expected
    assert little.read[:2] == [(0, 2), (3,)]
    assert told[-1] == (30, 30) and [done for done, _ in told] == sorted(done for done, _ in told)


def test_not_even_one_layer_fits_and_it_is_tried_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "_MEMORY", 1)
    features = FewFeatures()
    assert searched(features)[0] == searched(FewFeatures())[0]
    assert all(len(layers) == 1 for layers in features.read)


def test_the_curve_over_layers_holds_each_layers_own_probe() -> None:
    """Layers that share a rate are trained together; their scores must not change places."""
    best = [Choice(layer, RATES[layer % 2], 1 + layer, 0.5) for layer in range(5)]
    made = Trainer(FewFeatures(), "ta", torch.device("cpu"), Protocol(epochs=6, bootstrap=2000))  # type: ignore[arg-type]
    curve = made.curve(best)
    assert curve.valid.shape == (5, 2000)
    for choice in best:
        logits, epochs = Trainer(FewFeatures(), "ta", torch.device("cpu"), Protocol(epochs=6, seeds=1)).test(choice)  # type: ignore[arg-type]
        assert curve.test[choice.layer] == pytest.approx(_accuracy(logits[0]))
        # The mean over resamples of the recordings is the score on all of them.
        assert curve.valid[choice.layer].mean() == pytest.approx(epochs[-1], abs=0.01)


def test_the_papers_train_on_features_as_they_are_and_the_standard_on_standardised_ones() -> None:
    """Whether a score depends on the scale of activations hangs on this."""
    for version, asked in (
        ("beans-probe/papers", {(False, 6**-0.5), (False, 0.5)}),
        ("beans-probe/2", {(True, 6**-0.5), (True, 0.5)}),
    ):
        features = FewFeatures()
        rules = replace(Protocol.standard(version), epochs=2)
        Trainer(features, "ta", torch.device("cpu"), rules).rates(RATES, lambda done, total: None)  # type: ignore[arg-type]
        assert set(features.asked) == asked


def _accuracy(logits: Tensor) -> float:
    targets = FewFeatures().samples("test", [0], torch.device("cpu"), frames=False).targets
    return sum(int(row.argmax()) == int(target) for row, target in zip(logits, targets, strict=True)) / len(targets)
