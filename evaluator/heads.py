"""Heads (tracks): what is trained on frozen features. Every head here is many heads, stacked and applied at once.

Parameters carry two leading dimensions: G groups that read different inputs (a layer, a seed), and K probes in a group
that read the same input (learning rates). One head of a stack computes exactly what it would compute alone.
"""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor


class Head(Protocol):
    """A stack of heads of one kind."""

    def shapes(self, width: int, classes: int) -> dict[str, tuple[tuple[int, ...], int]]:
        """Per parameter: its shape in a single head, and the fan-in that its initial range follows."""

    def logits(self, parameters: dict[str, Tensor], inputs: Tensor, valid: Tensor | None) -> Tensor:
        """Apply the stack.

        Args:
            parameters: each (G, K, *shape).
            inputs: (G, batch, width) pooled, or (G, batch, frames, width).
            valid: (G, batch, frames) bool, where inputs have frames.

        Returns:
            (G, K, batch, classes).
        """


class TimeAverage:
    """Track ``ta``: a linear layer on the mean over frames, which the feature store has already taken."""

    def shapes(self, width: int, classes: int) -> dict[str, tuple[tuple[int, ...], int]]:
        """One linear layer."""
        return {"weight": ((classes, width), width), "bias": ((classes,), width)}

    def logits(self, parameters: dict[str, Tensor], inputs: Tensor, valid: Tensor | None) -> Tensor:
        """One wide product a group: the K probes' classes lie side by side as columns."""
        groups, probes, classes, width = parameters["weight"].shape
        weight = parameters["weight"].view(groups, probes * classes, width)
        bias = parameters["bias"].view(groups, 1, probes * classes)
        product = torch.baddbmm(bias, inputs, weight.transpose(1, 2))
        return product.view(groups, -1, probes, classes).transpose(1, 2)


class TimeWeighted:
    """Track ``twa``: scores s_t = w.x_t + b, softmax over valid frames, weighted sum, linear layer."""

    def shapes(self, width: int, classes: int) -> dict[str, tuple[tuple[int, ...], int]]:
        """A linear layer, and width + 1 values for the frame scores."""
        return {
            "attention": ((width,), width),
            "attention_bias": ((1,), width),
            "weight": ((classes, width), width),
            "bias": ((classes,), width),
        }

    def logits(self, parameters: dict[str, Tensor], inputs: Tensor, valid: Tensor | None) -> Tensor:
        """Frames are read twice forward: for their scores, and for the weighted sum."""
        groups, batch, frames, width = inputs.shape
        attention = parameters["attention"]
        scores = torch.bmm(inputs.view(groups, batch * frames, width), attention.transpose(1, 2))
        scores = scores.view(groups, batch, frames, -1) + parameters["attention_bias"].transpose(1, 2)[:, None]
        if valid is not None:
            scores = scores.masked_fill(~valid[..., None], -math.inf)
        weights = scores.softmax(dim=2).flatten(0, 1).transpose(1, 2)
        pooled = torch.bmm(weights, inputs.view(groups * batch, frames, width)).view(groups, batch, -1, width)
        product = torch.matmul(pooled.transpose(1, 2), parameters["weight"].transpose(2, 3))
        return product + parameters["bias"][:, :, None]


HEADS: dict[str, Callable[[], Head]] = {"ta": TimeAverage, "twa": TimeWeighted}
"""Every track by name."""

NEEDS_FRAMES = {"ta": False, "twa": True}
"""Whether a track reads frames; one that does not is served by the pooled features."""


def initial(head: Head, *, width: int, classes: int, layer: int, seed: int) -> dict[str, Tensor]:
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
