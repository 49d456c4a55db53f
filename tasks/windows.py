"""Detection windows and their labels, exactly as BEANS cuts them (Hagiwara et al. 2022, ``beans/datasets.py``)."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

# At least this share of an annotation (or of the window, if that is shorter) must be inside the window.
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
    """Return the number of windows of a recording: ``int((length - width) / shift) + 1``, at least 0. All in seconds.

    A recording that is shorter than one window by less than ``shift`` gives one window, which the reader pads. A
    shorter recording gives none.
    """
    return max(0, int((length - width) / shift) + 1)


def is_positive(start: float, end: float, st: float, ed: float) -> bool:
    """Return whether an annotation (``st`` to ``ed``) makes a window (``start`` to ``end``) positive. All in seconds.

    A window is positive if the annotation covers all of it, or if one end of the annotation is in the window (limits
    included) and the overlap is more than 20 % of the shorter of the two. An annotation of length 0 makes no window
    positive. An annotation that ends before it starts gets the same arithmetic, because BEANS does not check for it.
    """
    if ed == st:
        return False
    if st <= start and end <= ed:
        return True
    if not (start <= st <= end or start <= ed <= end):
        return False
    return (min(end, ed) - max(start, st)) / min(end - start, ed - st) > MIN_OVERLAP


def cut_windows(length: float, annotations: Sequence[Annotation], width: float, shift: float) -> list[Window]:
    """Return all windows of one recording with their labels.

    Args:
        length: length of the recording, in seconds.
        annotations: in any order. They may overlap and may end after the recording.
        width: width of a window, in seconds.
        shift: time from the start of one window to the start of the next, in seconds.
    """
    positive: list[set[int]] = [set() for _ in range(count_windows(length, width, shift))]
    for annotation in annotations:
        for index in positive_windows(annotation, len(positive), width, shift):
            positive[index].add(annotation.label)
    return [
        Window(index * shift, index * shift + width, tuple(sorted(labels))) for index, labels in enumerate(positive)
    ]


def positive_windows(annotation: Annotation, count: int, width: float, shift: float) -> Iterator[int]:
    """Yield the indices of the windows, of the first ``count``, that an annotation makes positive."""
    st, ed, _ = annotation
    # Only windows near the annotation are tested, with one more on each side against rounding. Testing every window for
    # every annotation of a long recording would take minutes.
    first = max(0, math.floor((min(st, ed) - width) / shift) - 1)
    last = min(count - 1, math.ceil(max(st, ed) / shift) + 1)
    for index in range(first, last + 1):
        if is_positive(index * shift, index * shift + width, st, ed):
            yield index
