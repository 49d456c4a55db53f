"""Standardisation: the mean and the deviation of each dimension over the train split, and the inputs without them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evaluator.features.pooling import CONSTANT

Clips = tuple[Tensor, Tensor, Tensor]
"""Means and spreads of some clips, (layers, clips, width) each, and (clips,) their numbers of frames."""


@dataclass(frozen=True)
class Scale:
    """An input x becomes (x - shift) * factor.

    Attributes:
        shift: (layers, width) float32, the mean over the train split.
        factor: (layers, width) float32, a multiplier divided by the population standard deviation over the train
            split; 0 for a dimension that is constant on the train split, so that its input is 0 for every split.
    """

    shift: Tensor
    factor: Tensor

    @classmethod
    def of_vectors(cls, parts: Iterable[Tensor], multiplier: float = 1.0) -> "Scale":
        """The scale of one vector per item.

        Args:
            parts: all vectors of the train split in any number of parts, (layers, items, width) each.
            multiplier: of the factors.
        """
        sums = _Sums()
        for vectors in parts:
            sums.add(vectors, torch.zeros(()), torch.ones(vectors.shape[1]))
        return sums.scale(multiplier)

    @classmethod
    def of_frames(cls, parts: Iterable[Clips], multiplier: float = 1.0) -> "Scale":
        """The scale of frames, from the mean and the spread of each clip: no frame is read.

        The variance over all frames is the mean over frames of (spread of the clip)² + (mean of the clip - mean)².

        Args:
            parts: all clips of the train split, in any number of parts.
            multiplier: of the factors.
        """
        sums = _Sums()
        for means, spreads, counts in parts:
            sums.add(means, spreads, counts)
        return sums.scale(multiplier)

    def rows(self, rows: Sequence[int]) -> "Scale":
        """The scale of some of the layers."""
        return Scale(self.shift[list(rows)], self.factor[list(rows)])

    def to(self, device: torch.device) -> "Scale":
        """The same on a device."""
        return Scale(self.shift.to(device), self.factor.to(device))


class _Sums:
    """Number, mean and sum of squared distances from the mean in double precision; parts are added one by one."""

    def __init__(self) -> None:
        self.count = 0.0
        self.mean = torch.zeros((), dtype=torch.double)
        self.squares = torch.zeros((), dtype=torch.double)
        # Largest value, so that rounding noise is told from a deviation.
        self.peak = torch.zeros((), dtype=torch.double)

    def add(self, means: Tensor, spreads: Tensor, counts: Tensor) -> None:
        """Add clips: means (layers, clips, width), spreads of the same shape or 0, and (clips,) counts."""
        means, spreads, weights = means.double(), spreads.double(), counts.double()[:, None]
        count = float(weights.sum())
        mean = (means * weights).sum(1) / count
        squares = ((spreads.square() + (means - mean[:, None]).square()) * weights).sum(1)
        # Chan, Golub and LeVeque (1979): no difference of large sums, which would cost digits.
        total = self.count + count
        apart = mean - self.mean
        self.squares = self.squares + squares + apart.square() * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.peak = torch.maximum(self.peak, (means.abs() + spreads).amax(1))
        self.count = total

    def scale(self, multiplier: float) -> Scale:
        """The scale of everything that was added."""
        deviation = (self.squares / self.count).sqrt()
        factor = (multiplier / deviation).float()
        # A deviation so small that its reciprocal overflows cannot be told from none either.
        constant = (deviation <= CONSTANT * self.peak) | ~torch.isfinite(factor)
        return Scale(self.mean.float(), factor.masked_fill(constant, 0))
