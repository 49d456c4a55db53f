"""The type that every module of `backbone/` declares."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from evaluator.checks.subject import Subject

Status = Literal["pass", "fail", "note"]
"""A note is information and not a failure."""

Verdict = tuple[Status, str]
"""The status of a check, and one sentence about it."""


@dataclass(frozen=True)
class Check:
    """One check of a backbone.

    Attributes:
        help: states when the check fails, for the documentation.
        run: returns the verdict. In the short form, which `beans submit` runs, ``subject.short`` is True.
        order: checks run from the lowest to the highest number. Some use the features that an earlier check encoded.
        in_short_form: whether `beans submit` runs it.
    """

    help: str
    run: Callable[[Subject], Verdict]
    order: int
    in_short_form: bool = False
