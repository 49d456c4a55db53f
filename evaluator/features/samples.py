"""The inputs of a head for the items of a split: one vector per item, or its frames."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from evaluator.features.clips import Shard
from evaluator.features.scale import Scale
from evaluator.features.shards import frames_path, pooled_path, read, spread_path

# Values of frames computed at once. On a CPU this is about one layer of a batch of some seconds: it stays in the last
# cache while it is read many times, and is large enough that the time of a call does not matter. A GPU needs more.
_PIECE_VALUES = {"cpu": 4_000_000, "cuda": 64_000_000}
# Largest share of padding in a piece. A clip that would exceed it starts a new piece.
_PADDING = 0.25
# Values in single precision that are kept from the forward to the backward pass (256 MB). A larger batch is read twice.
_KEPT_VALUES = 64_000_000

Piece = tuple[slice, Tensor, Tensor | None]
"""Items of the batch; their inputs (G, part, ...); their valid frames (part, frames), or None if all are valid."""


Place = tuple[Tensor, int, int]
"""Frames of a shard (rows, frames, width) in half precision, the first frame of an item, and its number of frames."""

Moments = tuple[Tensor, Tensor, int]
"""Means and spreads of a shard's clips, (rows, clips, width) float32 each, and the place of an item among the clips."""


class Batch(Protocol):
    """The inputs of G groups in one step. A group is one layer and one seed.

    Attributes:
        groups: positions of these groups among all groups.
        items: (G, batch) item numbers, in the order of the inputs.
    """

    @property
    def groups(self) -> slice:
        """Positions of the groups."""

    @property
    def items(self) -> Tensor:
        """Item numbers."""

    def pieces(self) -> Iterator[Piece]:
        """The inputs in pieces that fit into memory. A piece is valid until the next batch is requested."""


class Samples(Protocol):
    """The items of one split in a block of L layers of equal width.

    Attributes:
        targets: (items,) int64 class indices, or (items, classes) float of 0 and 1.
        layers: the L layer indices.
        width: channels of each layer.
    """

    @property
    def targets(self) -> Tensor:
        """Class indices, or 0 and 1 per class."""

    @property
    def layers(self) -> Sequence[int]:
        """Indices of the layers."""

    @property
    def width(self) -> int:
        """Channels of each layer."""

    def batches(self, index: Tensor) -> Iterator[Batch]:
        """Read items in batches. Each batch serves some of the L * S groups; the set varies fastest.

        Args:
            index: (S, batch) item numbers, one row per set. The sets are read side by side.
        """


@dataclass(frozen=True)
class Whole:
    """A batch in one piece. ``inputs`` is (G, batch, ...), ``valid`` (batch, frames) or None."""

    groups: slice
    items: Tensor
    inputs: Tensor
    valid: Tensor | None = None

    def pieces(self) -> Iterator[Piece]:
        """The whole batch."""
        yield slice(None), self.inputs, self.valid


@dataclass(frozen=True)
class Pooled:
    """Samples of a head that reads one vector per item.

    ``features`` is (items, L, width): the values of one item are contiguous, because a batch selects items.
    """

    features: Tensor
    targets: Tensor
    layers: Sequence[int]

    @property
    def width(self) -> int:
        """Channels of each layer."""
        return self.features.shape[-1]

    def batches(self, index: Tensor) -> Iterator[Batch]:
        """One batch for all groups."""
        inputs = self.features.index_select(0, index.flatten()).view(*index.shape, *self.features.shape[1:])
        items = index.expand(len(self.layers), -1, -1)
        yield Whole(slice(None), items.flatten(0, 1), inputs.permute(2, 0, 1, 3).flatten(0, 1))


