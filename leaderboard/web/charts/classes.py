"""Charts of a result per class."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
from numpy.typing import NDArray

from leaderboard.web.charts.style import MARK, TEST, VALID
from leaderboard.web.diagnostics import row_shares

# Up to this many classes, each field of the matrix has room for a number.
_NUMBERED = 12
_ON_LIGHT, _ON_DARK = "#16211f", "#ffffff"


def confusions(matrix: NDArray[np.int64], labels: Sequence[str], *, dark: bool) -> alt.LayerChart | alt.FacetChart:
    """A confusion matrix. A larger share of the true class gives a stronger field; correct predictions are framed.

    Args:
        matrix: (classes, classes) counts, one row per true class.
        labels: (classes,) names, in drawing order.
        dark: whether the page is dark, which sets the colour of the numbers in weak fields.
    """
    shares = row_shares(matrix)
    fields = [
        {
            "true": labels[true],
            "predicted": labels[predicted],
            "share": float(shares[true, predicted]),
            "count": int(matrix[true, predicted]),
            "shown": f"{shares[true, predicted]:.2f}".removeprefix("0"),
        }
        for true, predicted in np.argwhere(matrix)
    ]
    diagonal = [{"true": label, "predicted": label} for label in labels]
    names = alt.Scale(domain=list(labels), paddingInner=0.05)
    marks: dict[str, Any] = {"labelLimit": 110, "labelOverlap": False, "labelFlush": False, "grid": False}
    x = alt.X(
        "predicted:N",
        title="predicted class",
        scale=names,
        axis=alt.Axis(labelAngle=-45 if len(labels) > 5 else 0, **marks),
    )
    y = alt.Y("true:N", title="true class", scale=names, axis=alt.Axis(**marks))
    base = alt.Chart(alt.InlineData(values=fields)).encode(
        x=x,
        y=y,
        tooltip=[
            alt.Tooltip("true:N", title="true class"),
            alt.Tooltip("predicted:N", title="predicted class"),
            alt.Tooltip("share:Q", title="share of the true class", format=".3f"),
            alt.Tooltip("count:Q", title="times, all seeds"),
        ],
    )
    # Opacity shows the share, so that a weak field looks like the page, on white and on black.
    areas = base.mark_rect(color=VALID).encode(
        opacity=alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.08, 1]), legend=None)
    )
    frames = (
        alt.Chart(alt.InlineData(values=diagonal))
        .mark_rect(fillOpacity=0, stroke=MARK)
        # The frames are below the fields and have no tooltip, so that a border shows the tooltip of its field.
        .encode(x=x, y=y, tooltip=alt.value(None))
    )
    layers = [frames, areas]
    if len(labels) <= _NUMBERED:
        plain = _ON_DARK if dark else _ON_LIGHT
        color = alt.condition("datum.share > 0.6", alt.value(_ON_DARK), alt.value(plain))
        layers.append(base.mark_text(fontSize=11).encode(text="shown:N", color=color))
    return alt.layer(*layers).properties(height=90 + max(200, min(24 * len(labels), 720)))


def class_bars(
    bars: Sequence[tuple[str, float, str]], title: str, mean: float | None = None
) -> alt.LayerChart | alt.FacetChart:
    """One bar per class, in the given order.

    Args:
        bars: per class its name, its value in 0..1, and a note beside the bar.
        title: name of the values.
        mean: drawn as a line through all bars.
    """
    values = [{"class": name, "value": value, "note": note} for name, value, note in bars]
    base = alt.Chart(alt.InlineData(values=values)).encode(
        y=alt.Y(
            "class:N",
            title=None,
            scale=alt.Scale(domain=[name for name, _, _ in bars]),
            axis=alt.Axis(labelLimit=150, labelOverlap=False, labelFlush=False, grid=False, ticks=False),
        )
    )
    # Beyond 1 there is room for the note beside the longest bar.
    x = alt.X(
        "value:Q",
        title=title,
        scale=alt.Scale(domain=[0, 1.15], nice=False),
        axis=alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], format=".2f", grid=False),
    )
    rows = base.mark_bar(color=VALID, height={"band": 0.7}).encode(
        x=x, tooltip=[alt.Tooltip("class:N"), alt.Tooltip("value:Q", title=title, format=".4f"), "note:N"]
    )
    notes = base.mark_text(align="left", dx=5, color=MARK).encode(x=x, text="note:N")
    layers: list[alt.Chart] = [rows, notes]
    if mean is not None:
        layers.append(
            alt.Chart(alt.InlineData(values=[{"value": mean}]))
            .mark_rule(color=TEST, strokeDash=[4, 4], strokeWidth=2)
            .encode(x=x, tooltip=[alt.Tooltip("value:Q", title="mean", format=".4f")])
        )
    return alt.layer(*layers).properties(height=110 + 22 * len(bars))
