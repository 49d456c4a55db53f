"""Which stretch of which file each item is, in which shards they are computed, and what they sound like."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from evaluator.audio import Cut, load
from tasks.errors import UserError
from tasks.sound import Header, read_header

if TYPE_CHECKING:
    from tasks.task import Item, Task

# A shard is what a killed run loses at most: half a minute of a base-sized model on two cores.
_SHARD_SECONDS = 240.0
_DECODERS = 2
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


def plan(task: "Task", items: Sequence["Item"], rate: int, min_samples: int) -> list[Shard]:
    """Divide items into shards, the same way every time; clips of equal length lie together.

    Reads every file's header, so that a bad file is found before the first forward pass.

    Raises:
        UserError: names the files that are missing, empty, truncated or not audio.
    """
    paths = list(dict.fromkeys(item.path for item in items))
    headers: dict[Path, Header] = {}
    problems: list[str] = []

    def probe(path: Path) -> Header | UserError:
        try:
            return read_header(path)
        except UserError as error:
            return error

    with ThreadPoolExecutor(_DECODERS) as pool:
        for path, answer in zip(paths, pool.map(probe, paths), strict=True):
            if isinstance(answer, UserError):
                problems.append(str(answer))
            else:
                headers[path] = answer
    refuse(problems)

    clips = []
    for index, item in enumerate(items):
        header = headers[item.path]
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
        for _, group in groupby(clips, key=lambda clip: clip.item.path)
        for part in _divide(list(group), int(_SHARD_SECONDS * rate))
    ]
    recordings.sort(key=lambda group: (max(clip.samples for clip in group), group[0].index))
    shards, pending, seconds = [], [], 0.0
    for group in recordings:
        pending.extend(group)
        seconds += sum(clip.samples for clip in group) / rate
        if seconds >= _SHARD_SECONDS:
            shards.append(Shard(_name(pending), tuple(pending)))
            pending, seconds = [], 0.0
    if pending:
        shards.append(Shard(_name(pending), tuple(pending)))
    return shards


def refuse(problems: Sequence[str]) -> None:
    """Raise one UserError that names the first few of ``problems``, if there are any."""
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError("; ".join(problems[:3]) + more + ": replace the audio or take it out of the manifest.")


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


def _name(clips: Iterable[Clip]) -> str:
    content = []
    for clip in clips:
        status = clip.item.path.stat()
        # Size and time stand for the content: reading 400 hours of audio to see whether it changed costs too much.
        content.append([clip.item.id, status.st_size, status.st_mtime_ns, clip.cut.start, clip.cut.stop, clip.samples])
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def waveforms(shard: Shard, rate: int) -> list[Tensor]:
    """Decode a shard, every file once: per clip (samples,) float32, zeros after the end of a clip that is too short."""
    sounds: list[Tensor] = []
    for _, group in groupby(shard.clips, key=lambda clip: clip.item.path):
        clips = list(group)
        for clip, sound in zip(
            clips, load(clips[0].item.path, clips[0].header, [clip.cut for clip in clips], rate), strict=True
        ):
            sounds.append(torch.nn.functional.pad(sound, (0, clip.samples - len(sound))))
    return sounds


def ahead(shards: Iterable[Shard], rate: int) -> Iterator[tuple[Shard, list[Tensor] | UserError]]:
    """Shards with their waveforms, decoded in background threads while the caller computes."""
    with ThreadPoolExecutor(_DECODERS) as pool:
        pending = []

        def attempt(shard: Shard) -> list[Tensor] | UserError:
            try:
                return waveforms(shard, rate)
            except UserError as error:
                return error

        for shard in shards:
            pending.append((shard, pool.submit(attempt, shard)))
            if len(pending) > _DECODERS:
                first, future = pending.pop(0)
                yield first, future.result()
        for first, future in pending:
            yield first, future.result()


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
