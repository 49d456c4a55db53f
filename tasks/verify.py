"""Is a prepared task the data set that others measured on? Counts, ids, lengths and sound; never encoded bytes."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tasks.manifest import read_manifest
from tasks.prepare import preparation
from tasks.support.errors import UserError
from tasks.support.findings import Finding
from tasks.support.progress import Report
from tasks.task import SPLITS, Item, Manifest, Split, Task

# A manifest's length may round; beyond this the windows would be of something else.
_LENGTH_SLACK_SECONDS = 0.1
_NAMED = 3


@dataclass(frozen=True)
class _Stretch:
    """One clip, or one recording of a detection task: the stretch of a file in seconds, None for all of it."""

    id: str
    split: Split
    path: Path
    span: tuple[float, float] | None


@dataclass(frozen=True)
class _Heard:
    """What a stretch sounds like. ``problem`` says why it cannot be used; ``sound`` is "" for silence."""

    stretch: _Stretch
    rate: int = 0
    seconds: float = 0.0
    sound: str = ""
    problem: str = ""


def verify(task: Task, report: Report) -> list[Finding]:
    """Check a prepared task against what is published of it, and every file of it by decoding it.

    Args:
        task: prepared, or a task of one's own.
        report: told how many files are decoded, of how many.

    Raises:
        UserError: the manifest cannot be read.
    """
    manifest = read_manifest(task)
    findings = [_made(task), *_counts(manifest), *_identity(manifest)]
    stretches = list(_stretches(manifest))
    heard = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for number, one in enumerate(pool.map(_listen, stretches), start=1):
            heard.append(one)
            report(f"{task.name}: listening", number, len(stretches), "")
    return [
        *findings,
        _readable(task, heard),
        *_lengths(task, heard),
        _rates(task, heard),
        _silence(heard),
        _shared(heard),
    ]


def _made(task: Task) -> Finding:
    done = preparation(task)
    return Finding("preparation", "note", done.words if done else "a task of your own")


def _counts(manifest: Manifest) -> Iterator[Finding]:
    found = {"items": {split: len(items) for split, items in manifest.items.items()}}
    published = {"items": manifest.task.published.items}
    if manifest.task.kind == "detection":
        # Recordings too short for a window give none, so they are counted in the manifest's files.
        found["recordings"] = {split: _lines(manifest.task, split) for split in SPLITS}
        published["recordings"] = manifest.task.published.recordings
    for what, counts in found.items():
        says = " / ".join(str(counts[split]) for split in SPLITS)
        expected = published[what]
        if not expected:
            yield Finding(what, "note", f"{says} (train / valid / test); nothing published to compare with")
        elif counts == expected:
            yield Finding(what, "pass", f"{says} (train / valid / test), as published")
        else:
            wanted = " / ".join(str(expected[split]) for split in SPLITS)
            yield Finding(
                what,
                "fail",
                f"{says} (train / valid / test), but {wanted} are published: is all of the data set there?",
            )


def _lines(task: Task, split: Split) -> int:
    return sum(bool(line.strip()) for line in (task.root / getattr(task, split)).open(encoding="utf-8"))


def _identity(manifest: Manifest) -> Iterator[Finding]:
    yield Finding("split hash", "note", manifest.split_hash)
    for split, expected in manifest.task.published.ids_sha256.items():
        ids = "\n".join(sorted(item.id for item in manifest.items[split]))
        same = hashlib.sha256(ids.encode()).hexdigest() == expected
        says = "as published" if same else "not those of BEANS: the split differs, and so will every result"
        yield Finding(f"ids of {split}", "pass" if same else "fail", says)


def _stretches(manifest: Manifest) -> Iterator[_Stretch]:
    """What to listen to: every clip as far as it is used, and every recording once."""
    for split, items in manifest.items.items():
        if manifest.task.kind == "classification":
            most = manifest.task.max_duration
            for item in items:
                yield _Stretch(item.id, split, item.path, (0.0, most) if most else None)
            continue
        recordings: dict[str, list[Item]] = defaultdict(list)
        for item in items:
            recordings[item.id.rpartition("@")[0]].append(item)
        for name, windows in recordings.items():
            spans = [item.window for item in windows if item.window]
            yield _Stretch(name, split, windows[0].path, (spans[0][0], spans[-1][1]))


def _listen(stretch: _Stretch) -> _Heard:
    from tasks.sound import decode, read_header

    try:
        header = read_header(stretch.path)
        first, stop = (round(time * header.sample_rate) for time in stretch.span or (0, header.frames))
        stop = header.frames if stretch.span is None else min(stop, header.frames)
        waveform = decode(stretch.path, header, stop, min(first, stop))
    except UserError as error:
        return _Heard(stretch, problem=str(error))
    # 16 bits are what every copy holds; a silent stretch may carry an offset.
    rounded = (waveform * 2**15).round().short().numpy()
    silent = not len(rounded) or bool((rounded == rounded[0]).all())
    sound = "" if silent else hashlib.sha256(rounded.tobytes()).hexdigest()
    return _Heard(stretch, header.sample_rate, len(waveform) / header.sample_rate, sound)


def _readable(task: Task, heard: Sequence[_Heard]) -> Finding:
    problems = [one.problem for one in heard if one.problem]
    if problems:
        return Finding("readable", "fail", f"{_few(problems)}: {_mend(task, 'mend or replace')}")
    return Finding("readable", "pass", f"all {len(heard)} decode to the end")


def _lengths(task: Task, heard: Sequence[_Heard]) -> Iterator[Finding]:
    for split in SPLITS:
        seconds = [one.seconds for one in heard if one.stretch.split == split and not one.problem]
        if seconds:
            yield Finding(
                f"durations of {split}",
                "note",
                f"{min(seconds):.2f} to {max(seconds):.2f} s, median {median(seconds):.2f} s,"
                f" {sum(seconds) / 3600:.2f} h in all" + (" (as cropped)" if task.max_duration else ""),
            )
    if task.window_width is None:
        return
    # The last window of a recording may reach past its end, by less than a shift.
    slack = (task.window_shift or 0) + _LENGTH_SLACK_SECONDS
    short = [
        f"{one.stretch.id} ({one.seconds:.1f} s)"
        for one in heard
        if not one.problem and one.stretch.span and one.stretch.span[1] - one.stretch.span[0] - one.seconds > slack
    ]
    if short:
        yield Finding(
            "lengths",
            "fail",
            f"{_few(short)}: shorter than the manifest says; {_mend(task, 'correct `length`, or replace')}",
        )
    else:
        yield Finding("lengths", "pass", "every recording is as long as its windows need")


def _mend(task: Task, own: str) -> str:
    """What to do about files; ``own`` where they are the user's, which nothing prepares."""
    if task.has_own_files:
        return f"{own} what is named here"
    return f"prepare the task anew (`{task.command} --again`)"


