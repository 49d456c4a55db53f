"""Logistic regression, trained to convergence on the vectors of one layer.

It is the convex optimum that a linear probe approaches, and depends on no learning rate, epoch or seed. A record
contains its test score beside that of the probe, so that a probe which was not trained well is seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from evaluator.probes.metrics import loss, score

if TYPE_CHECKING:
    from tasks.task import Metric

# Part of the id of every record: raise it with any change of the scores.
VERSION = 1
# Inverse strengths of the L2 penalty, as in scikit-learn, from strong to weak.
STRENGTHS = tuple(10.0**exponent for exponent in range(-4, 3))
_ITERATIONS, _TOLERANCE = 500, 1e-6
# Scores of all train items for all classes, in double precision and several times in memory: about 1 GB. The largest
# task of BEANS has 4 million.
MOST_SCORES = 2**25


@dataclass(frozen=True)
class Logistic:
    """The regression with the best validation metric: its inverse strength, and its metric on validation and test."""

    strength: float
    valid: float
    test: float


def logistic_regression(
    metric: "Metric", train: tuple[Tensor, Tensor], valid: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> Logistic | None:
    """Fit one regression for each of `STRENGTHS`, choose by validation, and score the choice on test.

    Ties go to the stronger penalty.

    Args:
        metric: of the task: "accuracy" for one softmax over the classes, "map" for one regression per class.
        train: (items, width) vectors, standardised, and their targets as in `score`.
        valid: the same for validation.
        test: the same for test.

    Returns:
        The regression; None for more than `MOST_SCORES` train items times classes, which takes hours and gigabytes.
    """
    if len(train[0]) * _classes(metric, train[1]) > MOST_SCORES:
        return None
    best = None
    for strength, weight, bias in _path(metric, *train):
        reached = float(score(metric, _logits(valid[0], weight, bias), valid[1]))
        if best is None or reached > best[1]:
            best = strength, reached, weight, bias
    assert best is not None
    strength, reached, weight, bias = best
    return Logistic(strength, reached, float(score(metric, _logits(test[0], weight, bias), test[1])))


def _path(metric: "Metric", inputs: Tensor, targets: Tensor) -> Iterator[tuple[float, Tensor, Tensor]]:
    """For each strength, the weight (classes, width) and bias (classes,) of the optimum.

    Each optimum is the start of the next search, which takes fewer iterations than a start at zero.
    """
    inputs = inputs.double()
    classes = _classes(metric, targets)
    weight = inputs.new_zeros(classes, inputs.shape[1], requires_grad=True)
    bias = inputs.new_zeros(classes, requires_grad=True)
    # Losses are means over items, and over classes too for "map". scikit-learn's are sums.
    terms = len(inputs) if metric == "accuracy" else targets.numel()
    for strength in STRENGTHS:
        optimiser = torch.optim.LBFGS(
            [weight, bias],
            max_iter=_ITERATIONS,
            tolerance_grad=_TOLERANCE,
            tolerance_change=1e-12,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        def objective(strength: float = strength, optimiser: torch.optim.LBFGS = optimiser) -> float:
            optimiser.zero_grad()
            value = loss(metric, inputs @ weight.T + bias, targets) + weight.square().sum() / (2 * strength * terms)
            value.backward()  # type: ignore[no-untyped-call]
            return float(value.detach())

        optimiser.step(objective)  # type: ignore[no-untyped-call]
        yield strength, weight.detach().clone(), bias.detach().clone()


def _classes(metric: "Metric", targets: Tensor) -> int:
    return int(targets.max()) + 1 if metric == "accuracy" else targets.shape[1]


def _logits(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return inputs.double() @ weight.T + bias
