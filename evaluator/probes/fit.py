"""Train probes for all layers, learning rates and seeds in one batch. Each is trained exactly as it would be alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from evaluator.features.samples import Samples
from evaluator.probes.head import Stack, State, Step, random_seed
from evaluator.probes.metrics import loss, score
from leaderboard.records.protocol import Protocol

if TYPE_CHECKING:
    from tasks.task import Metric

# Part of the id of every record: raise it with any change of the probes that training returns.
VERSION = 2
# Validation and test items per step. It affects only memory.
_EVALUATION_BATCH = 256
# torch.optim.Adam's own defaults.
_BETAS, _EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Fit:
    """Result of training.

    Attributes:
        valid: (epochs, L, S, K) validation metric of each epoch; NaN where none was computed, and once a probe has
            stopped.
        loss: (L, S, K) validation loss after the last epoch.
        state: parameters and buffers (L * S, K, ...), each probe after the epoch in ``keep``; None without ``keep``.
    """

    valid: Tensor
    loss: Tensor
    state: State | None

    def best(self) -> tuple[Tensor, Tensor]:
        """(L, S, K) best validation metric, and the first epoch (from 1) that reached it."""
        values, epochs = self.valid.nan_to_num(nan=-1.0).max(dim=0)
        return values, epochs + 1


def fit(
    stack: Stack,
    train: Samples,
    valid: Samples,
    *,
    metric: "Metric",
    rates: Sequence[float],
    seeds: Sequence[int],
    protocol: Protocol,
    keep: Tensor | None = None,
    every_epoch: bool = False,
    on_epoch: Callable[[], None] = lambda: None,
) -> Fit:
    """Train L x S x K probes: layers by seeds by learning rates.

    A seed fixes the order of the items and, with the layer, the initial parameters. With patience, a probe stops after
    that many epochs without improvement on validation. Without, all probes train for all epochs, and only the last
    epoch is scored.

    Args:
        stack: the kind of probe.
        train: training samples.
        valid: samples that score the epochs.
        metric: the task's metric.
        rates: the K learning rates.
        seeds: the S seeds.
        protocol: epochs, patience, batch size, weight decay, schedule.
        keep: (L,) epochs (from 1) after which to keep each layer's parameters; training then lasts exactly until the
            last of them, without early stopping.
        every_epoch: score every epoch on validation, also where the protocol needs only the last.
        on_epoch: called after every epoch.
    """
    shape = (len(train.layers), len(seeds), len(rates))
    shares = dict.fromkeys(stack.trained, 1.0) | dict(stack.head.shares if protocol.shares == "head" else {})
    learners = _Learners(_start(stack, train, seeds, len(rates)), shares, rates, protocol)
    orders = [torch.Generator().manual_seed(seed) for seed in seeds]
    kept = {name: torch.empty_like(tensor) for name, tensor in learners.state.items()} if keep is not None else None
    stops = keep is None and protocol.patience > 0
    last = protocol.epochs if keep is None else int(keep.max())
    history, steps = [], 0
    best = torch.full(shape, -1.0, dtype=torch.double, device=train.targets.device)
    stale = torch.zeros_like(best, dtype=torch.long)
    losses = torch.full_like(best, torch.nan)
    for epoch in range(1, last + 1):
        order = torch.stack([torch.randperm(len(train.targets), generator=generator) for generator in orders])
        for index in torch.split(order.to(best.device), protocol.batch_size, dim=1):
            part = _scheduled(protocol, steps, len(train.targets))
            steps += 1
            drawn = [random_seed(layer, seed, steps) for layer in train.layers for seed in seeds]
            for batch in train.batches(index):
                step = Step(metric, train.targets[batch.items], drawn[batch.groups])
                state, gradients = _of(learners.state, batch.groups), _of(learners.gradients, batch.groups)
                stack.differentiate(state, gradients, batch, step)
            learners.step(part)
        values = torch.full_like(best, torch.nan)
        if every_epoch or epoch == last or protocol.patience > 0:
            logits = predict(stack, learners.state, valid, len(seeds))
            values[..., learners.probes] = _per_layer(score, metric, logits, valid.targets)
            if epoch == last:
                losses[..., learners.probes] = _per_layer(loss, metric, logits, valid.targets)
        if stops:
            values = torch.where(stale < protocol.patience, values, torch.nan)
        history.append(values)
        improved = values > best
        best = torch.where(improved, values, best)
        stale = torch.where(improved, 0, stale + 1)
        if kept is not None and keep is not None:
            done = (keep.repeat_interleave(len(seeds)) == epoch).nonzero()[:, 0].to(best.device)
            for name, tensor in learners.state.items():
                kept[name][done] = tensor[done]
        on_epoch()
        if stops:
            going = (stale < protocol.patience).flatten(0, 1).any(0).nonzero()[:, 0].tolist()
            if not going:
                break
            learners.keep(going)
    return Fit(torch.stack(history).cpu(), losses.cpu(), kept)


def _per_layer(
    of: Callable[["Metric", Tensor, Tensor], Tensor], metric: "Metric", logits: Tensor, targets: Tensor
) -> Tensor:
    """A metric or a loss, layer by layer, because sorting all scores takes several times their memory."""
    return torch.stack([of(metric, of_layer, targets) for of_layer in logits])


def _scheduled(protocol: Protocol, step: int, items: int) -> float:
    """The part of its learning rate that every probe has in a step (from 0): 1 at the first step."""
    if protocol.schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * step / (protocol.epochs * math.ceil(items / protocol.batch_size)))) / 2


@torch.inference_mode()
def predict(stack: Stack, state: State, samples: Samples, seeds: int) -> Tensor:
    """(L, S, K, items, classes) logits of the probes that ``state`` (L * S, K, ...) holds."""
    # All probes of a layer read the same items here, so seeds join the learning rates as further probes of one group.
    joined = {name: tensor.reshape(-1, seeds * tensor.shape[1], *tensor.shape[2:]) for name, tensor in state.items()}
    some = joined[stack.trained[0]]
    logits = some.new_empty(*some.shape[:2], len(samples.targets), stack.classes)
    for index in torch.split(torch.arange(len(samples.targets), device=logits.device), _EVALUATION_BATCH):
        for batch in samples.batches(index[None]):
            outputs = stack.logits(_of(joined, batch.groups), batch)
            logits[batch.groups, :, batch.items[0]] = outputs.transpose(2, 3)
    return logits.view(len(logits), seeds, -1, *logits.shape[2:])


def _of(state: State, groups: slice) -> State:
    """The tensors of some groups."""
    return {name: tensor[groups] for name, tensor in state.items()}


def _start(stack: Stack, train: Samples, seeds: Sequence[int], probes: int) -> State:
    """Initial parameters and buffers (L * S, K, ...)."""
    singles = [stack.initial(layer, seed) for layer in train.layers for seed in seeds]
    return {
        name: torch.stack([single[name] for single in singles])
        .to(train.targets.device)[:, None]
        .expand(-1, probes, *[-1] * singles[0][name].ndim)
        .contiguous()
        for name in singles[0]
    }


class _Learners:
    """All probes (G, K, ...) with their gradients and torch's fused Adam, one learning rate and L2 penalty per probe.

    A parameter with a share s of the rate has the penalty divided by s squared: it is trained as if its values were s
    times those that Adam sees.

    Attributes:
        state: parameters and buffers of the probes that still learn.
        gradients: of their trained parameters.
        probes: which of the K these are.
    """

    def __init__(self, state: State, shares: Mapping[str, float], rates: Sequence[float], protocol: Protocol) -> None:
        self.state = state
        self.gradients = {name: torch.zeros_like(state[name]) for name in shares}
        self.probes = list(range(len(rates)))
        self._moments = [{name: torch.zeros_like(state[name]) for name in shares} for _ in range(2)]
        self._shares = shares
        self._rates = list(rates)
        self._protocol = protocol
        self._step = torch.zeros((), device=next(iter(state.values())).device)
        self._divide()

    def _divide(self) -> None:
        """Per probe and share: lists of its parameters, gradients and moments, which share the stacks' memory."""
        trained = {name: self.state[name] for name in self.gradients}
        stacks = (trained, self.gradients, *self._moments)
        self._singles = []
        for place, rate in enumerate(self._rates):
            for share in dict.fromkeys(self._shares.values()):
                names = [name for name in trained if self._shares[name] == share]
                lists = [[group for name in names for group in stack[name][:, place]] for stack in stacks]
                self._singles.append((rate * share, self._protocol.penalty(rate) / share**2, lists))

    @torch.no_grad()
    def step(self, part: float) -> None:
        """One update of every probe, with this part of its learning rate."""
        self._step += 1
        for rate, penalty, (parameters, gradients, first, second) in self._singles:
            # torch.optim.Adam(fused=True) calls this function too, but prepares its arguments again at every call.
            torch._fused_adam_(
                parameters,
                gradients,
                first,
                second,
                [],
                [self._step] * len(parameters),
                amsgrad=False,
                beta1=_BETAS[0],
                beta2=_BETAS[1],
                lr=rate * part,
                weight_decay=penalty,
                eps=_EPSILON,
                maximize=False,
            )

    def keep(self, probes: Sequence[int]) -> None:
        """Continue with only these of the K probes."""
        if list(probes) == self.probes:
            return
        places = [self.probes.index(probe) for probe in probes]
        for stack in (self.state, self.gradients, *self._moments):
            stack.update({name: tensor[:, places] for name, tensor in stack.items()})
        self._rates = [self._rates[place] for place in places]
        self.probes = list(probes)
        self._divide()
