"""Stacks of any head: an ordinary torch module, trained by automatic differentiation.

`torch.func` runs all heads of a stack at once where possible. A head that draws random numbers runs group by group, for
all learning rates at once, so that layer and seed fix the numbers. Any other head runs alone.
"""

import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from evaluator.features.samples import Batch, Whole
from evaluator.probes.head import Head, Stack, State, Step, random_seed, seeded, tensors
from tasks.support.errors import UserError

# Part of the id of every record of such a head: raise it with any change of the logits or gradients.
VERSION = 1
# Tolerances of a comparison: a share of the largest value, and an absolute difference that rounding can cause.
_SAME, _NOTHING = 1e-3, 1e-6
# Frames per clip of the batch that checks a new head.
_TRIED_FRAMES = (40, 25, 33)

Together = Literal["all", "rates", "none"]
"""Which heads of a stack run at once."""


def stack_of(head: Head, width: int, classes: int, device: torch.device) -> Stack:
    """Make a stack of heads of one kind for layers of one width.

    Raises:
        UserError: the head fails a check.
    """
    return (head.stacked or AutomaticStack)(head, width, classes, device)


class AutomaticStack(Stack):
    """A stack of any head.

    A new head is checked on three clips of noise. `torch.func` is used if its results equal those of heads that run
    one by one.

    Attributes:
        together: which heads run at once.
    """

    def __init__(self, head: Head, width: int, classes: int, device: torch.device) -> None:
        """Check the head.

        Raises:
            UserError: the head fails, has nothing to train, returns wrong shapes, or mixes the clips of a batch.
        """
        super().__init__(head, width, classes, device)
        self.module.to(device)
        if not self.trained:
            raise UserError(f"Head {head.name} has no parameters to train.")
        self.together: Together = "none"
        batch = _made_up(head, width, device)
        self._check(batch)
        expected = self._results(batch)
        self.together = next((way for way in ("all", "rates") if self._agrees(way, batch, expected)), "none")

    def logits(self, state: State, batch: Batch) -> Tensor:
        """Apply all heads, in evaluation mode."""
        self.module.eval()
        groups, size = batch.items.shape
        probes = next(iter(state.values())).shape[1]
        logits = state[self.trained[0]].new_empty(groups, probes, self.classes, size)
        for items, inputs, valid in self._pieces(batch):
            for part in self._parts(groups, probes):
                outputs, _ = self._run(_part(state, part), inputs[part[0]], valid, ())
                logits[*part, :, items] = outputs.transpose(2, 3)
        return logits

    def differentiate(self, state: State, gradients: State, batch: Batch, step: Step) -> None:
        """Differentiate with torch's autograd, in training mode."""
        self.module.train()
        for gradient in gradients.values():
            gradient.zero_()
        shape = next(iter(gradients.values())).shape[:2]
        for items, inputs, valid in self._pieces(batch):
            for part in self._parts(*shape):
                # Only heads that do not run all at once may draw random numbers.
                seed = step.random_seeds[part[0].start or 0] + (items.start or 0)
                with seeded(seed, inputs.device), torch.enable_grad():
                    logits, leaves = self._run(_part(state, part), inputs[part[0]], valid, tuple(gradients))
                slope = step.slope(logits.detach().transpose(2, 3), items, part[0]).transpose(2, 3)
                derivatives = torch.autograd.grad(logits, leaves, slope, allow_unused=True, materialize_grads=True)
                for gradient, more in zip(gradients.values(), derivatives, strict=True):
                    gradient[part] += more

    def _pieces(self, batch: Batch) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        """The pieces of a batch as a head reads them: frames always have a mask."""
        for items, inputs, valid in batch.pieces():
            if valid is None and self.head.reads_frames:
                yield items, inputs, torch.ones(inputs.shape[1:3], dtype=torch.bool, device=inputs.device)
            else:
                yield items, inputs, valid

    def _parts(self, groups: int, probes: int) -> Iterator[tuple[slice, slice]]:
        """The groups and probes that run at once."""
        if self.together == "all":
            yield slice(None), slice(None)
            return
        for group in range(groups):
            if self.together == "rates":
                yield slice(group, group + 1), slice(None)
                continue
            for probe in range(probes):
                yield slice(group, group + 1), slice(probe, probe + 1)

    def _run(
        self, state: State, inputs: Tensor, valid: Tensor | None, trained: Sequence[str]
    ) -> tuple[Tensor, list[Tensor]]:
        """(groups, probes, batch, classes) logits, and the tensors to differentiate by: each (groups, probes, ...)."""
        if self.together == "none":
            return self._run_alone(state, inputs, valid, trained)
        leaves = {name: state[name].detach().requires_grad_() for name in trained}

        def call(one: State, inputs: Tensor) -> Tensor:
            return self._checked(functional_call(self.module, one, (inputs, valid)), inputs)

        # Within a group all learning rates see the same inputs and the same random numbers.
        drawn = "error" if self.together == "all" else "same"
        stacked = vmap(vmap(call, (0, None), randomness=drawn), (0, 0), randomness=drawn)
        with warnings.catch_warnings():
            # torch.func warns about operations that it runs in a loop.
            warnings.filterwarnings("ignore", "There is a performance drop")
            logits: Tensor = stacked({**state, **leaves}, inputs)
        return logits, list(leaves.values())

    def _run_alone(
        self, state: State, inputs: Tensor, valid: Tensor | None, trained: Sequence[str]
    ) -> tuple[Tensor, list[Tensor]]:
        """The same for a single head: its values go into the module, and its buffers back into ``state``."""
        for name, tensor in tensors(self.module).items():
            tensor.copy_(state[name][0, 0])
        logits = self._checked(self.module(inputs[0], valid), inputs[0])
        for name, buffer in self.module.named_buffers():
            state[name][0, 0] = buffer
        parameters = dict(self.module.named_parameters())
        return logits[None, None], [parameters[name] for name in trained]

    def _checked(self, logits: object, inputs: Tensor) -> Tensor:
        expected = (len(inputs), self.classes)
        if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
            actual = f"a tensor of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError(
                f"Head {self.head.name} returns {actual} for inputs of shape {tuple(inputs.shape)}: its forward must"
                f" return logits of shape (batch, classes), here {expected}."
            )
        return logits

    # Checks of a new head.

    def _check(self, batch: Whole) -> None:
        """Refuse a head that fails, or whose logits of a clip depend on other clips or on padding."""
        name = self.head.name
        state = self._states()
        try:
            with torch.inference_mode():
                together = self.logits(state, batch)[..., 1]
                alone = self.logits(state, _second_alone(batch, self.head))[..., 0]
            self._results(batch)
        except UserError:
            raise
        except Exception as error:
            own = [frame for frame in traceback.extract_tb(error.__traceback__) if "torch" not in Path(frame[0]).parts]
            text = " ".join(str(error).split())
            raise UserError(
                f"Head {name} fails on {len(_TRIED_FRAMES)} clips, inputs {tuple(batch.inputs.shape[1:])}:"
                f" {type(error).__name__}: {text} ({own[-1].filename}, line {own[-1].lineno})."
            ) from error
        if not bool(torch.isfinite(together).all()):
            raise UserError(f"Head {name} returns logits that are not finite on inputs of normal size.")
        if not _equal(together, alone):
            padding = " or when frames of padding follow it, which `valid` marks" if self.head.reads_frames else ""
            raise UserError(
                f"Head {name} gives a clip other logits when other clips share its batch{padding}:"
                " in evaluation mode they may depend on the clip alone."
            )

    def _agrees(self, way: Together, batch: Whole, expected: State) -> bool:
        """Whether heads that run at once in this way give the same results as heads that run one by one."""
        self.together = way
        try:
            results = self._results(batch)
        # torch.func does not support every operation. Heads that run one by one do.
        except Exception:
            return False
        return all(_equal(results[name], tensor) for name, tensor in expected.items())

    def _results(self, batch: Whole) -> State:
        """Gradients, buffers and logits after one step of heads with different values."""
        state = self._states()
        gradients = {name: torch.zeros_like(state[name]) for name in self.trained}
        targets = torch.arange(batch.items.shape[1], device=batch.inputs.device) % self.classes
        step = Step("accuracy", targets.expand(2, -1), [random_seed(layer, 0, 1) for layer in range(2)])
        self.differentiate(state, gradients, batch, step)
        with torch.inference_mode():
            logits = self.logits(state, batch)
        return {**state, **{f"gradient of {name}": tensor for name, tensor in gradients.items()}, "logits": logits}

    def _states(self) -> State:
        """Values of two groups of two heads."""
        singles = [[self.initial(layer, seed) for seed in range(2)] for layer in range(2)]
        return {
            name: torch.stack([torch.stack([one[name] for one in group]) for group in singles]).to(self.device)
            for name in singles[0][0]
        }


