"""The ordinary way to train a probe: a torch module and torch.optim.Adam, one layer and one rate at a time."""

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from evaluator.probes.automatic import stack_of
from evaluator.probes.heads import HEADS
from leaderboard.records.protocol import Protocol


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
        track: any, on features that are not padded.
        train: (items, ...) features and (items,) class indices, on the device.
        valid: the same, of the validation split.
        classes: number of classes.
        layer: index of the layer; layer and seed fix the start.
        seed: fixes the order of the items.
        lr: learning rate.
        protocol: epochs, batch size, penalty and schedule; there is no early stopping.

    Returns:
        () validation accuracy after the last epoch, on the CPU.
    """
    features, targets = train
    width = features.shape[-1]
    head = HEADS.get(track)
    probe = head.make(width, classes)
    probe.load_state_dict(stack_of(head, width, classes, torch.device("cpu")).initial(layer, seed))
    probe.to(features.device)

    def logits(inputs: Tensor) -> Tensor:
        valid = inputs.new_ones(inputs.shape[:2], dtype=torch.bool) if head.reads_frames else None
        found: Tensor = probe(inputs, valid)
        return found

    groups = []
    for name, parameter in probe.named_parameters():
        share = head.shares.get(name, 1.0)
        groups.append({"params": [parameter], "lr": lr * share, "weight_decay": protocol.penalty(lr) / share**2})
    optimiser = torch.optim.Adam(groups)
    steps = protocol.epochs * math.ceil(len(targets) / protocol.batch_size)
    schedule = LambdaLR(optimiser, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(protocol.epochs):
        order = torch.randperm(len(targets), generator=generator).to(features.device)
        for index in torch.split(order, protocol.batch_size):
            optimiser.zero_grad()
            cross_entropy(logits(features[index]), targets[index]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    with torch.no_grad():
        return (logits(valid[0]).argmax(-1) == valid[1]).double().mean().cpu()
