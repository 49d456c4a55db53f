"""Resemblyzer's voice encoder: three LSTMs over 40 mel bands, trained to tell speakers apart.

Source: https://github.com/resemble-ai/Resemblyzer, Apache-2.0. Weights: package Resemblyzer 0.1.4.

A frame is 25 ms of sound, one each 10 ms. Layer 0 is the mel spectrogram (batch, frames, 40), without a logarithm, as
in training. Layers 1 to 3 are the outputs of the LSTMs (batch, frames, 256). A quiet clip is amplified to -30 dBFS, as
in the package. Two things differ from the package: an LSTM runs over the whole clip instead of windows of 1.6 s, and
silence is not cut out.
"""

from importlib.metadata import distribution
from pathlib import Path

import torch
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

from evaluator.backbone import Layer

WEIGHTS = Path(str(distribution("Resemblyzer").locate_file("resemblyzer/pretrained.pt")))
QUIET = 10 ** (-30 / 20)
MEL = {"n_fft": 400, "hop_length": 160, "n_mels": 40, "pad_mode": "constant", "norm": "slaney", "mel_scale": "slaney"}


class Resemblyzer(nn.Module):
    """The layers of the voice encoder. Valid frames depend on valid samples alone."""

    sample_rate, exact_masking, normalisation = 16_000, True, "clips below -30 dBFS are amplified to it"
    layers = (Layer("mel", 40), Layer("LSTM 1", 256), Layer("LSTM 2", 256), Layer("LSTM 3", 256))

    def __init__(self) -> None:
        super().__init__()
        self.mel = MelSpectrogram(self.sample_rate, **MEL)
        self.blocks = nn.ModuleList(nn.LSTM(width, 256, batch_first=True) for width in (40, 256, 256))
        state = torch.load(WEIGHTS, map_location="cpu", weights_only=True)["model_state"]
        for number, block in enumerate(self.blocks):
            # weight_ih_l0 of each block is lstm.weight_ih_l0, lstm.weight_ih_l1 or lstm.weight_ih_l2 of the file.
            block.load_state_dict({name: state[f"lstm.{name[:-1]}{number}"] for name in block.state_dict()})

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return per layer (batch, frames, width), and the valid frames (batch,)."""
        level = (waveforms.square().sum(1) / lengths).sqrt().clamp(min=1e-6)
        outputs = [self.mel(waveforms * (QUIET / level).clamp(min=1)[:, None]).mT]
        for block in self.blocks:
            outputs.append(block(outputs[-1])[0])
        return outputs, lengths // 160 + 1
