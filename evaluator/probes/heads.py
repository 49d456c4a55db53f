"""Heads (tracks): what is trained on frozen features. Every head here is many heads, stacked and applied at once.

Parameters carry two leading dimensions: G groups that read different inputs (a layer, a seed), and K probes (learning
rates) that read the same. One head of a stack computes exactly what it would compute alone. Gradients are written out:
automatic differentiation would write every frame's once more, and clear and add what can be written at once.
"""

import math
from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor

from evaluator.features.samples import Batch

Parameters = dict[str, Tensor]
Slope = Callable[[Tensor], Tensor]
"""Logits (G, K, classes, batch) to the derivative of the loss with respect to them, of the same shape."""

# Far less than single precision shows in a sum of 1, and its square is still no denormal number.
_NOTHING = 1e-15


class Head(Protocol):
    """A stack of heads of one kind.

    Attributes:
        VERSION: part of the id of every record; raised with any change of the logits or of their derivatives.
    """

    VERSION: int

    def shapes(self, width: int, classes: int) -> dict[str, tuple[tuple[int, ...], int]]:
        """Per parameter: its shape in a single head, and the fan-in that its initial range follows."""

    def logits(self, parameters: Parameters, batch: Batch) -> Tensor:
        """Apply the stack.

        Args:
            parameters: each (G, K, *shape).
            batch: what the G groups read.

        Returns:
            (G, K, classes, batch).
        """

    def differentiate(self, parameters: Parameters, gradients: Parameters, batch: Batch, slope: Slope) -> None:
        """Write the derivative of the loss with respect to every parameter into ``gradients``."""


class TimeAverage:
    """Track ``ta``: a linear layer on the mean over frames, which the feature store has already taken."""

    VERSION = 1

    def shapes(self, width: int, classes: int) -> dict[str, tuple[tuple[int, ...], int]]:
        """One linear layer."""
        return {"weight": ((classes, width), width), "bias": ((classes,), width)}

    def logits(self, parameters: Parameters, batch: Batch) -> Tensor:
        """One product a group for all its probes, since they read the same inputs."""
        inputs = _only_piece(batch)
        weight, bias = parameters["weight"], parameters["bias"]
        logits = torch.baddbmm(bias.flatten(1)[..., None], weight.flatten(1, 2), inputs.transpose(1, 2))
        return logits.view(*bias.shape, -1)

    def differentiate(self, parameters: Parameters, gradients: Parameters, batch: Batch, slope: Slope) -> None:
        """One product a group."""
        derivative = slope(self.logits(parameters, batch))
        torch.bmm(derivative.flatten(1, 2), _only_piece(batch), out=gradients["weight"].flatten(1, 2))
        torch.sum(derivative, -1, out=gradients["bias"])


class TimeWeighted:
    """Track ``twa``: scores s_t = w.x_t + b, softmax over valid frames, weighted sum, linear layer.

    The softmax does not see b, whose derivative is therefore 0.
    """

    VERSION = 1

    def shapes(self, width: int, classes: int) -> dict[str, tuple[tuple[int, ...], int]]:
        """A linear layer, and width + 1 values for the frame scores."""
        return {
            "attention": ((width,), width),
            "attention_bias": ((1,), width),
            "weight": ((classes, width), width),
            "bias": ((classes,), width),
        }

    def logits(self, parameters: Parameters, batch: Batch) -> Tensor:
        """Frames are read twice: for their scores, and for the weighted sum."""
        return _linear(parameters, self._pool(parameters["attention"], batch)[0])

    def differentiate(self, parameters: Parameters, gradients: Parameters, batch: Batch, slope: Slope) -> None:
        """Frames are read twice forward and twice backward."""
        pooled, weights = self._pool(parameters["attention"], batch)
        derivative = slope(_linear(parameters, pooled))
        torch.matmul(derivative, pooled.transpose(1, 2), out=gradients["weight"])
        torch.sum(derivative, -1, out=gradients["bias"])
        # (G, batch, K, width), as the frames' products want it.
        of_pooled = torch.matmul(derivative.transpose(2, 3), parameters["weight"]).transpose(1, 2).contiguous()
        total = gradients["attention"].zero_()
        for (span, inputs, _), weight in zip(batch.pieces(), weights, strict=True):
            frames = inputs.flatten(0, 1)
            of_scores = torch.bmm(of_pooled[:, span].flatten(0, 1), frames.transpose(1, 2)).mul_(weight)
            of_scores -= weight * of_scores.sum(-1, keepdim=True)
            total += torch.bmm(of_scores, frames).view(*inputs.shape[:2], *total.shape[1:]).sum(1)

    def _pool(self, attention: Tensor, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """(G, batch, K, width) weighted sums, and for every piece the weights (G * part, K, frames)."""
        groups, probes, width = attention.shape
        pooled = attention.new_empty(groups, batch.items.shape[1], probes, width)
        weights = []
        for span, inputs, valid in batch.pieces():
            part, count = inputs.shape[1:3]
            frames = inputs.flatten(0, 1)
            # With a single group, as clips of ordinary length have it, nothing here copies.
            vectors = attention[:, None].expand(-1, part, -1, -1).reshape(-1, probes, width)
            scores = torch.bmm(vectors, frames.transpose(1, 2))
            if valid is not None:
                scores.view(groups, part, probes, count).masked_fill_(~valid[:, None], -math.inf)
            weights.append(without_denormals(scores.softmax(-1)))
            if groups == 1:
                torch.bmm(weights[-1], frames, out=pooled[0, span])
            else:
                pooled[:, span] = torch.bmm(weights[-1], frames).view(groups, part, probes, width)
        return pooled, weights


def without_denormals(weights: Tensor) -> Tensor:
    """Values from 0 to 1 with those next to nothing rounded to 0, in place.

    Probes that are sure of themselves leave numbers too small for a processor's fast path, with which products take
    up to twenty times as long.
    """
    return torch.threshold_(weights, _NOTHING, 0.0)


def _only_piece(batch: Batch) -> Tensor:
    """(G, batch, width) of a batch that is in one piece, as vectors are."""
    ((_, inputs, _),) = batch.pieces()
    return inputs


def _linear(parameters: Parameters, inputs: Tensor) -> Tensor:
    """(G, K, classes, batch) of a linear layer a probe and group, on inputs (G, batch, K, width) of its own."""
    return torch.matmul(parameters["weight"], inputs.permute(0, 2, 3, 1)).add_(parameters["bias"][..., None])


HEADS: dict[str, type[Head]] = {"ta": TimeAverage, "twa": TimeWeighted}
"""Every track by name."""

NEEDS_FRAMES = {"ta": False, "twa": True}
"""Whether a track reads frames. One that does not reads the mean over frames."""


def needs_frames(tracks: Iterable[str]) -> bool:
    """Whether any of these tracks reads frames."""
    return any(NEEDS_FRAMES[track] for track in tracks)


def initial(head: Head, *, width: int, classes: int, layer: int, seed: int) -> Parameters:
    """Fresh parameters of one head: uniform in ±1/sqrt(fan-in), as torch's linear layer draws them.

    A layer and a seed fix the values, whatever else is trained beside them.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + layer)
    values = {}
    for name, (shape, fan_in) in head.shapes(width, classes).items():
        bound = 1 / math.sqrt(fan_in)
        drawn = torch.empty(shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
        values[name] = drawn.to(torch.get_default_dtype())
    return values
