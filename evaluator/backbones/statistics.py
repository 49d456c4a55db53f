"""The floor: moments of the log-mel spectrogram. A backbone that does not beat it has learned nothing of use."""

import torch
from torch import Tensor

from evaluator.backbones import Layer


class LogMelStatistics(torch.nn.Module):
    """Mean, standard deviation, minimum and maximum over time of each band of a log-mel spectrogram.

    One layer of one frame: the four moments joined, in units of roughly [-2, 2].
    """

    def __init__(self, sample_rate: int, bands: int) -> None:
        super().__init__()
        from torchaudio.transforms import MelSpectrogram

        self.sample_rate = sample_rate
        self.window = round(0.032 * sample_rate)
        self.min_samples = self.window
        self.layers = [Layer("log-mel statistics", 4 * bands)]
        self.options = {"bands": bands, "sample_rate": sample_rate}
        # Frames lie wholly inside the clip, so that no padding enters a moment.
        self.mel = MelSpectrogram(
            sample_rate, n_fft=self.window, hop_length=self.window // 2, n_mels=bands, center=False, f_min=50.0
        )

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """(batch, samples) to one layer of (batch, 1, 4 x bands); all clips of a batch have the same length."""
        # -100 dB to +20 dB onto [-2, 1]: what a probe with a learning rate of any size can work with.
        energy = self.mel(waveforms).clamp_min(1e-10).log10().add(2.0).div(4.0)
        moments = [energy.mean(-1), energy.std(-1, correction=0), energy.amin(-1), energy.amax(-1)]
        return [torch.cat(moments, dim=-1)[:, None]], torch.ones_like(lengths)


def load(sample_rate: int = 32_000, bands: int = 64) -> LogMelStatistics:
    """Log-mel statistics at ``sample_rate`` Hz with ``bands`` mel bands from 50 Hz to half the sample rate."""
    return LogMelStatistics(sample_rate, bands)
