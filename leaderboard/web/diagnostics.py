"""Details behind a score: confused classes, learning rates at an edge, and the Pareto front of score and cost."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from leaderboard.ranking.metrics import average_precision, descending
from leaderboard.records.predictions import PredictedScores
from leaderboard.records.protocol import Protocol
from tasks.support.errors import UserError

# The evaluator flags a rate in the outer twentieth of the logarithmic range. A test checks that it uses this value too.
_EDGE = 0.05


@dataclass(frozen=True, slots=True)
class Confusion:
    """Two confused classes: their indices, the count over all seeds, and the share of the true class's items."""

    true: int
    predicted: int
    count: int
    share: float


def confusion_counts(test: PredictedScores) -> csr_array:
    """Count how often each true class was predicted as each class, summed over seeds.

    Args:
        test: of a classification task.

    Returns:
        (classes, classes) sparse, because 10,000 classes would take 800 MB otherwise; one row per true class, one
        column per predicted class. The predicted class has the highest score; of equal scores, the first class.
    """
    classes = test.scores.shape[-1]
    predicted = test.scores.argmax(-1)
    true = np.broadcast_to(test.targets, predicted.shape)
    ones = np.ones(predicted.size, dtype=np.int64)
    return csr_array((ones, (true.ravel(), predicted.ravel())), shape=(classes, classes))


def row_shares(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Divide each row of a confusion matrix by its sum. The row of a class without items is NaN."""
    items = matrix.sum(1, keepdims=True)
    shares: NDArray[np.float64] = np.divide(matrix, items, out=np.full(matrix.shape, np.nan), where=items > 0)
    return shares


def recalls(counts: csr_array) -> NDArray[np.float64]:
    """(classes,) share of the items of each class that were predicted as it; NaN for a class without items."""
    items = counts.sum(1)
    shares: NDArray[np.float64] = np.divide(counts.diagonal(), items, out=np.full(len(items), np.nan), where=items > 0)
    return shares


def most_confused(counts: csr_array, most: int) -> list[Confusion]:
    """The ``most`` pairs with the highest count. Of equal counts, larger shares come first, then lower indices."""
    pairs = counts.tocoo()
    wrong = (pairs.row != pairs.col) & (pairs.data > 0)
    true, predicted, count = pairs.row[wrong], pairs.col[wrong], pairs.data[wrong]
    shares = count / counts.sum(1)[true]
    first = np.lexsort((predicted, true, -shares, -count))[:most]
    return [Confusion(int(true[at]), int(predicted[at]), int(count[at]), float(shares[at])) for at in first]


def average_precisions(test: PredictedScores) -> NDArray[np.float64]:
    """Average precision per class as BEANS computes it, mean over seeds. The mean over classes is the task's score.

    Args:
        test: of a detection task.

    Returns:
        (classes,) in [0, 1].
    """
    seeds, items, classes = test.scores.shape
    ranks = np.arange(1.0, items + 1)
    precisions = np.zeros((seeds, classes))
    for seed, scores in enumerate(test.scores):
        for column in np.flatnonzero(test.targets.any(0)):
            hits = (test.targets[descending(scores[:, column]), column] > 0).astype(np.float64)
            precisions[seed, column] = average_precision(hits, ranks)
    mean: NDArray[np.float64] = precisions.mean(0)
    return mean


def searched_rates(protocol: str) -> tuple[float, float] | None:
    """The lowest and highest learning rate that the protocol searches; None for a single rate or unknown rules."""
    try:
        low, high = Protocol.parse(protocol).rate_range
    except UserError:
        return None
    return (low, high) if low < high else None


def edges(low: float, high: float) -> tuple[float, float]:
    """Limits of the edges of the range: a rate up to the first, or from the second on, is at an edge."""
    part = (high / low) ** _EDGE
    return low * part, high / part


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names on the Pareto front: no other point has as low a cost and as high a gain, and is better in one of them.

    Args:
        points: by name, a cost (less is better) and a gain (more is better).

    Returns:
        Cheapest first. Equal points are all in it, sorted by name.
    """
    front: list[str] = []
    best = -math.inf
    for name, (cost, gain) in sorted(points.items(), key=lambda point: (point[1][0], -point[1][1], point[0])):
        if gain > best or (front and points[front[-1]] == (cost, gain)):
            front.append(name)
            best = gain
    return front
