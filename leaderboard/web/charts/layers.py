"""Scores over layers: of one record, in small charts for all tasks of a submission, and of several submissions."""

from collections.abc import Mapping, Sequence

import altair as alt

from leaderboard.ranking import formats
from leaderboard.records.record import Record
from leaderboard.web.charts.style import MARK, TEST, VALID, metric, reach, submissions

_SPLITS = ["validation", "test"]
SHADED = " Validation cannot distinguish the shaded layers from the best one."
"""The end of a caption below a chart with shaded layers."""


def layer_curve(record: Record) -> alt.LayerChart | alt.FacetChart:
    """Validation and test score over layers. The chosen layer shows its test interval over seeds and items."""
    last = _last(record)
    x = alt.X(
        "layer:Q",
        title="layer (0 = input of the first block)",
        scale=alt.Scale(domain=[0, max(last, 1)], nice=False, padding=12),
        axis=alt.Axis(tickMinStep=1, format="d", grid=False),
    )
    curve = _curve(record, x)
    chosen = alt.Chart(alt.InlineData(values=[_chosen(record)]))
    right = record.best_layer > last / 2
    label = chosen.mark_text(
        align="right" if right else "left",
        dx=-7 if right else 7,
        baseline="bottom",
        color=MARK,
        fontWeight="bold",
        text=f"best layer {formats.layers(record.best_layer, record.alike)}",
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
    rule = chosen.mark_rule(color=MARK, strokeDash=[4, 4]).encode(x="layer:Q")
    lines, diamond = _lines(curve, 2.5, 38), _diamond(chosen, 110)
    return alt.layer(*_shades(record), rule, lines, bar, diamond, label, reach(curve)).properties(height=340)


def layer_outline(record: Record, last: int) -> alt.LayerChart | alt.FacetChart:
    """A small `layer_curve`, beside those of other tasks.

    Args:
        record: of one task.
        last: highest layer index of all charts, so that they share an axis.
    """
    x = alt.X(
        "layer:Q",
        title="layer",
        scale=alt.Scale(domain=[0, max(last, 1)], nice=False, padding=8),
        axis=alt.Axis(tickMinStep=1, tickCount=6, format="d", grid=False),
    )
    curve = _curve(record, x)
    chosen = alt.Chart(alt.InlineData(values=[_chosen(record)]))
    rule = chosen.mark_rule(color=MARK, strokeDash=[4, 4]).encode(x="layer:Q")
    lines, diamond = _lines(curve, 2, 16), _diamond(chosen, 80)
    return alt.layer(*_shades(record), rule, lines, diamond, reach(curve)).properties(height=250)


def layer_curves(records: Mapping[str, Record], names: Sequence[str]) -> alt.LayerChart | alt.FacetChart:
    """Test scores over relative depth of several encoders, and the test score of each chosen layer.

    Args:
        records: by submission, of one task.
        names: all submissions of the page, so that each has the same colour and shape in all charts.
    """
    points, chosen = [], []
    for name, record in records.items():
        last = _last(record) or 1
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
        chosen.append({"submission": name, "depth": record.best_layer / last, **_chosen(record)})
    x = alt.X(
        "depth:Q",
        title="depth (0 = input of the first block, 1 = last layer)",
        scale=alt.Scale(domain=[0, 1], nice=False, padding=12),
        axis=alt.Axis(grid=False),
    )
    y = alt.Y("score:Q", title=f"test {metric(next(iter(records.values())))}", scale=alt.Scale(zero=False, nice=True))
    color, shape = submissions(names)
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
    diamonds = best_of.mark_point(filled=True, size=150, shape="diamond", opacity=1).encode(
        x="depth:Q",
        y="score:Q",
        color=color,
        tooltip=[
            alt.Tooltip("submission:N"),
            alt.Tooltip("layers:N", title="best layer"),
            alt.Tooltip("score:Q", title="test, mean over seeds", format=".4f"),
            alt.Tooltip("low:Q", title="95 % from", format=".4f"),
            alt.Tooltip("high:Q", title="to", format=".4f"),
        ],
    )
    shapes = curve.mark_point(size=45, filled=True, opacity=1).encode(shape=shape)
    return alt.layer(curve.mark_line(strokeWidth=2), shapes, bars, diamonds).properties(height=340)


def _last(record: Record) -> int:
    return max((layer.index for layer in record.layers), default=0)


def _chosen(record: Record) -> dict[str, object]:
    return {
        "layer": record.best_layer,
        "layers": formats.layers(record.best_layer, record.alike),
        "score": record.test,
        "low": record.ci_low,
        "high": record.ci_high,
    }


def _shades(record: Record) -> list[alt.Chart]:
    """Shade the layers that cannot be told apart from the best one, if there are any others."""
    last, alike = _last(record), set(record.alike or ())
    if len(alike) < 2:
        return []
    # Half a layer to each side, so that neighbours join.
    parts = [{"from": max(layer - 0.5, 0), "to": min(layer + 0.5, last)} for layer in sorted(alike)]
    shaded = alt.Chart(alt.InlineData(values=parts)).mark_rect(color=MARK, opacity=0.2)
    return [shaded.encode(x="from:Q", x2="to:Q")]


def _curve(record: Record, x: alt.X) -> alt.Chart:
    points = [
        {"layer": layer.index, "name": layer.name, "split": split, "score": value, "lr": layer.lr}
        for layer in record.layers
        for split, value in zip(_SPLITS, (layer.valid, layer.test), strict=True)
    ]
    color = alt.Color(
        "split:N",
        title=None,
        scale=alt.Scale(domain=_SPLITS, range=[VALID, TEST]),
        legend=alt.Legend(orient="top", direction="horizontal", symbolType="stroke", symbolSize=300),
    )
    curve: alt.Chart = alt.Chart(alt.InlineData(values=points)).encode(
        x=x,
        y=alt.Y("score:Q", title=metric(record), scale=alt.Scale(zero=False, nice=True)),
        color=color,
        strokeDash=alt.StrokeDash("split:N", title=None, scale=alt.Scale(domain=_SPLITS, range=[[5, 3], [1, 0]])),
        tooltip=[
            alt.Tooltip("layer:Q"),
            alt.Tooltip("name:N"),
            alt.Tooltip("split:N"),
            alt.Tooltip("score:Q", format=".4f"),
            alt.Tooltip("lr:Q", title="learning rate", format=".2e"),
        ],
    )
    return curve


def _lines(curve: alt.Chart, width: float, size: int) -> alt.Chart:
    lines: alt.Chart = curve.mark_line(strokeWidth=width, point=alt.OverlayMarkDef(size=size, filled=True))
    return lines


def _diamond(chosen: alt.Chart, size: int) -> alt.Chart:
    diamond: alt.Chart = chosen.mark_point(color=TEST, filled=True, size=size, shape="diamond", opacity=1).encode(
        x="layer:Q",
        y="score:Q",
        tooltip=[
            alt.Tooltip("layers:N", title="best layer"),
            alt.Tooltip("score:Q", title="test, mean over seeds", format=".4f"),
        ],
    )
    return diamond
