"""Frames that do not fit on disk: the backbone runs again for every batch, once for all layers, rates and seeds."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from evaluator.clips import Clip, Shard, waveforms
from evaluator.extraction import Extractor
from evaluator.samples import Batch, Frames, Place


@dataclass(frozen=True)
class Streamed:
    """Samples of a head that reads frames, computed when they are asked for and rounded as those on disk are.

    Attributes:
        extractor: the backbone.
        clips: by item number.
        block: which block of the extractor the layers lie in.
        rows: the row of each of ``layers`` in the block.
        targets: as `evaluator.samples.Samples.targets`.
        layers: their indices.
    """

    extractor: Extractor
    clips: Mapping[int, Clip]
    block: int
    rows: Sequence[int]
    targets: Tensor
    layers: Sequence[int]

    @property
    def width(self) -> int:
        """Channels."""
        return self.extractor.blocks[self.block].width

    @property
    def size(self) -> int:
        """Bytes that the frames of the layers take, to a few per cent."""
        seconds = sum(clip.samples for clip in self.clips.values()) / self.extractor.model.backbone.sample_rate
        block = self.extractor.blocks[self.block]
        return int(seconds * block.frame_rate * block.width * len(self.rows) * 2)

    def batches(self, index: Tensor) -> Iterator[Batch]:
        """One pass of the backbone over the items, then as `Frames`."""
        places = self.encode(sorted(set(index.flatten().tolist())))
        yield from Frames(places, self.rows, self.targets, self.layers, self.width).batches(index)

    def encode(self, items: Sequence[int]) -> dict[int, Place]:
        """Where the frames of some items are: in memory."""
        # In the order of their files, so that each is decoded once.
        clips = sorted((self.clips[item] for item in items), key=lambda clip: (str(clip.item.path), clip.index))
        rate = self.extractor.model.backbone.sample_rate
        sounds = waveforms(Shard("", tuple(clips)), rate) if self.extractor.hears else [torch.zeros(1)] * len(clips)
        encoded = self.extractor.encode(clips, sounds, frames=True)
        assert encoded.pieces is not None
        frames = encoded.pieces[self.block]
        return {clip.index: (found, 0, found.shape[1]) for clip, found in zip(clips, frames, strict=True)}

    def kept(self, directory: Path, together: int = 64) -> Frames:
        """The same samples after one pass over all items, in a file below ``directory`` that ends with the process.

        Args:
            directory: where there is room.
            together: items a pass.
        """
        items = sorted(self.clips, key=lambda item: self.clips[item].samples)
        spans: list[tuple[int, int, int, int]] = []
        with tempfile.TemporaryFile(dir=directory) as file:
            end = 0
            for start in range(0, len(items), together):
                for item, (found, _, count) in self.encode(items[start : start + together]).items():
                    chosen = found[list(self.rows)].contiguous()
                    file.write(chosen.numpy().data)
                    spans.append((item, count, end, end + chosen.numel()))
                    end += chosen.numel()
            file.flush()
            # Mapped, so that the operating system keeps what fits; the mapping outlives the open file.
            values = torch.from_numpy(np.memmap(file, dtype=np.float16, mode="r+", shape=(end,)))
        rows = range(len(self.rows))
        places = {
            item: (values[start:stop].view(len(rows), count, self.width), 0, count)
            for item, count, start, stop in spans
        }
        return Frames(places, rows, self.targets, self.layers, self.width)
