"""What lies behind a score: which classes are confused, which rates were at an edge, and who pays least for a score."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leaderboard.ranking.metrics import average_precision, descending
from leaderboard.records.predictions import PredictedScores
from leaderboard.records.protocol import Protocol
from tasks.support.errors import UserError

# The evaluator flags a rate in the outer twentieth of the range's logarithm; a test holds the two together.
_EDGE = 0.05


@dataclass(frozen=True, slots=True)
class Confusion:
    """A class that was taken for another one: by index, how often over all seeds, and for which share of its items."""

    true: int
    predicted: int
    count: int
    share: float


def confusion_matrix(test: PredictedScores) -> NDArray[np.int64]:
    """How often each class was taken for each, summed over seeds.

    Args:
        test: of a classification task.

    Returns:
        (classes, classes); a row is a true class, a column the class with the highest score, the first of equal ones.
    """
    classes = test.scores.shape[-1]
    cells = test.targets * classes + test.scores.argmax(-1)
    return np.bincount(cells.ravel(), minlength=classes**2).reshape(classes, classes).astype(np.int64)


def row_shares(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each row of a confusion matrix as shares of 1; NaN for a class without items."""
    items = matrix.sum(1, keepdims=True)
    shares: NDArray[np.float64] = np.divide(matrix, items, out=np.full(matrix.shape, np.nan), where=items > 0)
    return shares


def most_confused(matrix: NDArray[np.int64], most: int) -> list[Confusion]:
    """The pairs of classes that were confused most often; of equally often ones the larger share, then the first."""
    shares = row_shares(matrix)
    pairs = [
        Confusion(int(true), int(predicted), int(matrix[true, predicted]), float(shares[true, predicted]))
        for true, predicted in np.argwhere(matrix)
        if true != predicted
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.share, pair.true, pair.predicted))[:most]


def average_precisions(test: PredictedScores) -> NDArray[np.float64]:
    """Average precision of each class as BEANS computes it, mean over seeds; the mean over classes is the task's score.

    Args:
        test: of a detection task.

    Returns:
        (classes,) in [0, 1].
    """
    seeds, items, classes = test.scores.shape
    ranks = np.arange(1.0, items + 1)
    found = np.zeros((seeds, classes))
    for seed, scores in enumerate(test.scores):
        for column in np.flatnonzero(test.targets.any(0)):
            hits = (test.targets[descending(scores[:, column]), column] > 0).astype(np.float64)
            found[seed, column] = average_precision(hits, ranks)
    mean: NDArray[np.float64] = found.mean(0)
    return mean


def searched_rates(protocol: str) -> tuple[float, float] | None:
    """The lowest and highest learning rate that a protocol of this name tries; None for one rate and unknown rules."""
    try:
        low, high = Protocol.parse(protocol).rate_range
    except UserError:
        return None
    return (low, high) if low < high else None


def edges(low: float, high: float) -> tuple[float, float]:
    """A learning rate up to the first or from the second on lies at an edge of the range ``low`` to ``high``."""
    part = (high / low) ** _EDGE
    return low * part, high / part


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names that no other beats: none costs as little and gains as much, and is better in one of the two.

    Args:
        points: by name, a cost (less is better) and a gain (more is better).

    Returns:
        Cheapest first; of equal points all, by name.
    """
    front: list[str] = []
    best = -math.inf
    for name, (cost, gain) in sorted(points.items(), key=lambda point: (point[1][0], -point[1][1], point[0])):
        if gain > best or (front and points[front[-1]] == (cost, gain)):
            front.append(name)
            best = gain
    return front
