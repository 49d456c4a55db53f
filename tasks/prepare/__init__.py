"""Brings catalogue tasks onto the disk, whole or not at all; one file a source."""

import errno
import shutil
from pathlib import Path

from tasks.errors import UserError
from tasks.manifest import manifest_files
from tasks.prepare.source import Progress, Source
from tasks.task import Task, load_task

# Names the source's version inside a prepared directory.
MARK = ".prepared"


def prepare(name: str, data: Path, progress: Progress | None = None) -> bool:
    """Prepare a catalogue task in ``data/NAME``; False when it was prepared already.

    The directory appears in one step when all of it is there, so that an interrupted preparation is never taken for a
    finished one. A second process that prepares the same task waits for the first. What killed runs left is removed.

    Args:
        name: a catalogue name.
        data: the home's data directory; made if need be.
        progress: called with the number of items done and of all.

    Raises:
        UserError: an unknown name, a full disk, or a directory that cannot be written.
    """
    from filelock import FileLock

    task, source = load_task(name, data=data), _source(name)
    if is_prepared(task):
        return False
    try:
        data.mkdir(parents=True, exist_ok=True)
        with FileLock(data / f".{name}.lock"):
            # Another process may have done it while this one waited.
            if is_prepared(task):
                return False
            _build(task, source, progress or (lambda done, total: None))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(name, data, source) from error
        raise UserError(f"Task {name} cannot be prepared in {data} ({error}): check its permissions.") from error
    return True


def is_prepared(task: Task) -> bool:
    """Whether the task's files are there, and for a catalogue task in the version this suite makes."""
    return why_not_prepared(task) is None


def why_not_prepared(task: Task) -> str | None:
    """Why the task cannot be evaluated yet and what to do, in one sentence; None when it can."""
    missing = [file for file in manifest_files(task).values() if not file.is_file()]
    if task.group == "own":
        return f"{missing[0]} does not exist: check the paths in the task file and --data-dir." if missing else None
    command = f"run `beans tasks prepare {task.name}`"
    mark = task.root / MARK
    if missing or not mark.is_file():
        return f"not prepared: {command}"
    if mark.read_text(encoding="utf-8") != _source(task.name).version:
        return f"prepared by another version of this suite: {command}"
    return None


def _source(name: str) -> Source:
    from tasks.prepare import synthetic

    if name not in synthetic.SOURCES:
        raise UserError(f"Nothing prepares task {name}: only {', '.join(synthetic.SOURCES)} can be prepared.")
    return synthetic.SOURCES[name]


def _build(task: Task, source: Source, progress: Progress) -> None:
    data, name = task.root.parent, task.name
    partial, outdated = data / f".{name}.partial", data / f".{name}.outdated"
    # The lock is held: whatever lies there was left by a run that was killed.
    for leftover in (partial, outdated):
        if leftover.exists():
            shutil.rmtree(leftover)
    if shutil.disk_usage(data).free < source.size:
        raise _disk_full(name, data, source)
    partial.mkdir()
    try:
        source.build(partial, progress)
        (partial / MARK).write_text(source.version, encoding="utf-8")
        if task.root.exists():
            task.root.rename(outdated)
        partial.rename(task.root)
    finally:
        for leftover in (partial, outdated):
            shutil.rmtree(leftover, ignore_errors=True)


def _disk_full(name: str, data: Path, source: Source) -> UserError:
    need = f"task {name} needs {source.size / 1e6:.0f} MB"
    return UserError(f"The disk of {data} is full: {need}; free some space, or set BEANS_HOME to another disk.")