class Frames:
    """Samples of a head that reads frames: stored in half precision, read in single precision piece by piece.

    A stored frame is relative to its clip: frame = stored * spread + mean. Standardising is another such map. Both are
    one multiplication and one addition per value.
    """

    def __init__(
        self,
        places: Sequence[Place] | Mapping[int, Place],
        rows: Sequence[int],
        targets: Tensor,
        layers: Sequence[int],
        width: int,
        moments: Sequence[Moments] | Mapping[int, Moments] | None = None,
        scale: Scale | None = None,
    ) -> None:
        """Samples over frames that are already in memory, or mapped into it.

        Args:
            places: the place of each item, by item number.
            rows: the row of each of ``layers`` in the places.
            targets: as `Samples.targets`.
            layers: as `Samples.layers`.
            width: as `Samples.width`.
            moments: mean and spread of each item, by item number; None if the frames are stored as they are.
            scale: of ``layers``; None if the inputs are not standardised. It needs ``moments``.
        """
        self.targets = targets
        self.layers = layers
        self.width = width
        self.places = places
        self.moments = moments
        self.scale = scale
        self.rows = list(rows)
        self.buffer = torch.zeros(0, device=targets.device)
        self._halves = torch.zeros(0, dtype=torch.float16)
        self._stretches: dict[int, Tensor] = {}
        self._maps: dict[int, Tensor] = {}
        self._keeps_maps = 2 * len(self.rows) * width * len(places) <= _KEPT_VALUES

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
        scale: Scale | None = None,
    ) -> "Frames":
        """Map the shards of one split into memory. The operating system keeps the part that fits."""
        places: list[Place] = [(torch.empty(0), 0, 0)] * len(targets)
        moments: list[Moments] = [(torch.empty(0), torch.empty(0), 0)] * len(targets)
        for shard in shards:
            pooled = read(pooled_path(directory, shard))
            means, counts = pooled[f"pooled.{number}"], pooled[f"counts.{number}"].tolist()
            spreads = read(spread_path(directory, shard))[f"spread.{number}"]
            frames = read(frames_path(directory, shard))[f"frames.{number}"]
            start = 0
            for place, (clip, count) in enumerate(zip(shard.clips, counts, strict=True)):
                places[clip.index] = (frames, start, count)
                moments[clip.index] = (means, spreads, place)
                start += count
        return cls(places, rows, targets, layers, width, moments, scale).resident()

    def resident(self) -> "Frames":
        """Move the frames to the GPU if they fit, because every epoch reads all of them."""
        device = self.targets.device
        if device.type == "cuda":
            places = dict(self.places if isinstance(self.places, Mapping) else enumerate(self.places))
            own = self.moments or {}
            moments = dict(own if isinstance(own, Mapping) else enumerate(own))
            stores = {id(frames): frames for frames, _, _ in places.values()}
            stores |= {id(values): values for one in moments.values() for values in one[:2]}
            # Return the free memory that torch's allocator holds, so that it counts as free.
            torch.cuda.empty_cache()
            # A search reads two splits. A quarter per split leaves half of the memory for its probes.
            if 4 * sum(frames.nbytes for frames in stores.values()) <= torch.cuda.mem_get_info(device)[0]:
                moved = {number: frames.to(device) for number, frames in stores.items()}
                self.places = {
                    item: (moved[id(frames)], begin, count) for item, (frames, begin, count) in places.items()
                }
                if self.moments is not None:
                    self.moments = {
                        item: (moved[id(means)], moved[id(spreads)], place)
                        for item, (means, spreads, place) in moments.items()
                    }
                    self.scale = None if self.scale is None else self.scale.to(device)
        return self

    def batches(self, index: Tensor) -> Iterator[Batch]:
        """Batches set by set, each for as many layers as a piece holds. Items are sorted by length."""
        sets = len(index)
        for number, row in enumerate(index.tolist()):
            items = sorted(row, key=lambda item: self.places[item][2])
            longest = self.places[items[-1]][2]
            together = max(1, self.piece_values // (len(items) * longest * self.width))
            for start in range(0, len(self.layers), together):
                stop = min(start + together, len(self.layers))
                yield _FrameBatch(self, items, start, stop, slice(start * sets + number, stop * sets, sets))

    @property
    def piece_values(self) -> int:
        """Values of frames computed at once."""
        return _PIECE_VALUES[self.targets.device.type]

    def halves(self, values: int) -> Tensor:
        """(values,) in half precision on the host. Every call returns the same memory."""
        if len(self._halves) < values:
            # A GPU reads pinned memory several times as fast.
            self._halves = torch.zeros(values, dtype=torch.float16, pin_memory=self.targets.device.type == "cuda")
        return self._halves[:values]

    def stretch(self, item: int) -> Tensor:
        """(rows, frames, width): a view of an item's frames. It is kept, because every epoch needs it."""
        if item not in self._stretches:
            frames, begin, count = self.places[item]
            self._stretches[item] = frames.narrow(1, begin, count)
        return self._stretches[item]

    def map(self, item: int) -> Tensor | None:
        """(2, L, 1, width) on the device: what stored frames of an item are multiplied with, and what is added.

        None if frames are read as they are stored.
        """
        if self.moments is None:
            return None
        if item not in self._maps:
            means, spreads, place = self.moments[item]
            shift, factor = means.select(1, place)[self.rows], spreads.select(1, place)[self.rows]
            if self.scale is not None:
                shift.sub_(self.scale.shift).mul_(self.scale.factor)
                factor.mul_(self.scale.factor)
            folded = torch.stack([factor, shift])[:, :, None].to(self.targets.device)
            if not self._keeps_maps:
                return folded
            self._maps[item] = folded
        return self._maps[item]

    def room(self, values: int) -> Tensor:
        """(values,) in single precision on the device. Every call returns the same memory."""
        if len(self.buffer) < values:
            self.buffer = torch.zeros(values, device=self.targets.device)
        return self.buffer[:values]


@dataclass
class _FrameBatch:
    """Items, sorted by length, in the layers ``start`` to ``stop`` of ``samples``."""

    samples: Frames
    order: list[int]
    start: int
    stop: int
    groups: slice
    read: list[Piece] = field(default_factory=list)

    @cached_property
    def items(self) -> Tensor:
        """(G, batch) item numbers."""
        return torch.tensor(self.order, device=self.samples.targets.device).expand(self.stop - self.start, -1)

    def pieces(self) -> Iterator[Piece]:
        """The pieces. If all of them fit, they are kept and a second call returns them again."""
        if self.read:
            yield from self.read
            return
        spans = list(self._spans())
        sizes = [(stop - start) * self._count(stop - 1) * self._values for start, stop in spans]
        keep = sum(sizes) <= _KEPT_VALUES
        room = self.samples.room(sum(sizes) if keep else max(sizes))
        offset = 0
        pieces = []
        for (start, stop), size in zip(spans, sizes, strict=True):
            piece = self._fill(room[offset : offset + size], start, stop)
            pieces.append(piece)
            offset += size if keep else 0
            yield piece
        self.read = pieces if keep else []

    @property
    def _values(self) -> int:
        """Values of one frame in all layers of the batch."""
        return (self.stop - self.start) * self.samples.width

    def _count(self, position: int) -> int:
        return self.samples.places[self.order[position]][2]

    def _spans(self) -> Iterator[tuple[int, int]]:
        """Start and stop of each piece in the order of the items."""
        start, used = 0, 0
        for stop in range(len(self.order)):
            count = self._count(stop)
            values = (stop + 1 - start) * count * self._values
            padding = 1 - (used + count) / ((stop + 1 - start) * count)
            if stop > start and (values > self.samples.piece_values or padding > _PADDING):
                yield start, stop
                start, used = stop, 0
            used += count
        yield start, len(self.order)

    def _fill(self, room: Tensor, start: int, stop: int) -> Piece:
        samples = self.samples
        longest = self._count(stop - 1)
        inputs = room.view(self.stop - self.start, stop - start, longest, samples.width)
        # A GPU reads from the host once. Frames on the device are copied directly, clip by clip.
        here = samples.stretch(self.order[start]).device == inputs.device
        gathered = inputs if here else samples.halves(inputs.numel()).view(inputs.shape)
        # Neighbouring rows are the usual case; a slice of them needs no copy.
        rows = samples.rows[self.start : self.stop]
        neighbours = rows == list(range(rows[0], rows[-1] + 1))
        counts = []
        for item, place in zip(self.order[start:stop], gathered.unbind(1), strict=True):
            stretch = samples.stretch(item)
            count = stretch.shape[1]
            counts.append(count)
            if count < longest:
                # Values of an earlier piece would get the weight 0, but 0 times infinity is NaN.
                place.narrow(1, count, longest - count).zero_()
            # `narrow`, because an index in brackets takes as long as the copy.
            chosen = stretch.narrow(0, rows[0], len(rows)) if neighbours else stretch[rows]
            place.narrow(1, 0, count).copy_(chosen)
            if here:
                # At once, while the processor's cache holds the clip.
                self._scale(place.narrow(1, 0, count), item)
        if not here:
            # Two steps: a single copy would convert to single precision on the host and send twice the bytes. The
            # transfer is complete when it returns, so the next piece may be gathered in the same memory.
            inputs.copy_(gathered.to(inputs.device))
            for item, count, place in zip(self.order[start:stop], counts, inputs.unbind(1), strict=True):
                self._scale(place.narrow(1, 0, count), item)
        if counts[0] == longest:
            return slice(start, stop), inputs, None
        valid = torch.arange(longest) < torch.tensor(counts)[:, None]
        return slice(start, stop), inputs, valid.to(inputs.device)

    def _scale(self, frames: Tensor, item: int) -> None:
        """Turn an item's stored frames, (layers of the batch, frames, width), into inputs, in place."""
        folded = self.samples.map(item)
        if folded is not None:
            factor, shift = folded.narrow(1, self.start, self.stop - self.start).unbind(0)
            torch.addcmul(shift, frames, factor, out=frames)
