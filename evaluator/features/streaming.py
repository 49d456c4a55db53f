"""Frames that do not fit on disk: the backbone encodes every batch again, once for all layers, rates and seeds."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from evaluator.features.clips import Clip, Shard, ahead, waveforms
from evaluator.features.extraction import Extractor
from evaluator.features.samples import Batch, Frames, Moments, Place
from evaluator.features.scale import Scale
from tasks.support.errors import UserError


@dataclass(frozen=True)
class Streamed:
    """Samples of a head that reads frames. They are computed when read, and rounded like frames on disk.

    Attributes:
        extractor: the backbone.
        clips: the clips, by item number.
        block: index of the extractor's block that contains the layers.
        rows: the row of each of ``layers`` in the block.
        targets: as `evaluator.features.samples.Samples.targets`.
        layers: indices of the layers.
        sounds: waveforms by item number; None if every batch decodes its own.
        scale: of ``layers``; None if the inputs are not standardised.
    """

    extractor: Extractor
    clips: Mapping[int, Clip]
    block: int
    rows: Sequence[int]
    targets: Tensor
    layers: Sequence[int]
    sounds: Mapping[int, Tensor] | None = None
    scale: Scale | None = None

    @property
    def width(self) -> int:
        """Channels of each layer."""
        return self.extractor.blocks[self.block].width

    @property
    def size(self) -> int:
        """Bytes that the frames of the layers take, with their means and spreads, within a few per cent."""
        seconds = sum(clip.samples for clip in self.clips.values()) / self.extractor.model.backbone.sample_rate
        block = self.extractor.blocks[self.block]
        return int((seconds * block.frame_rate * 2 + len(self.clips) * 8) * block.width * len(self.rows))

    def batches(self, index: Tensor) -> Iterator[Batch]:
        """Encode the items in one pass, then read them as `Frames` does."""
        places, moments = self.encode(sorted(set(index.flatten().tolist())))
        frames = Frames(places, self.rows, self.targets, self.layers, self.width, moments, self.scale)
        yield from frames.batches(index)

    def encode(self, items: Sequence[int]) -> tuple[dict[int, Place], dict[int, Moments]]:
        """Encode some items. Returns the places of their frames and of their moments, in memory, by item number."""
        # Sorted by file, so that each file is decoded once.
        clips = sorted((self.clips[item] for item in items), key=lambda clip: (str(clip.item.path), clip.index))
        encoded = self.extractor.encode(clips, self._waveforms(clips), frames=True)
        assert encoded.pieces is not None and encoded.spreads is not None
        means, spreads = encoded.pooled[self.block], encoded.spreads[self.block]
        places: dict[int, Place] = {}
        moments: dict[int, Moments] = {}
        for place, (clip, frames) in enumerate(zip(clips, encoded.pieces[self.block], strict=True)):
            places[clip.index] = (frames, 0, frames.shape[1])
            moments[clip.index] = (means, spreads, place)
        return places, moments

    def _waveforms(self, clips: Sequence[Clip]) -> list[Tensor]:
        if not self.extractor.needs_audio:
            return [torch.zeros(1)] * len(clips)
        if self.sounds is not None:
            return [self.sounds[clip.index] for clip in clips]
        return waveforms(Shard("", tuple(clips)), self.extractor.model.backbone.sample_rate)

    def kept(self, directory: Path, together: int = 64) -> Frames:
        """The same samples with stored frames: encode all items once, into temporary files.

        Args:
            directory: where the files are made; they are deleted when the process ends.
            together: items per pass.
        """
        items = sorted(self.clips, key=lambda item: self.clips[item].samples)
        spans: list[tuple[int, int, int, int]] = []
        chosen = list(self.rows)
        with tempfile.TemporaryFile(dir=directory) as file, tempfile.TemporaryFile(dir=directory) as beside:
            end = 0
            for start in range(0, len(items), together):
                places, moments = self.encode(items[start : start + together])
                for item, (frames, _, count) in places.items():
                    halves = frames[chosen].contiguous()
                    file.write(halves.numpy().data)
                    spans.append((item, count, end, end + halves.numel()))
                    end += halves.numel()
                    means, spreads, place = moments[item]
                    beside.write(torch.stack([means[chosen, place], spreads[chosen, place]]).numpy().data)
            values = _mapped(file, np.float16, end)
            pairs = _mapped(beside, np.float32, 2 * len(items) * len(chosen) * self.width)
        rows = range(len(chosen))
        means, spreads = pairs.view(len(items), 2, len(rows), self.width).permute(1, 2, 0, 3)
        return Frames(
            {
                item: (values[start:stop].view(len(rows), count, self.width), 0, count)
                for item, count, start, stop in spans
            },
            rows,
            self.targets,
            self.layers,
            self.width,
            {item: (means, spreads, place) for place, (item, *_) in enumerate(spans)},
            self.scale,
        ).resident()


def keep_sounds(shards: Sequence[Shard], rate: int, directory: Path) -> dict[int, Tensor]:
    """Decode a split once into a temporary file below ``directory``: (samples,) float32 by item number.

    Every epoch reads all waveforms in another order, and decoding takes longer than a forward pass of a GPU.

    Raises:
        UserError: names a damaged file.
    """
    spans: dict[int, tuple[int, int]] = {}
    with tempfile.TemporaryFile(dir=directory) as file:
        end = 0
        for shard, decoded in ahead(shards, rate):
            if isinstance(decoded, UserError):
                raise decoded
            for clip, one in zip(shard.clips, decoded, strict=True):
                file.write(one.waveform.numpy().data)
                spans[clip.index] = (end, end + len(one.waveform))
                end += len(one.waveform)
        values = _mapped(file, np.float32, end)
    return {item: values[start:stop] for item, (start, stop) in spans.items()}


def _mapped(file: IO[bytes], kind: type[np.floating[Any]], count: int) -> Tensor:
    """Map a file's values into memory. They remain valid after the file is closed."""
    file.flush()
    return torch.from_numpy(np.memmap(file, dtype=kind, mode="r+", shape=(count,)))
