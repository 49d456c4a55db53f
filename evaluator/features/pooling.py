"""What remains of the frames of a batch: their mean, and if requested their deviation and the frames themselves.

VERSION in `evaluator.features.extraction` stands for this module too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# A channel with a smaller deviation, relative to its largest value in the clip, is constant. Single precision has 24
# bits, and the sum over some thousand frames loses a few of them: what is left is rounding noise.
CONSTANT = 1e-6
# Smaller values have fewer than 24 bits in single precision, and their reciprocals overflow.
_SMALLEST = 1e-37

Layers = Sequence[tuple[Tensor, Tensor]]
"""Per layer: (batch, frames, width) outputs and (batch,) valid frames."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of one block for a batch. They are on the CPU, or a copy to the CPU has started.

    Attributes:
        means: (layers, batch, width) float32, over the valid frames.
        spreads: (layers, batch, width) float32, the population standard deviation over the valid frames; 0 for a
            constant channel. None if not requested.
        counts: (layers, batch) valid frames.
        frames: (layers, batch, longest, width) float16, (frame - mean) / spread; 0 for a constant channel. None if not
            requested.
        longest: number of frames of the longest clip.
    """

    means: Tensor
    spreads: Tensor | None
    counts: Tensor
    frames: Tensor | None
    longest: int


def pool(layers: Layers, *, spread: bool, frames: bool) -> Outputs:
    """Pool layers of equal shape on their device, layer by layer.

    Frames need ``spread``. In half precision a frame is stored relative to its clip: then neither the unit nor the
    offset of a channel costs digits or overflows. Of T frames, none is more than sqrt(T - 1) spreads from the mean.
    """
    first, valid = layers[0]
    batch, longest, width = first.shape
    # On a GPU the question whether there is padding would wait for the device, so padding is assumed.
    padded = first.device.type != "cpu" or not bool((valid == longest).all())
    padding = (torch.arange(longest, device=first.device) >= valid[:, None])[..., None]
    means = first.new_empty((len(layers), batch, width), dtype=torch.float32)
    spreads = torch.empty_like(means) if spread else None
    halves = first.new_empty((len(layers), batch, longest, width), dtype=torch.float16) if frames else None
    for row, (output, _) in enumerate(layers):
        # Padding may hold any value, also NaN. It is no part of the mean.
        masked = output.clone().masked_fill_(padding, 0) if padded else output
        means[row] = masked.sum(1, dtype=torch.float32) / valid[:, None]
        if spreads is None:
            continue
        # Relative to the largest value no square overflows or becomes a denormal number.
        peak = masked.abs().amax(1).float().clamp_min_(_SMALLEST)
        apart = (masked - means[row][:, None]).mul_(peak.reciprocal()[:, None])
        if padded:
            apart.masked_fill_(padding, 0)
        share = (apart * apart).sum(1).div_(valid[:, None]).sqrt_()
        # Compared as "not larger", a share that is not a number stays one, and is reported.
        share.masked_fill_(share <= CONSTANT, 0)
        torch.mul(share, peak, out=spreads[row])
        if halves is not None:
            halves[row] = apart.mul_(torch.where(share > 0, share.reciprocal(), 0)[:, None])
    counts = torch.stack([count.long() for _, count in layers])
    return Outputs(
        to_host(means),
        None if spreads is None else to_host(spreads),
        to_host(counts),
        None if halves is None else to_host(halves),
        longest,
    )


def to_host(tensor: Tensor) -> Tensor:
    """Copy the tensor to the CPU. A GPU copies it into pinned memory while the caller continues."""
    if tensor.device.type != "cuda":
        return tensor
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
