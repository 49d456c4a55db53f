"""Probes trained for every layer, learning rate and seed in one batch, each exactly as it would be trained alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from evaluator.heads import Head, initial
from evaluator.metrics import score
from evaluator.protocol import Protocol
from evaluator.samples import Samples

if TYPE_CHECKING:
    from tasks.task import Metric

# Validation and test items a step; only memory depends on it.
_EVALUATION_BATCH = 1024


@dataclass(frozen=True)
class Fit:
    """What training found.

    Attributes:
        valid: (epochs, L, S, K) validation metric of each epoch; NaN once a probe has stopped.
        parameters: per parameter (L * S, K, ...), each probe as it was after the epoch asked for; None if none was.
    """

    valid: Tensor
    parameters: dict[str, Tensor] | None

    def best(self) -> tuple[Tensor, Tensor]:
        """(L, S, K) best validation metric, and the first epoch (from 1) that reached it."""
        values, epochs = self.valid.nan_to_num(nan=-1.0).max(dim=0)
        return values, epochs + 1


def fit(
    head: Head,
    train: Samples,
    valid: Samples,
    *,
    classes: int,
    metric: "Metric",
    rates: Tensor,
    seeds: Sequence[int],
    protocol: Protocol,
    keep: Tensor | None = None,
    on_epoch: Callable[[], None] = lambda: None,
) -> Fit:
    """Train L x S x K probes: layers by seeds by learning rates.

    A seed fixes the order of the items and, with the layer, the initial parameters. A probe stops after
    ``protocol.patience`` epochs without improvement on validation.

    Args:
        head: the kind of probe.
        train: what is learned from.
        valid: what each epoch is scored on.
        classes: number of classes.
        metric: the task's metric.
        rates: (L, K) learning rates.
        seeds: the S seeds.
        protocol: epochs, patience, batch size, weight decay.
        keep: (L,) epochs (from 1) after which to keep each layer's parameters; training then lasts exactly until the
            last of them, without early stopping.
        on_epoch: called after every epoch.
    """
    device = train.targets.device
    layers, probes = rates.shape
    parameters = _stack(head, train, classes, seeds, probes)
    optimiser = _Adam(parameters, rates.repeat_interleave(len(seeds), dim=0), protocol.weight_decay)
    orders = [torch.Generator().manual_seed(seed) for seed in seeds]
    kept = {name: torch.empty_like(tensor) for name, tensor in parameters.items()} if keep is not None else None
    history = []
    best = torch.full((layers, len(seeds), probes), -1.0, dtype=torch.double, device=device)
    stale = torch.zeros_like(best, dtype=torch.long)
    for epoch in range(1, (protocol.epochs if keep is None else int(keep.max())) + 1):
        order = torch.stack([torch.randperm(len(train.targets), generator=generator) for generator in orders])
        for index in torch.split(order.to(device), protocol.batch_size, dim=1):
            for tensor in parameters.values():
                assert tensor.grad is not None
                tensor.grad.zero_()
            for items, inputs, mask in train.chunks(index):
                logits = head.logits(parameters, inputs, mask)
                loss = _loss(metric, logits, train.targets[items].repeat(layers, *[1] * train.targets.ndim))
                # Summed over probes, so that none sees another; the mean is over the whole batch, not over its part.
                (loss / index.shape[1]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        values = score(metric, predict(head, parameters, valid, len(seeds)), valid.targets)
        values = torch.where(stale < protocol.patience, values, torch.nan) if keep is None else values
        history.append(values)
        improved = values > best
        best = torch.where(improved, values, best)
        stale = torch.where(improved, 0, stale + 1)
        if kept is not None and keep is not None:
            done = (keep.repeat_interleave(len(seeds)) == epoch).nonzero()[:, 0].to(device)
            for name, tensor in parameters.items():
                kept[name][done] = tensor.detach()[done]
        on_epoch()
        if keep is None and bool((stale >= protocol.patience).all()):
            break
    return Fit(torch.stack(history).cpu(), kept)


@torch.inference_mode()
def predict(head: Head, parameters: dict[str, Tensor], samples: Samples, seeds: int) -> Tensor:
    """(L, S, K, items, classes) logits of the probes that ``parameters`` (L * S, K, ...) hold."""
    # All probes of a layer read the same items here, so seeds join the learning rates as further probes of one group.
    count = len(samples.targets)
    joined = {name: tensor.view(-1, seeds * tensor.shape[1], *tensor.shape[2:]) for name, tensor in parameters.items()}
    pieces, order = [], []
    for index in torch.split(torch.arange(count, device=samples.targets.device), _EVALUATION_BATCH):
        for items, inputs, mask in samples.chunks(index[None]):
            pieces.append(head.logits(joined, inputs, mask))
            order.append(items[0])
    logits = torch.cat(pieces, dim=2)[:, :, torch.cat(order).argsort()]
    return logits.view(len(logits), seeds, -1, count, logits.shape[-1])


def _stack(head: Head, train: Samples, classes: int, seeds: Sequence[int], probes: int) -> dict[str, Tensor]:
    """Initial parameters (L * S, K, ...), each with a gradient that stays in place."""
    singles = [
        initial(head, width=train.width, classes=classes, layer=layer, seed=seed)
        for layer in train.layers
        for seed in seeds
    ]
    stacked = {}
    for name in singles[0]:
        rows = torch.stack([single[name] for single in singles]).to(train.targets.device)
        tensor = rows[:, None].expand(-1, probes, *rows.shape[1:]).contiguous().requires_grad_()
        tensor.grad = torch.zeros_like(tensor)
        stacked[name] = tensor
    return stacked


class _Adam:
    """torch's fused Adam with a learning rate of its own for every probe.

    An optimiser group a rate would do the same in hundreds of small steps. Instead one step of rate 1 is made on a copy
    and each probe goes its own fraction of the way: Adam's step is proportional to its rate.
    """

    def __init__(self, parameters: dict[str, Tensor], rates: Tensor, weight_decay: float) -> None:
        self.parameters = list(parameters.values())
        self.ahead = [tensor.detach().clone().requires_grad_() for tensor in self.parameters]
        for ahead, tensor in zip(self.ahead, self.parameters, strict=True):
            ahead.grad = tensor.grad
        self.rates = [rates.to(tensor).view(*rates.shape, *[1] * (tensor.ndim - 2)) for tensor in self.parameters]
        self.optimiser = torch.optim.Adam(self.ahead, lr=1.0, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self) -> None:
        """One update of every probe."""
        for ahead, tensor in zip(self.ahead, self.parameters, strict=True):
            ahead.copy_(tensor)
        self.optimiser.step()
        for ahead, tensor, rate in zip(self.ahead, self.parameters, self.rates, strict=True):
            tensor.lerp_(ahead, rate)


def _loss(metric: "Metric", logits: Tensor, targets: Tensor) -> Tensor:
    """Sum over (G, K, batch) of the loss of each item; targets are (G, batch) or (G, batch, classes)."""
    targets = targets[:, None].expand(-1, logits.shape[1], *targets.shape[1:])
    if metric == "accuracy":
        return cross_entropy(logits.flatten(0, 2), targets.flatten(), reduction="sum")
    return binary_cross_entropy_with_logits(logits, targets, reduction="sum") / logits.shape[-1]
