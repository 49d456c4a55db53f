"""Helpers of encoders that read waveforms: normalisation, and the number of samples per frame."""

from collections.abc import Sequence

import torch
from torch import Tensor


def standardise(waveforms: Tensor, lengths: Tensor, floor: float) -> Tensor:
    """Scale each clip's valid samples to zero mean and unit variance. Other samples become zero.

    Args:
        waveforms: (batch, samples).
        lengths: (batch,) valid samples.
        floor: added to the variance; transformers' feature extractor and torchaudio's bundles differ in it.
    """
    valid = torch.arange(waveforms.shape[1], device=waveforms.device) < lengths[:, None]
    count = lengths[:, None].to(waveforms.dtype)
    centred = (waveforms - (waveforms * valid).sum(1, keepdim=True) / count) * valid
    return centred / torch.sqrt(centred.square().sum(1, keepdim=True) / count + floor)


def receptive_field(kernels: Sequence[int], strides: Sequence[int], frames: int = 1) -> int:
    """Number of input samples that ``frames`` frames of a stack of convolutions need, without padding."""
    samples = frames
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples
