"""Whether a task is prepared, how it was, and why not."""

import json
from dataclasses import dataclass
from pathlib import Path

from tasks.manifest import manifest_files
from tasks.prepare.sources import SOURCES
from tasks.support.errors import UserError
from tasks.task import Task

# Holds the preparation inside a prepared directory; written last.
MARK = ".prepared"
# Names what a half-made directory is going to be, so that a later run knows whether to go on with it.
INTENT = ".intent"


@dataclass(frozen=True)
class Preparation:
    """How a task was prepared.

    Attributes:
        version: of the prepared files.
        copy: the name of the source.
        in_place: whether the audio was left where it was, instead of written as 16-bit FLAC.
        source: the directory of audio that was left in place.
        settings: of a user's own task file, its table ``[prepare]``. Two files may have one name.
    """

    version: str
    copy: str
    in_place: bool = False
    source: str = ""
    settings: str = ""

    @property
    def words(self) -> str:
        """For people and for records."""
        try:
            title = SOURCES.get(self.copy).title or self.copy
        # Of a package that is not installed any more.
        except UserError:
            title = self.copy
        return f"{title}, {'left in place' if self.in_place else '16-bit FLAC'}"


def is_prepared(task: Task) -> bool:
    """Whether the task's files are there, and for a catalogue task in the version this suite makes."""
    return why_not_prepared(task) is None


def why_not_prepared(task: Task) -> str | None:
    """Why the task cannot be evaluated yet and what to do, in one sentence; None when it can."""
    missing = [file for file in manifest_files(task).values() if not file.is_file()]
    if task.has_own_files:
        return f"{missing[0]} does not exist: check the paths in the task file and --data-dir." if missing else None
    command = f"run `{task.command}`"
    done = preparation(task)
    if missing or done is None:
        begun = (partial_directory(task) / INTENT).is_file()
        return f"{'preparation was interrupted' if begun else 'not prepared'}: {command}"
    if done.version != _version(task, done):
        return f"prepared by another version of this suite: {command}"
    if done.settings != settings(task):
        return f"prepared from another task file or with another table [prepare]: {command} --again"
    if done.in_place and not Path(done.source).is_dir():
        return f"its audio was left in {done.source}, which is not there now: bring it back, or {command} --again"
    return None


def preparation(task: Task) -> Preparation | None:
    """How a catalogue task was prepared; None where it was not, or the mark cannot be read."""
    try:
        return Preparation(**json.loads((task.root / MARK).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _version(task: Task, done: Preparation) -> str:
    """The version that preparing the task now would have."""
    try:
        return SOURCES.get(done.copy).version(task)
    # What a package prepared stays prepared when the package is not installed any more.
    except UserError:
        return done.version


def settings(task: Task) -> str:
    """What `Preparation.settings` is for this task."""
    return task.prepare.model_dump_json(by_alias=True) if task.prepare and task.group == "own" else ""


def partial_directory(task: Task) -> Path:
    """Where a task is put together before it is whole."""
    return task.root.parent / f".{task.name}.partial"
