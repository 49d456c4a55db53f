"""Draws the figure of the memory study, without a display."""

from __future__ import annotations

from pathlib import Path

from evaluator.studies.vram.measure import Line, Measurements

# One colour per model and one line style per kernel, so that the figure is readable in grey.
_COLOURS = {"AVES": "#D55E00", "BioMamba": "#0072B2"}
_STYLES = {"eager": "-", "memory-efficient": "--", "flash": ":", "transformers": "-", "mamba_ssm": "--"}
_MARKERS = {"eager": "o", "memory-efficient": "s", "flash": "^", "transformers": "o", "mamba_ssm": "s"}
_GIB = 2**30


def draw(study: Measurements, path: Path) -> None:
    """Write the figure: one panel per precision, memory over clip length, a cross for a clip that did not fit.

    Args:
        study: the measurements, with at least one measured point.
        path: the file; its suffix decides the format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    precisions = list(dict.fromkeys(line.way.precision for line in study.lines if line.points))
    figure = Figure(figsize=(5.5 * len(precisions), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(precisions), sharey=True, squeeze=False)[0]
    for axes, precision in zip(panels, precisions, strict=True):
        for line in (line for line in study.lines if line.way.precision == precision and line.points):
            _curve(axes, line, study.available_bytes)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(study.lengths, [f"{seconds:g}" for seconds in study.lengths])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}" if _narrow(study) else "")
        axes.set_xlabel("clip length (s)")
        axes.set_title(precision)
        axes.grid(True, alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
    memory = "VRAM" if study.kind == "cuda" else "host memory"
    panels[0].set_ylabel(f"peak {memory} (GiB)")
    figure.suptitle(
        f"{study.device}: one clip, batch 1, {study.layers} layer{'s' * (study.layers == 'all')} kept", fontsize=10
    )
    figure.savefig(path, dpi=150)


def _narrow(study: Measurements) -> bool:
    """Return whether the sizes span less than a decade, so that major ticks alone would be too few."""
    sizes = [point["peak_bytes"] for line in study.lines for point in line.points if point.get("peak_bytes")]
    return bool(max(sizes) < 10 * min(sizes))


def _curve(axes: object, line: Line, available: int | None) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    way = line.way
    points = [(point["seconds"], point["peak_bytes"] / _GIB) for point in line.points if point.get("peak_bytes")]
    axes.plot(
        [seconds for seconds, _ in points],
        [size for _, size in points],
        color=_COLOURS[way.model],
        linestyle=_STYLES[way.kernel],
        marker=_MARKERS[way.kernel],
        markersize=5,
        label=f"{way.model}, {way.kernel}",
    )
    ends = [point["seconds"] for point in line.points if point["outcome"] == "out of memory"]
    if ends and available:
        axes.plot(
            ends, [available / _GIB] * len(ends), linestyle="", marker="x", color=_COLOURS[way.model], markersize=8
        )
