"""What a module of `backbone/` declares."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from evaluator.checks.subject import Subject

Status = Literal["pass", "fail", "note"]
"""A note is something to know, and no failure."""

Verdict = tuple[Status, str]
"""What a check finds, and one sentence about it."""


@dataclass(frozen=True)
class Check:
    """One check of a backbone.

    Attributes:
        help: when it fails, for the documentation.
        run: returns the verdict. In the short form, which `beans submit` runs, ``subject.short`` is set.
        order: checks run from the lowest to the highest number, because some use what an earlier one encoded.
        in_short_form: whether `beans submit` runs it.
    """

    help: str
    run: Callable[[Subject], Verdict]
    order: int
    in_short_form: bool = False
