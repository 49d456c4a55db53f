"""Which stretch of which file each item is, in which shards they are computed, and what they sound like."""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from evaluator.features.cuts import Cut, load
from evaluator.features.headers import Headers, Seen
from tasks.sound import Header
from tasks.support.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.task import Item, Task

# A shard is what a killed run loses at most: half a minute of a base-sized model on two cores.
_SHARD_SECONDS = 240.0
_DECODERS = 2
_SHARDS_AHEAD = 2
# Of many bad files, so many stand in an error.
_NAMED = 3
# Two clips whose lengths differ by less are the same sound if the shorter is the beginning of the longer.
_SAME_SOUND_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Clip:
    """One item with the stretch of its file that the backbone hears, ``samples`` long at the backbone's rate."""

    index: int
    item: "Item"
    header: Header
    cut: Cut
    samples: int


@dataclass(frozen=True)
class Shard:
    """Clips that are computed and stored together. The name is a hash of all that fixes their waveforms."""

    name: str
    clips: tuple[Clip, ...]


def plan(
    task: "Task", items: Sequence["Item"], rate: int, min_samples: int, headers: Headers | None = None
) -> list[Shard]:
    """Divide items into shards, the same way every time; clips of equal length lie together.

    Looks at every file's header, so that a bad file is found before the first forward pass.

    Args:
        task: whose items they are.
        items: of one split.
        rate: the backbone's, in Hz.
        min_samples: to which shorter clips are padded.
        headers: those that are known; new ones are added.

    Raises:
        UserError: names the files that are missing, empty, truncated or not audio.
    """
    seen, problems = (Headers() if headers is None else headers).look(item.path for item in items)
    if problems:
        _refuse_files(
            task, problems, [path for path in dict.fromkeys(item.path for item in items) if str(path) not in seen]
        )

    clips = []
    # Many files have the same header, and one object serves them all.
    known = {rest: Header(*rest) for rest in {file[2:4] for file in seen.values()}}
    for index, item in enumerate(items):
        header = known[seen[str(item.path)][2:4]]
        cut = Cut.window(header, *item.window) if item.window else Cut.whole(header, task.max_duration)
        if cut.start >= header.frames:
            problems.append(
                f"{item.path} is {header.frames / header.sample_rate:.1f} s long but has the window {item.id}"
                " (is its length in the manifest in seconds?)"
            )
            continue
        samples = max(cut.resampled(header.sample_rate, rate), min_samples)
        clips.append(Clip(index, item, header, cut, samples))
    refuse(problems)
    # Windows of a recording stay together, because it is decoded once; hours of them are divided.
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


def _refuse_files(task: "Task", problems: Sequence[str], files: Sequence["Path"]) -> None:
    """Raise a UserError that names the first few of the files that cannot be used, and what to do about them.

    Args:
        task: which they are of.
        problems: what is wrong, file by file.
        files: as many.
    """
    # Only here: training runs where manifests cannot be read, for want of pydantic.
    from tasks.manifest import places

    if not task.has_own_files:
        refuse(problems)
    lines = places(task, set(files[:_NAMED]))
    told = [
        f"{problem} ({lines[file]})" if file in lines else problem
        for problem, file in zip(problems, files, strict=True)
    ]
    lost = any(not file.exists() for file in files)
    refuse(told, f"; relative paths start at {task.root}, and --data-dir names another place" if lost else "")


def refuse(problems: Sequence[str], hint: str = "") -> None:
    """Raise one UserError that names the first few of ``problems``, if there are any."""
    if problems:
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        advice = f"replace the audio or take it out of the manifest{hint}"
        raise UserError(f"{'; '.join(problems[:_NAMED])}{more}: {advice}.")


def _divide(clips: list[Clip], samples: int) -> Iterator[list[Clip]]:
    """Neighbouring clips of at least so many samples together, but for the last part."""
    part: list[Clip] = []
    for clip in clips:
        part.append(clip)
        if sum(clip.samples for clip in part) >= samples:
            yield part
            part = []
    if part:
        yield part


def _name(clips: Iterable[Clip], seen: Mapping[str, Seen]) -> str:
    content = []
    for clip in clips:
        checksum = seen[str(clip.item.path)][4]
        content.append([clip.item.id, checksum, clip.cut.start, clip.cut.stop, clip.samples])
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def waveforms(shard: Shard, rate: int) -> list[Tensor]:
    """Decode a shard, every file once: per clip (samples,) float32, zeros after the end of a clip that is too short."""
    return [sound for group in _recordings(shard) for sound in _decode(group, rate)]


def _recordings(shard: Shard) -> list[list[Clip]]:
    return [list(group) for _, group in groupby(shard.clips, key=lambda clip: clip.item.path)]


def _decode(clips: Sequence[Clip], rate: int) -> list[Tensor]:
    """Clips of one file."""
    first = clips[0]
    sounds = load(first.item.path, first.header, [clip.cut for clip in clips], rate)
    return [
        torch.nn.functional.pad(sound, (0, clip.samples - len(sound)))
        for clip, sound in zip(clips, sounds, strict=True)
    ]


def ahead(shards: Iterable[Shard], rate: int) -> Iterator[tuple[Shard, list[Tensor] | UserError]]:
    """Shards with their waveforms, decoded in background threads while the caller computes."""
    pending: deque[tuple[Shard, list[Future[list[Tensor]]]]] = deque()

    def first() -> tuple[Shard, list[Tensor] | UserError]:
        shard, parts = pending.popleft()
        try:
            return shard, [sound for part in parts for sound in part.result()]
        except UserError as error:
            return shard, error

    with ThreadPoolExecutor(_DECODERS) as pool:
        for shard in shards:
            # File by file, so that all threads work on the shard that is needed first.
            pending.append((shard, [pool.submit(_decode, group, rate) for group in _recordings(shard)]))
            if len(pending) > _SHARDS_AHEAD:
                yield first()
        while pending:
            yield first()


def unheard(shards: Iterable[Shard]) -> Iterator[tuple[Shard, list[Tensor]]]:
    """Shards with silence for every clip, where nobody will listen."""
    return ((shard, [torch.zeros(1)] * len(shard.clips)) for shard in shards)


def fingerprint(waveform: Tensor) -> int:
    """A 63-bit fingerprint of a waveform, 0 for silence."""
    if bool((waveform == waveform[0]).all()):
        return 0
    return int.from_bytes(hashlib.blake2b(waveform.contiguous().numpy().data, digest_size=8).digest()) >> 1 or 1


def same_sound(first: Clip, second: Clip, rate: int) -> bool:
    """Whether two clips differ only in a tail too short to make a frame."""
    one, two = (waveforms(Shard("", (clip,)), rate)[0] for clip in (first, second))
    length = min(len(one), len(two))
    return abs(len(one) - len(two)) < _SAME_SOUND_SECONDS * rate and torch.equal(one[:length], two[:length])
