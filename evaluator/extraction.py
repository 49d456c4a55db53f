"""One pass of the backbone over clips: every layer, pooled and frame by frame."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor

from evaluator.backbones import Loaded
from evaluator.clips import Clip
from tasks.errors import UserError

if TYPE_CHECKING:
    from tasks.task import Manifest

# Audio in one forward pass. More does not run faster on a CPU; a GPU wants to be filled.
_BATCH_SECONDS = {"cpu": 16.0, "cuda": 320.0}
# Seconds of noise that tell hops apart: layers that give equally many frames for all of them are stacked.
_HOP_PROBES = (0.5, 1.37, 2.9)
_HALF_MAX = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class Block:
    """Layers of equal width and hop, which can be stacked.

    Attributes:
        layers: their indices.
        width: channels of each.
        frame_rate: frames a second, for estimates.
    """

    layers: tuple[int, ...]
    width: int
    frame_rate: float


@dataclass(frozen=True)
class Encoded:
    """What a backbone says of the clips of a shard, on the CPU.

    Attributes:
        pooled: per block (layers, clips, width) float32, means over valid frames.
        frames: per block (layers, frames of all clips, width) float16, or None where not asked for.
        counts: per block (clips,) frames of each clip.
    """

    pooled: list[Tensor]
    frames: list[Tensor] | None
    counts: list[Tensor]


@dataclass(frozen=True)
class Extractor:
    """A backbone with where and how it runs.

    Attributes:
        model: the backbone.
        device: where it is.
        precision: "fp32", or "bf16" for autocast.
        blocks: its layers, grouped by width and hop.
    """

    model: Loaded
    device: torch.device
    precision: str
    blocks: tuple[Block, ...]

    hears: ClassVar[bool] = True
    """Whether ``encode`` needs the waveforms."""

    @classmethod
    def of(cls, model: Loaded, device: torch.device, precision: str = "fp32") -> "Extractor":
        """Run the backbone on noise of a few lengths, to see which of its layers share a hop.

        Raises:
            UserError: what it returns is not what it declares.
        """
        # Embeddings that were computed elsewhere have no backbone to run.
        own = getattr(model.backbone, "extractor", None)
        if own is not None:
            return cast(Extractor, own(model, device, precision))
        counts: list[tuple[int, ...]] = []
        for seconds in _HOP_PROBES:
            samples = max(int(seconds * model.backbone.sample_rate), model.min_samples)
            noise = torch.randn(1, samples, generator=torch.Generator().manual_seed(0)) * 0.1
            layers = _run(model, noise, torch.tensor([samples]), device, precision)
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

    def size(self, clips: Sequence[Clip], frames: bool) -> int:
        """Bytes that the features of ``clips`` take on disk, to a few per cent."""
        seconds = sum(clip.samples for clip in clips) / self.model.backbone.sample_rate
        values = [len(block.layers) * block.width for block in self.blocks]
        pooled = len(clips) * sum(values) * 4
        kept = sum(seconds * block.frame_rate * count * 2 for block, count in zip(self.blocks, values, strict=True))
        return pooled + (int(kept) if frames else 0)

    def encode(
        self,
        clips: Sequence[Clip],
        sounds: Sequence[Tensor],
        *,
        frames: bool,
        on_batch: Callable[[float], None] = lambda seconds: None,
    ) -> Encoded:
        """Run the backbone over clips, in batches of equal length (or masked, where that is exact).

        Args:
            clips: which items.
            sounds: their waveforms, (samples,) each.
            frames: also keep every frame, in half precision.
            on_batch: told the seconds of audio done.

        Raises:
            UserError: the features hold a value that is not finite, or do not have the declared layers.
        """
        rows: dict[int, _Row] = {}
        for batch in self._batches(clips):
            rows.update(zip(batch, self._forward(batch, clips, sounds, frames), strict=True))
            on_batch(sum(clips[position].samples for position in batch) / self.model.backbone.sample_rate)
        ordered = [rows[position] for position in range(len(clips))]
        return Encoded(
            pooled=[torch.stack([row.pooled[number] for row in ordered], 1) for number in range(len(self.blocks))],
            frames=[torch.cat([row.frames[number] for row in ordered], 1) for number in range(len(self.blocks))]
            if frames
            else None,
            counts=[torch.tensor([row.counts[number] for row in ordered]) for number in range(len(self.blocks))],
        )

    def _batches(self, clips: Sequence[Clip]) -> Iterator[list[int]]:
        """Positions of clips that share a forward pass."""
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

    def _forward(
        self, batch: Sequence[int], clips: Sequence[Clip], sounds: Sequence[Tensor], frames: bool
    ) -> list["_Row"]:
        """One pass; on out-of-memory the batch is halved until it fits."""
        try:
            return self._encode_batch([clips[i] for i in batch], [sounds[i] for i in batch], frames)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                clip = clips[batch[0]]
                seconds = clip.samples / self.model.backbone.sample_rate
                raise UserError(
                    f"Out of memory on {self.device} for one clip of {seconds:.1f} s ({clip.item.path}):"
                    " use a device with more memory, or a smaller max_duration."
                ) from error
        # Outside the handler, where the failed pass no longer holds its tensors.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(batch) // 2
        return [row for part in (batch[:half], batch[half:]) for row in self._forward(part, clips, sounds, frames)]

    @torch.inference_mode()
    def _encode_batch(self, clips: Sequence[Clip], sounds: Sequence[Tensor], frames: bool) -> list["_Row"]:
        lengths = torch.tensor([clip.samples for clip in clips])
        inputs = torch.nn.utils.rnn.pad_sequence(list(sounds), batch_first=True)
        layers = _run(self.model, inputs, lengths, self.device, self.precision)
        rows = [_Row([], [], []) for _ in clips]
        for block in self.blocks:
            outputs = torch.stack([layers[index][0] for index in block.layers])
            valid = layers[block.layers[0]][1]
            self._check(block, layers, clips)
            mask = torch.arange(outputs.shape[2], device=outputs.device) < valid[:, None]
            means = torch.where(mask[..., None], outputs, 0).float().sum(2) / valid[:, None]
            self._check_finite(block, means, clips)
            means, counts = means.cpu(), valid.tolist()
            halves = outputs.half().cpu() if frames else None
            for place, row in enumerate(rows):
                row.pooled.append(means[:, place])
                row.counts.append(counts[place])
                if halves is not None:
                    row.frames.append(halves[:, place, : counts[place]].clone())
            if halves is not None and bool(torch.isinf(halves).any()):
                raise UserError(
                    f"Layers of {clips[0].item.path} have values beyond ±{_HALF_MAX:.0f}, which frames in half"
                    " precision cannot hold: run the track ta alone, or scale the layers."
                )
        return rows

    def _check(self, block: Block, layers: "_Layers", clips: Sequence[Clip]) -> None:
        valid = layers[block.layers[0]][1]
        for index in block.layers:
            if not torch.equal(layers[index][1], valid):
                raise UserError(
                    f"Layers {block.layers[0]} and {index} have the same hop on noise but not on {clips[0].item.path}:"
                    " return frame counts that depend on the clip's length alone."
                )
        if bool((valid <= 0).any()):
            clip = clips[int((valid <= 0).nonzero()[0])]
            raise UserError(
                f"{clip.item.path} ({clip.samples} samples) is too short for the backbone, which returned no frame:"
                " set the backbone's min_samples."
            )

    def _check_finite(self, block: Block, means: Tensor, clips: Sequence[Clip]) -> None:
        """``means`` is (layers, clips, width)."""
        bad = (~torch.isfinite(means).all(2)).nonzero().tolist()
        if bad:
            layer, place = bad[0]
            index = block.layers[layer]
            raise UserError(
                f"The features of {clips[place].item.path} ({clips[place].item.id}) are not finite in layer {index}"
                f" ({self.model.backbone.layers[index].name}): the backbone cannot be used on this clip as it is."
            )


_Layers = list[tuple[Tensor, Tensor]]
"""Per layer: (batch, frames, width) outputs and (batch,) valid frames."""


@dataclass(frozen=True)
class _Row:
    """One clip, block by block: means (layers, width), number of frames, frames (layers, frames, width)."""

    pooled: list[Tensor]
    counts: list[int]
    frames: list[Tensor]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device ran out; a CPU raises a plain RuntimeError, known by its text alone."""
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)


