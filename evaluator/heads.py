"""Heads (tracks): what is trained on frozen features. Every head here is many heads, stacked and applied at once.

Parameters carry two leading dimensions: K probes (learning rates), and G groups that read different inputs (a layer, a
seed). One head of a stack computes exactly what it would compute alone. Gradients are written out: automatic
differentiation would write every frame's once more, and clear and add what can be written at once.
"""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from evaluator.samples import Batch

Parameters = dict[str, Tensor]
Slope = Callable[[Tensor], Tensor]
"""Logits (K, G, batch, classes) to the derivative of the loss with respect to them, of the same shape."""


class Head(Protocol):
    """A stack of heads of one kind."""

    def shapes(self, width: int, classes: int) -> dict[str, tuple[tuple[int, ...], int]]:
        """Per parameter: its shape in a single head, and the fan-in that its initial range follows."""

    def logits(self, parameters: Parameters, batch: Batch) -> Tensor:
        """Apply the stack.

        Args:
            parameters: each (K, G, *shape).
            batch: what the G groups read.

        Returns:
            (K, G, batch, classes).
        """

    def differentiate(self, parameters: Parameters, gradients: Parameters, batch: Batch, slope: Slope) -> None:
        """Write the derivative of the loss with respect to every parameter into ``gradients``."""


class TimeAverage:
    """Track ``ta``: a linear layer on the mean over frames, which the feature store has already taken."""

    def shapes(self, width: int, classes: int) -> dict[str, tuple[tuple[int, ...], int]]:
        """One linear layer."""
        return {"weight": ((classes, width), width), "bias": ((classes,), width)}

    def logits(self, parameters: Parameters, batch: Batch) -> Tensor:
        """One product a probe, since all of them read the same inputs."""
        return self._logits(parameters, _only_piece(batch))

    def differentiate(self, parameters: Parameters, gradients: Parameters, batch: Batch, slope: Slope) -> None:
        """One product a probe."""
        inputs = _only_piece(batch)
        derivative = slope(self._logits(parameters, inputs))
        for probe, of_logits in enumerate(derivative):
            torch.bmm(of_logits.transpose(1, 2), inputs, out=gradients["weight"][probe])
        torch.sum(derivative, 2, out=gradients["bias"])

    def _logits(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        weight, bias = parameters["weight"], parameters["bias"]
        logits = inputs.new_empty(*weight.shape[:2], inputs.shape[1], weight.shape[2])
        for probe in range(len(weight)):
            torch.baddbmm(bias[probe][:, None], inputs, weight[probe].transpose(1, 2), out=logits[probe])
        return logits


class TimeWeighted:
    """Track ``twa``: scores s_t = w.x_t + b, softmax over valid frames, weighted sum, linear layer.

    The softmax does not see b, whose derivative is therefore 0.
    """

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
        """Frames are read twice forward and twice backward, piece by piece while they are in the processor's cache."""
        pooled, weights = self._pool(parameters["attention"], batch)
        derivative = slope(_linear(parameters, pooled))
        gradients["weight"].copy_(torch.matmul(derivative.transpose(2, 3), pooled))
        torch.sum(derivative, 2, out=gradients["bias"])
        # (K, G, batch, width) of the pooled vectors; then as the frames' products want it.
        of_pooled = torch.matmul(derivative, parameters["weight"])
        of_pooled, pooled = of_pooled.permute(1, 2, 0, 3).contiguous(), pooled.permute(1, 2, 0, 3)
        mean = (of_pooled * pooled).sum(-1, keepdim=True)
        total = torch.zeros_like(of_pooled[:, 0])
        for (span, inputs, _), weight in zip(batch.pieces(), weights, strict=True):
            frames = inputs.flatten(0, 1)
            of_weights = torch.bmm(of_pooled[:, span].flatten(0, 1), frames.transpose(1, 2))
            of_scores = of_weights.sub_(mean[:, span].flatten(0, 1)).mul_(weight)
            total += torch.bmm(of_scores, frames).view(*inputs.shape[:2], *total.shape[1:]).sum(1)
        gradients["attention"].copy_(total.transpose(0, 1))

    def _pool(self, attention: Tensor, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """(K, G, batch, width) weighted sums, and for every piece the weights (G * part, K, frames)."""
        probes, groups, width = attention.shape
        vectors = attention.transpose(0, 1)[:, None]
        pooled = attention.new_empty(groups, batch.items.shape[1], probes, width)
        weights = []
        for span, inputs, valid in batch.pieces():
            part, count = inputs.shape[1:3]
            frames = inputs.flatten(0, 1)
            # With a single group, as clips of ordinary length have it, nothing here copies.
            scores = torch.bmm(vectors.expand(-1, part, -1, -1).reshape(-1, probes, width), frames.transpose(1, 2))
            if valid is not None:
                scores.view(groups, part, probes, count).masked_fill_(~valid[:, None], -math.inf)
            weights.append(scores.softmax(-1))
            if groups == 1:
                torch.bmm(weights[-1], frames, out=pooled[0, span])
            else:
                pooled[:, span] = torch.bmm(weights[-1], frames).view(groups, part, probes, width)
        return pooled.permute(2, 0, 1, 3), weights


def _only_piece(batch: Batch) -> Tensor:
    """(G, batch, width) of a batch that is in one piece, as vectors are."""
    ((_, inputs, _),) = batch.pieces()
    return inputs


def _linear(parameters: Parameters, inputs: Tensor) -> Tensor:
    """A linear layer a probe and group, on inputs (K, G, batch, width) of its own."""
    return torch.matmul(inputs, parameters["weight"].transpose(2, 3)).add_(parameters["bias"][:, :, None])


HEADS: dict[str, Callable[[], Head]] = {"ta": TimeAverage, "twa": TimeWeighted}
"""Every track by name."""

NEEDS_FRAMES = {"ta": False, "twa": True}
"""Whether a track reads frames; one that does not is served by the pooled features."""


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
