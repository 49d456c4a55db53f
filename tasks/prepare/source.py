"""What a file of this room must offer for each task it can prepare."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[int, int], None]
"""Called with the number of items done and of all items."""


@dataclass(frozen=True)
class Source:
    """How one catalogue task comes to lie on disk.

    Attributes:
        version: changes when the prepared files do; data marked with another version is prepared anew.
        size: disk space the result takes, in bytes.
        build: writes the task's files into an empty directory. It need not care about interruption, other processes
            or errors of the disk: `prepare` does.
    """

    version: str
    size: int
    build: Callable[[Path, Progress], None]
