"""Probes on a task's features: at the rates the search asks for, then at the chosen one, on the test split."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from evaluator.features import Features
from evaluator.heads import HEADS
from evaluator.metrics import score
from evaluator.probes import Fit, fit, predict
from evaluator.protocol import Protocol
from evaluator.samples import Samples
from evaluator.search import Choice

if TYPE_CHECKING:
    from tasks.task import Split

OnEpoch = Callable[[int, int], None]
"""Told how many epochs are done, and how many there may be."""


class Trainer:
    """One track of one task. The test split is read by ``test`` and ``test_curve`` alone."""

    def __init__(self, features: Features, track: str, device: torch.device, rules: Protocol) -> None:
        self.features = features
        self.track = track
        self.device = device
        self.rules = rules
        self.head = HEADS[track]()
        self.metric = features.manifest.task.metric
        self.classes = len(features.manifest.labels)
        # The last of each split: the two batches of a search read the same.
        self._read: dict[str, Samples] = {}

    def rates(self, rates: Sequence[float], on_epoch: OnEpoch) -> list[tuple[list[float], list[int]]]:
        """Train every layer at every rate: per rate, per layer the best validation metric and its epoch (from 1)."""
        layers = sum(len(block.layers) for block in self.features.blocks)
        valid = torch.empty(layers, len(rates), dtype=torch.double)
        epoch = torch.empty(layers, len(rates), dtype=torch.long)
        for number, block in enumerate(self.features.blocks):
            found = self._fit(block.layers, rates, seeds=(0,), on_epoch=self._counter(on_epoch, number))
            best, first = found.best()
            valid[list(block.layers)], epoch[list(block.layers)] = best[:, 0].cpu(), first[:, 0].cpu()
        return [(valid[:, rate].tolist(), epoch[:, rate].tolist()) for rate in range(len(rates))]

    def test(self, choice: Choice) -> tuple[Tensor, list[float]]:
        """Retrain the chosen probe with every seed, to the chosen epoch, and read the test split.

        Returns:
            (seeds, items, classes) test logits, and the validation metric of each epoch of the first seed.
        """
        seeds = tuple(range(self.rules.seeds))
        layers = (choice.layer,)
        found = self._fit(layers, [choice.lr], seeds=seeds, keep=torch.tensor([choice.epoch]))
        assert found.parameters is not None
        logits = predict(self.head, found.parameters, self._samples("test", layers), len(seeds))
        return logits[0, :, 0].float().cpu(), found.valid[:, 0, 0, 0].tolist()

    def test_curve(self, best: Sequence[Choice]) -> list[float]:
        """The test metric of each layer's best probe: a diagnostic, which chooses nothing."""
        curve = torch.empty(len(best), dtype=torch.double)
        for block in self.features.blocks:
            # Layers whose best rate is the same are trained together.
            for rate in dict.fromkeys(best[layer].lr for layer in block.layers):
                layers = [layer for layer in block.layers if best[layer].lr == rate]
                epochs = torch.tensor([best[layer].epoch for layer in layers])
                found = self._fit(layers, [rate], seeds=(0,), keep=epochs)
                assert found.parameters is not None
                samples = self._samples("test", layers)
                logits = predict(self.head, found.parameters, samples, 1)
                curve[layers] = score(self.metric, logits, samples.targets)[:, 0, 0].cpu()
        return curve.tolist()

    def _fit(
        self,
        layers: Sequence[int],
        rates: Sequence[float],
        *,
        seeds: Sequence[int],
        keep: Tensor | None = None,
        on_epoch: Callable[[], None] = lambda: None,
    ) -> Fit:
        return fit(
            self.head,
            self._samples("train", layers),
            self._samples("valid", layers),
            classes=self.classes,
            metric=self.metric,
            rates=rates,
            seeds=seeds,
            protocol=self.rules,
            keep=keep,
            on_epoch=on_epoch,
        )

    def _samples(self, split: "Split", layers: Sequence[int]) -> Samples:
        found = self._read.get(split)
        if found is None or tuple(found.layers) != tuple(layers):
            # What was read before must not fill the memory while the next is read.
            self._read.pop(split, None)
            found = self._read[split] = self.features.samples(split, layers, self.track, self.device)
        return found

    def _counter(self, on_epoch: OnEpoch, number: int) -> Callable[[], None]:
        """Count epochs over all blocks as one."""
        done = number * self.rules.epochs
        total = len(self.features.blocks) * self.rules.epochs

        def advance() -> None:
            nonlocal done
            done += 1
            on_epoch(done, total)

        return advance
