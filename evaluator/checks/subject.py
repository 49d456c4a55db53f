"""The backbone under test, and its features of a few sounds, encoded as in real runs."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from evaluator.backbone import Loaded
from evaluator.checks.sounds import Sound
from evaluator.features.clips import Clip
from evaluator.features.cuts import Cut
from evaluator.features.extraction import Encoded, Extractor
from tasks.sound import Header
from tasks.task import Item, Task

MEANS_APART, FRAMES_APART = 1e-4, 2e-3
"""Tolerances of means and frames, relative to a layer's scale. Another order of summation changes means by about 1e-6;
frames are stored with 11 bits."""

SAME = 1e-5
"""Rows with a smaller difference, relative to their scale, are equal."""

_FLOAT_MIN = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class LayerFeatures:
    """The features of one sound in one layer, as the suite stores them.

    Attributes:
        means: (width,) float32, over all frames.
        count: number of frames.
        frames: (frames, width) float32, as they are read from the store.
    """

    means: Tensor
    count: int
    frames: Tensor


PerLayer = list[LayerFeatures]
"""The features of one sound: one entry per layer, in the order of ``Backbone.layers``."""


class Subject:
    """The backbone under test.

    Attributes:
        extractor: the backbone as real runs use it, in float32.
        short: whether only short clips are encoded.
        tasks: tasks whose frequency band is compared with the backbone's.
        encoded: features of every sound that was encoded alone, by the sound's name.
        passes: number of forward passes of the last ``encode``.
        steady: whether two passes of one sound are equal; None before the comparison.
    """

    def __init__(self, extractor: Extractor, short: bool, tasks: Sequence[Task] = ()) -> None:
        # The rounding of bf16 is not a mistake of the model.
        self.extractor = dataclasses.replace(extractor, precision="fp32")
        self.short, self.tasks = short, tasks
        self.encoded: dict[str, PerLayer] = {}
        self.passes = 0
        self.steady: bool | None = None

    @property
    def model(self) -> Loaded:
        """The loaded backbone with its fingerprint."""
        return self.extractor.model

    @property
    def rate(self) -> int:
        """The backbone's sample rate in Hz."""
        return self.model.backbone.sample_rate

    def layer(self, index: int) -> str:
        """Return index and name of a layer, for messages."""
        return f"layer {index} ({self.model.backbone.layers[index].name})"

    def listed(self, indices: Sequence[int]) -> str:
        """Return the first of some layers and the number of the others, for messages."""
        return self.layer(indices[0]) + (f" and {len(indices) - 1} more" if len(indices) > 1 else "")

    def alone(self, sound: Sound) -> PerLayer:
        """Return the features of a sound, encoded alone. Each name is encoded once.

        Raises:
            UserError: as ``encode``.
        """
        if sound.name not in self.encoded:
            self.encoded[sound.name] = self.encode([sound])[0]
        return self.encoded[sound.name]

    def encode(self, sounds: Sequence[Sound]) -> list[PerLayer]:
        """Encode sounds in shared passes, as far as real runs share them. Return their features in the same order.

        Raises:
            UserError: ``encode`` fails or returns a wrong result.
        """
        clips, padded = [], []
        for index, sound in enumerate(sounds):
            length, samples = len(sound.waveform), max(len(sound.waveform), self.model.min_samples)
            item = Item(sound.name, Path(sound.name), (0,), sound.name)
            clips.append(Clip(index, item, Header(self.rate, length), Cut(0, length, samples), samples))
            padded.append(torch.nn.functional.pad(sound.waveform, (0, samples - length)))
        self.passes = 0

        def count(seconds: float) -> None:
            self.passes += 1

        return self._by_sound(self.extractor.encode(clips, padded, frames=True, on_batch=count), len(sounds))

    def _by_sound(self, encoded: Encoded, sounds: int) -> list[PerLayer]:
        features: list[dict[int, LayerFeatures]] = [{} for _ in range(sounds)]
        for number, block in enumerate(self.extractor.blocks):
            for place, frames in enumerate(encoded.frames(number)):
                for row, index in enumerate(block.layers):
                    means = encoded.pooled[number][row, place]
                    features[place][index] = LayerFeatures(means, frames.shape[1], frames[row])
        return [[layers[index] for index in sorted(layers)] for layers in features]


def apart(one: LayerFeatures, other: LayerFeatures) -> tuple[float, float]:
    """Return the largest difference between two passes in a layer, relative to its scale: of means, and of frames.

    The scale is the mean magnitude, because in many models a few channels are a hundred times larger than the rest.
    """
    if one.count != other.count:
        return math.inf, math.inf
    means = _relative(one.means, other.means, one.means.abs().mean())
    return means, _relative(one.frames, other.frames, one.frames.abs().mean())


def _relative(one: Tensor, other: Tensor, scale: Tensor) -> float:
    return float(((one - other).abs() / (scale + one.abs()).clamp_min(_FLOAT_MIN)).max())


def same_means(one: LayerFeatures, other: LayerFeatures) -> bool:
    """Return whether two rows are equal up to rounding."""
    return float((one.means - other.means).abs().max()) <= SAME * float(one.means.abs().mean())


def percent(size: float) -> str:
    """Return a difference as text. Infinity means different numbers of frames."""
    return "its number of frames" if math.isinf(size) else f"{100 * size:.2g} %"
