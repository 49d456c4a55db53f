"""Colours and shapes that all charts share. They are readable on white and on black."""

from collections.abc import Sequence

import altair as alt

from leaderboard.ranking.formats import METRICS
from leaderboard.records.record import Record

VALID, TEST = "#0f9d8a", "#e07b39"
MARK = "#8a94a6"
WARNING = "#d9483b"
# Colour-blind readers can distinguish these colours (after Okabe and Ito). Each submission has its own shape too.
SEVERAL = ("#0f9d8a", "#e07b39", "#5b8def", "#c85a9b", "#b59a1f")
SHAPES = ("circle", "square", "triangle-up", "cross", "triangle-down")


def submissions(names: Sequence[str]) -> tuple[alt.Color, alt.Shape]:
    """One colour and one shape per submission, for up to five submissions, explained in one legend.

    Args:
        names: all submissions of the page, so that each has the same colour and shape in all charts.
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
    """The name of the record's metric on an axis."""
    return METRICS[record.metric]


def reach(curve: alt.Chart) -> alt.Chart:
    """Large invisible points, which show a tooltip near each point of the curve."""
    points: alt.Chart = curve.mark_point(size=500, filled=True, opacity=0)
    return points
