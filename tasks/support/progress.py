"""Progress reports of long work."""

from typing import Protocol


class Report(Protocol):
    """A function that receives progress: the current step, the amount done, the total amount and their unit.

    The unit is "B" for bytes and "" for everything else. A total of 0 means that the total is unknown.
    """

    def __call__(self, what: str, done: float, total: float, unit: str = "") -> None:
        """Show the progress."""


def silent(what: str, done: float, total: float, unit: str = "") -> None:
    """Ignore the progress. The default where no caller shows it."""
