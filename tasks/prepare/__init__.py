"""Brings catalogue tasks onto the disk, whole or not at all; one file a source."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tasks.prepare.entries import Entry
from tasks.prepare.source import Copy
from tasks.prepare.state import (
    BEANS_VERSION,
    INTENT,
    MARK,
    Preparation,
    generated,
    is_prepared,
    partial_directory,
    preparation,
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
    copy: Copy = "origin",
    source: Path | None = None,
    in_place: bool = False,
    again: bool = False,
    say: Callable[[str], None] = lambda sentence: None,
) -> bool:
    """Prepare a catalogue task in ``data/NAME``; False when it was prepared already.

    The directory appears in one step when all of it is there, so that an interrupted preparation is never taken for a
    finished one; what was downloaded and written is kept for the next try. A second process that prepares the same
    task waits for the first.

    Args:
        name: a catalogue name.
        data: the home's data directory; made if need be.
        report: told what is being done, and how much of how much of it is done.
        copy: where to take the data set from.
        source: the directory with the files of that copy, instead of downloading them.
        in_place: leave the audio where it lies instead of writing FLAC files.
        again: prepare anew what is prepared.
        say: told in a sentence what the user should know beforehand, such as the disk it takes.

    Raises:
        UserError: an unknown name, files that cannot be had or are not this data set, a full disk, or a directory that
            cannot be written.
    """
    from filelock import FileLock, Timeout

    task = load_task(name, data=data)
    if task.group == "own":
        raise UserError(f"{name} is your own task file: its audio is read where it lies, and needs no preparation.")
    if task.group == "builtin" and (copy != "origin" or source is not None or in_place):
        raise UserError(f"{name} is generated on this machine: leave --from, --source and --in-place out.")
    if not again and is_prepared(task):
        return False
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = FileLock(data / f".{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"{name}: waiting for another process that prepares it.")
            lock.acquire()
        try:
            # Another process may have done it while this one waited.
            if not again and is_prepared(task):
                return False
            if task.group == "builtin":
                _generate(task, report)
            else:
                _bring(task, copy, source, in_place, report, say)
        finally:
            lock.release()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(task) from error
        raise UserError(f"Task {name} cannot be prepared in {data} ({error}): check its permissions.") from error
    return True


def _generate(task: Task, report: Report) -> None:
    source, partial = generated(task), partial_directory(task)
    if partial.exists():
        shutil.rmtree(partial)
    if shutil.disk_usage(task.root.parent).free < source.size:
        raise _disk_full(task)
    partial.mkdir()
    try:
        source.build(partial, lambda done, total: report(f"{task.name}: generating", done, total, ""))
        _finish(task, Preparation(source.version, "generated"))
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _disk_full(task: Task) -> UserError:
    return UserError(
        f"The disk of {task.root.parent} is full: task {task.name} takes {task.facts.size}; free some space and run the"
        " same command, which keeps what is done, or set BEANS_HOME to another disk."
    )


def _bring(
    task: Task, copy: Copy, source: Path | None, in_place: bool, report: Report, say: Callable[[str], None]
) -> None:
    from tasks.prepare.write import pcm_bytes, write_audio, write_manifest

    workspace = task.root.parent / f"{task.name}.source"
    entries, rate, lies_in = _read(task, copy, source, workspace, report, say)
    partial = partial_directory(task)
    intent = _digest([copy, in_place, rate, str(lies_in)], entries)
    if partial.exists() and (not (partial / INTENT).is_file() or (partial / INTENT).read_text() != intent):
        shutil.rmtree(partial)
    partial.mkdir(exist_ok=True)
    (partial / INTENT).write_text(intent)
    if not in_place:
        free = shutil.disk_usage(partial).free
        say(
            f"{task.name}: {len(entries)} FLAC files take at most {pcm_bytes(task, entries) / 1e9:.1f} GB"
            f" in {task.root.parent}, which has {free / 1e9:.1f} GB free."
        )
        write_audio(task, entries, rate, partial, report)
    write_manifest(task, entries, partial, in_place=in_place)
    (partial / INTENT).unlink()
    _finish(task, Preparation(BEANS_VERSION, copy, in_place, str(lies_in) if in_place else ""))
    if not in_place and workspace.exists():
        shutil.rmtree(workspace)


def _read(
    task: Task,
    copy: Copy,
    source: Path | None,
    workspace: Path,
    report: Report,
    say: Callable[[str], None],
) -> tuple[list[Entry], int | None, Path]:
    """The entries of one copy, the rate to resample them to, and the directory their audio lies in."""
    from tasks.prepare.fetch import fetch, needed, prepare_source
    from tasks.prepare.origins import origin
    from tasks.prepare.sources import beans, huggingface

    if copy == "huggingface":
        say(
            f"{task.name}: the library datasets keeps a second copy of the audio in its cache (HF_HOME); delete it"
            " there when the task is prepared."
        )
        return huggingface.read(task, source), None, source or Path()
    if copy == "beans":
        if source is None:
            raise UserError("--from beans needs --source: the directory of a finished BEANS checkout.")
        return beans.read(task, source), None, source.resolve()
    made = origin(task.name)
    if source is not None:
        root = prepare_source(source, workspace / "extracted", report)
    else:
        directory = workspace / "downloaded"
        size = needed(made, directory)
        if size:
            free = shutil.disk_usage(task.root.parent).free
            say(f"{task.name}: {size / 1e9:.1f} GB to download into {directory}; {free / 1e9:.1f} GB are free there.")
        root = fetch(task.name, made, directory, report)
    return made.read(root), made.rate, root


def _digest(about: list[object], entries: list[Entry]) -> str:
    """What a half-made directory is going to be."""
    content = [about, [[entry.id, entry.split, entry.sound.start, entry.sound.seconds] for entry in entries]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _finish(task: Task, done: Preparation) -> None:
    """Mark the half-made directory as whole and put it where the task is read from."""
    partial, outdated = partial_directory(task), task.root.parent / f".{task.name}.outdated"
    if outdated.exists():
        shutil.rmtree(outdated)
    # After a power failure the mark must not be there without the files before it.
    os.sync()
    (partial / MARK).write_text(json.dumps(asdict(done)), encoding="utf-8")
    if task.root.exists():
        task.root.rename(outdated)
    partial.rename(task.root)
    shutil.rmtree(outdated, ignore_errors=True)
