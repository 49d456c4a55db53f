"""Clips and shards: the stretch of audio of each item, the clips computed together, and their waveforms."""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from evaluator.features import cuts
from evaluator.features.cuts import Cut
from evaluator.features.headers import Headers, Seen
from tasks.sound import Header
from tasks.sound.faults import Fault
from tasks.support.errors import UserError
from tasks.support.threads import usable_cores

if TYPE_CHECKING:
    from tasks.task import Item, Task

# A killed run loses one shard at most: half a minute of work for a base-sized model on two cores.
_SHARD_SECONDS = 240.0
_SHARDS_AHEAD = 2
# Seconds of audio that may wait for the backbone. A longer clip is decoded when it is needed.
_SECONDS_AHEAD = 4 * _SHARD_SECONDS
# An error names this many bad files at most.
_NAMED = 3
# Two clips whose lengths differ by less have the same sound if the longer begins with the shorter.
_SAME_SOUND_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Clip:
    """One item and the stretch of its file that the backbone encodes: ``samples`` long at the backbone's rate."""

    index: int
    item: "Item"
    header: Header
    cut: Cut
    samples: int


@dataclass(frozen=True)
class Shard:
    """Clips whose features are computed and stored together. The name is a hash of what fixes their waveforms."""

    name: str
    clips: tuple[Clip, ...]


def plan(
    task: "Task", items: Sequence["Item"], rate: int, min_samples: int, headers: Headers | None = None
) -> list[Shard]:
    """Divide items into shards. The same items give the same shards; clips of similar length share a shard.

    Reads the header of every file, so that a bad file is found before the first forward pass.

    Args:
        task: the task of the items.
        items: the items of one split.
        rate: the backbone's sample rate in Hz.
        min_samples: length in samples to which shorter clips are padded.
        headers: the known headers; new ones are added.

    Raises:
        UserError: names the files that are missing, empty, truncated or not audio, and those that end before a window.
    """
    seen, problems = (Headers() if headers is None else headers).look(item.path for item in items)
    if problems:
        _refuse_files(
            task, problems, [path for path in dict.fromkeys(item.path for item in items) if str(path) not in seen]
        )

    clips = []
    # Many files have the same rate and length: they share one header object.
    known = {fields: Header(*fields) for fields in {file[2:5] for file in seen.values()}}
    for native in {header.sample_rate for header in known.values()}:
        if reason := task.too_short(native):
            raise UserError(f"Task {task.name}: {reason}.")
    late: dict[Path, tuple[Header, list[Item]]] = {}
    for index, item in enumerate(items):
        header = known[seen[str(item.path)][2:5]]
        cut = Cut.window(header, *item.window) if item.window else Cut.whole(header, task.max_duration)
        if cut.start >= header.frames:
            late.setdefault(item.path, (header, []))[1].append(item)
            continue
        samples = max(cut.resampled(header.sample_rate, rate), min_samples)
        clips.append(Clip(index, item, header, cut, samples))
    if late:
        _refuse_files(task, [_ends_early(header, after) for header, after in late.values()], list(late))
    # Windows of one recording stay together, so that it is decoded once. A long recording is divided.
    recordings = [
        part
        for _, group in groupby(clips, key=lambda clip: str(clip.item.path))
        for part in _divide(list(group), int(_SHARD_SECONDS * rate))
    ]
    recordings.sort(key=lambda group: (max(clip.samples for clip in group), group[0].index))
    shards, pending, seconds = [], [], 0.0
    for group in recordings:
        pending.extend(group)
        seconds += sum(clip.samples for clip in group) / rate
        if seconds >= _SHARD_SECONDS:
            shards.append(Shard(_name(pending, seen), tuple(pending)))
            pending, seconds = [], 0.0
    if pending:
        shards.append(Shard(_name(pending, seen), tuple(pending)))
    return shards


def _refuse_files(task: "Task", problems: Sequence[str], files: Sequence[Path]) -> None:
    """Raise a UserError that names the first few unusable files, and how to correct them.

    Args:
        task: the task of the files.
        problems: one sentence per file.
        files: the files, in the order of ``problems``.
    """
    # Imported here: training also runs where pydantic is not installed, and manifests need it.
    from tasks.manifest import places

    if not task.has_own_files:
        refuse(problems)
    lines = places(task, set(files[:_NAMED]))
    located = [
        f"{problem} ({lines[file]})" if file in lines else problem
        for problem, file in zip(problems, files, strict=True)
    ]
    missing = any(problem.endswith(" is missing") for problem in problems)
    hint = f"; relative paths start at {task.root}, and --data-dir names another place" if missing else ""
    if len(problems) > _NAMED:
        hint += f"; `beans tasks verify {task.file or task.name} --json` names them all"
    refuse(located, hint)


def _ends_early(header: Header, after: Sequence["Item"]) -> str:
    """Say that a file ends before these windows of it."""
    count = "1 window" if len(after) == 1 else f"{len(after)} windows"
    return (
        f"{after[0].path} is {header.frames / header.sample_rate:.1f} s long but has {count} after its end, the first"
        f" {after[0].id} (is its length in the manifest in seconds?)"
    )


