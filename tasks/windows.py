"""Detection windows and their labels, exactly as BEANS cuts them (Hagiwara et al. 2022, ``beans/datasets.py``)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

# An annotation that merely touches a window says little about it: this share must lie inside.
MIN_OVERLAP = 0.2


class Annotation(NamedTuple):
    """One labelled stretch of a recording: start and end in seconds, and the index of its label."""

    st: float
    ed: float
    label: int


class Window(NamedTuple):
    """One window of a recording: start and end in seconds, and the sorted indices of the labels that are positive."""

    start: float
    end: float
    labels: tuple[int, ...]


def count_windows(length: float, width: float, shift: float) -> int:
    """How many windows a recording of ``length`` seconds gives: ``int((length - width) / shift) + 1``, never negative.

    A recording that is shorter than one window by less than ``shift`` still gives one, which the reader pads; a
    shorter one gives none.
    """
    return max(0, int((length - width) / shift) + 1)


def is_positive(start: float, end: float, st: float, ed: float) -> bool:
    """Whether an annotation from ``st`` to ``ed`` makes the window from ``start`` to ``end`` positive (all in seconds).

    It does when it covers the whole window, or when one of its ends lies in the window (limits included) and the
    overlap is more than 20 % of the shorter of the two. An annotation without length never does; one that ends before
    it starts goes through the same arithmetic, because BEANS does not look.
    """
    if ed == st:
        return False
    if st <= start and end <= ed:
        return True
    if not (start <= st <= end or start <= ed <= end):
        return False
    return (min(end, ed) - max(start, st)) / min(end - start, ed - st) > MIN_OVERLAP


def cut_windows(length: float, annotations: Sequence[Annotation], width: float, shift: float) -> list[Window]:
    """All windows of one recording with their labels.

    Args:
        length: of the recording, in seconds.
        annotations: in any order; they may overlap each other and reach past the end of the recording.
        width: of a window, in seconds.
        shift: from one window's start to the next, in seconds.
    """
    count = count_windows(length, width, shift)
    positive: list[set[int]] = [set() for _ in range(count)]
    for st, ed, label in annotations:
        # Only windows the annotation can reach are tried, one more on each side against rounding: long recordings
        # hold many annotations, and trying each on every window would take minutes.
        first = max(0, math.floor((min(st, ed) - width) / shift) - 1)
        last = min(count - 1, math.ceil(max(st, ed) / shift) + 1)
        for index in range(first, last + 1):
            if is_positive(index * shift, index * shift + width, st, ed):
                positive[index].add(label)
    return [
        Window(index * shift, index * shift + width, tuple(sorted(labels))) for index, labels in enumerate(positive)
    ]
