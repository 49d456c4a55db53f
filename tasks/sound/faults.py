"""What may be wrong with a sound that decodes without an error: it is silent, its channels cancel, it is clipped."""

from enum import IntFlag

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Half the step of a 16-bit sample. A quieter sound is silence, possibly with an offset.
_SILENCE = 2**-16
# Full scale of 16 bits, with a slack for files that were converted. MP3 and Ogg may decode to more than 1.
_FULL_SCALE = 1 - 2**-14
# A tone that is scaled to full scale has 0.5 % of its samples there.
_CLIPPED_SHARE = 0.01
# The mean of n channels that have nothing in common has 1/n of their power. 10 dB below that, they cancel.
_CANCELLED = 0.1


class Fault(IntFlag):
    """What a `FaultFinder` finds. The feature store keeps the numbers."""

    SILENT = 1
    CANCELLING = 2
    CLIPPED = 4


class FaultFinder:
    """Finds the faults of one stretch of sound, block by block.

    A digitally silent stretch is silent. Channels cancel if the power of their mean is less than a tenth of what
    channels without anything in common would give; then the stretch does not count as silent. A stretch is clipped if
    at least 1 % of the samples of a channel are at full scale or beyond.
    """

    def __init__(self) -> None:
        self._low, self._high = np.inf, -np.inf
        self._mean_power = self._channel_power = 0.0
        self._channels = 1
        self._samples = 0
        self._full: NDArray[np.int64] | int = 0

    def add(self, mono: Tensor, channels: NDArray[np.float32]) -> None:
        """Add the next block: the mean over channels, (samples,), and the channels, (samples, channels)."""
        if not len(mono):
            return
        low, high = (float(value) for value in torch.aminmax(mono))
        self._low, self._high = min(self._low, low), max(self._high, high)
        self._samples += len(mono)
        if channels.shape[1] > 1:
            self._channels = channels.shape[1]
            self._mean_power += float(torch.dot(mono, mono))
            self._channel_power += float(np.vdot(channels, channels)) / self._channels
            low, high = float(channels.min()), float(channels.max())
        if max(-low, high) >= _FULL_SCALE:
            self._full = self._full + (np.abs(channels) >= _FULL_SCALE).sum(0)

    @property
    def is_constant(self) -> bool:
        """Whether the mean over channels is silence, possibly with an offset."""
        return not self._high - self._low >= _SILENCE

    @property
    def faults(self) -> Fault:
        """The faults of everything that was added."""
        found = Fault(0)
        if self._mean_power < _CANCELLED * self._channel_power / self._channels:
            found |= Fault.CANCELLING
        elif self.is_constant:
            found |= Fault.SILENT
        if self._samples and np.max(self._full) >= _CLIPPED_SHARE * self._samples:
            found |= Fault.CLIPPED
        return found
