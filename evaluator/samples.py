"""What a head reads of a split: one vector an item, or its frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from evaluator.clips import Shard
from evaluator.shards import paths, read

# Values of frames brought to single precision at once (256 MB); more does not run faster.
_CHUNK_VALUES = 64_000_000
# Beyond this many values a piece is ended before more than a quarter of it is padding; below, a piece costs more than
# the padding it saves.
_SMALL_CHUNK_VALUES = 2_000_000


class Samples(Protocol):
    """The items of one split as a block of L layers of equal width sees them.

    Attributes:
        targets: (items,) int64 class indices, or (items, classes) float of 0 and 1.
        layers: the L layer indices.
        width: channels of each layer.
    """

    @property
    def targets(self) -> Tensor:
        """What to predict."""

    @property
    def layers(self) -> Sequence[int]:
        """Indices of the layers."""

    @property
    def width(self) -> int:
        """Channels."""

    def chunks(self, index: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Read items, in as many pieces and in whatever order memory asks for.

        Args:
            index: (sets, batch) item numbers; the sets are read side by side.

        Yields:
            Item numbers (sets, part); their inputs (L * sets, part, ...), the sets varying fastest, good until the
            next piece is asked for; and which frames are valid, (L * sets, part, frames), or None.
        """


@dataclass(frozen=True)
class Pooled:
    """Samples of a head that reads one vector an item. ``features`` is (L, items, width)."""

    features: Tensor
    targets: Tensor
    layers: Sequence[int]

    @property
    def width(self) -> int:
        """Channels."""
        return self.features.shape[-1]

    def chunks(self, index: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """The whole batch at once."""
        yield index, self.features[:, index].flatten(0, 1), None


class Frames:
    """Samples of a head that reads frames: half precision on disk, brought to single precision piece by piece."""

    def __init__(
        self,
        places: list[tuple[Tensor, int, int]],
        rows: Sequence[int],
        targets: Tensor,
        layers: Sequence[int],
        width: int,
    ) -> None:
        self.targets = targets
        self.layers = layers
        self.width = width
        # Per item: the frames of its shard (block's layers, frames, width), where its own begin, and how many.
        self._places = places
        # Neighbouring layers are the usual case, and a slice of them needs no copy.
        neighbours = list(rows) == list(range(rows[0], rows[0] + len(rows)))
        self._rows = slice(rows[0], rows[-1] + 1) if neighbours else list(rows)
        self._buffer = torch.zeros(0, device=targets.device)

    @classmethod
    def read(
        cls,
        directory: Path,
        shards: Sequence[Shard],
        number: int,
        rows: Sequence[int],
        targets: Tensor,
        layers: Sequence[int],
        width: int,
    ) -> "Frames":
        """Map the shards of one split into memory; the operating system keeps what fits."""
        places: list[tuple[Tensor, int, int]] = [(torch.empty(0), 0, 0)] * len(targets)
        for shard in shards:
            pooled_file, frames_file = paths(directory, shard, frames=True)
            counts = read(pooled_file)[f"counts.{number}"].tolist()
            frames = read(frames_file)[f"frames.{number}"]
            start = 0
            for clip, count in zip(shard.clips, counts, strict=True):
                places[clip.index] = (frames, start, count)
                start += count
        return cls(places, rows, targets, layers, width)

    def chunks(self, index: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Items in order of their length, so that little is padded, as many at once as the buffer holds."""
        batch = index.shape[1]
        counts = torch.tensor([[self._places[item][2] for item in row] for row in index.tolist()])
        order = counts.argsort(dim=1, stable=True)
        items, counts = index.cpu().gather(1, order), counts.gather(1, order)
        start = 0
        while start < batch:
            stop = start + 1
            while stop < batch and self._fits(counts[:, start : stop + 1]):
                stop += 1
            yield self._fill(items[:, start:stop], counts[:, start:stop])
            start = stop

    def _fits(self, counts: Tensor) -> bool:
        """Whether clips of so many frames, (sets, items), make one piece."""
        values = self._values(counts)
        used = int(counts.sum()) * len(self.layers) * self.width
        return values <= _CHUNK_VALUES and (values <= _SMALL_CHUNK_VALUES or values - used <= values / 4)

    def _values(self, counts: Tensor) -> int:
        return len(self.layers) * counts.numel() * int(counts.max()) * self.width

    def _fill(self, items: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sets, batch = items.shape
        longest = int(counts.max())
        size = self._values(counts)
        if len(self._buffer) < size:
            # Zeros once; later, what an earlier piece left beyond a clip's end is finite and gets no weight.
            self._buffer = torch.zeros(size, device=self.targets.device)
        inputs = self._buffer[:size].view(len(self.layers), sets, batch, longest, self.width)
        for row in range(sets):
            for column, item in enumerate(items[row].tolist()):
                frames, start, count = self._places[item]
                stretch = frames[:, start : start + count]
                inputs[:, row, column, :count].copy_(stretch[self._rows], non_blocking=True)
        device = self.targets.device
        mask = (torch.arange(longest) < counts[..., None]).repeat(len(self.layers), 1, 1)
        return items.to(device), inputs.flatten(0, 1), mask.to(device)
