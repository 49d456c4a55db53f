"""The outcome that an evaluation returns for one submission on one task in one track."""

from dataclasses import dataclass
from pathlib import Path

from leaderboard.records.record import Record, Tracking


@dataclass(frozen=True)
class Outcome:
    """The outcome of one submission on one task in one track.

    Attributes:
        record: the result, or None if the evaluation failed.
        path: the record's file.
        reused: the record existed already.
        error: why there is no record, in one sentence.
        warnings: the flags of the record, and failures after it was written, one sentence each.
        tracking: its MLflow run, or None.
    """

    submission: str
    task: str
    track: str
    record: Record | None = None
    path: Path | None = None
    reused: bool = False
    error: str | None = None
    warnings: tuple[str, ...] = ()
    tracking: Tracking | None = None
