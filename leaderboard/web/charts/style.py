"""Colours and shapes that all charts share, chosen to be read on white and on black."""

from collections.abc import Sequence

import altair as alt

from leaderboard.ranking.formats import METRICS
from leaderboard.records.record import Record

VALID, TEST = "#0f9d8a", "#e07b39"
MARK = "#8a94a6"
WARNING = "#d9483b"
# Told apart by readers who see few colours (after Okabe and Ito), and by shape.
SEVERAL = ("#0f9d8a", "#e07b39", "#5b8def", "#c85a9b", "#b59a1f")
SHAPES = ("circle", "square", "triangle-up", "cross", "triangle-down")


def submissions(names: Sequence[str]) -> tuple[alt.Color, alt.Shape]:
    """A colour and a shape for each of up to five submissions, explained in one legend.

    Args:
        names: all submissions of the page, so that each looks the same in all its charts.
    """
    # On a phone two names do not fit beside each other.
    columns = alt.ExprRef("width < 320 ? 1 : 2")
    legend = alt.Legend(orient="top", direction="horizontal", columns=columns, labelLimit=220)
    color = alt.Color(
        "submission:N",
        title=None,
        scale=alt.Scale(domain=list(names), range=list(SEVERAL[: len(names)])),
        legend=legend,
    )
    shape = alt.Shape(
        "submission:N",
        title=None,
        scale=alt.Scale(domain=list(names), range=list(SHAPES[: len(names)])),
        legend=legend,
    )
    return color, shape


def metric(record: Record) -> str:
    """The metric as an axis names it."""
    return METRICS[record.metric]


def reach(curve: alt.Chart) -> alt.Chart:
    """Large invisible points, so that a tooltip needs no steady hand."""
    points: alt.Chart = curve.mark_point(size=500, filled=True, opacity=0)
    return points