@torch.inference_mode()
def _run(model: Loaded, inputs: Tensor, lengths: Tensor, device: torch.device, precision: str) -> _Layers:
    """One forward pass, checked against what the backbone declares."""
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            outputs, valid = model.backbone.encode(inputs.to(device), lengths.to(device))
        counts = [valid] * len(outputs) if isinstance(valid, Tensor) else list(valid)
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        # The backbone may be anybody's code: where it failed helps its author more than the way there through ours.
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"The backbone's encode failed on {tuple(inputs.shape)} samples with {type(error).__name__}:"
            f" {' '.join(str(error).split())} ({place.filename}, line {place.lineno})."
        ) from error
    layers = model.backbone.layers
    if len(outputs) != len(layers) or len(counts) != len(layers):
        raise UserError(
            f"The backbone declares {len(layers)} layers but encode returned {len(outputs)} outputs"
            f" and {len(counts)} frame counts: make `layers` and `encode` agree."
        )
    for index, (layer, output, count) in enumerate(zip(layers, outputs, counts, strict=True)):
        shape = tuple(output.shape)
        if len(shape) != 3 or shape[0] != len(inputs) or shape[2] != layer.width or count.shape != lengths.shape:
            raise UserError(
                f"Layer {index} ({layer.name}) has shape {shape} with {tuple(count.shape)} frame counts, not"
                f" (batch {len(inputs)}, frames, width {layer.width}) with ({len(inputs)},): correct layers or encode."
            )
        if int(count.max()) > shape[1]:
            raise UserError(
                f"Layer {index} ({layer.name}) returned {shape[1]} frames but says {int(count.max())} are valid:"
                " correct the frame counts that encode returns."
            )
    return list(zip(outputs, counts, strict=True))
