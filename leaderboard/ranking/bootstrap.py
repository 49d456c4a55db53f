"""Bootstrap of a test score over recordings: its variation if the test split had other recordings of the same kind."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leaderboard.ranking.metrics import descending

if TYPE_CHECKING:
    from tasks.task import Metric

# Part of the id of every record and of every file of resamples: raise it when the resampled scores change.
VERSION = 1


Scores = NDArray[np.float32]
Targets = NDArray[np.int64] | NDArray[np.uint8]
Counts = NDArray[np.int64]

# Resamples computed at once: enough to be fast, and few enough to limit the memory.
BLOCK = 256
# Scores whose ranking is kept, at 16 bytes each.
MOST_RANKED = 2**26


def resampled(
    metric: "Metric", scores: Scores, targets: Targets, recordings: Sequence[str], *, resamples: int, seed: int
) -> NDArray[np.float64]:
    """The metric's mean over seeds in each resample. A resample draws recordings with replacement.

    Items of one recording are not independent, so a resample contains all items of a recording or none. The draw
    depends only on the sorted names of the recordings and on ``seed``: two submissions that were measured on the same
    items are scored on the same resamples. Equal predictions give equal numbers, bit for bit.

    Args:
        metric: "accuracy", or "map" as BEANS computes it (a class without positives counts 0, items with equal scores
            keep their order).
        scores: (seeds, items, classes) logits.
        targets: (items,) class indices, or (items, classes) of 0 and 1 for "map".
        recordings: (items,) the recording of each item.
        resamples: number of bootstrap resamples.
        seed: seed of the random draw.

    Returns:
        (resamples,) in [0, 1].
    """
    names, member = np.unique(np.asarray(recordings), return_inverse=True)
    groups = len(names)
    metric_of = (
        _Accuracy(scores, targets, member) if metric == "accuracy" else _MeanAveragePrecision(scores, targets, member)
    )
    generator = np.random.default_rng(seed)
    blocks = []
    for start in range(0, resamples, BLOCK):
        drawn = generator.integers(groups, size=(min(BLOCK, resamples - start), groups))
        blocks.append(metric_of(_count(drawn, groups)))
    return np.concatenate(blocks)


def _count(drawn: Counts, groups: int) -> Counts:
    """(groups, resamples): how often each recording was drawn."""
    offset = np.arange(len(drawn))[:, None] * groups
    counts = np.bincount((drawn + offset).ravel(), minlength=drawn.size).reshape(drawn.shape)
    return np.ascontiguousarray(counts.T)


class _Accuracy:
    """Top-1 accuracy. Right answers are counted as integers, so that equal shares give equal numbers."""

    def __init__(self, scores: Scores, targets: Targets, member: Counts) -> None:
        right = (scores.argmax(-1) == targets).sum(0)
        self._right = np.bincount(member, weights=right).astype(np.int64)
        self._asked = np.bincount(member) * len(scores)

    def __call__(self, counts: Counts) -> NDArray[np.float64]:
        """The score of each resample; ``counts`` is (recordings, resamples)."""
        share: NDArray[np.float64] = (self._right @ counts) / (self._asked @ counts)
        return share


@dataclass(frozen=True)
class _Ranked:
    """The items of one class, ranked by the scores of one seed.

    Attributes:
        positives: (positives,) the recording of each positive, by descending score.
        negatives: (positives, recordings) sparse; per recording, the number of negatives between the previous positive
            and this one.
    """

    positives: Counts
    negatives: Any


class _MeanAveragePrecision:
    """BEANS' macro mean average precision.

    Items are sorted once. A resample contains each item as often as its recording was drawn; the copies of an item are
    neighbours in the order. A positive with ``fp`` negatives and ``tp`` positives before it and ``k`` copies adds the
    precisions ``(tp + j) / (fp + tp + j)`` for j = 1..k. Their sum is ``k - fp * (H[fp + tp + k] - H[fp + tp])`` with
    the harmonic numbers H, for every ``k``.
    """

    def __init__(self, scores: Scores, targets: Targets, member: Counts) -> None:
        self._averaged = len(scores) * targets.shape[1]
        self._sizes = np.bincount(member)
        self._scores, self._targets, self._member = scores, targets, member
        # Ranking takes longer than a resample. It is repeated for each block of resamples where it takes more memory.
        self._kept = list(self._rank_all()) if scores.size <= MOST_RANKED else None

    def _rank_all(self) -> Iterator["_Ranked"]:
        for seed in self._scores:
            for column in np.flatnonzero(self._targets.any(0)):
                yield _rank(seed[:, column], self._targets[:, column] > 0, self._member, len(self._sizes))

    def __call__(self, counts: Counts) -> NDArray[np.float64]:
        """The score of each resample; ``counts`` is (recordings, resamples)."""
        longest = int((self._sizes @ counts).max())
        harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, longest + 1))])
        total: NDArray[np.float64] = np.zeros(counts.shape[1])
        for ranked in self._rank_all() if self._kept is None else self._kept:
            copies = counts[ranked.positives]
            negatives = (ranked.negatives @ counts).cumsum(0)
            last = negatives + copies.cumsum(0)
            precisions = copies - negatives * (harmonic[last] - harmonic[last - copies])
            total += precisions.sum(0) / np.maximum(copies.sum(0), 1)
        total /= self._averaged
        return total


def _rank(scores: Scores, positive: NDArray[np.bool_], member: Counts, groups: int) -> _Ranked:
    from scipy.sparse import csr_array

    order = descending(scores)
    hits = positive[order]
    before = hits.cumsum()
    positives = member[order[hits]]
    # Negatives after the last positive do not change a precision.
    counted = ~hits & (before < len(positives))
    where = (before[counted], member[order[counted]])
    ones = np.ones(len(where[0]), dtype=np.int64)
    return _Ranked(positives, csr_array((ones, where), shape=(len(positives), groups)))
