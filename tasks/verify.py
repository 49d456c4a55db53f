"""Compares a prepared task with published numbers: counts, ids, lengths and decoded sound."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tasks.manifest import places, read_manifest
from tasks.prepare import preparation
from tasks.support.errors import UserError
from tasks.support.findings import FileProblem, Finding
from tasks.support.progress import Report
from tasks.support.threads import usable_cores
from tasks.task import SPLITS, Item, Manifest, Split, Task

# A manifest's length may be rounded. A larger difference means other windows.
_LENGTH_SLACK_SECONDS = 0.1
_NAMED = 3


@dataclass(frozen=True)
class _Stretch:
    """One clip, or one recording of a detection task. ``span`` is its start and end in the file in seconds, or None."""

    id: str
    split: Split
    path: Path
    span: tuple[float, float] | None


@dataclass(frozen=True)
class _Decoded:
    """A decoded stretch.

    Attributes:
        sound: a hash of its samples; "" for silence.
        faults: a `tasks.sound.faults.Fault`.
        cut: as `tasks.sound.Header.cut`.
        problem: why it is unusable.
    """

    stretch: _Stretch
    rate: int = 0
    seconds: float = 0.0
    sound: str = ""
    faults: int = 0
    cut: bool = False
    problem: str = ""


def verify(task: Task, report: Report) -> list[Finding]:
    """Compare a prepared task with its published numbers, and decode every file of it.

    Args:
        task: a prepared task, or a user's own task.
        report: receives the number of decoded files and of all files.

    Raises:
        UserError: the manifest cannot be read.
    """
    manifest = read_manifest(task)
    findings = [_made(task), *_counts(manifest), *_identity(manifest), _manifest(manifest)]
    stretches = list(_stretches(manifest))
    decoded = []
    with ThreadPoolExecutor(usable_cores()) as pool:
        for number, stretch in enumerate(pool.map(_decode, stretches), start=1):
            decoded.append(stretch)
            report(f"{task.name}: decoding", number, len(stretches), "")
    return [
        *findings,
        _readable(task, decoded),
        *_lengths(task, decoded),
        _rates(task, decoded),
        *_oddities(decoded),
        _shared(decoded),
    ]


def _made(task: Task) -> Finding:
    done = preparation(task)
    return Finding("preparation", "note", done.words if done else "a task of your own")


def _manifest(manifest: Manifest) -> Finding:
    if manifest.warnings:
        return Finding("manifest", "note", "; ".join(manifest.warnings))
    return Finding("manifest", "pass", "no annotation or label looks like a mistake")


def _counts(manifest: Manifest) -> Iterator[Finding]:
    counted = {"items": {split: len(items) for split, items in manifest.items.items()}}
    published = {"items": manifest.task.published.items}
    if manifest.task.kind == "detection":
        # Recordings too short for a window give none, so they are counted in the manifest's files.
        counted["recordings"] = {split: _lines(manifest.task, split) for split in SPLITS}
        published["recordings"] = manifest.task.published.recordings
    for what, counts in counted.items():
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
    """Yield what to decode: the used part of every clip, and every recording once."""
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


def _decode(stretch: _Stretch) -> _Decoded:
    """Decode a stretch in blocks: a recording of a day does not fit into memory."""
    from tasks.sound import decode_blocks, read_header
    from tasks.sound.faults import FaultFinder

    finder, sound, samples = FaultFinder(), hashlib.sha256(), 0
    try:
        header = read_header(stretch.path)
        first, stop = (round(time * header.sample_rate) for time in stretch.span or (0, header.frames))
        stop = header.frames if stretch.span is None else min(stop, header.frames)
        for mono, channels in decode_blocks(stretch.path, header, stop, min(first, stop)):
            finder.add(mono, channels)
            # Every copy holds at least 16 bits.
            sound.update((mono * 2**15).round().short().numpy().data)
            samples += len(mono)
    except UserError as error:
        return _Decoded(stretch, problem=str(error))
    return _Decoded(
        stretch,
        header.sample_rate,
        samples / header.sample_rate,
        "" if finder.is_constant else sound.hexdigest(),
        int(finder.faults),
        header.cut,
    )


def _readable(task: Task, decoded: Sequence[_Decoded]) -> Finding:
    bad = {file: file.problem for file in decoded if file.problem}
    if bad:
        says = f"{_few(list(bad.values()))}: {_mend(task, 'mend or replace')}"
        return Finding("readable", "fail", says, _files(task, bad))
    return Finding("readable", "pass", f"all {len(decoded)} decode to the end")


def _files(task: Task, problems: Mapping[_Decoded, str]) -> tuple[FileProblem, ...]:
    """Return every bad file with its place in the manifest and what is wrong with it."""
    named = places(task, {file.stretch.path for file in problems})
    return tuple(
        FileProblem(str(file.stretch.path), named.get(file.stretch.path, ""), reason)
        for file, reason in problems.items()
    )


def _lengths(task: Task, decoded: Sequence[_Decoded]) -> Iterator[Finding]:
    for split in SPLITS:
        seconds = [file.seconds for file in decoded if file.stretch.split == split and not file.problem]
        if seconds:
            yield Finding(
                f"durations of {split}",
                "note",
                f"{min(seconds):.2f} to {max(seconds):.2f} s, median {median(seconds):.2f} s,"
                f" {sum(seconds) / 3600:.2f} h in all" + (" (as cropped)" if task.max_duration else ""),
            )
    for rate in sorted({file.rate for file in decoded if not file.problem}):
        if reason := task.too_short(rate):
            yield Finding("lengths", "fail", reason)
            return
    if task.window_width is None:
        return
    # The last window of a recording may end after the recording, by less than a shift.
    slack = (task.window_shift or 0) + _LENGTH_SLACK_SECONDS
    short = {
        file: f"it is {file.seconds:.1f} s long, and its windows need {file.stretch.span[1] - file.stretch.span[0]:g} s"
        for file in decoded
        if not file.problem and file.stretch.span and file.stretch.span[1] - file.stretch.span[0] - file.seconds > slack
    }
    if short:
        names = [f"{file.stretch.id} ({file.seconds:.1f} s)" for file in short]
        says = f"{_few(names)}: shorter than the manifest says; {_mend(task, 'correct `length`, or replace')}"
        yield Finding("lengths", "fail", says, _files(task, short))
    else:
        yield Finding("lengths", "pass", "every recording is as long as its windows need")


def _mend(task: Task, own: str) -> str:
    """Return what to do about wrong files; ``own`` if they are the user's, because nothing prepares them."""
    if task.has_own_files:
        return f"{own} what is named here"
    return f"prepare the task again (`{task.command} --again`)"


