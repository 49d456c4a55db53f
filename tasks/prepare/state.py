"""Whether a task is prepared, how it was, and why not."""

import json
from dataclasses import dataclass
from pathlib import Path

from tasks.manifest import manifest_files
from tasks.prepare.source import Generated
from tasks.task import Task

# Holds the preparation inside a prepared directory; written last.
MARK = ".prepared"
# Changes when the files that BEANS tasks are prepared to do.
BEANS_VERSION = "beans/1"
# Names what a half-made directory is going to be, so that a later run knows whether to go on with it.
INTENT = ".intent"


@dataclass(frozen=True)
class Preparation:
    """How a prepared task came to lie on the disk.

    Attributes:
        version: of the prepared files.
        copy: what it was read from: origin, beans, huggingface, or "generated".
        in_place: whether the audio was left where it lay, instead of written as 16-bit FLAC.
        source: the directory that audio left in place lies in.
    """

    version: str
    copy: str
    in_place: bool = False
    source: str = ""

    @property
    def words(self) -> str:
        """For people and for records."""
        copy = {"beans": "BEANS checkout", "huggingface": "Hugging Face"}.get(self.copy, self.copy)
        return f"{copy}, {'left in place' if self.in_place else '16-bit FLAC'}"


def is_prepared(task: Task) -> bool:
    """Whether the task's files are there, and for a catalogue task in the version this suite makes."""
    return why_not_prepared(task) is None


def why_not_prepared(task: Task) -> str | None:
    """Why the task cannot be evaluated yet and what to do, in one sentence; None when it can."""
    missing = [file for file in manifest_files(task).values() if not file.is_file()]
    if task.group == "own":
        return f"{missing[0]} does not exist: check the paths in the task file and --data-dir." if missing else None
    command = f"run `beans tasks prepare {task.name}`"
    done = preparation(task)
    if missing or done is None:
        begun = (partial_directory(task) / INTENT).is_file()
        return f"{'preparation was interrupted' if begun else 'not prepared'}: {command}"
    if done.version != _version(task):
        return f"prepared by another version of this suite: {command}"
    if done.in_place and not Path(done.source).is_dir():
        return f"its audio was left in {done.source}, which is not there now: bring it back, or {command} --again"
    return None


def preparation(task: Task) -> Preparation | None:
    """How a catalogue task was prepared; None where it was not, or the mark cannot be read."""
    try:
        return Preparation(**json.loads((task.root / MARK).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _version(task: Task) -> str:
    return generated(task).version if task.group == "builtin" else BEANS_VERSION


def generated(task: Task) -> Generated:
    """What generates a built-in task."""
    from tasks.prepare import synthetic

    return synthetic.SOURCES[task.name]


def partial_directory(task: Task) -> Path:
    """Where a task is put together before it is whole."""
    return task.root.parent / f".{task.name}.partial"
