"""The ordinary way to train a probe: torch.nn.Linear and torch.optim.Adam, one layer and one rate at a time."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from evaluator.probes.heads import HEADS, initial
from leaderboard.records.protocol import Protocol


class TimeAverageProbe(torch.nn.Module):
    """A linear layer on (items, width) means over frames."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.classify = torch.nn.Linear(width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """(items, width) to (items, classes)."""
        logits: Tensor = self.classify(inputs)
        return logits


class TimeWeightedProbe(TimeAverageProbe):
    """A linear layer on the weighted mean of (items, frames, width)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, classes)
        self.attend = torch.nn.Linear(width, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """(items, frames, width) to (items, classes)."""
        weights = self.attend(inputs).softmax(dim=1)
        # A matrix product, since multiplying and summing would write a copy of every frame.
        return super().forward((weights.transpose(1, 2) @ inputs).squeeze(1))


_PROBES = {"ta": TimeAverageProbe, "twa": TimeWeightedProbe}


def train_alone(
    track: str,
    train: tuple[Tensor, Tensor],
    valid: tuple[Tensor, Tensor],
    *,
    classes: int,
    layer: int,
    seed: int,
    lr: float,
    protocol: Protocol,
) -> Tensor:
    """Train one probe on one layer, with the start and the item order that the suite uses when it trains many.

    Args:
        track: "ta" or "twa".
        train: (items, ...) features and (items,) class indices, on the device.
        valid: the same, of the validation split.
        classes: number of classes.
        layer: index of the layer; layer and seed fix the start.
        seed: fixes the order of the items.
        lr: learning rate.
        protocol: epochs, batch size and weight decay; there is no early stopping.

    Returns:
        (epochs,) validation accuracy, on the CPU.
    """
    features, targets = train
    width = features.shape[-1]
    probe = _PROBES[track](width, classes)
    start = initial(HEADS[track](), width=width, classes=classes, layer=layer, seed=seed)
    with torch.no_grad():
        probe.classify.weight.copy_(start["weight"])
        probe.classify.bias.copy_(start["bias"])
        if isinstance(probe, TimeWeightedProbe):
            probe.attend.weight.copy_(start["attention"][None])
            probe.attend.bias.copy_(start["attention_bias"])
    probe.to(features.device)
    optimiser = torch.optim.Adam(probe.parameters(), lr=lr, weight_decay=protocol.weight_decay)
    generator = torch.Generator().manual_seed(seed)
    curve = []
    for _ in range(protocol.epochs):
        order = torch.randperm(len(targets), generator=generator).to(features.device)
        for index in torch.split(order, protocol.batch_size):
            optimiser.zero_grad()
            cross_entropy(probe(features[index]), targets[index]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        with torch.no_grad():
            curve.append((probe(valid[0]).argmax(-1) == valid[1]).double().mean())
    return torch.stack(curve).cpu()
