"""Cut stretches out of an audio file and resample each to the backbone's rate. The file is decoded once."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tasks.sound import Header, decode, resample, resampled_length

# Part of the key of every feature: raise it when `load` returns other samples.
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


def load(path: Path, header: Header, cuts: list[Cut], rate: int) -> list[Tensor]:
    """Decode the cuts of a recording and return each as (samples,) float32 at ``rate`` Hz.

    Each part of the file is decoded once. Cuts are made at the native rate and resampled afterwards, so that a window
    never holds sound from outside it.
    """
    pieces = [torch.empty(0)] * len(cuts)
    for run in _runs(cuts):
        first = cuts[run[0]].start
        waveform = decode(path, header, max(cuts[position].stop for position in run), first)
        for position in run:
            cut = cuts[position]
            piece = waveform[cut.start - first : cut.stop - first]
            missing = cut.padded - len(piece)
            pieces[position] = torch.nn.functional.pad(piece, (0, missing)) if missing > 0 else piece
    return [resample(piece, header.sample_rate, rate) for piece in pieces]


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
