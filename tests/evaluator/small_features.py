"""Random features of some classes in memory, small enough for a plain loop to train a probe on."""

from collections.abc import Iterator

import torch
from torch import Tensor

from evaluator.features.samples import Pooled

LAYERS, ITEMS, FRAMES, WIDTH, CLASSES = 3, 70, 9, 16, 4


class FrameSamples:
    """Frames in memory, in pieces of 7 items."""

    def __init__(self, frames: Tensor, counts: Tensor, targets: Tensor) -> None:
        self.frames, self.counts, self.targets = frames, counts, targets
        self.layers, self.width = range(len(frames)), frames.shape[-1]

    def batches(self, index: Tensor) -> Iterator["FrameBatch"]:
        for number, items in enumerate(index):
            groups = slice(number, None, len(index))
            yield FrameBatch(self, groups, items.expand(len(self.frames), -1))


class FrameBatch:
    def __init__(self, samples: FrameSamples, groups: slice, items: Tensor) -> None:
        self.samples, self.groups, self.items = samples, groups, items

    def pieces(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        for start in range(0, self.items.shape[1], 7):
            span = slice(start, start + 7)
            items = self.items[0, span]
            mask = torch.arange(self.samples.frames.shape[2]) < self.samples.counts[items][:, None]
            yield span, self.samples.frames[:, items], mask


def make(framed: bool, metric: str, seed: int) -> tuple[object, Tensor, Tensor]:
    """Samples, and the same as plain tensors: frames (layers, items, frames, width) and counts."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(LAYERS, ITEMS, FRAMES, WIDTH, generator=generator)
    counts = torch.randint(2, FRAMES + 1, (ITEMS,), generator=generator)
    if metric == "accuracy":
        targets = torch.randint(0, CLASSES, (ITEMS,), generator=generator)
        frames[..., :CLASSES] += torch.nn.functional.one_hot(targets, CLASSES)[None, :, None] * 0.5
    else:
        targets = (torch.rand(ITEMS, CLASSES, generator=generator) < 0.3).double()
        frames[..., :CLASSES] += targets[None, :, None] * 0.5
    if framed:
        return FrameSamples(frames, counts, targets), frames, counts
    mask = (torch.arange(FRAMES) < counts[:, None])[None, ..., None]
    pooled = (frames * mask).sum(2) / counts[None, :, None]
    alone = torch.ones(ITEMS, dtype=torch.long)
    return Pooled(pooled.transpose(0, 1), targets, range(LAYERS)), pooled[:, :, None], alone
