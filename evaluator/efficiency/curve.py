"""Measure one curve: the same question for each clip length in a fresh process, until a length fails for good."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from evaluator.efficiency.fresh import NoAnswerError, ask

# Outcomes that longer clips would have too.
FINAL = ("out of memory", "timeout")

Point = dict[str, Any]
"""``seconds``, ``outcome``, ``detail``, ``inferred``, and if it was measured the fields of `Measurement`."""


def walk(
    question: Mapping[str, Any],
    lengths: Sequence[float],
    *,
    known: Mapping[float, Point],
    timeout: float,
    again: bool = False,
    report: Callable[[float], None] = lambda seconds: None,
) -> Iterator[Point]:
    """Yield the points of a curve, the shortest clip first.

    After a clip that does not fit in memory or takes too long, longer clips are not tried. They get the same outcome.

    Args:
        question: for `ask`, without the length.
        lengths: seconds.
        known: points of an earlier run, by length; a point that is still valid is not measured again.
        timeout: seconds for each point.
        again: measure known points too.
        report: called with the next length.
    """
    stopped: Point | None = None
    for seconds in sorted(set(lengths)):
        report(seconds)
        point = None if again else known.get(seconds)
        if point is None or not _stands(point, stopped, timeout):
            point = _like(stopped, seconds) if stopped else _measure(question, seconds, timeout)
        yield point
        if stopped is None and point["outcome"] in FINAL:
            stopped = point


def _measure(question: Mapping[str, Any], seconds: float, timeout: float) -> Point:
    point: Point = {"seconds": seconds, "outcome": "measured", "detail": "", "inferred": False}
    try:
        return point | ask({**question, "seconds": seconds}, timeout)
    except NoAnswerError as error:
        return point | {"outcome": "failed" if error.cause == "user" else error.cause, "detail": str(error)}


def _like(stopped: Point, seconds: float) -> Point:
    outcome = stopped["outcome"]
    detail = f"not tried: {outcome} at {stopped['seconds']:g} s"
    return {"seconds": seconds, "outcome": outcome, "detail": detail, "inferred": True}


def _stands(known: Point, stopped: Point | None, timeout: float) -> bool:
    """Whether a point of an earlier run is still valid."""
    if known["inferred"]:
        return stopped is not None
    if known["outcome"] == "timeout":
        # A longer time limit may give an answer.
        return f"within {timeout:g} s" in known["detail"]
    # A failed measurement is tried again.
    return bool(known["outcome"] != "failed")