def _rates(task: Task, decoded: Sequence[_Decoded]) -> Finding:
    rates = Counter(file.rate for file in decoded if not file.problem)
    says = ", ".join(f"{count} at {rate} Hz" for rate, count in rates.most_common())
    native = task.facts.native_rate
    if native and set(rates) != {native}:
        says += f"; BEANS gives the task {native} Hz"
    return Finding("sample rates", "note", says or "none")


def _oddities(decoded: Sequence[_Decoded]) -> Iterator[Finding]:
    """Sounds that decode and may still be wrong."""
    from tasks.sound.faults import Fault

    for name, fault, odd, fine in (
        ("silence", Fault.SILENT, "silent", "no silent file"),
        (
            "channels",
            Fault.CANCELLING,
            "the channels cancel, so that their mean, which an encoder reads, is far quieter",
            "no file whose channels cancel",
        ),
        ("clipping", Fault.CLIPPED, "at least 1 % of the samples are at full scale", "no clipped file"),
    ):
        found = [file.stretch.id for file in decoded if not file.problem and file.faults & fault]
        yield Finding(name, "note" if found else "pass", f"{odd}: {_few(found)}" if found else fine)
    cut = [file.stretch.id for file in decoded if not file.problem and file.cut]
    if cut:
        yield Finding("MP3", "note", f"a gap, or an incomplete end, where sound may be missing: {_few(cut)}")


def _shared(decoded: Sequence[_Decoded]) -> Finding:
    places: dict[str, list[_Stretch]] = defaultdict(list)
    for file in decoded:
        if file.sound:
            places[file.sound].append(file.stretch)
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
