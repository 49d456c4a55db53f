"""Why a submission has no result on a task, for the empty cell of the board."""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from leaderboard.records.plausibility import shown

MOST_CHARACTERS = 500

FailureKind = Literal["failed", "not prepared"]

# The directories of a path that starts at the root or the home. Web addresses have two slashes and do not match.
_DIRECTORIES = re.compile(r"(?<![\w.:/~-])~?/(?:[^\s/'\"`(){}\[\],;:]+/)+")
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt to measure one submission on one task.

    Attributes:
        submission, weights_sha256, task, track, protocol, limit: as in `leaderboard.records.result.Result`.
        at: time of the attempt, in UTC.
        kind: "not prepared" if the task was not prepared, "failed" for any other reason.
        reason: a sentence of at most 500 characters that names no directory.
    """

    submission: str
    weights_sha256: str
    task: str
    track: str
    protocol: str
    limit: int | None
    at: datetime
    kind: FailureKind
    reason: str

    @property
    def key(self) -> tuple[object, ...]:
        """Identifies the attempt. Of failures with one key, only the newest is kept."""
        return self.submission, self.weights_sha256, self.task, self.track, self.protocol, self.limit

    @property
    def failure_id(self) -> str:
        """16 hexadecimal digits: a hash of the key."""
        return hashlib.sha256(json.dumps(self.key).encode()).hexdigest()[:16]

    @property
    def words(self) -> str:
        """The text of the empty cell: a short description up to the colon, then the reason."""
        what = "failed" if self.kind == "failed" else "task not prepared"
        return f"{what} on {self.at:%Y-%m-%d}: {self.reason}"


def for_others(sentence: str) -> str:
    """``sentence`` for a shared board: without directories of this machine and passwords, and shortened.

    File names stay, because they show where the error is. A directory whose name contains spaces is recognised only if
    it is the user's home or the working directory.
    """
    for place in sorted({str(Path.cwd()), str(Path.home())} - {"/"}, key=len, reverse=True):
        sentence = sentence.replace(f"{place}/", "/./")
    return shown(_CREDENTIALS.sub("", _DIRECTORIES.sub("", " ".join(sentence.split()))), MOST_CHARACTERS - 1)
