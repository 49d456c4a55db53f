"""Resampling must keep what both rates can hold, remove the rest, and cost little at every rate that recorders have."""

import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soxr
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.sound import resample, resampled_length

# Of recorders and data sets. 11,127 and 22,257 Hz share no divisor with the rates of backbones.
RATES = (
    8_000, 9_600, 11_025, 11_127, 16_000, 22_050, 22_254, 22_257, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000,
    250_000, 384_000,
)  # fmt: skip
BACKBONES = (16_000, 24_000, 32_000, 48_000)
PAIRS = [(native, rate) for native in RATES for rate in BACKBONES if native != rate]


def sine(frequency: float, rate: int, samples: int) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(samples) / rate + 0.3)


def inside(samples: np.ndarray, rate: int) -> np.ndarray:
    """Without the eighth of a second at each end, where the tone starts and stops."""
    return samples[rate // 8 : -rate // 8]


@pytest.mark.parametrize(("native", "rate"), PAIRS)
@pytest.mark.parametrize(("share", "tolerance"), [(0.01, 1e-5), (0.3, 1e-5), (0.7, 5e-4), (0.9, 2e-3)])
def test_a_tone_that_both_rates_hold_keeps_its_amplitude_and_phase(
    native: int, rate: int, share: float, tolerance: float
) -> None:
    frequency = share * min(native, rate) / 2
    found = resample(torch.from_numpy(sine(frequency, native, native)).float(), native, rate).numpy()
    expected = sine(frequency, rate, rate)
    np.testing.assert_allclose(inside(found, rate), inside(expected, rate), rtol=0, atol=tolerance)


@pytest.mark.parametrize(("native", "rate"), [(native, rate) for native, rate in PAIRS if native > rate])
@pytest.mark.parametrize("share", [1.0, 1.05, 1.3])
def test_a_tone_that_the_new_rate_cannot_hold_is_removed(native: int, rate: int, share: float) -> None:
    """Else it would sound at another frequency. HQ promises 120 dB; 100 dB are below the last bit of 16."""
    if share * rate >= native:
        pytest.skip("the file cannot hold this tone either")
    heard = resample(torch.from_numpy(sine(share * rate / 2, native, native)).float(), native, rate).numpy()
    assert np.abs(inside(heard, rate)).max() < 10 ** (-100 / 20)


@pytest.mark.parametrize(("native", "rate"), [(native, rate) for native, rate in PAIRS if native < rate])
def test_nothing_is_added_above_what_the_file_holds(native: int, rate: int) -> None:
    noise = np.random.default_rng(0).standard_normal(native).astype(np.float32)
    heard = resample(torch.from_numpy(noise), native, rate).numpy().astype(np.float64)
    spectrum = np.abs(np.fft.rfft(inside(heard, rate) * np.blackman(len(inside(heard, rate)))))
    frequencies = np.fft.rfftfreq(len(inside(heard, rate)), 1 / rate)
    above = spectrum[frequencies > 1.02 * native / 2]
    assert above.max() < 1e-5 * spectrum.max()


@pytest.mark.parametrize(("native", "rate"), PAIRS)
def test_the_predicted_length_is_the_length_after_resampling(native: int, rate: int) -> None:
    """Clips are batched by predicted length, and BEANS' chunks are counted with it."""
    for samples in (1, 2, 3, 441, 4_095, native // 3, native + 1, 2 * native - 7):
        noise = np.random.default_rng(samples).standard_normal(samples).astype(np.float32)
        found = resample(torch.from_numpy(noise), native, rate).numpy()
        assert len(found) == resampled_length(samples, native, rate) == math.ceil(Fraction(samples * rate, native))
        # soxr's own length is rounded to the nearest. All samples that it gives are the same.
        theirs = soxr.resample(noise, native, rate, quality="HQ")
        assert 0 <= len(found) - len(theirs) <= 1
        np.testing.assert_array_equal(found[: len(theirs)], theirs)


@given(native=st.sampled_from([22_050, 44_100, 24_000, 22_257]), samples=st.integers(1, 10**10))
def test_the_length_of_long_recordings_is_exact(native: int, samples: int) -> None:
    assert resampled_length(samples, native, 16_000) == math.ceil(Fraction(samples * 16_000, native))


def test_the_same_rate_changes_no_sample() -> None:
    noise = torch.randn(1_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resample(noise, 16_000, 16_000), noise)


MEMORY = """
import resource, sys
import torch
from tasks.sound import resample

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

# Loads the library.
resample(torch.zeros(1000), 8000, 16000)
before = peak()
for native in (11127, 22257, 22254, 44101, 48001, 250007):
    heard = resample(torch.randn(10 * native), native, 16000)
    assert len(heard) == 160000
print(peak() - before)
"""


def test_odd_rates_take_no_more_memory_than_the_sound() -> None:
    """A kernel with one row per output phase took 1.3 GiB for 22,257 Hz, and was kept for the life of the process."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    # 10 s at 250,007 Hz are 10 MB, and are held twice or three times.
    assert float(done.stdout) < 64, "MiB"


def test_a_model_that_makes_double_precision_the_default_changes_no_sound() -> None:
    """Code of a model may call `torch.set_default_dtype`; resampling then failed."""
    sound = torch.linspace(-1, 1, 1000, dtype=torch.float32)
    expected = resample(sound, 44_100, 16_000)
    torch.set_default_dtype(torch.float64)
    try:
        found = resample(sound, 44_100, 16_000)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32 and torch.equal(found, expected)
