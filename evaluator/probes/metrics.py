"""Scores: top-1 accuracy, BEANS' mean average precision, and their intervals."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from leaderboard.ranking import metrics
from leaderboard.ranking.bootstrap import Scores, Targets, resampled

if TYPE_CHECKING:
    from tasks.task import Metric

# Part of the id of every record: raise it with any change of a score.
VERSION = 1


def score(metric: "Metric", logits: Tensor, targets: Tensor) -> Tensor:
    """The task's metric, for any number of probes at once.

    Args:
        metric: "accuracy" or "map".
        logits: (..., items, classes).
        targets: (items,) class indices, or (items, classes) of 0 and 1 for "map".

    Returns:
        (...) float64 in [0, 1], so that equal shares of right answers are equal numbers.
    """
    if metric == "accuracy":
        return (logits.argmax(-1) == targets).double().mean(-1)
    return average_precision(logits, targets).double().mean(-1)


def loss(metric: "Metric", logits: Tensor, targets: Tensor) -> Tensor:
    """The loss that training lowers, for any number of probes at once.

    Args:
        metric: cross-entropy for "accuracy", binary cross-entropy for "map".
        logits: (..., items, classes).
        targets: as in `score`.

    Returns:
        (...) float64, the mean over items (and classes).
    """
    if metric == "accuracy":
        of_right = logits.double().log_softmax(-1).gather(-1, targets.expand(logits.shape[:-1])[..., None])
        return -of_right[..., 0].mean(-1)
    logits, targets = logits.double(), targets.double().expand(logits.shape)
    return binary_cross_entropy_with_logits(logits, targets, reduction="none").mean((-1, -2))


def average_precision(logits: Tensor, targets: Tensor) -> Tensor:
    """Average precision of each class, exactly as BEANS computes it.

    Items with equal scores keep their order.

    Args:
        logits: (..., items, classes).
        targets: (items, classes) of 0 and 1.

    Returns:
        (..., classes) in [0, 1].
    """
    order = logits.argsort(dim=-2, descending=True, stable=True)
    hits = targets.to(torch.float32).expand(logits.shape).gather(-2, order)
    ranks = torch.arange(1, logits.shape[-2] + 1, device=logits.device, dtype=torch.float32)
    return metrics.average_precision(hits, ranks[:, None], axis=-2)


def secondary(metric: "Metric", scores: Scores, targets: Targets) -> dict[str, float]:
    """The further metrics of a record, each the mean over seeds.

    Args:
        metric: the task's metric.
        scores: (seeds, items, classes) logits.
        targets: (items,) or (items, classes).
    """
    from sklearn.metrics import f1_score, recall_score

    if metric == "accuracy":
        # Over the classes that occur in the test split: recall of a class without items is undefined.
        present = np.unique(targets)
        predicted = scores.argmax(-1)
        averaged = {"average": "macro", "labels": present, "zero_division": 0}
        return {
            "balanced_accuracy": _mean(recall_score(targets, seed, **averaged) for seed in predicted),
            "macro_f1": _mean(f1_score(targets, seed, **averaged) for seed in predicted),
        }
    per_class = average_precision(torch.from_numpy(scores), torch.from_numpy(targets))
    present_classes = torch.from_numpy(targets.any(0))
    return {
        "map_present_classes": float(per_class[:, present_classes].mean()) if present_classes.any() else 0.0,
        # A class is predicted where its probability is above one half.
        "macro_f1": _mean(f1_score(targets, seed > 0, average="macro", zero_division=0) for seed in scores),
    }


def bootstrap_interval(
    metric: "Metric", scores: Scores, targets: Targets, recordings: Sequence[str], *, resamples: int, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of the mean over seeds, resampling recordings with replacement.

    Items of one recording are not independent, so a resample contains all items of a recording or none.

    Args:
        metric: the task's metric.
        scores: (seeds, items, classes) logits.
        targets: (items,) or (items, classes).
        recordings: (items,) the recording of each item.
        resamples: number of bootstrap resamples.
        seed: of the resampling.
    """
    statistics = resampled(metric, scores, targets, recordings, resamples=resamples, seed=seed)
    low, high = np.quantile(statistics, [0.025, 0.975])
    return float(low), float(high)


def _mean(values: object) -> float:
    return float(np.mean(list(values)))  # type: ignore[call-overload]
