"""Train probes under any candidate: a plain second implementation, which shares no code with the suite's own training.

Only the initial values, the metric and the loss are the suite's, so that both can be compared number by number.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.protocol.candidates import STANDARD, Probe
from benchmarks.protocol.vectors import Vectors
from evaluator.probes.automatic import stack_of
from evaluator.probes.heads import HEADS
from evaluator.probes.metrics import loss, score
from tasks.task import Split

EPOCHS = STANDARD.epochs
_BATCH = STANDARD.batch_size
_FIRST, _SECOND, _EPSILON = 0.9, 0.999, 1e-8
# Per step. The average reaches back about ten epochs of the smaller tasks.
_AVERAGE = 0.99
# Weights that are trained at once. With more, or with far fewer, a step takes longer per weight.
_BLOCK_VALUES = 300_000
# Probabilities below the first number become the second. Tiny numbers would slow products down many times.
_TINY = (1e-15, 0.0)


@dataclass(frozen=True)
class Curves:
    """Scores after some epochs, each (looks, L, S, K): layers by seeds by probes. NaN where none was asked for."""

    looks: Sequence[int]
    valid: Tensor
    loss: Tensor
    test: Tensor

    def of(self, probes: Sequence[int]) -> "Curves":
        """The scores of some of the K probes."""
        return Curves(self.looks, *(scores[..., probes] for scores in (self.valid, self.loss, self.test)))


@torch.inference_mode()
def train(
    vectors: Vectors,
    probes: Sequence[Sequence[Probe]],
    seeds: Sequence[int],
    *,
    looks: Sequence[int] = (EPOCHS,),
    splits: Sequence[Split] = ("valid", "test"),
) -> Curves:
    """Train L x S x K probes. A seed fixes the order of the items and, with the layer, the initial values.

    Args:
        vectors: on the scale of the candidate.
        probes: (L, K) how they are trained.
        seeds: the S seeds.
        looks: epochs (from 1) after which to score, in order. Training ends with the last of them.
        splits: which splits to score.
    """
    shape = (len(looks), len(vectors.layers), len(seeds), len(probes[0]))
    curves = Curves(tuple(looks), *(torch.full(shape, torch.nan, dtype=torch.double) for _ in range(3)))
    widths = [layer["train"].shape[1] for layer in vectors.layers]
    for width in dict.fromkeys(widths):
        # Layers of one width are trained in one product, with as many probes as stay in a processor's cache.
        layers = [layer for layer, own in enumerate(widths) if own == width]
        size = max(1, _BLOCK_VALUES // (len(layers) * len(seeds) * vectors.classes * (width + 1)))
        for block in torch.split(torch.arange(len(probes[0])), size):
            _train_block(vectors, layers, block.tolist(), probes, seeds, splits, curves)
    return curves


def _train_block(
    vectors: Vectors,
    layers: Sequence[int],
    block: Sequence[int],
    probes: Sequence[Sequence[Probe]],
    seeds: Sequence[int],
    splits: Sequence[Split],
    curves: Curves,
) -> None:
    """Train some probes on some layers, which have one width, and write their scores into ``curves``."""
    inputs = {
        split: torch.stack([_with_one(vectors.layers[layer][split]) for layer in layers])
        for split in ("train", *splits)
    }
    targets, items = vectors.targets["train"], len(vectors.targets["train"])
    chosen = [[probes[layer][place] for place in block] for layer in layers for _ in seeds]
    learner = _Adam(_start(vectors, layers, seeds, chosen), chosen)
    orders = [torch.Generator().manual_seed(seed) for seed in seeds]
    steps, step = EPOCHS * math.ceil(items / _BATCH), 0
    for epoch in range(1, curves.looks[-1] + 1):
        order = torch.stack([torch.randperm(items, generator=generator) for generator in orders])
        for index in torch.split(order, _BATCH, dim=1):
            learner.step(_gradient(vectors, learner.weights, inputs["train"], targets, index), step / steps)
            step += 1
        if epoch in curves.looks:
            look = curves.looks.index(epoch)
            for split in splits:
                for layer, logits in zip(layers, _logits(learner.scored, inputs[split], len(seeds)), strict=True):
                    found = score(vectors.metric, logits, vectors.targets[split])
                    (curves.valid if split == "valid" else curves.test)[look, layer, :, block] = found
                    if split == "valid":
                        curves.loss[look, layer, :, block] = loss(vectors.metric, logits, vectors.targets[split])


def _with_one(part: Tensor) -> Tensor:
    """(items, width + 1): a last column of ones, so that the bias is a weight."""
    return torch.cat([part, part.new_ones(len(part), 1)], 1)


def _start(vectors: Vectors, layers: Sequence[int], seeds: Sequence[int], probes: Sequence[Sequence[Probe]]) -> Tensor:
    """(L * S, K, classes, width + 1) initial values."""
    width = vectors.layers[layers[0]]["train"].shape[1]
    stack = stack_of(HEADS.get("ta"), width, vectors.classes, torch.device("cpu"))
    singles = [stack.initial(vectors.numbers[layer], seed) for layer in layers for seed in seeds]
    joined = torch.stack([torch.cat([single["weight"], single["bias"][:, None]], 1) for single in singles])
    return joined[:, None] * _each(probes, lambda probe: probe.start == "uniform")


def _each(probes: Sequence[Sequence[Probe]], value: Callable[[Probe], float]) -> Tensor:
    """(L * S, K, 1, 1) a number of each probe."""
    return torch.tensor([[float(value(probe)) for probe in group] for group in probes])[..., None, None]


def _gradient(vectors: Vectors, weights: Tensor, inputs: Tensor, targets: Tensor, index: Tensor) -> Tensor:
    """The derivative of each probe's mean loss over a batch.

    Args:
        vectors: for the metric, which decides the loss.
        weights: (L * S, K, classes, width + 1).
        inputs: (L, items, width + 1).
        targets: of all items.
        index: (S, batch) items.
    """
    groups, probes, classes, _ = weights.shape
    sets, batch = index.shape
    read = inputs.index_select(1, index.flatten()).view(groups, batch, -1)
    logits = torch.bmm(weights.flatten(1, 2), read.transpose(1, 2)).view(-1, sets, probes, classes, batch)
    if vectors.metric == "accuracy":
        slope = torch.threshold_(logits.softmax(3), *_TINY)
        right = targets[index][:, None, None].expand(len(inputs), sets, probes, 1, batch)
        slope.scatter_add_(3, right, slope.new_full((), -1.0).expand_as(right)).div_(batch)
    else:
        wanted = targets[index].transpose(1, 2)[:, None]
        slope = torch.threshold_(logits.sigmoid_(), *_TINY).sub_(wanted).div_(batch * classes)
    return torch.bmm(slope.view(groups, -1, batch), read).view_as(weights)


def _logits(weights: Tensor, inputs: Tensor, seeds: int) -> Tensor:
    """(L, S, K, items, classes) of weights (L * S, K, classes, width + 1) on inputs (L, items, width + 1)."""
    _, probes, classes, width = weights.shape
    layers = len(inputs)
    product = torch.bmm(weights.view(layers, -1, width), inputs.transpose(1, 2))
    return product.view(layers, seeds, probes, classes, -1).transpose(3, 4)


class _Adam:
    """Adam and AdamW for probes with a rate and penalty each, written out on whole stacks.

    Attributes:
        weights: (G, K, classes, width + 1).
    """

    def __init__(self, weights: Tensor, probes: Sequence[Sequence[Probe]]) -> None:
        """Optimise weights; ``probes`` is (G, K)."""
        self.weights = weights
        self._rates = _each(probes, lambda probe: probe.rate)
        self._penalties = _each(probes, lambda probe: probe.decay if probe.optimiser == "adam" else 0)
        self._shrinkage = _each(probes, lambda probe: probe.decay if probe.optimiser == "adamw" else 0)
        self._shrinks = bool(self._shrinkage.any())
        self._falls = _each(probes, lambda probe: probe.schedule == "cosine")
        self._averaged = _each(probes, lambda probe: probe.averaged).bool()
        self._average = weights.clone() if self._averaged.any() else None
        self._first, self._second, self._room = (torch.zeros_like(weights) for _ in range(3))
        self._steps = 0

    @property
    def scored(self) -> Tensor:
        """The weights that are scored: the present ones, or their moving average."""
        return self.weights if self._average is None else torch.where(self._averaged, self._average, self.weights)

    def step(self, gradient: Tensor, share: float) -> None:
        """One update, when a share of all steps is done. The gradient is overwritten."""
        self._steps += 1
        # The cosine is 1 at the first step. What does not fall keeps 1.
        rates = self._rates * (self._falls * ((math.cos(math.pi * share) - 1) / 2) + 1)
        gradient.addcmul_(self.weights, self._penalties)
        if self._shrinks:
            self.weights.addcmul_(self.weights, rates * self._shrinkage, value=-1)
        self._first.lerp_(gradient, 1 - _FIRST)
        self._second.mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)
        # The update is rate * (first / a) / (sqrt(second / b) + epsilon). All but the root is one factor per probe.
        a, b = 1 - _FIRST**self._steps, 1 - _SECOND**self._steps
        inverse = rates.reciprocal().mul_(a)
        torch.sqrt(self._second, out=self._room)
        self._room.mul_(inverse / b**0.5).add_(inverse * _EPSILON)
        self.weights.addcdiv_(self._first, self._room, value=-1)
        if self._average is not None:
            self._average.lerp_(self.weights, 1 - _AVERAGE)
