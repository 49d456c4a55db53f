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

# A path from the root or the home up to its last part. Addresses of the web have two slashes, and are none.
_DIRECTORIES = re.compile(r"(?<![\w.:/~-])~?/(?:[^\s/'\"`(){}\[\],;:]+/)+")
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")


@dataclass(frozen=True, slots=True)
class Failure:
    """One submission that was to be measured on one task and was not.

    Attributes:
        submission, weights_sha256, task, track, protocol, limit: as those of `leaderboard.records.result.Result`.
        at: when it was tried, in UTC.
        kind: the task was not prepared, or anything else went wrong.
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
        """What failed: of one key, the newest failure is kept."""
        return self.submission, self.weights_sha256, self.task, self.track, self.protocol, self.limit

    @property
    def failure_id(self) -> str:
        """16 hexadecimal digits that stand for the key."""
        return hashlib.sha256(json.dumps(self.key).encode()).hexdigest()[:16]

    @property
    def words(self) -> str:
        """What the empty cell says: in short up to the colon, then the reason."""
        what = "failed" if self.kind == "failed" else "task not prepared"
        return f"{what} on {self.at:%Y-%m-%d}: {self.reason}"


def for_others(sentence: str) -> str:
    """``sentence`` as a shared board may show it: no directories of this machine, no passwords, not long.

    Names of files stay, since they say what to look at. Directories whose names hold spaces are known only where they
    are this user's home or the working directory.
    """
    for place in sorted({str(Path.cwd()), str(Path.home())} - {"/"}, key=len, reverse=True):
        sentence = sentence.replace(f"{place}/", "/./")
    return shown(_CREDENTIALS.sub("", _DIRECTORIES.sub("", " ".join(sentence.split()))), MOST_CHARACTERS - 1)
