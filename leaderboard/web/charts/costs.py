"""Scores over costs."""

from collections.abc import Sequence
from typing import Literal

import altair as alt

from leaderboard.web.charts.style import MARK, submissions


def cost_chart(
    points: Sequence[tuple[str, float, float]],
    names: Sequence[str],
    title: str,
    front: Sequence[str] = (),
    better: Literal["less", "more"] = "less",
) -> alt.LayerChart | alt.FacetChart:
    """Mean score over a cost, or over a speed, on a logarithmic axis, with the Pareto front as steps.

    Args:
        points: per submission its name, its cost (above 0) and its mean score.
        names: as for `leaderboard.web.charts.layers.layer_curves`.
        title: title of the cost axis.
        front: names of the submissions on the Pareto front.
        better: whether less or more of the cost is better.
    """
    color, shape = submissions(names)
    values = [{"submission": name, "cost": cost, "mean": mean, "front": name in front} for name, cost, mean in points]
    base = alt.Chart(alt.InlineData(values=values))
    costs = [cost for _, cost, _ in points]
    domain = [min(costs) / 1.5, max(costs) * 1.5]
    x = alt.X(
        "cost:Q",
        title=title,
        scale=alt.Scale(type="log", nice=False, domain=domain),
        axis=alt.Axis(grid=False, format=",~r"),
    )
    y = alt.Y("mean:Q", title="mean score", scale=alt.Scale(zero=False, nice=True, padding=12))
    steps = (
        base.transform_filter("datum.front")
        .mark_line(
            color=MARK,
            strokeWidth=2,
            strokeDash=[6, 3],
            interpolate="step-after" if better == "less" else "step-before",
        )
        .encode(x=x, y=y)
    )
    dots = base.mark_point(filled=True, size=140, opacity=1).encode(
        x=x,
        y=y,
        color=color,
        shape=shape,
        tooltip=[
            alt.Tooltip("submission:N"),
            alt.Tooltip("cost:Q", title=title, format=",.1f"),
            alt.Tooltip("mean:Q", format=".4f"),
        ],
    )
    return alt.layer(steps, dots).properties(height=340)
