"""Features of realistic size with classes that probes can learn, made from a seed."""

import torch
from torch import Tensor

from evaluator.features.samples import Frames, Pooled, Samples

_SEED = 0
# Standard deviations of class means, clips and frames. The task is neither trivial nor impossible.
_CLASS_SPREAD, _CLIP_SPREAD, _FRAME_SPREAD = 0.1, 1.0, 2.0


class SyntheticTask:
    """Two splits of features: one mean per layer and class, plus noise per clip and per frame."""

    def __init__(
        self,
        *,
        train: int,
        valid: int,
        classes: int,
        layers: int,
        width: int,
        frames: int | None,
        device: torch.device,
    ) -> None:
        """Make the features.

        Args:
            train: items of the train split.
            valid: items of the validation split.
            classes: number of classes.
            layers: number of layers.
            width: channels per layer.
            frames: frames per clip; None for features that are already averaged over frames.
            device: device of the training.
        """
        generator = torch.Generator().manual_seed(_SEED)
        self.device = device
        self.targets: dict[str, Tensor] = {}
        self.features: dict[str, Tensor] = {}
        spreads = (_CLASS_SPREAD, _CLIP_SPREAD, _FRAME_SPREAD if frames else 0.0)
        # The variance 1 / width, as that of standardised features.
        unit = (width * sum(spread**2 for spread in spreads)) ** -0.5
        centres = _CLASS_SPREAD * torch.randn(layers, classes, width, generator=generator)
        for split, items in (("train", train), ("valid", valid)):
            targets = torch.randint(classes, (items,), generator=generator)
            pooled = centres[:, targets] + _CLIP_SPREAD * torch.randn(layers, items, width, generator=generator)
            self.targets[split] = targets.to(device)
            if frames is None:
                self.features[split] = (unit * pooled).to(device)
                continue
            # Host memory holds them in half precision, as the feature store does.
            halves = torch.empty(layers, items, frames, width, dtype=torch.float16)
            for item in range(items):
                noise = torch.randn(layers, frames, width, generator=generator)
                halves[:, item] = unit * (pooled[:, item, None] + _FRAME_SPREAD * noise)
            self.features[split] = halves

    def stacked(self, split: str) -> Samples:
        """All layers at once, as the suite's own probes read them."""
        features, targets = self.features[split], self.targets[split]
        layers = range(len(features))
        if features.ndim == 3:
            return Pooled(features.transpose(0, 1).contiguous(), targets, layers)
        count = features.shape[2]
        places = [(features.flatten(1, 2), item * count, count) for item in range(len(targets))]
        return Frames(places, layers, targets, layers, features.shape[-1]).resident()

    def single(self, split: str, layer: int) -> tuple[Tensor, Tensor]:
        """One layer in single precision, and the targets, both on the device."""
        return self.features[split][layer].to(self.device).float(), self.targets[split]
