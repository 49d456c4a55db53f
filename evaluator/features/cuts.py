"""Cut stretches out of an audio file and resample each to the backbone's rate. The file is decoded once."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tasks.sound import Header, Resampler, decode_blocks, resampled_length
from tasks.sound.faults import Fault, FaultFinder

# Part of the key of every feature: raise it when `decode_cuts` returns other samples.
VERSION = 2


@dataclass(frozen=True, slots=True)
class Cut:
    """A stretch of a recording in samples at the native rate. ``padded`` is its length with the zeros at its end."""

    start: int
    stop: int
    padded: int

    @classmethod
    def whole(cls, header: Header, max_duration: float | None) -> "Cut":
        """The whole file, cropped to its first ``max_duration`` seconds."""
        frames = header.frames
        if max_duration is not None:
            frames = min(frames, int(max_duration * header.sample_rate))
        return cls(0, frames, frames)

    @classmethod
    def window(cls, header: Header, start: float, end: float) -> "Cut":
        """A window in seconds. A window that ends after the recording is padded to its full width."""
        first = min(int(start * header.sample_rate), header.frames)
        width = int((end - start) * header.sample_rate)
        return cls(first, min(first + width, header.frames), width)

    def resampled(self, native: int, rate: int) -> int:
        """Length in samples after resampling from ``native`` Hz to ``rate`` Hz."""
        return resampled_length(self.padded, native, rate)


class Sound(NamedTuple):
    """The sound of a cut: (samples,) float32 at its rate; and what is wrong with it, None if unknown."""

    waveform: Tensor
    faults: Fault | None


def load(path: Path, header: Header, cuts: list[Cut], rate: int) -> list[Tensor]:
    """Decode the cuts of a recording and return each as (samples,) float32 at ``rate`` Hz; see `decode_cuts`."""
    return [sound.waveform for sound in decode_cuts(path, header, cuts, rate)]


def decode_cuts(path: Path, header: Header, cuts: list[Cut], rate: int) -> list[Sound]:
    """Decode the cuts of a recording, resample each to ``rate`` Hz, and note their faults.

    Each part of the file is decoded once, in blocks: only the resampled cuts are in memory. Cuts are made at the native
    rate and resampled afterwards, so that a window never holds sound from outside it.
    """
    parts = {position: _Part(cut, header.sample_rate, rate) for position, cut in enumerate(cuts)}
    for run in _runs(cuts):
        place = cuts[run[0]].start
        for mono, channels in decode_blocks(path, header, max(cuts[position].stop for position in run), place):
            for position in run:
                parts[position].add(place, mono, channels)
            place += len(mono)
    return [parts[position].finish() for position in range(len(cuts))]


class _Part:
    """One cut while its file is decoded."""

    def __init__(self, cut: Cut, native: int, rate: int) -> None:
        self.cut = cut
        self.resampler = Resampler(cut.padded, native, rate)
        self.finder = FaultFinder()

    def add(self, start: int, mono: Tensor, channels: NDArray[np.float32]) -> None:
        """Take from a block, which starts at sample ``start`` of the file, what belongs to the cut."""
        first, stop = max(self.cut.start - start, 0), min(self.cut.stop - start, len(mono))
        if first < stop:
            self.resampler.add(mono[first:stop])
            self.finder.add(mono[first:stop], channels[first:stop])

    def finish(self) -> Sound:
        return Sound(self.resampler.finish(), self.finder.faults)


def _runs(cuts: list[Cut]) -> list[list[int]]:
    """Positions of cuts that touch or overlap, sorted by start. The gaps between these groups are not decoded."""
    runs: list[list[int]] = []
    end = -1
    for position in sorted(range(len(cuts)), key=lambda position: cuts[position].start):
        if cuts[position].start > end:
            runs.append([])
        runs[-1].append(position)
        end = max(end, cuts[position].stop)
    return runs
