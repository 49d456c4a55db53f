"""Windows and labels are BEANS': a departure would make detection scores incomparable with every published one."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.windows import Annotation, count_windows, cut_windows, is_positive


@pytest.mark.parametrize(
    ("length", "width", "shift", "count"),
    [
        (60, 2, 1, 59),
        (60, 4, 2, 29),
        (60, 10, 5, 11),
        (59.9, 2, 1, 58),
        (2, 2, 1, 1),
        (1.5, 2, 1, 1),  # shorter by less than a shift: one window, padded by the reader
        (1.0, 2, 1, 0),
        (0.1, 10, 2, 0),  # int((0.1 - 10) / 2) + 1 is -3
    ],
)
def test_count_is_that_of_beans(length: float, width: float, shift: float, count: int) -> None:
    assert count_windows(length, width, shift) == count
    assert len(cut_windows(length, [], width, shift)) == count


@pytest.mark.parametrize(
    ("span", "positive", "why"),
    [
        ((10.5, 11.5), True, "an annotation inside the window"),
        ((9.0, 13.0), True, "an annotation that covers the window, though neither of its ends lies inside"),
        ((10.0, 12.0), True, "an annotation that is the window"),
        ((8.0, 10.5), True, "25 % of the window"),
        ((8.0, 10.375), False, "19 % of the window"),
        ((9.0, 10.25), False, "20 % of a short annotation, which is not more than 20 %"),
        ((9.7, 10.1), True, "25 % of a short annotation, though only 5 % of the window"),
        ((8.0, 10.0), False, "touching the closed interval without overlap"),
        ((12.0, 14.0), False, "touching the other end"),
        ((11.0, 11.0), False, "no length"),
        ((10.0, 10.0), False, "no length, on the limit"),
        ((13.0, 14.0), False, "elsewhere"),
    ],
)
def test_label_rule(span: tuple[float, float], positive: bool, why: str) -> None:
    assert is_positive(10.0, 12.0, *span) is positive, why


def test_labels_of_overlapping_annotations_are_sorted_and_single() -> None:
    annotations = [Annotation(0.0, 1.0, 3), Annotation(0.5, 1.5, 1), Annotation(1.2, 1.6, 3), Annotation(50.0, 99.0, 0)]
    assert [window.labels for window in cut_windows(4, annotations, 2, 2)] == [(1, 3), ()]


def test_windows_are_placed_by_multiplication_not_by_adding_up() -> None:
    # Adding 0.1 ten thousand times drifts; BEANS multiplies.
    windows = cut_windows(1000, [], 0.5, 0.1)
    assert windows[9990].start == 9990 * 0.1
    assert windows[9990].end == 9990 * 0.1 + 0.5


# Eighths of a second are exact as floats, so that the reference can reckon in fractions without rounding.
eighths = st.integers(0, 400).map(lambda n: n / 8)
positive_eighths = st.integers(1, 80).map(lambda n: n / 8)
spans = st.lists(st.tuples(eighths, eighths, st.integers(0, 3)).map(lambda a: Annotation(min(a[:2]), max(a[:2]), a[2])))


@given(length=eighths, width=positive_eighths, shift=positive_eighths, annotations=spans)
def test_windows_equal_a_brute_force_reading_of_the_rule(
    length: float, width: float, shift: float, annotations: list[Annotation]
) -> None:
    expected = []
    w, s = Fraction(width), Fraction(shift)
    for i in range(int((Fraction(length) - w) / s) + 1):
        start, end = i * s, i * s + w
        labels = set()
        for st_, ed, label in annotations:
            a, b = Fraction(st_), Fraction(ed)
            covers = a <= start and end <= b
            an_end_inside = start <= a <= end or start <= b <= end
            enough = 5 * (min(end, b) - max(start, a)) > min(w, b - a)
            if a != b and (covers or (an_end_inside and enough)):
                labels.add(label)
        expected.append((start, end, tuple(sorted(labels))))
    assert cut_windows(length, annotations, width, shift) == expected


seconds = st.floats(0, 50)


@given(
    width=st.floats(0.05, 10),
    shift=st.floats(0.05, 10),
    annotations=st.lists(st.tuples(seconds, seconds).map(lambda a: Annotation(min(a), max(a), 0)), max_size=5),
)
def test_no_window_is_missed_for_speed(width: float, shift: float, annotations: list[Annotation]) -> None:
    for window in cut_windows(30, annotations, width, shift):
        expected = any(is_positive(window.start, window.end, st_, ed) for st_, ed, _ in annotations)
        assert bool(window.labels) is expected


def literal_windows(
    length: float, annotations: list[Annotation], width: float, shift: float
) -> list[tuple[float, float, tuple[int, ...]]]:
    """All windows against all annotations, condition by condition in BEANS' order."""
    windows = []
    for window in range(int((length - width) / shift) + 1):
        start, end = window * shift, window * shift + width
        labels = set()
        for st_, ed, label in annotations:
            if start <= st_ <= end or start <= ed <= end:
                shorter = min(end - start, ed - st_)
                if shorter == 0:
                    continue
                if (min(end, ed) - max(start, st_)) / shorter > 0.2:
                    labels.add(label)
            if st_ <= start and end <= ed:
                labels.add(label)
        windows.append((start, end, tuple(sorted(labels))))
    return windows


# Times that lie on the grid of the windows, on tenths (which no float holds exactly), or anywhere; before the start and
# past the end too.
some_times = st.one_of(st.integers(-20, 200).map(float), st.integers(-50, 700).map(lambda n: n / 10), st.floats(-5, 70))
any_span = st.tuples(some_times, some_times, st.integers(0, 3)).map(lambda a: Annotation(*a))
no_length = st.tuples(some_times, st.integers(0, 3)).map(lambda a: Annotation(a[0], a[0], a[1]))
short = st.tuples(some_times, st.floats(-0.6, 2.5), st.integers(0, 3)).map(
    lambda a: Annotation(a[0], a[0] + a[1], a[2])
)


@given(
    length=st.one_of(st.sampled_from([0.5, 1.0, 1.9, 2.0, 59.0, 60.0, 61.0]), st.floats(0.01, 65)),
    annotations=st.lists(st.one_of(any_span, no_length, short), max_size=12),
    window=st.one_of(
        st.sampled_from([(2, 1), (4, 2), (10, 5), (0.5, 0.1), (1.0, 3.0)]),
        st.tuples(st.floats(0.05, 12), st.floats(0.05, 12)),
    ),
)
def test_windows_are_those_of_beans_down_to_its_oddities(
    length: float, annotations: list[Annotation], window: tuple[float, float]
) -> None:
    assert cut_windows(length, annotations, *window) == literal_windows(length, annotations, *window)


@pytest.mark.parametrize(
    ("span", "positive", "why"),
    [
        ((11.5, 10.5), True, "ends before it starts, within the window: both differences are negative"),
        ((13.0, 11.0), True, "ends before it starts, one end in the window: the ratio is 1 wherever the other is"),
        ((9.0, 5.0), False, "ends before it starts, elsewhere"),
        ((-3.0, 99.0), True, "covers the window from before the start to past the end of the recording"),
    ],
)
def test_label_rule_for_odd_annotations(span: tuple[float, float], positive: bool, why: str) -> None:
    expected = bool(literal_windows(12, [Annotation(*span, 0)], 2, 1)[10][2])
    assert is_positive(10.0, 12.0, *span) is expected is positive, why
