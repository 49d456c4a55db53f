"""Moments of log-mel bands and of MFCC over a clip."""

from collections.abc import Iterator

import torch
from torch import Tensor

from evaluator.backbone import Layer

# Values of the spectra that are computed at once (128 MB).
_VALUES = 1 << 25


class Statistics(torch.nn.Module):
    """Mean, standard deviation, minimum and maximum over time, of log-mel bands and of their cepstrum.

    Two layers of one frame each: the moments of the bands, in units of roughly [-2, 2], and of the first coefficients
    of the bands' orthonormal cosine transform (MFCC).
    """

    cosines: Tensor

    def __init__(self, sample_rate: int, bands: int, coefficients: int) -> None:
        super().__init__()
        from torchaudio.functional import create_dct
        from torchaudio.transforms import MelSpectrogram

        self.sample_rate = sample_rate
        self.window = round(0.032 * sample_rate)
        self.min_samples = self.window
        self.layers = [Layer("log-mel statistics", 4 * bands), Layer("MFCC statistics", 4 * coefficients)]
        self.options = {"bands": bands, "coefficients": coefficients, "sample_rate": sample_rate}
        # Frames are completely inside the clip, so padding does not change the moments.
        self.mel = MelSpectrogram(
            sample_rate, n_fft=self.window, hop_length=self.window // 2, n_mels=bands, center=False, f_min=50.0
        )

        self.register_buffer("cosines", create_dct(coefficients, bands, norm="ortho"))

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """(batch, samples) to two layers of one frame; all clips of a batch have the same length."""
        # Scale -100 dB to +20 dB to [-2, 1], a range in which a probe can train with any of the learning rates.
        energy = torch.cat([self.mel(part) for part in self._parts(waveforms)], -1)
        energy = energy.clamp_min_(1e-10).log10_().add_(2.0).div_(4.0)
        cepstrum = (energy.transpose(1, 2) @ self.cosines).transpose(1, 2)
        return [_moments(energy), _moments(cepstrum)], torch.ones_like(lengths)

    def _parts(self, waveforms: Tensor) -> Iterator[Tensor]:
        """Parts that have the frames of the whole between them. The spectra of an hour would take a gigabyte."""
        hop, frames = self.window // 2, (waveforms.shape[1] - self.window) // (self.window // 2) + 1
        together = max(1, _VALUES // (len(waveforms) * self.window))
        for first in range(0, frames, together):
            last = min(first + together, frames) - 1
            yield waveforms[:, first * hop : last * hop + self.window]


def _moments(values: Tensor) -> Tensor:
    """(batch, channels, frames) to (batch, 1, 4 x channels)."""
    moments = [values.mean(-1), values.std(-1, correction=0), values.amin(-1), values.amax(-1)]
    return torch.cat(moments, dim=-1)[:, None]
