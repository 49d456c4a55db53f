"""One curve: the same question at one length after the other, each to a fresh process, while longer ones can work."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from evaluator.efficiency.fresh import NoAnswerError, ask

# Longer clips would end in the same way.
FINAL = ("out of memory", "timeout")

Point = dict[str, Any]
"""``seconds``, ``outcome``, ``detail``, ``inferred``, and where it was measured the fields of `Measurement`."""


def walk(
    question: Mapping[str, Any],
    lengths: Sequence[float],
    *,
    known: Mapping[float, Point],
    timeout: float,
    again: bool = False,
    report: Callable[[float], None] = lambda seconds: None,
) -> Iterator[Point]:
    """The points of a curve, the shortest clip first.

    Once a clip does not fit or has no answer in time, longer ones are not tried and end in the same way.

    Args:
        question: for `ask`, without the length.
        lengths: seconds.
        known: points of an earlier run, by length; what still stands is not measured again.
        timeout: seconds for each point.
        again: measure also what is known.
        report: told the length that comes next.
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
    """Whether a point of an earlier run is still true."""
    if known["inferred"]:
        return stopped is not None
    if known["outcome"] == "timeout":
        # With more time there may be an answer.
        return f"within {timeout:g} s" in known["detail"]
    # What failed may work today.
    return bool(known["outcome"] != "failed")
