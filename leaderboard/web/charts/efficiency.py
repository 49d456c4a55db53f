"""Memory and speed over the length of a clip."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from leaderboard.records.profile import Point, Profile, spell
from leaderboard.web.charts.style import MARK, reach, submissions

_HEIGHT = 340
_GIB, _MIB = 2**30, 2**20


def memory_curve(profiles: Mapping[str, Profile]) -> alt.LayerChart | alt.FacetChart:
    """Peak memory over clip length, both logarithmic; what did not fit is a cross where the memory ended.

    Args:
        profiles: of one device, precision and batch, by the name that each has on the page.
    """
    kind = next(iter(profiles.values())).kind
    sizes = [point.peak_bytes for one in profiles.values() for point in one.points if point.peak_bytes]
    unit, name = (_GIB, "GiB") if max(sizes, default=0) >= _GIB else (_MIB, "MiB")
    values: list[dict[str, Any]] = []
    ends: list[dict[str, Any]] = []
    limits = set()
    for label, one in profiles.items():
        for point in one.points:
            said = {"submission": label, "seconds": point.seconds, "attention": point.attention}
            if point.peak_bytes:
                values.append(
                    {**said, "memory": point.peak_bytes / unit, "without": (point.activation_bytes or 0) / unit}
                )
            elif point.outcome == "out of memory" and one.available_bytes:
                limits.add(one.available_bytes / unit)
                ends.append({**said, "memory": one.available_bytes / unit, "what": spell(one, point)})
    title = f"peak {'VRAM' if kind == 'cuda' else 'host memory'} ({name})"
    x, y = _seconds(profiles), _logarithmic("memory:Q", title, [value["memory"] for value in (*values, *ends)])
    color, shape = submissions(list(profiles))
    curve = alt.Chart(alt.InlineData(values=values)).encode(
        x=x,
        y=y,
        color=color,
        tooltip=[
            alt.Tooltip("submission:N"),
            alt.Tooltip("seconds:Q", title="clip (s)"),
            alt.Tooltip("memory:Q", title=title, format=",.3~r"),
            alt.Tooltip("without:Q", title=f"without weights ({name})", format=",.3~r"),
            alt.Tooltip("attention:N"),
        ],
    )
    layers = [curve.mark_line(strokeWidth=2.5), _points(curve, shape), reach(curve)]
    if ends:
        top = alt.Chart(alt.InlineData(values=[{"memory": limit} for limit in sorted(limits)]))
        crosses = alt.Chart(alt.InlineData(values=ends)).encode(
            x=x, y=y, color=color, tooltip=[alt.Tooltip("submission:N"), alt.Tooltip("what:N", title="did not fit")]
        )
        layers += [
            top.mark_rule(color=MARK, strokeDash=[4, 4]).encode(y=y),
            crosses.mark_text(text="✕", fontSize=18, fontWeight="bold"),
        ]
    return alt.layer(*layers).properties(height=_HEIGHT)


def speed_curve(profiles: Mapping[str, Profile]) -> alt.LayerChart | alt.FacetChart:
    """Seconds of audio encoded in a second, over clip length, both logarithmic.

    Args:
        profiles: as for `memory_curve`.
    """
    values: list[dict[str, Any]] = [
        {
            "submission": label,
            "seconds": point.seconds,
            "speed": one.throughput(point),
            "median": 1000 * point.latency_seconds,
            "p90": 1000 * point.latency_p90_seconds,
        }
        for label, one in profiles.items()
        for point in one.points
        if point.latency_seconds is not None and point.latency_p90_seconds is not None
    ]
    color, shape = submissions(list(profiles))
    curve = alt.Chart(alt.InlineData(values=values)).encode(
        x=_seconds(profiles),
        y=_logarithmic("speed:Q", "seconds of audio per second", [value["speed"] for value in values]),
        color=color,
        tooltip=[
            alt.Tooltip("submission:N"),
            alt.Tooltip("seconds:Q", title="clip (s)"),
            alt.Tooltip("speed:Q", title="audio s per s", format=",.3~r"),
            alt.Tooltip("median:Q", title="median (ms)", format=",.1f"),
            alt.Tooltip("p90:Q", title="90th percentile (ms)", format=",.1f"),
        ],
    )
    line = curve.mark_line(strokeWidth=2.5)
    return alt.layer(line, _points(curve, shape), reach(curve)).properties(height=_HEIGHT)


def _points(curve: alt.Chart, shape: alt.Shape) -> alt.Chart:
    points: alt.Chart = curve.mark_point(size=70, filled=True, opacity=1).encode(shape=shape)
    return points


def _seconds(profiles: Mapping[str, Profile]) -> alt.X:
    """The axis of clip lengths, with a tick at each that was asked for, as far as they have room."""
    lengths = sorted({point.seconds for one in profiles.values() for point in one.points}) or [1.0]
    return alt.X(
        "seconds:Q",
        title="clip length (s)",
        scale=alt.Scale(type="log", nice=False, domain=[lengths[0] / 1.15, lengths[-1] * 1.15]),
        axis=alt.Axis(values=_apart(lengths), format="~r", grid=False, labelOverlap=True),
    )


def _apart(lengths: Sequence[float]) -> list[float]:
    """Those of the lengths that are at least a factor 1.3 from the one before."""
    kept: list[float] = []
    for seconds in lengths:
        if not kept or seconds >= 1.3 * kept[-1]:
            kept.append(seconds)
    return kept


def _logarithmic(field: str, title: str, values: Sequence[float]) -> alt.Y:
    """An axis just as long as its values, with few ticks."""
    low, high = min(values, default=1.0) / 1.4, max(values, default=1.0) * 1.4
    # So many that at least two are on the axis: a single number says nothing of the rest.
    steps = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8) if high / low < 5 else (1, 2, 5) if high / low < 100 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [tick for power in decades for step in steps if low <= (tick := step * 10.0**power) <= high]
    return alt.Y(
        field,
        title=title,
        scale=alt.Scale(type="log", nice=False, domain=[low, high]),
        axis=alt.Axis(values=ticks, format=",~r"),
    )


def drawable(points: Sequence[Point]) -> bool:
    """Whether a profile has anything to draw."""
    return any(point.latency_seconds is not None for point in points)
