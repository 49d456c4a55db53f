"""Prepares tasks on disk, completely or not at all. `sources/` has one module per source of data sets."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tasks.prepare.entries import Entry
from tasks.prepare.source import Request, Source
from tasks.prepare.sources import SOURCES
from tasks.prepare.state import (
    INTENT,
    MARK,
    Preparation,
    is_prepared,
    partial_directory,
    preparation,
    settings,
    why_not_prepared,
)
from tasks.support.errors import UserError
from tasks.support.progress import Report, silent
from tasks.task import Task, load_task

__all__ = ["Preparation", "is_prepared", "preparation", "prepare", "why_not_prepared"]


def prepare(
    name: str,
    data: Path,
    report: Report = silent,
    *,
    copy: str | None = None,
    source: Path | None = None,
    in_place: bool = False,
    again: bool = False,
    say: Callable[[str], None] = lambda sentence: None,
) -> bool:
    """Prepare a task in ``data/NAME``, or in ``data/own/NAME`` for a task file.

    The directory appears in one step when it is complete. An interrupted preparation is therefore never read as a
    finished one. Downloaded and written files are kept for the next try. A second process that prepares the same task
    waits for the first.

    Args:
        name: a catalogue name, or the path of a task file with a table ``[prepare]``.
        data: the home's data directory; created if it does not exist.
        report: receives the progress.
        copy: the name of the source, or None for the source that the task file names.
        source: the directory with the files of that source, instead of downloading them.
        in_place: read the audio from its current place instead of writing FLAC files.
        again: prepare the task again if it is prepared already.
        say: receives a sentence for the user before the work starts, such as the disk space that is needed.

    Returns:
        False if the task was prepared already, else True.

    Raises:
        UserError: an unknown name or source, a source that does not have the task, files that cannot be downloaded or
            are not this data set, a full disk, or a directory that cannot be written.
    """
    from filelock import FileLock, Timeout

    task = load_task(name, data=data)
    if task.prepare is None:
        raise UserError(
            f"{name} is your own task file without a table [prepare]: its audio is read where it is, and needs no"
            " preparation."
        )
    chosen = copy or task.prepare.source
    place = _source(task, chosen, source, in_place)
    if not again and is_prepared(task):
        return False
    try:
        task.root.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(task.root.parent / f".{task.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"{task.name}: waiting for another process that prepares it.")
            lock.acquire()
        try:
            # Another process may have prepared the task while this one waited.
            if not again and is_prepared(task):
                return False
            if place.generated is not None:
                _generate(task, place, chosen, report)
            else:
                workspace = task.root.parent / f"{task.name}.source"
                _bring(place, chosen, Request(task, source, workspace, report, say), in_place)
        finally:
            lock.release()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(task) from error
        raise UserError(
            f"Task {task.name} cannot be prepared in {task.root.parent} ({error}): check its permissions."
        ) from error
    return True


def _source(task: Task, name: str, directory: Path | None, in_place: bool) -> Source:
    """Return the source of that name; fail if it does not have the task or does not accept these options."""
    source = SOURCES.get(name)
    if not source.has(task):
        others = [(other, one) for other, one in SOURCES.each() if isinstance(one, Source) and one.has(task)]
        known = " or ".join(f"{one.help} (--from {other})" for other, one in others)
        raise UserError(f"Task {task.name} is {known or 'in no source'}: --from {name} does not have it.")
    if source.generated is not None and (directory is not None or in_place):
        raise UserError(f"{task.name} is {source.help}: leave --source and --in-place out.")
    if source.needs_directory and directory is None:
        raise UserError(f"--from {name} needs {source.needs}.")
    return source


def _generate(task: Task, source: Source, name: str, report: Report) -> None:
    assert source.generated is not None
    generated, partial = source.generated(task), partial_directory(task)
    if partial.exists():
        shutil.rmtree(partial)
    if shutil.disk_usage(task.root.parent).free < generated.size:
        raise _disk_full(task)
    partial.mkdir()
    try:
        generated.build(partial, lambda done, total: report(f"{task.name}: generating", done, total, ""))
        _finish(task, Preparation(generated.version, name, settings=settings(task)))
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _disk_full(task: Task) -> UserError:
    size = f"task {task.name} takes {task.facts.size}" if task.facts.size else f"task {task.name} needs more"
    return UserError(
        f"The disk of {task.root.parent} is full: {size}; free some space and run the same command, which keeps what is"
        " done, or set BEANS_HOME to another disk."
    )


def _bring(source: Source, name: str, request: Request, in_place: bool) -> None:
    from tasks.prepare.write import pcm_bytes, write_audio, write_manifest

    assert source.read is not None
    task, items = request.task, source.read(request)
    partial = partial_directory(task)
    intent = _digest([name, in_place, items.rate, str(items.root)], items.entries)
    if partial.exists() and (not (partial / INTENT).is_file() or (partial / INTENT).read_text() != intent):
        shutil.rmtree(partial)
    partial.mkdir(exist_ok=True)
    (partial / INTENT).write_text(intent)
    if not in_place:
        most, free = pcm_bytes(task, items.entries), shutil.disk_usage(partial).free
        size = f" take at most {most / 1e9:.1f} GB" if most else ""
        request.say(
            f"{task.name}: {len(items.entries)} FLAC files{size} in {task.root.parent}, which has {free / 1e9:.1f} GB"
            " free."
        )
        write_audio(task, items.entries, items.rate, partial, request.report)
    write_manifest(task, items.entries, partial, in_place=in_place)
    (partial / INTENT).unlink()
    _finish(
        task, Preparation(source.version(task), name, in_place, str(items.root) if in_place else "", settings(task))
    )
    if not in_place and request.workspace.exists():
        shutil.rmtree(request.workspace)


def _digest(about: list[object], entries: list[Entry]) -> str:
    """Return a hash that identifies the contents of an unfinished directory."""
    content = [about, [[entry.id, entry.split, entry.sound.start, entry.sound.seconds] for entry in entries]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _finish(task: Task, done: Preparation) -> None:
    """Mark the unfinished directory as complete and move it to the task's directory."""
    partial, outdated = partial_directory(task), task.root.parent / f".{task.name}.outdated"
    if outdated.exists():
        shutil.rmtree(outdated)
    # After a power failure the mark must not exist without the files that were written before it.
    os.sync()
    (partial / MARK).write_text(json.dumps(asdict(done)), encoding="utf-8")
    if task.root.exists():
        task.root.rename(outdated)
    partial.rename(task.root)
    shutil.rmtree(outdated, ignore_errors=True)
