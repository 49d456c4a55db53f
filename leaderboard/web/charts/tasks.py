"""The charts of a task's page."""

import base64
import json
from collections.abc import Mapping, Sequence

import altair as alt

from leaderboard.ranking import formats
from leaderboard.web.charts.style import MARK, TEST, VALID
from leaderboard.web.examples import ExampleClip, mel
from leaderboard.web.layers import Curve, median_curve
from tasks.task import SPLITS, Split

_COLORS = {"train": VALID, "valid": "#5b8def", "test": TEST}
# Relative depths at which the median over submissions is computed.
DEPTHS = tuple(step / 20 for step in range(21))


def class_balance(labels: Sequence[str], counts: Mapping[Split, Sequence[int]], items: str) -> alt.Chart:
    """One bar per class, most items first. From the left, a bar shows the items of train, valid and test.

    Args:
        labels: (classes,) names.
        counts: per split, (classes,) number of items.
        items: name of the items, such as "clips".
    """
    order = sorted(range(len(labels)), key=lambda index: (-sum(counts[split][index] for split in SPLITS), index))
    values = [
        {"class": labels[index], "split": split, "items": counts[split][index], "order": number}
        for index in order
        for number, split in enumerate(SPLITS)
    ]
    bars: alt.Chart = (
        alt.Chart(alt.InlineData(values=values))
        .mark_bar()
        .encode(
            x=alt.X("items:Q", title=items, axis=alt.Axis(format="~s", tickMinStep=1)),
            y=alt.Y("class:N", title=None, sort=None, axis=alt.Axis(labelLimit=150, labelFlush=False, ticks=False)),
            color=alt.Color(
                "split:N",
                title=None,
                scale=alt.Scale(domain=list(_COLORS), range=list(_COLORS.values())),
                legend=alt.Legend(orient="top", direction="horizontal"),
            ),
            order="order:Q",
            tooltip=[alt.Tooltip("class:N"), alt.Tooltip("split:N"), alt.Tooltip("items:Q", title=items, format=",")],
        )
    )
    return bars.properties(height=alt.Step(20), description=f"How many {items} each class has in each split")


def spectrogram(clip: ExampleClip, title: str) -> alt.Chart:
    """The picture of a clip with its axes: seconds, and kHz of the recording on the mel scale.

    Args:
        clip: the clip to draw.
        title: description for screen readers.
    """
    # The mel scale is that of the played sound: for ultrasound, of the slowed sound.
    height = mel(clip.top / clip.slowed)
    ticks = [2.0**power for power in range(-8, 8) if 2.0**power * 1000 <= clip.top][-6:]
    picture = f"data:image/png;base64,{base64.b64encode(clip.picture).decode()}"
    chart: alt.Chart = (
        alt.Chart(alt.InlineData(values=[{"x": 0, "x2": clip.seconds, "y": 0, "y2": height, "url": picture}]))
        .mark_image(aspect=False)
        .encode(
            x=alt.X(
                "x:Q",
                title="seconds",
                scale=alt.Scale(domain=[0, clip.seconds], nice=False),
                axis=alt.Axis(grid=False, tickCount=5),
            ),
            x2="x2",
            y=alt.Y(
                "y:Q",
                title="kHz",
                scale=alt.Scale(domain=[0, height], nice=False),
                axis=alt.Axis(
                    grid=False,
                    values=[mel(1000 * tick / clip.slowed) for tick in ticks],
                    labelExpr=f"format({clip.slowed} * 0.7 * (pow(10, datum.value / 2595) - 1), '.2~r')",
                ),
            ),
            y2="y2",
            url="url:N",
        )
    )
    return chart.properties(height=190, description=title)


def layer_depths(
    drawn: Mapping[str, Curve], everybody: Sequence[Curve], metric: str
) -> alt.LayerChart | alt.FacetChart:
    """Test score of all layers over relative depth: one thin line per submission, the median, and the chosen layers.

    Args:
        drawn: curves by submission; each has two layers or more.
        everybody: curves of the median; there is no median of a single curve.
        metric: name on the axis.
    """
    points = [
        {"submission": name, "depth": depth, "layer": index, "name": layer, "score": score}
        for name, curve in drawn.items()
        for depth, index, layer, score in zip(curve.depths, curve.indices, curve.names, curve.tests, strict=True)
    ]
    chosen = []
    for point in points:
        curve = drawn[str(point["submission"])]
        if point["layer"] == curve.best_layer:
            chosen.append({**point, "layers": formats.layers(curve.best_layer, curve.alike)})
    x = alt.X(
        "depth:Q",
        title="depth (0 = input, 1 = last layer)",
        scale=alt.Scale(domain=[0, 1], nice=False, padding=12),
        axis=alt.Axis(grid=False),
    )
    y = alt.Y("score:Q", title=f"test {metric}", scale=alt.Scale(zero=False, nice=True, padding=12))
    tooltip = [
        alt.Tooltip("submission:N"),
        alt.Tooltip("layer:Q"),
        alt.Tooltip("name:N"),
        alt.Tooltip("score:Q", title="test", format=".4f"),
    ]
    curves = alt.Chart(_text("layers", points)).encode(x=x, y=y, detail="submission:N", tooltip=tooltip)
    thin = curves.mark_line(strokeWidth=1.2, opacity=0.55, color=MARK)
    reach = curves.mark_point(size=120, filled=True, opacity=0)
    best = (
        alt.Chart(_text("chosen", chosen))
        .mark_point(filled=True, size=90, shape="diamond", opacity=0.9, color=TEST)
        .encode(x=x, y=y, tooltip=[tooltip[0], alt.Tooltip("layers:N", title="best layer"), *tooltip[2:]])
    )
    parts = [thin, reach, best]
    if len(everybody) > 1:
        middle = [
            {"depth": depth, "score": float(score)}
            for depth, score in zip(DEPTHS, median_curve(everybody, DEPTHS), strict=True)
        ]
        median = alt.Chart(_text("median", middle)).mark_line(strokeWidth=3.5, color=VALID).encode(x=x, y=y)
        parts.insert(1, median)
    return alt.layer(*parts).properties(height=340, description="Test score of each submission's layers over depth")


def _text(name: str, points: Sequence[Mapping[str, object]]) -> alt.InlineData:
    """The points as one JSON text, which Altair copies and checks faster than thousands of objects."""
    return alt.InlineData(values=json.dumps(points), format=alt.JsonDataFormat(type="json"), name=name)
