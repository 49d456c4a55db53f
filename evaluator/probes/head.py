"""A head (track), and a stack of heads of one kind.

A probe search trains many heads of one kind at once. Their tensors carry two leading dimensions: G groups that read
different inputs (a layer, a seed), and K probes (learning rates) that read the same. Each head of a stack computes
exactly what it would compute alone.

Every declaration of a head imports this module, also for a list of heads. Torch is therefore imported inside functions.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal

from tasks.support.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from evaluator.features.samples import Batch
    from tasks.task import Metric

State = dict[str, "Tensor"]
"""Parameters and buffers by name: (G, K, ...) of a stack, or (...) of a single head."""

# Limits of a record's fields.
_NAME, _LONGEST_HELP = re.compile(r"[a-z0-9][a-z0-9-]{0,19}"), 200
# Too small to change a sum of 1 in single precision. Its square is not a denormal number.
_NOTHING = 1e-15
_PRIME = 1_000_003


@dataclass(frozen=True)
class Head:
    """A head, as its module declares it.

    Attributes:
        name: the track: lower-case letters, digits and hyphens, at most 20 of them.
        help: one line for the command line, the documents and the board, at most 200 characters.
        needs: "vectors" for one vector per clip, the mean over its frames; "frames" for all frames.
        version: part of the id of every record. Raise it when logits, gradients or initial parameters change.
        make: called with the width of a layer and the number of classes, returns a new `torch.nn.Module`. Its
            ``forward(inputs, valid)`` takes (batch, width) vectors and None, or (batch, frames, width) frames, which
            are zero after the end of each clip, and (batch, frames) bool, which of them are valid. It returns
            (batch, classes) logits.
        stacked: called as `Stack` is, returns a faster stack of these heads, which gives the same numbers. None: by
            automatic differentiation.
        shares: by name of a parameter, the share of the learning rate at which it learns where the protocol allows
            it; 1 for all others. Parameters that feed a softmax or a gate need small steps where those of a linear
            layer need large ones. Raise the version when they change.

    Raises:
        ValueError: a name, help, needs, version or share that is not what it should be.
    """

    name: str
    help: str
    needs: Literal["vectors", "frames"]
    version: int
    make: Callable[[int, int], nn.Module]
    stacked: Callable[[Head, int, int, torch.device], Stack] | None = None
    shares: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"the name {self.name!r} is not 1 to 20 lower-case letters, digits and hyphens")
        if self.needs not in ("vectors", "frames"):
            raise ValueError(f"needs is {self.needs!r}, which is neither 'vectors' nor 'frames'")
        if not self.help or len(self.help) > _LONGEST_HELP or not self.help.isprintable():
            raise ValueError(f"help is not one line of at most {_LONGEST_HELP} characters")
        if not isinstance(self.version, int) or self.version < 1:
            raise ValueError(f"version is {self.version!r}, which is not 1, 2, ...")
        for name, share in self.shares.items():
            if not 0 < share <= 1:
                raise ValueError(f"the share of {name} is {share!r}, which is not above 0 and at most 1")

    @property
    def reads_frames(self) -> bool:
        """Whether the mean over frames is not enough."""
        return self.needs == "frames"


@dataclass(frozen=True)
class Step:
    """One training step of G groups.

    Attributes:
        metric: of the task. It decides the loss: cross-entropy for "accuracy", binary cross-entropy for "map".
        targets: (G, batch) class indices, or (G, batch, classes) of 0 and 1.
        random_seeds: (G,) seeds for heads that draw random numbers. Layer, seed and step fix them.
    """

    metric: Metric
    targets: Tensor
    random_seeds: Sequence[int]

    def slope(self, logits: Tensor, items: slice = slice(None), groups: slice = slice(None)) -> Tensor:
        """The derivative of each probe's loss, a mean over the batch, with respect to its logits.

        Args:
            logits: (groups, K, classes, items).
            items: which items of the batch they are of.
            groups: which of the G groups they are of.

        Returns:
            The shape of ``logits``.
        """
        targets, batch = self.targets[groups, items], self.targets.shape[1]
        if self.metric == "accuracy":
            derivative = without_denormals(logits.softmax(2))
            right = targets[:, None, None].expand(-1, logits.shape[1], 1, -1)
            return derivative.scatter_add_(2, right, logits.new_full((), -1.0).expand_as(right)).div_(batch)
        derivative = without_denormals(logits.sigmoid()).sub_(targets.transpose(1, 2)[:, None])
        return derivative.div_(logits.shape[2] * batch)


class Stack(ABC):
    """Many heads of one kind for layers of one width.

    Attributes:
        head: which kind.
        width: channels of the inputs.
        classes: number of classes.
        device: where the inputs are.
        module: one such head, for its structure. Its values mean nothing.
        trained: names of the parameters that training changes.
    """

    def __init__(self, head: Head, width: int, classes: int, device: torch.device) -> None:
        self.head = head
        self.width = width
        self.classes = classes
        self.device = device
        with seeded(0):
            self.module = head.make(width, classes)
        self.trained = [name for name, parameter in self.module.named_parameters() if parameter.requires_grad]
        if unknown := sorted(set(head.shares) - set(self.trained)):
            raise UserError(f"Head {head.name} declares a share for {', '.join(unknown)}, which it does not train.")

    @property
    def size(self) -> int:
        """Number of trained values of a single head."""
        return sum(parameter.numel() for parameter in self.module.parameters() if parameter.requires_grad)

    def initial(self, layer: int, seed: int) -> State:
        """Fresh parameters and buffers of a single head, as its module draws them.

        A layer and a seed fix the values, whatever else is trained beside them.
        """
        with seeded(random_seed(layer, seed)):
            return tensors(self.head.make(self.width, self.classes))

    @abstractmethod
    def logits(self, state: State, batch: Batch) -> Tensor:
        """Apply all heads.

        Args:
            state: each (G, K, ...).
            batch: what the G groups read.

        Returns:
            (G, K, classes, batch).
        """

    @abstractmethod
    def differentiate(self, state: State, gradients: State, batch: Batch, step: Step) -> None:
        """Write the derivative of each head's loss with respect to its parameters into ``gradients``.

        Args:
            state: each (G, K, ...). Buffers may change.
            gradients: each (G, K, ...), of the trained parameters. They are overwritten.
            batch: what the G groups read.
            step: what they learn from it.
        """


def late(target: str) -> Callable[..., Any]:
    """A function that imports ``module:name`` only when it is called, and calls it. A list of heads needs no torch."""

    def call(*arguments: object) -> Any:
        return resolve_name(target)(*arguments)

    return call


def tensors(module: nn.Module) -> State:
    """All parameters and buffers of a module, which share its memory."""
    return {name: tensor.detach() for name, tensor in (*module.named_parameters(), *module.named_buffers())}


def random_seed(layer: int, seed: int, step: int = 0) -> int:
    """A different seed for torch for each layer, seed and training step. Step 0 is for the initial values."""
    return (step * _PRIME + seed) * _PRIME + layer


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's generator, and that of a GPU ``device``, inside a ``with`` block."""
    import torch

    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        if gpus:
            torch.cuda.manual_seed(seed)
        yield


def without_denormals(weights: Tensor) -> Tensor:
    """Round tiny values to 0, in place; the values are from 0 to 1.

    Confident probes give numbers that are too small for a processor's fast path. Products with such numbers take up to
    twenty times as long.
    """
    import torch

    return torch.threshold_(weights, _NOTHING, 0.0)
