"""The head ``ta`` and its stack."""

import math

import torch
from torch import Tensor, nn

from evaluator.features.samples import Batch
from evaluator.probes.head import Stack, State, Step


class TimeAverage(nn.Module):
    """One linear layer."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, width))
        self.bias = nn.Parameter(torch.empty(classes))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def forward(self, inputs: Tensor, valid: None) -> Tensor:
        """(batch, width) to (batch, classes)."""
        return nn.functional.linear(inputs, self.weight, self.bias)


class TimeAverages(Stack):
    """One product per group for all its probes, since they read the same inputs."""

    def logits(self, state: State, batch: Batch) -> Tensor:
        """One product per group."""
        inputs = _only_piece(batch)
        weight, bias = state["weight"], state["bias"]
        logits = torch.baddbmm(bias.flatten(1)[..., None], weight.flatten(1, 2), inputs.transpose(1, 2))
        return logits.view(*bias.shape, -1)

    def differentiate(self, state: State, gradients: State, batch: Batch, step: Step) -> None:
        """One product per group."""
        derivative = step.slope(self.logits(state, batch))
        torch.bmm(derivative.flatten(1, 2), _only_piece(batch), out=gradients["weight"].flatten(1, 2))
        torch.sum(derivative, -1, out=gradients["bias"])


def _only_piece(batch: Batch) -> Tensor:
    """(G, batch, width) of a batch that is in one piece, as vectors are."""
    ((_, inputs, _),) = batch.pieces()
    return inputs
