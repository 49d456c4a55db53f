"""Writes a prepared task: audio as 16-bit mono FLAC, unless it stays in place, and the manifest."""

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.prepare.entries import ClipEntry, Entry, RecordingEntry
from tasks.sound import decode, encode_flac, read_header, resample
from tasks.support.errors import UserError
from tasks.support.files import write_atomically
from tasks.support.progress import Report
from tasks.support.threads import usable_cores
from tasks.task import SPLITS, Task

# Each worker may hold a recording of hours in memory.
_MOST_WORKERS = 8


def pcm_bytes(task: Task, entries: Sequence[Entry]) -> int:
    """Return the maximum size of the FLAC files: 16 bits per sample at the native rate; 0 if it is unknown."""
    rate = task.facts.native_rate or 0
    lengths = (entry.length if isinstance(entry, RecordingEntry) else task.max_duration or 0.0 for entry in entries)
    return int(2 * rate * sum(lengths))


def write_audio(task: Task, entries: Sequence[Entry], rate: int | None, directory: Path, report: Report) -> None:
    """Write ``audio/ID.flac`` for every entry that has none yet. Each file appears completely or not at all.

    Args:
        task: a classification task's clips are cropped to its ``max_duration``.
        entries: the entries to write. A file with several entries is decoded once.
        rate: Hz to resample to, or None to keep each file's own rate.
        directory: the unfinished directory of the task.
        report: receives the number of written entries.

    Raises:
        UserError: some files cannot be decoded. It names them, after all other files are written.
    """
    for leftover in directory.glob("audio/**/.*.flac.*"):
        leftover.unlink()  # from a run that was killed
    targets = {entry.id: _target(directory, entry) for entry in entries}
    missing = [entry for entry in entries if not targets[entry.id].exists()]
    done, problems = len(entries) - len(missing), []
    what = f"{task.name}: writing audio"
    report(what, done, len(entries), "")
    for target in {target.parent for target in targets.values()}:
        target.mkdir(parents=True, exist_ok=True)
    workers = min(usable_cores(), _MOST_WORKERS)
    groups = _by_file(missing)
    with ThreadPoolExecutor(workers) as pool:
        # A few groups at a time: an interruption waits only for these, and only these use memory.
        while batch := list(islice(groups, 4 * workers)):
            futures = {pool.submit(_convert, task, group, rate, targets): len(group) for group in batch}
            for future in as_completed(futures):
                problem = future.result()
                if problem is not None:
                    problems.append(problem)
                done += futures[future]
                report(what, done, len(entries), "")
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(
            f"{'; '.join(problems[:3])}{more}: fetch these files again; all others are kept for the next try."
        )


def _by_file(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Group the entries by the file that holds their sound."""
    groups: dict[object, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.sound.file, []).append(entry)
    return iter(groups.values())


def _convert(task: Task, group: Sequence[Entry], rate: int | None, targets: dict[str, Path]) -> str | None:
    """Write the entries of one file. Return the problem with the file, or None."""
    source = group[0].sound.file
    file = source if isinstance(source, Path) else source()
    try:
        header = read_header(file)
        native = header.sample_rate
        if rate in (None, native):
            # Chunk by chunk, so that a recording of eight hours is never in memory as a whole.
            for entry in group:
                first, stop = _stretch(task, entry, native, header.frames)
                _write(targets[entry.id], decode(file, header, stop, first).numpy(), native)
            return None
        assert rate is not None
        # As in BEANS, the whole recording is resampled before it is cut, so that chunks have no edge effects.
        last = (
            header.frames
            if isinstance(group[0], RecordingEntry)
            else _stretch(task, group[0], native, header.frames)[1]
        )
        waveform = resample(decode(file, header, last), native, rate)
        for entry in group:
            first, stop = _stretch(task, entry, rate, len(waveform))
            _write(targets[entry.id], waveform[first:stop].numpy(), rate)
    except UserError as error:
        return str(error)
    return None


def _stretch(task: Task, entry: Entry, rate: int, frames: int) -> tuple[int, int]:
    """Return the first sample and the end (exclusive) of an entry, at ``rate`` Hz."""
    first = round(entry.sound.start * rate)
    seconds = entry.sound.seconds if isinstance(entry, RecordingEntry) else task.max_duration
    return first, frames if seconds is None else min(frames, round((entry.sound.start + seconds) * rate))


def _target(directory: Path, entry: Entry) -> Path:
    target = directory / "audio" / f"{entry.id}.flac"
    # Ids come from downloaded tables and may hold "..".
    if not target.resolve().is_relative_to((directory / "audio").resolve()):
        raise UserError(f"The id {entry.id!r} would be written outside {directory}: this is not the BEANS data set.")
    return target


def _write(target: Path, samples: NDArray[np.float32], rate: int) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.write_bytes(encode_flac(samples, rate))
    temporary.replace(target)


def write_manifest(task: Task, entries: Sequence[Entry], directory: Path, *, in_place: bool) -> None:
    """Write the files that the task names: one CSV of clips, or one JSON lines file per split."""
    if task.clips is not None:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("id", "path", "label", "split", "recording", "low"))
        for entry in entries:
            assert isinstance(entry, ClipEntry)
            path = _path(entry, in_place)
            table.writerow((entry.id, path, entry.label, entry.split, entry.recording, int(entry.low)))
        write_atomically(directory / task.clips, text.getvalue())
        return
    for split in SPLITS:
        lines = [json.dumps(_line(entry, in_place)) + "\n" for entry in entries if entry.split == split]
        write_atomically(directory / getattr(task, split), "".join(lines))


def _line(entry: Entry, in_place: bool) -> dict[str, object]:
    assert isinstance(entry, RecordingEntry)
    return {
        "id": entry.id,
        "path": _path(entry, in_place),
        # In place, a chunk is a stretch of the recording's file.
        **({"offset": entry.sound.start} if in_place else {}),
        "length": entry.length,
        "annotations": [{"st": st, "ed": ed, "label": label} for st, ed, label in entry.annotations],
        "recording": entry.recording,
        "low": entry.low,
    }


def _path(entry: Entry, in_place: bool) -> str:
    if not in_place:
        return f"audio/{entry.id}.flac"
    if not isinstance(entry.sound.file, Path):
        raise UserError("This source holds its audio inside tables: leave --in-place out.")
    return str(entry.sound.file.resolve())
