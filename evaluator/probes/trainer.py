"""Train probes on a task's features: at the rates of the search, then at the chosen rate for the test split."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluator.features.samples import Pooled, Samples
from evaluator.features.scale import Scale
from evaluator.features.store import Features
from evaluator.probes.automatic import stack_of
from evaluator.probes.fit import Fit, fit, predict
from evaluator.probes.head import Head, Stack
from evaluator.probes.heads import HEADS
from evaluator.probes.logistic import Logistic, logistic_regression
from evaluator.probes.metrics import score
from evaluator.probes.search import Choice, Tried
from leaderboard.ranking.bootstrap import resampled
from leaderboard.records.protocol import Protocol
from tasks.task import SPLITS

if TYPE_CHECKING:
    from tasks.task import Split

# Bytes for the features and probes that are trained at once on a CPU.
_MEMORY = 4 * 2**30


@dataclass(frozen=True)
class Curve:
    """The best probe of each layer.

    Attributes:
        test: (layers,) test metric.
        valid: (layers, resamples) validation metric on resampled recordings. A resample has the same recordings for
            all layers.
    """

    test: list[float]
    valid: NDArray[np.float64]


OnEpoch = Callable[[int, int], None]
"""Receives the number of finished epochs, counted per layer, and the largest possible number."""


def read_inputs(
    features: Features, head: Head, rules: Protocol, split: "Split", layers: Sequence[int], device: torch.device
) -> Samples:
    """What a head reads of one split under a protocol, in layers of one width."""
    return features.samples(
        split,
        layers,
        device,
        frames=head.reads_frames,
        standardise=rules.scale == "standardised",
        multiplier=_multiplier(features, layers),
    )


def input_scale(features: Features, head: Head, rules: Protocol, layer: int) -> Scale | None:
    """What `read_inputs` does to the features of a layer, for clips that are not in the store; None for nothing."""
    if rules.scale != "standardised":
        return None
    return features.scale((layer,), frames=head.reads_frames, multiplier=_multiplier(features, (layer,)))


def _multiplier(features: Features, layers: Sequence[int]) -> float:
    """Of standardised inputs: with the variance 1 / width a rate and a penalty mean the same for every width."""
    return float(next(block.width for block in features.blocks if layers[0] in block.layers) ** -0.5)


class Trainer:
    """One track of one task. Only ``test``, ``curve`` and ``reference`` read the test split."""

    def __init__(self, features: Features, track: str, device: torch.device, rules: Protocol) -> None:
        self.features = features
        self.head = HEADS.get(track)
        self.device = device
        self.rules = rules
        self.metric = features.manifest.task.metric
        self.classes = len(features.manifest.labels)
        self._stacks: dict[int, Stack] = {}
        # The last samples of each split: the two batches of a search read the same ones.
        self._read: dict[str, Samples] = {}

    def rates(self, rates: Sequence[float], on_epoch: OnEpoch) -> list[Tried]:
        """Train every layer at every rate."""
        layers = sum(len(block.layers) for block in self.features.blocks)
        valid, loss = torch.empty(2, layers, len(rates), dtype=torch.double)
        epoch, looks = torch.empty(2, layers, len(rates), dtype=torch.long)
        done = 0
        for together in self._groups(len(rates)):
            result = self._fit(
                together, rates, seeds=(0,), on_epoch=self._counter(on_epoch, done, layers, len(together))
            )
            best, first = result.best()
            valid[together], epoch[together] = best[:, 0], first[:, 0]
            loss[together], looks[together] = result.loss[:, 0], result.valid.isfinite().sum(0)[:, 0]
            done += len(together)
        # A probe that diverged has no finite loss. The largest number loses every tie, and a record can hold it.
        loss = loss.nan_to_num(nan=torch.finfo(loss.dtype).max)
        return [
            Tried(
                valid=valid[:, rate].tolist(),
                epoch=epoch[:, rate].tolist(),
                loss=None if self.rules.patience else loss[:, rate].tolist(),
                looks=int(looks[:, rate].sum()),
            )
            for rate in range(len(rates))
        ]

    def test(self, choice: Choice) -> tuple[Tensor, list[float]]:
        """Retrain the chosen probe with every seed, to the chosen epoch, and read the test split.

        Returns:
            (seeds, items, classes) test logits, and the validation metric of each epoch of the first seed.
        """
        seeds = tuple(range(self.rules.seeds))
        layers = (choice.layer,)
        keep = torch.tensor([choice.epoch])
        result = self._fit(layers, [choice.lr], seeds=seeds, keep=keep, every_epoch=True)
        assert result.state is not None
        samples = self._samples("test", layers)
        logits = predict(self._stack(samples.width), result.state, samples, len(seeds))
        return logits[0, :, 0].float().cpu(), result.valid[:, 0, 0, 0].tolist()

    def curve(self, best: Sequence[Choice]) -> Curve:
        """Retrain the best probe of each layer, and score it on validation and test.

        The test curve is a diagnostic, which chooses nothing.
        """
        test = torch.empty(len(best), dtype=torch.double)
        valid: dict[int, NDArray[np.float64]] = {}
        for block in self.features.blocks:
            # Layers whose best rate is the same are trained together.
            for rate in dict.fromkeys(best[layer].lr for layer in block.layers):
                layers = [layer for layer in block.layers if best[layer].lr == rate]
                epochs = torch.tensor([best[layer].epoch for layer in layers])
                state = self._fit(layers, [rate], seeds=(0,), keep=epochs).state
                assert state is not None
                stack = self._stack(block.width)
                for layer, logits in zip(layers, predict(stack, state, self._samples("valid", layers), 1), strict=True):
                    valid[layer] = self._resampled(logits[:, 0])
                samples = self._samples("test", layers)
                test[layers] = score(self.metric, predict(stack, state, samples, 1), samples.targets)[:, 0, 0].cpu()
        return Curve(test.tolist(), np.stack([valid[layer] for layer in range(len(best))]))

    def reference(self, layer: int) -> Logistic | None:
        """Logistic regression on the standardised vectors of a layer, whatever the head reads.

        None for a task that is too large for it.
        """
        train, valid, test = (self._vectors(split, layer) for split in SPLITS)
        return logistic_regression(self.metric, train, valid, test)

    def _vectors(self, split: "Split", layer: int) -> tuple[Tensor, Tensor]:
        samples = self.features.samples(split, (layer,), self.device, frames=False, standardise=True)
        assert isinstance(samples, Pooled)
        return samples.features[:, 0], samples.targets

    def _resampled(self, logits: Tensor) -> NDArray[np.float64]:
        """(resamples,) metric of validation logits (1, items, classes) on resampled recordings."""
        return resampled(
            self.metric,
            logits.float().cpu().numpy(),
            self.features.targets("valid").numpy(),
            [item.recording for item in self.features.manifest.items["valid"]],
            resamples=self.rules.bootstrap,
            seed=0,
        )

    def _fit(
        self,
        layers: Sequence[int],
        rates: Sequence[float],
        *,
        seeds: Sequence[int],
        keep: Tensor | None = None,
        every_epoch: bool = False,
        on_epoch: Callable[[], None] = lambda: None,
    ) -> Fit:
        train = self._samples("train", layers)
        return fit(
            self._stack(train.width),
            train,
            self._samples("valid", layers),
            metric=self.metric,
            rates=rates,
            seeds=seeds,
            protocol=self.rules,
            keep=keep,
            every_epoch=every_epoch,
            on_epoch=on_epoch,
        )

    def _stack(self, width: int) -> Stack:
        if width not in self._stacks:
            self._stacks[width] = stack_of(self.head, width, self.classes, self.device)
        return self._stacks[width]

    def _samples(self, split: "Split", layers: Sequence[int]) -> Samples:
        if split not in self._read or tuple(self._read[split].layers) != tuple(layers):
            # Free the previous samples before the next ones are read.
            self._read.pop(split, None)
            self._read[split] = read_inputs(self.features, self.head, self.rules, split, layers, self.device)
        return self._read[split]

    def _groups(self, probes: int) -> Iterator[list[int]]:
        """Layers of one width and hop that are trained at once: as many as there is memory for."""
        splits = [len(self.features.manifest.items[split]) for split in ("train", "valid")]
        frames = self.head.reads_frames
        for block in self.features.blocks:
            # Parameters, gradients, two moments and the temporary values of a step; then scores and their order.
            learned = 5 * probes * self._stack(block.width).size + 8 * probes * splits[1] * self.classes
            layer = 4 * (learned + (0 if frames else sum(splits) * block.width))
            count = max(1, self._memory() // layer)
            if frames and self.features.streamed is not None:
                # Each group would run the backbone again.
                count = len(block.layers)
            for start in range(0, len(block.layers), count):
                yield list(block.layers[start : start + count])

    def _memory(self) -> int:
        if self.device.type != "cuda":
            return _MEMORY
        # Memory that torch's allocator still holds from the extraction is free for the probes.
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(self.device)[0] // 2

    def _counter(self, on_epoch: OnEpoch, before: int, layers: int, now: int) -> Callable[[], None]:
        """Count epochs over all groups of layers as one."""
        epochs = self.rules.epochs
        done = before * epochs

        def advance() -> None:
            nonlocal done
            done += now
            on_epoch(done, layers * epochs)

        return advance
