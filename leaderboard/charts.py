"""The curves of one record, and those of several beside each other."""

from collections.abc import Mapping, Sequence

import altair as alt

from leaderboard.record import Record

VALID, TEST = "#0f9d8a", "#e07b39"
MARK = "#8a94a6"
# Told apart by readers who see few colours, on white and on black (after Okabe and Ito).
SEVERAL = ("#0f9d8a", "#e07b39", "#5b8def", "#c85a9b", "#b59a1f")


def layer_curve(record: Record) -> alt.LayerChart | alt.FacetChart:
    """Validation and test score over layers; the chosen layer with its test interval over seeds and items."""
    points = [
        {"layer": layer.index, "name": layer.name, "split": split, "score": value, "lr": layer.lr}
        for layer in record.layers
        for split, value in (("validation", layer.valid), ("test", layer.test))
    ]
    last = max((layer.index for layer in record.layers), default=0)
    x = alt.X(
        "layer:Q",
        title="layer (0 = input of the first block)",
        scale=alt.Scale(domain=[0, max(last, 1)], nice=False, padding=12),
        axis=alt.Axis(tickMinStep=1, format="d", grid=False),
    )
    y = alt.Y("score:Q", title=record.metric.replace("map", "mAP"), scale=alt.Scale(zero=False, nice=True))
    color = alt.Color(
        "split:N",
        title=None,
        scale=alt.Scale(domain=["validation", "test"], range=[VALID, TEST]),
        legend=alt.Legend(orient="top", direction="horizontal"),
    )
    curve = alt.Chart(alt.InlineData(values=points)).encode(
        x=x,
        y=y,
        color=color,
        tooltip=[
            alt.Tooltip("layer:Q"),
            alt.Tooltip("name:N"),
            alt.Tooltip("split:N"),
            alt.Tooltip("score:Q", format=".4f"),
            alt.Tooltip("lr:Q", title="learning rate", format=".2e"),
        ],
    )
    best = [{"layer": record.best_layer, "score": record.test, "low": record.ci_low, "high": record.ci_high}]
    chosen = alt.Chart(alt.InlineData(values=best))
    rule = chosen.mark_rule(color=MARK, strokeDash=[4, 4]).encode(x="layer:Q")
    label = chosen.mark_text(
        align="right" if record.best_layer > last / 2 else "left",
        dx=-7 if record.best_layer > last / 2 else 7,
        baseline="bottom",
        color=MARK,
        fontWeight="bold",
        text=f"best layer {record.best_layer}",
    ).encode(x="layer:Q", y=alt.value("height"))
    bar = chosen.mark_rule(color=TEST, strokeWidth=2.5).encode(
        x="layer:Q",
        y=alt.Y("low:Q"),
        y2="high:Q",
        tooltip=[
            alt.Tooltip("score:Q", title="test, mean over seeds", format=".4f"),
            alt.Tooltip("low:Q", title="95 % from", format=".4f"),
            alt.Tooltip("high:Q", title="to", format=".4f"),
        ],
    )
    dot = chosen.mark_point(color=TEST, filled=True, size=110, shape="diamond", opacity=1).encode(
        x="layer:Q", y="score:Q"
    )
    lines = curve.mark_line(strokeWidth=2.5, point=alt.OverlayMarkDef(size=38, filled=True))
    return alt.layer(rule, lines, bar, dot, label, _reach(curve)).properties(height=340)


def rate_curve(record: Record) -> alt.LayerChart | alt.FacetChart:
    """Validation score of the best layer over the learning rates that were tried; the chosen one is marked."""
    index = next((at for at, layer in enumerate(record.layers) if layer.index == record.best_layer), 0)
    points = [
        {"lr": trial.lr, "score": trial.valid[index], "trial": trial.number}
        for trial in sorted(record.trials, key=lambda trial: trial.lr)
        if index < len(trial.valid)
    ]
    decades = [10.0**power for power in range(-9, 3)]
    curve = alt.Chart(alt.InlineData(values=points)).encode(
        x=alt.X(
            "lr:Q",
            title="learning rate",
            scale=alt.Scale(type="log", nice=False, padding=12),
            axis=alt.Axis(values=decades, format="~e", grid=False),
        ),
        y=alt.Y("score:Q", title=f"validation, layer {record.best_layer}", scale=alt.Scale(zero=False, nice=True)),
        tooltip=[alt.Tooltip("trial:Q"), alt.Tooltip("lr:Q", format=".3e"), alt.Tooltip("score:Q", format=".4f")],
    )
    chosen = (
        alt.Chart(alt.InlineData(values=[{"lr": record.lr}])).mark_rule(color=MARK, strokeDash=[4, 4]).encode(x="lr:Q")
    )
    line = curve.mark_line(color=VALID, strokeWidth=2.5, point=alt.OverlayMarkDef(size=38, filled=True, color=VALID))
    return alt.layer(chosen, line, _reach(curve)).properties(height=340)


