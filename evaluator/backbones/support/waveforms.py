"""What encoders of waveforms share: amplitude, and how many samples make a frame."""

from collections.abc import Sequence

import torch
from torch import Tensor


def standardise(waveforms: Tensor, lengths: Tensor, floor: float) -> Tensor:
    """Zero mean and unit variance over each clip's valid samples, zeros elsewhere.

    Args:
        waveforms: (batch, samples).
        lengths: (batch,) valid samples.
        floor: what is added to the variance; transformers' feature extractor and torchaudio's bundles differ in it.
    """
    valid = torch.arange(waveforms.shape[1], device=waveforms.device) < lengths[:, None]
    count = lengths[:, None].to(waveforms.dtype)
    centred = (waveforms - (waveforms * valid).sum(1, keepdim=True) / count) * valid
    return centred / torch.sqrt(centred.square().sum(1, keepdim=True) / count + floor)


def receptive_field(kernels: Sequence[int], strides: Sequence[int], frames: int = 1) -> int:
    """Samples that so many frames of a stack of convolutions take, without padding."""
    samples = frames
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples
