"""One pass of the backbone over clips. It returns every layer, as pooled vectors and as frames."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import torch
from torch import Tensor

from evaluator.backbone import Loaded
from evaluator.features.clips import Clip
from evaluator.features.forward import forward, is_out_of_memory
from evaluator.features.pooling import Outputs, pool
from tasks.support.errors import UserError

if TYPE_CHECKING:
    from tasks.task import Manifest

# Part of the key of every feature: raise it when the features, or the files that hold them, change.
VERSION = 2
# Seconds of audio in one forward pass. A CPU is not faster with more; a GPU is.
_BATCH_SECONDS = {"cpu": 16.0, "cuda": 320.0}
# Lengths of noise in seconds that separate the hops: layers with equal frame counts for all lengths are stacked.
_HOP_PROBES = (0.5, 1.37, 2.9)

Kept = Literal["means", "spreads", "frames"]
"""What is kept of a clip's frames: their mean; their deviation too; every frame too."""


@dataclass(frozen=True)
class Block:
    """Layers of equal width and hop, which can be stacked.

    Attributes:
        layers: indices of the layers.
        width: channels of each layer.
        frame_rate: frames per second, for estimates.
    """

    layers: tuple[int, ...]
    width: int
    frame_rate: float


@dataclass(frozen=True)
class Encoded:
    """The outputs of a backbone for the clips of a shard, on the CPU.

    Attributes:
        pooled: per block (layers, clips, width) float32, means over valid frames.
        spreads: per block (layers, clips, width) float32, population standard deviations over valid frames, 0 for a
            constant channel; None if neither they nor frames were requested.
        pieces: per block and clip (layers, frames, width) float16, (frame - mean) / spread, 0 for a constant channel;
            None if frames were not requested.
        counts: per block (clips,) number of frames of each clip.
    """

    pooled: list[Tensor]
    spreads: list[Tensor] | None
    pieces: list[list[Tensor]] | None
    counts: list[Tensor]

    @property
    def halves(self) -> list[Tensor] | None:
        """Per block (layers, frames of all clips, width) float16, as in ``pieces``; None if they were not requested."""
        return None if self.pieces is None else [torch.cat(clips, 1) for clips in self.pieces]

    def frames(self, block: int) -> list[Tensor]:
        """Every clip's frames as the backbone returned them, to half precision: (layers, frames, width) float32."""
        assert self.pieces is not None and self.spreads is not None
        means, spreads = (values[block].unbind(1) for values in (self.pooled, self.spreads))
        clips = zip(means, self.pieces[block], spreads, strict=True)
        return [torch.addcmul(mean[:, None], piece.float(), spread[:, None]) for mean, piece, spread in clips]


@dataclass(frozen=True)
class Extractor:
    """A backbone with its device and precision.

    Attributes:
        model: the backbone.
        device: the device that holds it.
        precision: "fp32", or "bf16" for autocast.
        blocks: its layers, grouped by width and hop.
    """

    model: Loaded
    device: torch.device
    precision: str
    blocks: tuple[Block, ...]

    needs_audio: ClassVar[bool] = True
    """Whether ``encode`` needs the waveforms."""

    @classmethod
    def of(cls, model: Loaded, device: torch.device, precision: str = "fp32") -> "Extractor":
        """Run the backbone on noise of a few lengths, to find the layers that share a hop.

        Raises:
            UserError: the outputs do not match the declared layers.
        """
        # Embeddings from elsewhere have no backbone to run.
        own = getattr(model.backbone, "extractor", None)
        if own is not None:
            return cast(Extractor, own(model, device, precision))
        counts: list[tuple[int, ...]] = []
        for seconds in _HOP_PROBES:
            samples = max(int(seconds * model.backbone.sample_rate), model.min_samples)
            noise = torch.randn(1, samples, generator=torch.Generator().manual_seed(0)) * 0.1
            layers = forward(model, noise, torch.tensor([samples]), device, precision)
            for index, (output, valid) in enumerate(layers):
                _check_count(model, index, output.shape[1], int(valid[0]))
            counts.append(tuple(int(valid[0]) for _, valid in layers))
        grouped: dict[tuple[int, ...], list[int]] = {}
        for index, layer in enumerate(model.backbone.layers):
            grouped.setdefault((layer.width, *(count[index] for count in counts)), []).append(index)
        blocks = tuple(
            Block(tuple(indices), signature[0], signature[-1] / _HOP_PROBES[-1])
            for signature, indices in grouped.items()
        )
        return cls(model, device, precision, blocks)

    def on(self, manifest: "Manifest") -> "Extractor":
        """The extractor for the items of one task."""
        return self

    def size(self, clips: Sequence[Clip], kept: Kept) -> int:
        """Bytes that the features of ``clips`` take on disk, within a few per cent."""
        seconds = sum(clip.samples for clip in clips) / self.model.backbone.sample_rate
        values = [len(block.layers) * block.width for block in self.blocks]
        vectors = len(clips) * sum(values) * 4
        frames = sum(seconds * block.frame_rate * count * 2 for block, count in zip(self.blocks, values, strict=True))
        return vectors * (1 if kept == "means" else 2) + (int(frames) if kept == "frames" else 0)

    def encode(
        self,
        clips: Sequence[Clip],
        sounds: Sequence[Tensor],
        *,
        frames: bool,
        spread: bool = False,
        on_batch: Callable[[float], None] = lambda seconds: None,
    ) -> Encoded:
        """Run the backbone over clips, in batches of equal length (or masked, if masking is exact).

        Args:
            clips: the clips.
            sounds: their waveforms, (samples,) each.
            frames: also return every frame, in half precision, and the deviations.
            spread: also return the deviations.
            on_batch: receives the seconds of audio of each finished batch.

        Raises:
            UserError: the features hold a value that is not finite, or do not have the declared layers.
        """
        passes: list[_Pass] = []

        def finish() -> None:
            if passes:
                self._check(passes[-1], clips)
                samples = sum(clips[position].samples for position in passes[-1].batch)
                on_batch(samples / self.model.backbone.sample_rate)

        for batch in self.batches(clips):
            for begun in self._begin(batch, clips, sounds, spread or frames, frames):
                # A pass is checked after the next one has started, so that a GPU does not wait for the check.
                finish()
                passes.append(begun)
        finish()
        return _gather(passes)

    def batches(self, clips: Sequence[Clip]) -> Iterator[list[int]]:
        """The batches: for each forward pass the positions of its clips."""
        order = sorted(range(len(clips)), key=lambda position: (clips[position].samples, position))
        budget = _BATCH_SECONDS[self.device.type] * self.model.backbone.sample_rate
        batch: list[int] = []
        for position in order:
            samples = clips[position].samples
            fits = not batch or self.model.exact_masking or samples == clips[batch[0]].samples
            if batch and (not fits or samples * (len(batch) + 1) > budget):
                yield batch
                batch = []
            batch.append(position)
        if batch:
            yield batch

    def _begin(
        self, batch: Sequence[int], clips: Sequence[Clip], sounds: Sequence[Tensor], spread: bool, frames: bool
    ) -> Iterator["_Pass"]:
        """Start a forward pass over the batch. If memory runs out, halve the batch until it fits."""
        try:
            yield self._encode_batch(batch, clips, sounds, spread, frames)
            return
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                clip = clips[batch[0]]
                seconds = clip.samples / self.model.backbone.sample_rate
                raise UserError(
                    f"Out of memory on {self.device} for one clip of {seconds:.1f} s ({clip.item.path}):"
                    " use a device with more memory, or a smaller max_duration."
                ) from error
        # Outside the handler: here the failed pass no longer holds its tensors.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(batch) // 2
        for part in (batch[:half], batch[half:]):
            yield from self._begin(part, clips, sounds, spread, frames)

    @torch.inference_mode()
    def _encode_batch(
        self, batch: Sequence[int], clips: Sequence[Clip], sounds: Sequence[Tensor], spread: bool, frames: bool
    ) -> "_Pass":
        lengths = torch.tensor([clips[position].samples for position in batch])
        waveforms = [sounds[position] for position in batch]
        # A clip alone is not copied: it may be hours long.
        alone = len(batch) == 1
        inputs = waveforms[0][None] if alone else torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
        layers = forward(self.model, inputs, lengths, self.device, self.precision)
        outputs = []
        for block in self.blocks:
            first = block.layers[0]
            for index in block.layers:
                if layers[index][0].shape[1] != layers[first][0].shape[1]:
                    raise _other_hop(first, index, clips[batch[0]])
            outputs.append(pool([layers[index] for index in block.layers], spread=spread, frames=frames))
        done = torch.cuda.current_stream(self.device).record_event() if self.device.type == "cuda" else None
        return _Pass(batch, outputs, done)

    def _check(self, begun: "_Pass", clips: Sequence[Clip]) -> None:
        """Wait for a pass and raise a UserError if its outputs cannot be used."""
        if begun.done is not None:
            begun.done.synchronize()
        for block, outputs in zip(self.blocks, begun.blocks, strict=True):
            for index, counts in zip(block.layers, outputs.counts, strict=True):
                for count in (counts.max(), counts.min()):
                    _check_count(self.model, index, outputs.longest, int(count))
                if not torch.equal(counts, outputs.counts[0]):
                    raise _other_hop(block.layers[0], index, clips[begun.batch[0]])
            if bool((outputs.counts[0] <= 0).any()):
                clip = clips[begun.batch[int((outputs.counts[0] <= 0).nonzero()[0])]]
                raise UserError(
                    f"{clip.item.path} ({clip.samples} samples) is too short for the backbone, which returned no frame:"
                    " set the backbone's min_samples."
                )
            found = outputs.means if outputs.spreads is None else outputs.means + outputs.spreads
            if not bool(torch.isfinite(found).all()):
                layer, place = (~torch.isfinite(found).all(2)).nonzero()[0].tolist()
                clip, index = clips[begun.batch[place]], block.layers[layer]
                raise UserError(
                    f"The features of {clip.item.path} ({clip.item.id}) are not finite in layer {index}"
                    f" ({self.model.backbone.layers[index].name}): the backbone cannot be used on this clip as it is."
                )


@dataclass(frozen=True)
class _Pass:
    """A forward pass that was started: the positions of its clips, each block's outputs, and on a GPU its end event."""

    batch: Sequence[int]
    blocks: list[Outputs]
    done: torch.cuda.Event | None


def _gather(passes: Sequence[_Pass]) -> Encoded:
    """Join the passes over a shard, in the order of its clips."""
    order = torch.tensor([position for finished in passes for position in finished.batch]).argsort()
    per_block = list(zip(*(finished.blocks for finished in passes), strict=True))
    counts = [torch.cat([outputs.counts[0] for outputs in block])[order] for block in per_block]
    spreads, pieces = None, None
    if all(outputs.spreads is not None for block in per_block for outputs in block):
        spreads = [_joined([outputs.spreads for outputs in block], order) for block in per_block]
    if all(outputs.frames is not None for block in per_block for outputs in block):
        by_pass = [
            [
                outputs.frames[:, place, :count]
                for outputs in block
                if outputs.frames is not None
                for place, count in enumerate(outputs.counts[0].tolist())
            ]
            for block in per_block
        ]
        pieces = [[clips[place] for place in order.tolist()] for clips in by_pass]
    pooled = [_joined([outputs.means for outputs in block], order) for block in per_block]
    return Encoded(pooled, spreads, pieces, counts)


def _joined(parts: Sequence[Tensor | None], order: Tensor) -> Tensor:
    """(layers, clips, width) of the passes, in the order of the clips."""
    return torch.cat([part for part in parts if part is not None], 1)[:, order]


def _other_hop(first: int, index: int, clip: Clip) -> UserError:
    return UserError(
        f"Layers {first} and {index} have the same hop on noise but not on {clip.item.path}:"
        " return frame counts that depend on the clip's length alone."
    )


def _check_count(model: Loaded, index: int, returned: int, valid: int) -> None:
    if not 0 <= valid <= returned:
        raise UserError(
            f"Layer {index} ({model.backbone.layers[index].name}) returned {returned} frames but counts {valid} as"
            " valid: correct the frame counts that encode returns."
        )
