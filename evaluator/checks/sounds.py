"""The synthetic sounds that the checks encode. They are the same on every machine."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Lengths of the noises in seconds, minus the shortest length. Key: whether the form is short.
_FURTHER = {True: (0.0, 0.37), False: (0.0, 0.37, 0.83, 1.5, 2.41)}
_SHORTEST_SECONDS = 0.5
_VARIETY_SECONDS = {True: 0.5, False: 2.0}


@dataclass(frozen=True)
class Sound:
    """A waveform, (samples,) float32, with a name for messages."""

    name: str
    waveform: Tensor


def ladder(rate: int, min_samples: int, short: bool) -> list[Sound]:
    """Return noises of several lengths, the shortest first."""
    lowest = max(round(_SHORTEST_SECONDS * rate), min_samples)
    lengths = [lowest + round(further * rate) for further in _FURTHER[short]]
    return [noise(f"noise of {samples / rate:.2f} s", samples, 10 + place) for place, samples in enumerate(lengths)]


def equals(rate: int, min_samples: int, short: bool) -> list[Sound]:
    """Return noises of equal length, including a quiet and a loud one."""
    first = ladder(rate, min_samples, short)[0]
    samples = len(first.waveform)
    others = [noise("loud noise", samples, 20, 0.3), noise("quiet noise", samples, 21, 0.01)]
    return [first, *others[: 1 if short else 2]]


def variety(rate: int, min_samples: int, short: bool) -> list[Sound]:
    """Return different sounds of equal length, including sounds on which models often fail."""
    samples = max(round(_VARIETY_SECONDS[short] * rate), min_samples)
    trouble = [Sound("silence", torch.zeros(samples)), square("a full-scale square wave", samples)]
    if short:
        return trouble
    return [
        noise("noise", samples, 30),
        noise("other noise", samples, 31),
        tone("a tone", samples),
        *trouble,
        changing(rate, min_samples),
    ]


def changing(rate: int, min_samples: int) -> Sound:
    """Return a sound with noise in the first half and a tone in the second."""
    samples = max(round(_VARIETY_SECONDS[False] * rate), min_samples)
    half = samples // 2
    halves = [noise("", half, 32).waveform, tone("", samples - half).waveform]
    return Sound("noise that becomes a tone", torch.cat(halves))


def noise(name: str, samples: int, seed: int, amplitude: float = 0.1) -> Sound:
    """Return white noise with the standard deviation ``amplitude``."""
    return Sound(name, torch.randn(samples, generator=torch.Generator().manual_seed(seed)) * amplitude)


def tone(name: str, samples: int) -> Sound:
    """Return a tone at a sixteenth of the sample rate."""
    return Sound(name, 0.3 * torch.sin(torch.arange(samples) * (2 * math.pi / 16)))


def square(name: str, samples: int) -> Sound:
    """Return a full-scale square wave at a fiftieth of the sample rate, similar to a clipped recording."""
    return Sound(name, torch.where(torch.arange(samples) % 50 < 25, 1.0, -1.0))