def _rates(task: Task, heard: Sequence[_Heard]) -> Finding:
    rates = Counter(one.rate for one in heard if not one.problem)
    says = ", ".join(f"{count} at {rate} Hz" for rate, count in rates.most_common())
    native = task.facts.native_rate
    if native and set(rates) != {native}:
        says += f"; BEANS gives the task {native} Hz"
    return Finding("sample rates", "note", says or "none")


def _silence(heard: Sequence[_Heard]) -> Finding:
    silent = [one.stretch.id for one in heard if not one.problem and not one.sound]
    return Finding("silence", "note" if silent else "pass", f"silent: {_few(silent)}" if silent else "no silent file")


def _shared(heard: Sequence[_Heard]) -> Finding:
    places: dict[str, list[_Stretch]] = defaultdict(list)
    for one in heard:
        if one.sound:
            places[one.sound].append(one.stretch)
    shared = [
        " = ".join(f"{stretch.id} ({stretch.split})" for stretch in same)
        for same in places.values()
        if len({stretch.split for stretch in same}) > 1
    ]
    if shared:
        return Finding("shared audio", "note", f"the same sound in two splits: {_few(shared)}")
    return Finding("shared audio", "pass", "no sound is in two splits")


def _few(names: Sequence[str]) -> str:
    more = f"; and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return "; ".join(names[:_NAMED]) + more
