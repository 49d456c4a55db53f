"""How long work tells where it is."""

from typing import Protocol


class Report(Protocol):
    """Told what is being done, how much of how much of it is, and in which unit: "B" for bytes, "" for all else.

    A total of 0 means that it is not known.
    """

    def __call__(self, what: str, done: float, total: float, unit: str = "") -> None:
        """Show it."""


def silent(what: str, done: float, total: float, unit: str = "") -> None:
    """For work that nobody watches."""
