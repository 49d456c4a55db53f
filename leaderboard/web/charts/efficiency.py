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
    """Peak memory over clip length, both logarithmic. A cross marks a clip that did not fit, at the available memory.

    Args:
        profiles: of one device, precision and batch size, by their names on the page.
    """
    kind = next(iter(profiles.values())).kind
    sizes = [point.peak_bytes for profile in profiles.values() for point in profile.points if point.peak_bytes]
    unit, name = (_GIB, "GiB") if max(sizes, default=0) >= _GIB else (_MIB, "MiB")
    values: list[dict[str, Any]] = []
    ends: list[dict[str, Any]] = []
    limits = set()
    for label, profile in profiles.items():
        for point in profile.points:
            shared = {"submission": label, "seconds": point.seconds, "attention": point.attention}
            if point.peak_bytes:
                values.append(
                    {**shared, "memory": point.peak_bytes / unit, "without": (point.activation_bytes or 0) / unit}
                )
            elif point.outcome == "out of memory" and profile.available_bytes:
                limits.add(profile.available_bytes / unit)
                ends.append({**shared, "memory": profile.available_bytes / unit, "what": spell(profile, point)})
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
    """Seconds of audio encoded per second over clip length, both logarithmic.

    Args:
        profiles: as for `memory_curve`.
    """
    values: list[dict[str, Any]] = [
        {
            "submission": label,
            "seconds": point.seconds,
            "speed": profile.throughput(point),
            "median": 1000 * point.latency_seconds,
            "p90": 1000 * point.latency_p90_seconds,
        }
        for label, profile in profiles.items()
        for point in profile.points
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
    """The axis of clip lengths. Each profiled length has a tick, if there is room."""
    lengths = sorted({point.seconds for profile in profiles.values() for point in profile.points}) or [1.0]
    return alt.X(
        "seconds:Q",
        title="clip length (s)",
        scale=alt.Scale(type="log", nice=False, domain=[lengths[0] / 1.15, lengths[-1] * 1.15]),
        axis=alt.Axis(values=_apart(lengths), format="~r", grid=False, labelOverlap=True),
    )


def _apart(lengths: Sequence[float]) -> list[float]:
    """Keep the lengths that are at least 1.3 times the length kept before."""
    kept: list[float] = []
    for seconds in lengths:
        if not kept or seconds >= 1.3 * kept[-1]:
            kept.append(seconds)
    return kept


def _logarithmic(field: str, title: str, values: Sequence[float]) -> alt.Y:
    """An axis that spans its values, with few ticks."""
    low, high = min(values, default=1.0) / 1.4, max(values, default=1.0) * 1.4
    # A short axis gets more ticks, so that at least two are on it: a single number shows no scale.
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
    """Whether a profile has a point to draw."""
    return any(point.latency_seconds is not None for point in points)
