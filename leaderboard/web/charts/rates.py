"""Scores over learning rates."""

import altair as alt

from leaderboard.ranking import formats
from leaderboard.records.record import Record
from leaderboard.web.charts.style import MARK, VALID, WARNING, reach
from leaderboard.web.diagnostics import edges


def rate_curve(
    record: Record, searched: tuple[float, float] | None, *, flagged: bool
) -> alt.LayerChart | alt.FacetChart:
    """Validation score of the best layer over the learning rates of all trials. The chosen rate is marked.

    Args:
        record: with its trials.
        searched: range of the search, whose edges are shaded; None if it is unknown.
        flagged: whether the chosen rate is at an edge and is drawn as a warning.
    """
    index = next((at for at, layer in enumerate(record.layers) if layer.index == record.best_layer), 0)
    points = [
        {"lr": trial.lr, "score": trial.valid[index], "trial": trial.number}
        for trial in sorted(record.trials, key=lambda trial: trial.lr)
        if index < len(trial.valid)
    ]
    tried = [record.lr, *(trial.lr for trial in record.trials), *(searched or ())]
    low, high = min(tried), max(tried)
    decades = [10.0**power for power in range(-12, 7) if low * 0.99 < 10.0**power < high * 1.01]
    x = alt.X(
        "lr:Q",
        title="learning rate",
        scale=alt.Scale(type="log", nice=False, padding=12, domain=[low, high] if low < high else alt.Undefined),
        axis=alt.Axis(values=decades or [low], format="~e", grid=False),
    )
    curve = alt.Chart(alt.InlineData(values=points)).encode(
        x=x,
        y=alt.Y("score:Q", title=f"validation, layer {record.best_layer}", scale=alt.Scale(zero=False, nice=True)),
        tooltip=[alt.Tooltip("trial:Q"), alt.Tooltip("lr:Q", format=".3e"), alt.Tooltip("score:Q", format=".4f")],
    )
    color = WARNING if flagged else MARK
    right = record.lr > (low * high) ** 0.5
    chosen = alt.Chart(alt.InlineData(values=[{"lr": record.lr, "score": record.valid}])).encode(x="lr:Q")
    rule = chosen.mark_rule(color=color, strokeDash=[4, 4], strokeWidth=2 if flagged else 1)
    diamond = chosen.mark_point(color=color, filled=True, size=110, shape="diamond", opacity=1).encode(y="score:Q")
    label = chosen.mark_text(
        align="right" if right else "left",
        dx=-7 if right else 7,
        baseline="bottom",
        color=color,
        fontWeight="bold",
        text=f"chosen {formats.rate(record.lr)}{', at the edge' if flagged else ''}",
    ).encode(y=alt.value("height"))
    line = curve.mark_line(color=VALID, strokeWidth=2.5, point=alt.OverlayMarkDef(size=38, filled=True, color=VALID))
    return alt.layer(*_edges(searched), rule, line, diamond, label, reach(curve)).properties(height=340)


def _edges(searched: tuple[float, float] | None) -> list[alt.Chart]:
    """Shade and label the two edges of the range."""
    if searched is None:
        return []
    (low, high), (lower, upper) = searched, edges(*searched)
    parts = [{"from": low, "to": lower, "at": lower}, {"from": upper, "to": high, "at": upper}]
    shaded = alt.Chart(alt.InlineData(values=parts)).mark_rect(color=MARK, opacity=0.3).encode(x="from:Q", x2="to:Q")
    # The labels are beside the shading at half the height, where a curve that ends at an edge leaves room.
    names = [
        alt.Chart(alt.InlineData(values=[part]))
        .mark_text(angle=270, baseline="middle", color=MARK, fontSize=10, text="edge of range")
        .encode(x="at:Q", xOffset=alt.value(offset), y=alt.value({"expr": "height / 2"}))
        for part, offset in zip(parts, (8, -8), strict=True)
    ]
    return [shaded, *names]
