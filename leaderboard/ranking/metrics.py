"""Average precision as BEANS defines it, for the pages (numpy) and for training (torch)."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    Numbers = TypeVar("Numbers", NDArray[np.float64], Tensor)


def average_precision(hits: "Numbers", ranks: "Numbers", axis: int = 0) -> "Numbers":
    """The mean of the precision at each positive; 0 for a class without positives.

    Only operations that numpy's arrays and torch's tensors share are used, so that a page without torch gives what the
    training gives.

    Args:
        hits: (..., items, ...) floats: 1 where an item is positive, else 0; items in descending score, and items with
            equal scores in their own order.
        ranks: 1, 2, ... along ``axis``, in a shape that broadcasts to that of ``hits``.
        axis: that of the items.

    Returns:
        In [0, 1], without ``axis``.
    """
    precision = hits.cumsum(axis) / ranks
    mean: Numbers = (precision * hits).sum(axis) / hits.sum(axis).clip(1)
    return mean


def descending(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """(items,) the items in descending score; items with equal scores keep their order."""
    return np.argsort(-scores, kind="stable")
