"""The verdict on the paper's claim, the tables, and the figure."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from evaluator.efficiency.curve import Point
from evaluator.studies.vram.claim import CLAIM, HIGH, LOW
from evaluator.studies.vram.measure import Line, Measurements
from tasks.support.files import write_atomically

_GIB = 2**30


class Comparison(NamedTuple):
    """One length: the memory that BioMamba saves, as a fraction of AVES's; None if one of them has no value."""

    seconds: float
    saved: float | None
    saved_without_weights: float | None
    missing: str


class Pair(NamedTuple):
    """A line of AVES and a line of BioMamba at the same precision."""

    aves: Line
    biomamba: Line
    comparisons: tuple[Comparison, ...]


def pairs(study: Measurements) -> list[Pair]:
    """Return every pair of a line of AVES and a line of BioMamba at the same precision."""
    lines = [line for line in study.lines if line.points]
    return [
        Pair(aves, biomamba, tuple(_compare(aves, biomamba, seconds) for seconds in study.lengths))
        for aves in lines
        for biomamba in lines
        if aves.way.model == "AVES"
        and biomamba.way.model == "BioMamba"
        and aves.way.precision == biomamba.way.precision
    ]


def verdict(study: Measurements) -> list[str]:
    """Return whether and where the claim holds: first a sentence about all pairs, then one sentence per pair."""
    compared = pairs(study)
    saved = [one.saved for pair in compared for one in pair.comparisons if one.saved is not None]
    if not saved:
        return ["Nothing can be compared yet."]
    holds = sum(_holds(value) for value in saved)
    memory = "" if study.kind == "cuda" else " These are figures of host memory, and the claim is about VRAM."
    first = (
        f"The claim that {CLAIM} is taken as {100 * LOW:.0f} to {100 * HIGH:.0f} % less. "
        f"It holds in {holds} of {len(saved)} comparisons of a length and a pair of kernels.{memory}"
    )
    return [first, *(_sentence(pair) for pair in compared)]


def write_report(study: Measurements, path: Path) -> list[Path]:
    """Write the tables and the verdict beside the study's file, and the figure if matplotlib is installed.

    Args:
        study: the measurements, with at least one line.
        path: the study's own file.

    Returns:
        The written files.
    """
    figure = path.with_suffix(".png")
    drawn = find_spec("matplotlib") is not None and any(_peak(point) for line in study.lines for point in line.points)
    if drawn:
        from evaluator.studies.vram.figure import draw

        draw(study, figure)
    tables = path.with_suffix(".md")
    write_atomically(tables, markdown(study) + (f"\n![Peak memory over clip length]({figure.name})\n" if drawn else ""))
    return [tables, figure] if drawn else [tables]


def markdown(study: Measurements) -> str:
    """Return the whole study in Markdown: the verdict, the tables, and the device and versions."""
    memory = "VRAM" if study.kind == "cuda" else "host memory"
    lines = [line for line in study.lines if line.points]
    kept = "the last layer's output" if study.layers == "last" else "every layer's output"
    paragraphs = [
        f"# Memory of BioMamba and AVES over clip length ({memory})",
        _facts(study),
        "## Verdict",
        "\n".join(f"- {sentence}" for sentence in verdict(study)),
        f"## Peak {memory} in GiB",
        f"One clip, batch 1, the model keeping {kept}; weights, input and outputs are included. "
        "Each point is measured in a new process, after warm-up.",
        _table(study, lines, lambda point: point["peak_bytes"]),
        f"## Peak {memory} in GiB without the weights",
        _table(study, lines, _without),
        "## What BioMamba saves",
        "In percent of AVES's peak. The row below is without the weights of both.",
        _savings(study),
    ]
    unavailable = [f"- {line.way.label}: {line.way.unavailable}" for line in study.lines if line.way.unavailable]
    if unavailable:
        paragraphs += ["## Not measured", "\n".join(unavailable)]
    return "\n\n".join(paragraphs) + "\n"


