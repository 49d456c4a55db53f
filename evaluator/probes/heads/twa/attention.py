"""The head ``twa`` and its stack."""

import math

import torch
from torch import Tensor, nn

from evaluator.features.samples import Batch
from evaluator.probes.head import Stack, State, Step, without_denormals


class TimeWeighted(nn.Module):
    """A linear layer on the weighted mean over frames; the weights are learned."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.attention = nn.Parameter(torch.empty(width))
        self.attention_bias = nn.Parameter(torch.empty(1))
        self.weight = nn.Parameter(torch.empty(classes, width))
        self.bias = nn.Parameter(torch.empty(classes))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def forward(self, inputs: Tensor, valid: Tensor) -> Tensor:
        """(batch, frames, width) and (batch, frames) to (batch, classes)."""
        scores = inputs @ self.attention + self.attention_bias
        weights = scores.masked_fill(~valid, -math.inf).softmax(1)
        # A product, because multiplying and summing would write every frame once more.
        pooled = (weights[:, None] @ inputs)[:, 0]
        return nn.functional.linear(pooled, self.weight, self.bias)


class TimesWeighted(Stack):
    """The derivative is written out: automatic differentiation would write that of every frame once more, and
    would clear and add values that can be written directly.

    The softmax does not depend on b, so the derivative of b is 0.
    """

    def logits(self, state: State, batch: Batch) -> Tensor:
        """Frames are read twice: for their scores, and for the weighted sum."""
        return _linear(state, self._pool(state["attention"], batch)[0])

    def differentiate(self, state: State, gradients: State, batch: Batch, step: Step) -> None:
        """Frames are read twice forward and twice backward."""
        pooled, weights = self._pool(state["attention"], batch)
        derivative = step.slope(_linear(state, pooled))
        torch.matmul(derivative, pooled.transpose(1, 2), out=gradients["weight"])
        torch.sum(derivative, -1, out=gradients["bias"])
        gradients["attention_bias"].zero_()
        # (G, batch, K, width), the layout of the products with frames.
        of_pooled = torch.matmul(derivative.transpose(2, 3), state["weight"]).transpose(1, 2).contiguous()
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
            # Clips of ordinary length have a single group, for which nothing is copied here.
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


def _linear(state: State, inputs: Tensor) -> Tensor:
    """(G, K, classes, batch) of a linear layer per probe and group, on inputs (G, batch, K, width) of its own."""
    return torch.matmul(state["weight"], inputs.permute(0, 2, 3, 1)).add_(state["bias"][..., None])
