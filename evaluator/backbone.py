"""The contract: what the suite asks of an audio encoder, and how one is made ready to run."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Layer(NamedTuple):
    """One layer's output: a name for people, and its width in channels."""

    name: str
    width: int


class Backbone(Protocol):
    """A frozen encoder. The suite owns decoding, resampling, batching, device, precision, pooling and caching.

    Attributes:
        sample_rate: what the encoder wants to hear, in Hz.
        layers: one entry an output of ``encode``; index 0 is what enters the first block.

    Optional attributes, read with ``getattr``:
        exact_masking (bool): clips of unequal length may share a batch, because the lengths given to ``encode`` keep
            padding from changing any valid frame. Default False: only clips of equal length share a batch.
        min_samples (int): shorter clips are padded with zeros at the end to this many samples. Default 1.
        normalisation (str): what the encoder does to the amplitude, for the record. Default "none".
        options (Mapping[str, object]): settings beside the weights that change the output; part of the cache's key.
        extractor (Callable[[Loaded, torch.device, str], Extractor]): what to use instead of running ``encode``.

    The registry of loaders sets ``loaded_by`` (tuple[str, int]): the loader's name and version.
    """

    @property
    def sample_rate(self) -> int:
        """Sample rate in Hz."""

    @property
    def layers(self) -> Sequence[Layer]:
        """Name and width of every layer that ``encode`` returns, in its order."""

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor | list[Tensor]]:
        """Encode a batch.

        Args:
            waveforms: (batch, samples) float32, zeros after each clip's end.
            lengths: (batch,) valid samples.

        Returns:
            Per layer (batch, frames, width); and (batch,) valid frames: one tensor when all layers share a hop, one a
            layer when they do not.
        """


@dataclass(frozen=True)
class Loaded:
    """A backbone ready to run, with what identifies it.

    Attributes:
        weights_sha256: over names, shapes and values of every parameter and buffer, or over the options where the
            backbone is no torch module.
        parameters: number of trained values.
        versions: what stands for the code that computes it: by loader its declared VERSION, and by class of a user's
            own module the SHA-256 of its source file.
    """

    backbone: Backbone
    weights_sha256: str
    parameters: int
    exact_masking: bool = False
    min_samples: int = 1
    normalisation: str = "none"
    options: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, int | str] = field(default_factory=dict)


def ready(backbone: Backbone, device: torch.device | str = "cpu") -> Loaded:
    """Move a backbone to ``device``, freeze it, and take its fingerprint."""
    # Float32 means float32: by default cuDNN's convolutions round their inputs to ten bits, which moves features by
    # more than the GPU and the CPU may differ.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    parameters = 0
    weights = hashlib.sha256()
    if isinstance(backbone, torch.nn.Module):
        # The fingerprint is of what was loaded, not of a file name: other weights can never meet an old cache.
        for name, tensor in sorted(backbone.state_dict().items()):
            weights.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
            weights.update(tensor.detach().cpu().ravel().view(torch.uint8).numpy().data if tensor.numel() else b"")
        parameters = sum(parameter.numel() for parameter in backbone.parameters())
        backbone.eval().requires_grad_(False).to(device)
    options = dict(getattr(backbone, "options", {}))
    if not isinstance(backbone, torch.nn.Module):
        weights.update(json.dumps(options, sort_keys=True, default=str).encode())
    return Loaded(
        backbone=backbone,
        weights_sha256=weights.hexdigest(),
        parameters=parameters,
        exact_masking=bool(getattr(backbone, "exact_masking", False)),
        min_samples=int(getattr(backbone, "min_samples", 1)),
        normalisation=str(getattr(backbone, "normalisation", "none")),
        options=options,
        versions=_versions(backbone),
    )


def _versions(backbone: Backbone) -> dict[str, int | str]:
    """What stands for the code of a backbone and of the encoders it is built on.

    A loader declares an integer version, which is raised when its outputs change. Nobody raises a version in a user's
    own module, so its whole source file is hashed.
    """
    parts: list[object] = [backbone, *vars(backbone).values()]
    if isinstance(backbone, torch.nn.Module):
        parts.extend(backbone.modules())
    kinds = dict.fromkeys(one for part in parts for one in type(part).__mro__)
    loaders = [getattr(backbone, "loaded_by", None), *(_loader_of(kind.__module__) for kind in kinds)]
    versions: dict[str, int | str] = dict(filter(None, loaders))
    for one in type(backbone).__mro__:
        package = one.__module__.partition(".")[0]
        if one is not object and package not in ("evaluator", "torch", "typing"):
            file = getattr(sys.modules[one.__module__], "__file__", None)
            if file and _loader_of(one.__module__) is None:
                versions[one.__qualname__] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return versions


def _loader_of(module: str) -> tuple[str, int] | None:
    """Name and version of the loader that a module is, or is a part of; None for other modules."""
    while module:
        found = getattr(sys.modules.get(module), "LOADER", None)
        name, version = getattr(found, "name", None), getattr(found, "version", None)
        # A user's module may have a LOADER of its own, of another kind.
        if isinstance(name, str) and isinstance(version, int):
            return name, version
        module = module.rpartition(".")[0]
    return None
