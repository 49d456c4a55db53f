"""A sound that decodes may still be useless: silent, cancelled by its own channels, clipped."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tasks.sound.faults import Fault, FaultFinder

SAMPLES = 16_000
TONE = np.sin(2 * np.pi * 440 * np.arange(SAMPLES) / 16_000)


def noise(channels: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal((SAMPLES, channels))


def faults(channels: np.ndarray) -> Fault:
    block = channels.reshape(len(channels), -1).astype(np.float32)
    whole, parts = FaultFinder(), FaultFinder()
    whole.add(torch.from_numpy(block).mean(1), block)
    for start in range(0, len(block), 1_000):
        part = block[start : start + 1_000]
        parts.add(torch.from_numpy(part).mean(1), part)
    assert whole.faults == parts.faults, "the faults depend on the blocks"
    return whole.faults


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (lambda: 0.1 * TONE, Fault(0)),
        (lambda: np.zeros(SAMPLES), Fault.SILENT),
        (lambda: np.full(SAMPLES, 0.2), Fault.SILENT),
        (lambda: np.zeros((SAMPLES, 2)), Fault.SILENT),
        (lambda: np.stack([TONE, -TONE], 1) * 0.3, Fault.CANCELLING),
        (lambda: np.stack([TONE, -0.95 * TONE], 1) * 0.3, Fault.CANCELLING),
        (lambda: np.stack([TONE, 0 * TONE], 1) * 0.3, Fault(0)),
        (lambda: noise(2), Fault(0)),
        (lambda: noise(16), Fault(0)),
        (lambda: TONE, Fault(0)),
        (lambda: np.clip(2 * TONE, -1, 1), Fault.CLIPPED),
        (lambda: 2 * TONE, Fault.CLIPPED),
        (lambda: np.stack([np.clip(2 * TONE, -1, 1), 0.1 * TONE], 1), Fault.CLIPPED),
        (lambda: np.stack([np.sign(TONE), -np.sign(TONE)], 1), Fault.CLIPPED | Fault.CANCELLING),
    ],
    ids=["tone", "silence", "offset", "silent stereo", "opposite", "nearly opposite", "one channel silent", "stereo",
         "16 channels", "full scale", "clipped", "beyond full scale", "one channel clipped", "both"],
)  # fmt: skip
def test_faults_of_a_sound(channels: Callable[[], np.ndarray], expected: Fault) -> None:
    assert faults(channels()) == expected