def layer_curves(records: Mapping[str, Record], names: Sequence[str]) -> alt.LayerChart | alt.FacetChart:
    """Test scores over the depth of several encoders, and the test score of each one's chosen layer.

    Args:
        records: by submission, of one task.
        names: all submissions of the page, so that each has one colour in all its charts.
    """
    points, chosen = [], []
    for name, record in records.items():
        last = max((layer.index for layer in record.layers), default=0) or 1
        points += [
            {
                "submission": name,
                "depth": layer.index / last,
                "layer": layer.index,
                "name": layer.name,
                "score": layer.test,
                "valid": layer.valid,
            }
            for layer in record.layers
        ]
        best = {"submission": name, "depth": record.best_layer / last, "layer": record.best_layer}
        chosen.append({**best, "score": record.test, "low": record.ci_low, "high": record.ci_high})
    metric = next(iter(records.values())).metric.replace("map", "mAP")
    x = alt.X(
        "depth:Q",
        title="depth (0 = input of the first block, 1 = last layer)",
        scale=alt.Scale(domain=[0, 1], nice=False, padding=12),
        axis=alt.Axis(grid=False),
    )
    y = alt.Y("score:Q", title=f"test {metric}", scale=alt.Scale(zero=False, nice=True))
    color = _colors(names)
    curve = alt.Chart(alt.InlineData(values=points)).encode(
        x=x,
        y=y,
        color=color,
        tooltip=[
            alt.Tooltip("submission:N"),
            alt.Tooltip("layer:Q"),
            alt.Tooltip("name:N"),
            alt.Tooltip("score:Q", title="test", format=".4f"),
            alt.Tooltip("valid:Q", title="validation", format=".4f"),
        ],
    )
    best_of = alt.Chart(alt.InlineData(values=chosen))
    bars = best_of.mark_rule(strokeWidth=2.5).encode(x="depth:Q", y="low:Q", y2="high:Q", color=color)
    dots = best_of.mark_point(filled=True, size=110, shape="diamond", opacity=1).encode(
        x="depth:Q",
        y="score:Q",
        color=color,
        tooltip=[
            alt.Tooltip("submission:N"),
            alt.Tooltip("layer:Q", title="best layer"),
            alt.Tooltip("score:Q", title="test, mean over seeds", format=".4f"),
            alt.Tooltip("low:Q", title="95 % from", format=".4f"),
            alt.Tooltip("high:Q", title="to", format=".4f"),
        ],
    )
    lines = curve.mark_line(strokeWidth=2.5, point=alt.OverlayMarkDef(size=38, filled=True))
    return alt.layer(lines, bars, dots).properties(height=340)


def cost_chart(points: Sequence[Mapping[str, object]], names: Sequence[str], title: str) -> alt.Chart:
    """Mean score over a cost on a logarithmic axis.

    Args:
        points: ``submission``, ``cost`` (above 0) and ``mean`` of each.
        names: as for `layer_curves`.
        title: of the axis of costs.
    """
    base = alt.Chart(alt.InlineData(values=list(points))).encode(
        x=alt.X("cost:Q", title=title, scale=alt.Scale(type="log", nice=True, padding=24), axis=alt.Axis(grid=False)),
        y=alt.Y("mean:Q", title="mean score", scale=alt.Scale(zero=False, nice=True, padding=12)),
        tooltip=[
            alt.Tooltip("submission:N"),
            alt.Tooltip("cost:Q", title=title, format=",.1f"),
            alt.Tooltip("mean:Q", format=".4f"),
        ],
    )
    dots: alt.Chart = base.mark_point(filled=True, size=140, opacity=1).encode(color=_colors(names))
    return dots.properties(height=340)


def depths(points: Sequence[Mapping[str, object]]) -> alt.Chart:
    """Test score over the depth of each submission's best layer.

    Args:
        points: ``submission``, ``depth`` (0..1), ``layer`` and ``score`` of each.
    """
    dots: alt.Chart = (
        alt.Chart(alt.InlineData(values=list(points)))
        .mark_point(filled=True, size=140, opacity=0.8, color=VALID)
        .encode(
            x=alt.X(
                "depth:Q",
                title="depth (0 = input of the first block, 1 = last layer)",
                scale=alt.Scale(domain=[0, 1], nice=False, padding=12),
                axis=alt.Axis(grid=False),
            ),
            y=alt.Y("score:Q", title="test score", scale=alt.Scale(zero=False, nice=True, padding=12)),
            tooltip=[
                alt.Tooltip("submission:N"),
                alt.Tooltip("layer:Q", title="best layer"),
                alt.Tooltip("score:Q", format=".4f"),
            ],
        )
    )
    return dots.properties(height=340)


def _colors(names: Sequence[str]) -> alt.Color:
    return alt.Color(
        "submission:N",
        title=None,
        scale=alt.Scale(domain=list(names), range=list(SEVERAL[: len(names)])),
        legend=alt.Legend(orient="top", direction="horizontal", columns=2, labelLimit=220),
    )


def _reach(curve: alt.Chart) -> alt.Chart:
    """Large invisible points, so that a tooltip needs no steady hand."""
    points: alt.Chart = curve.mark_point(size=500, filled=True, opacity=0)
    return points
