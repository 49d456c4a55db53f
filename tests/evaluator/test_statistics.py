"""The floor must be what it says, or every backbone is compared with something else."""

import numpy as np
import pytest
import torch
from builders import tone
from scipy.fft import dct

from evaluator.backbones.statistics import load
from tasks.support.errors import UserError

RATE, WINDOW, HOP, BANDS, COEFFICIENTS = 32_000, 1024, 512, 64, 20


def log_mel(samples: np.ndarray) -> np.ndarray:
    """(frames, bands) by the textbook: Hann window, power, triangles on the HTK mel scale from 50 Hz to 16 kHz."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    starts = range(0, len(samples) - WINDOW + 1, HOP)
    power = np.abs(np.fft.rfft([samples[start : start + WINDOW] * window for start in starts])) ** 2

    def mel(frequency: float | np.ndarray) -> np.ndarray:
        return 2595 * np.log10(1 + np.asarray(frequency) / 700)

    corners = 700 * (10 ** (np.linspace(mel(50.0), mel(RATE / 2), BANDS + 2) / 2595) - 1)
    bins = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    rising = (bins[:, None] - corners[:-2]) / np.diff(corners)[:-1]
    falling = (corners[2:] - bins[:, None]) / np.diff(corners)[1:]
    filters = np.maximum(0, np.minimum(rising, falling))
    return (np.log10(np.maximum(power @ filters, 1e-10)) + 2) / 4


def moments(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values.mean(0), values.std(0), values.min(0), values.max(0)])


def test_both_layers_are_the_textbooks_moments() -> None:
    samples = tone(1500, 1.3, RATE, 0).astype(np.float32) * 0.3
    layers, frames = load().encode(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
    expected = log_mel(samples.astype(np.float64))
    assert frames.tolist() == [1]
    np.testing.assert_allclose(layers[0][0, 0], moments(expected), atol=1e-4)
    cepstrum = dct(expected, norm="ortho", axis=1)[:, :COEFFICIENTS]
    np.testing.assert_allclose(layers[1][0, 0], moments(cepstrum), atol=1e-3)


def test_more_coefficients_than_bands_are_refused() -> None:
    with pytest.raises(UserError, match="coefficients 65 is above the number of bands, 64"):
        load(coefficients=65)