def _part(state: State, part: tuple[slice, slice]) -> State:
    return {name: tensor[part] for name, tensor in state.items()}


def _made_up(head: Head, width: int, device: torch.device) -> Whole:
    """Three clips of noise as two groups read them; frames after the end of each clip are zero."""
    with seeded(0):
        inputs = torch.randn(2, len(_TRIED_FRAMES), max(_TRIED_FRAMES), width)
    items = torch.arange(len(_TRIED_FRAMES)).expand(2, -1).to(device)
    if not head.reads_frames:
        return Whole(slice(None), items, inputs[:, :, 0].to(device))
    valid = torch.arange(max(_TRIED_FRAMES)) < torch.tensor(_TRIED_FRAMES)[:, None]
    return Whole(slice(None), items, (inputs * valid[..., None]).to(device), valid.to(device))


def _second_alone(batch: Whole, head: Head) -> Whole:
    """The second clip, without padding."""
    inputs = batch.inputs[:, 1:2]
    return Whole(batch.groups, batch.items[:, 1:2], inputs[:, :, : _TRIED_FRAMES[1]] if head.reads_frames else inputs)


def _equal(one: Tensor, other: Tensor) -> bool:
    one, other = one.double(), other.double()
    return not other.numel() or bool((one - other).abs().max() <= _SAME * other.abs().max() + _NOTHING)