def refuse(problems: Sequence[str], hint: str = "") -> None:
    """Raise one UserError with the first few of ``problems``; do nothing if the list is empty."""
    if problems:
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        advice = f"replace the audio or take it out of the manifest{hint}"
        raise UserError(f"{'; '.join(problems[:_NAMED])}{more}: {advice}.")


def _divide(clips: list[Clip], samples: int) -> Iterator[list[Clip]]:
    """Neighbouring clips in parts of at least ``samples`` samples; the last part may be shorter."""
    part: list[Clip] = []
    size = 0
    for clip in clips:
        part.append(clip)
        size += clip.samples
        if size >= samples:
            yield part
            part, size = [], 0
    if part:
        yield part


def _name(clips: Iterable[Clip], seen: Mapping[str, Seen]) -> str:
    content = []
    for clip in clips:
        checksum = seen[str(clip.item.path)][5]
        content.append([clip.item.id, checksum, clip.cut.start, clip.cut.stop, clip.samples])
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class DecodedClip:
    """The sound of a clip, as the backbone reads it.

    Attributes:
        waveform: (samples,) float32. A clip that is too short ends with zeros.
        sound: its fingerprint.
        faults: what is wrong with it; None if nothing was decoded.
    """

    waveform: Tensor
    sound: int
    faults: Fault | None


def waveforms(shard: Shard, rate: int) -> list[Tensor]:
    """Decode a shard, each file once: per clip (samples,) float32. A clip that is too short ends with zeros."""
    return [decoded.waveform for decoded in decode_clips(shard, rate)]


def decode_clips(shard: Shard, rate: int) -> list[DecodedClip]:
    """Decode a shard, each file once."""
    return [decoded for group in _recordings(shard) for decoded in _decode_file(group, rate)]


def _recordings(shard: Shard) -> list[list[Clip]]:
    return [list(group) for _, group in groupby(shard.clips, key=lambda clip: clip.item.path)]


def _decode_file(clips: Sequence[Clip], rate: int) -> list[DecodedClip]:
    """Decode the clips of one file."""
    first = clips[0]
    sounds = cuts.decode_cuts(first.item.path, first.header, [clip.cut for clip in clips], rate)
    found = []
    for clip, sound in zip(clips, sounds, strict=True):
        missing = clip.samples - len(sound.waveform)
        waveform = torch.nn.functional.pad(sound.waveform, (0, missing)) if missing > 0 else sound.waveform
        found.append(DecodedClip(waveform, fingerprint(waveform), sound.faults))
    return found


def ahead(
    shards: Iterable[Shard], rate: int, workers: int | None = None
) -> Iterator[tuple[Shard, list[DecodedClip] | UserError]]:
    """Shards with their sounds. Background threads decode while the caller computes.

    Without a number of ``workers`` there is one per core. Threads are enough: decoding and resampling do not hold the
    interpreter's lock. A shard with a damaged file comes with the UserError instead of sounds. A shard with a very long
    clip is alone in memory, if the caller no longer refers to the one before it.
    """
    pending: deque[tuple[Shard, list[Future[list[DecodedClip]]]]] = deque()

    def first() -> tuple[Shard, list[DecodedClip] | UserError]:
        shard, parts = pending.popleft()
        try:
            return shard, [decoded for part in parts for decoded in part.result()]
        except UserError as error:
            return shard, error

    with ThreadPoolExecutor(workers or usable_cores()) as pool:
        for shard in shards:
            waiting = sum(clip.samples for other in (shard, *(one for one, _ in pending)) for clip in other.clips)
            while pending and (waiting > _SECONDS_AHEAD * rate or len(pending) > _SHARDS_AHEAD):
                waiting -= sum(clip.samples for clip in pending[0][0].clips)
                yield first()
            # One job per file, so that all threads work on the shard that is needed first.
            pending.append((shard, [pool.submit(_decode_file, group, rate) for group in _recordings(shard)]))
        while pending:
            yield first()


def without_audio(shards: Iterable[Shard]) -> Iterator[tuple[Shard, list[DecodedClip]]]:
    """Shards with one sample of silence per clip, for an extractor that needs no audio. Nothing is decoded."""
    return ((shard, [DecodedClip(torch.zeros(1), 0, None)] * len(shard.clips)) for shard in shards)


def fingerprint(waveform: Tensor) -> int:
    """A 63-bit fingerprint of a waveform, 0 for silence."""
    if bool((waveform == waveform[0]).all()):
        return 0
    return int.from_bytes(hashlib.blake2b(waveform.contiguous().numpy().data, digest_size=8).digest()) >> 1 or 1


def same_sound(first: Clip, second: Clip, rate: int) -> bool:
    """Whether two clips are equal, apart from a tail that is too short for a frame."""
    left, right = (waveforms(Shard("", (clip,)), rate)[0] for clip in (first, second))
    length = min(len(left), len(right))
    return abs(len(left) - len(right)) < _SAME_SOUND_SECONDS * rate and torch.equal(left[:length], right[:length])
