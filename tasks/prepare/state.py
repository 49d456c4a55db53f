"""The state of a task on disk: whether and how it was prepared, and why not."""

import json
from dataclasses import dataclass
from pathlib import Path

from tasks.manifest import manifest_files
from tasks.prepare.sources import SOURCES
from tasks.support.errors import UserError
from tasks.support.text import why_no_file
from tasks.task import Task

# The file that describes the preparation, inside a prepared directory. It is written last.
MARK = ".prepared"
# Identifies the contents of an unfinished directory, so that a later run knows whether it can continue it.
INTENT = ".intent"


@dataclass(frozen=True)
class Preparation:
    """How a task was prepared.

    Attributes:
        version: of the prepared files.
        copy: the name of the source.
        in_place: whether the audio is read from its original place, instead of 16-bit FLAC files.
        source: the directory of the audio if ``in_place``, else "".
        settings: the table ``[prepare]`` of a user's own task file. Two task files may have one name.
    """

    version: str
    copy: str
    in_place: bool = False
    source: str = ""
    settings: str = ""

    @property
    def words(self) -> str:
        """The preparation in words, for reports and records."""
        try:
            title = SOURCES.get(self.copy).title or self.copy
        # The package of the source is not installed any more.
        except UserError:
            title = self.copy
        return f"{title}, {'left in place' if self.in_place else '16-bit FLAC'}"


def is_prepared(task: Task) -> bool:
    """Return whether the task's files exist and have the version that this suite prepares."""
    return why_not_prepared(task) is None


def why_not_prepared(task: Task) -> str | None:
    """Return why the task cannot be evaluated yet and what to do, in one sentence; None if it can."""
    missing = [f"{file} {problem}" for file in manifest_files(task).values() if (problem := why_no_file(file))]
    if task.has_own_files:
        return f"{missing[0]}: check the paths in the task file and --data-dir." if missing else None
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
    """Return how a task was prepared; None if it was not, or if the mark cannot be read."""
    try:
        return Preparation(**json.loads((task.root / MARK).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _version(task: Task, done: Preparation) -> str:
    """Return the version that the task would get if it were prepared now."""
    try:
        return SOURCES.get(done.copy).version(task)
    # Prepared data stay valid when the package of their source is not installed any more.
    except UserError:
        return done.version


def settings(task: Task) -> str:
    """Return the value of `Preparation.settings` for this task."""
    return task.prepare.model_dump_json(by_alias=True) if task.prepare and task.group == "own" else ""


def partial_directory(task: Task) -> Path:
    """Return the directory of an unfinished preparation."""
    return task.root.parent / f".{task.name}.partial"