def _compare(aves: Line, biomamba: Line, seconds: float) -> Comparison:
    theirs, ours = aves.at(seconds), biomamba.at(seconds)
    missing = [
        f"{name}: {point['outcome'] if point else 'not asked for'}"
        for name, point in (("AVES", theirs), ("BioMamba", ours))
        if _peak(point) is None
    ]
    if theirs is None or ours is None or missing:
        return Comparison(seconds, None, None, "; ".join(missing))
    without = _without(theirs), _without(ours)
    return Comparison(
        seconds,
        1 - ours["peak_bytes"] / theirs["peak_bytes"],
        1 - without[1] / without[0] if without[0] and without[1] is not None else None,
        "",
    )


def _sentence(pair: Pair) -> str:
    known = [(one.seconds, round(one.saved, 2)) for one in pair.comparisons if one.saved is not None]
    name = (
        f"{pair.aves.way.precision}, AVES with {pair.aves.way.kernel} attention, BioMamba by {pair.biomamba.way.kernel}"
    )
    if not known:
        return f"{name}: nothing to compare."
    groups = {
        "it holds": [seconds for seconds, saved in known if _holds(saved)],
        "more is saved": [seconds for seconds, saved in known if saved > HIGH],
        "less is saved": [seconds for seconds, saved in known if 0 <= saved < LOW],
        "BioMamba takes more than AVES": [seconds for seconds, saved in known if saved < 0],
        "AVES has no figure to compare with": [s.seconds for s in pair.comparisons if "AVES:" in s.missing],
        "BioMamba has none": [s.seconds for s in pair.comparisons if "BioMamba:" in s.missing],
    }
    parts = [f"{words} at {_listed(at)} s" for words, at in groups.items() if at]
    ends = [one for one in pair.comparisons if one.saved is not None]
    ends = list(dict.fromkeys((ends[0], ends[-1])))
    whole = ", ".join(f"{_less(one.saved)} at {one.seconds:g} s" for one in ends)
    without = ", ".join(f"{_less(one.saved_without_weights)} at {one.seconds:g} s" for one in ends)
    return f"{name}: {whole} (without the weights {without}); {'; '.join(parts)}."


def _holds(saved: float) -> bool:
    """Return whether a fraction, rounded to whole percents as in the report, is about the claimed one."""
    return LOW <= round(saved, 2) <= HIGH


def _less(saved: float | None) -> str:
    if saved is None:
        return "nothing to compare"
    return f"{100 * abs(saved):.0f} % {'less' if saved >= 0 else 'more'}"


def _listed(lengths: Sequence[float]) -> str:
    return ", ".join(f"{seconds:g}" for seconds in lengths)


def _peak(point: Point | None) -> int | None:
    return None if point is None else point.get("peak_bytes")


def _without(point: Point) -> int | None:
    peak = _peak(point)
    return None if peak is None else peak - int(point["weights_bytes"])


def _facts(study: Measurements) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in study.versions.items())
    free = "" if study.available_bytes is None else f", {study.available_bytes / _GIB:.1f} GiB free before"
    return f"{study.device}{free}; {versions}; {study.date}. Made by `beans study vram`."


def _table(study: Measurements, lines: Sequence[Line], value: Callable[[Point], int | None]) -> str:
    rows = []
    for line in lines:
        cells = []
        for seconds in study.lengths:
            point = line.at(seconds)
            if point is None or point["outcome"] != "measured":
                cells.append("" if point is None else _failure(study, point))
                continue
            size = value(point)
            cells.append("–" if size is None else f"{size / _GIB:.2f}")
        rows.append([line.way.label, *cells])
    return _markdown(["", *(f"{seconds:g} s" for seconds in study.lengths)], rows)


def _failure(study: Measurements, point: Point) -> str:
    if point["outcome"] != "out of memory":
        return str(point["outcome"])
    return "out of memory" if study.available_bytes is None else f"> {study.available_bytes / _GIB:.0f}"


def _savings(study: Measurements) -> str:
    rows = []
    for pair in pairs(study):
        name = f"{pair.aves.way.precision}: AVES {pair.aves.way.kernel}, BioMamba {pair.biomamba.way.kernel}"
        rows.append([name, *(_percent(one.saved) for one in pair.comparisons)])
        rows.append(["without weights", *(_percent(one.saved_without_weights) for one in pair.comparisons)])
    return _markdown(["", *(f"{seconds:g} s" for seconds in study.lengths)], rows)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
