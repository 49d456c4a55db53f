"""Average precision as BEANS defines it, for the pages (numpy) and for training (torch)."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    Numbers = TypeVar("Numbers", NDArray[np.float64], Tensor)


def average_precision(hits: "Numbers", ranks: "Numbers", axis: int = 0) -> "Numbers":
    """The mean precision over the positive items; 0 for a class without positives.

    The function uses only operations that numpy arrays and torch tensors share, so that a page without torch computes
    the same values as training.

    Args:
        hits: (..., items, ...) floats: 1 for a positive item, else 0. Items are in descending score; items with equal
            scores keep their own order.
        ranks: 1, 2, ... along ``axis``, in a shape that broadcasts to that of ``hits``.
        axis: axis of the items.

    Returns:
        Values in [0, 1], in the shape of ``hits`` without ``axis``.
    """
    precision = hits.cumsum(axis) / ranks
    mean: Numbers = (precision * hits).sum(axis) / hits.sum(axis).clip(1)
    return mean


def descending(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """(items,) indices in descending score; items with equal scores keep their order."""
    return np.argsort(-scores, kind="stable")
