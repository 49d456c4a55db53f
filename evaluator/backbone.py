"""The interface that an audio encoder must have, and the function that makes one ready to run."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from tasks.support.errors import UserError

# The bounds of a record.
_HIGHEST_RATE, _MOST_LAYERS, _WIDEST, _LONGEST_LINE = 10**7, 10_000, 10**8, 200
# Shorter clips are padded to min_samples, so that it is also a bound of the memory.
_LONGEST_SECONDS = 600


class Layer(NamedTuple):
    """One layer's output: its name, for readers, and its width in channels."""

    name: str
    width: int


class Backbone(Protocol):
    """A frozen encoder. The suite owns decoding, resampling, batching, device, precision, pooling and caching.

    Attributes:
        sample_rate: sample rate of the waveforms that ``encode`` receives, in Hz.
        layers: one entry per output of ``encode``; index 0 is the input of the first block.

    Optional attributes, read with ``getattr``:
        exact_masking (bool): clips of unequal length may share a batch, because ``encode`` uses the lengths to prevent
            that padding changes any valid frame. Default False: only clips of equal length share a batch.
        min_samples (int): shorter clips are padded with zeros at the end to this many samples. Default 1.
        normalisation (str): how the encoder normalises the amplitude, for the record. Default "none".
        options (Mapping[str, object]): settings beside the weights that change the output; part of the cache's key.
        named_files (Named): the files that ``encode`` may open, set by the loader ``python``. Another one is refused.
        extractor (Callable[[Loaded, torch.device, str], Extractor]): makes the extractor to use instead of ``encode``.

    A `Loader` sets ``loaded_by`` (tuple[str, int]): its name and version.
    """

    @property
    def sample_rate(self) -> int:
        """Sample rate in Hz."""

    @property
    def layers(self) -> Sequence[Layer]:
        """Name and width of every layer that ``encode`` returns, in the same order."""

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor | list[Tensor]]:
        """Encode a batch.

        Args:
            waveforms: (batch, samples) float32, zeros after each clip's end.
            lengths: (batch,) valid samples.

        Returns:
            The outputs, per layer (batch, frames, width); and the numbers of valid frames, (batch,): one tensor if all
            layers share a hop, else one tensor per layer.
        """


@dataclass(frozen=True)
class Loaded:
    """A backbone that is ready to run, with the values that identify it.

    Attributes:
        weights_sha256: hash of names, shapes and values of every parameter and buffer; hash of the options if the
            backbone is no torch module.
        parameters: number of trained values.
        versions: versions of the backbone's code: for a loader its declared VERSION, and for a class of a user's own
            module the SHA-256 of its source file.
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
    """Move a backbone to ``device``, freeze it, and compute its fingerprint.

    Raises:
        UserError: an attribute is not as `Backbone` describes it.
    """
    _require_declared(backbone)
    # By default cuDNN's convolutions round float32 inputs to ten bits. That changes features by more than the allowed
    # difference between GPU and CPU.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    parameters = 0
    weights = hashlib.sha256()
    if isinstance(backbone, torch.nn.Module):
        # A hash of the loaded weights and not of a file name: other weights never find old features in the cache.
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


def _require_declared(backbone: Backbone) -> None:
    """Raise a UserError if an attribute has a value that a record cannot hold."""
    rate, least, layers = backbone.sample_rate, getattr(backbone, "min_samples", 1), backbone.layers
    if type(rate) is not int or not 1 <= rate <= _HIGHEST_RATE:
        raise _wrong("sample_rate", rate, f"a whole number of Hz from 1 to {_HIGHEST_RATE}")
    if type(least) is not int or not 1 <= least <= _LONGEST_SECONDS * rate:
        raise _wrong("min_samples", least, f"a whole number from 1 to {_LONGEST_SECONDS * rate} ({_LONGEST_SECONDS} s)")
    if not isinstance(layers, Sequence) or not 1 <= len(layers) <= _MOST_LAYERS:
        raise _wrong("layers", layers, "a list of Layer(name, width), with at least one entry")
    for index, layer in enumerate(layers):
        right = isinstance(layer, Layer) and isinstance(layer.name, str) and type(layer.width) is int
        if not right or not 1 <= layer.width <= _WIDEST or not _is_line(layer.name):
            raise _wrong(f"layers[{index}]", layer, "Layer(name, width): a name of printable characters, and a width")
    if not _is_line(str(getattr(backbone, "normalisation", "none"))):
        raise _wrong("normalisation", getattr(backbone, "normalisation", ""), "one line of printable characters")
    if not isinstance(getattr(backbone, "options", {}), Mapping):
        raise _wrong("options", getattr(backbone, "options", {}), "a dict")


def _is_line(text: str) -> bool:
    return 1 <= len(text) <= _LONGEST_LINE and text.isprintable()


def _wrong(name: str, value: object, expected: str) -> UserError:
    shown = repr(value)
    shown = shown if len(shown) <= _LONGEST_LINE else f"{shown[:_LONGEST_LINE]}..."
    return UserError(f"The backbone's {name} is {shown} ({type(value).__name__}) and not {expected}: correct it.")


def _versions(backbone: Backbone) -> dict[str, int | str]:
    """Versions of the code of a backbone and of the encoders that it contains.

    A loader declares an integer VERSION, which is raised when its outputs change. A user's own module declares none,
    so its whole source file is hashed.
    """
    parts: list[object] = [backbone, *vars(backbone).values()]
    if isinstance(backbone, torch.nn.Module):
        parts.extend(backbone.modules())
    kinds = dict.fromkeys(base for part in parts for base in type(part).__mro__)
    loaders = [getattr(backbone, "loaded_by", None), *(_loader_of(kind.__module__) for kind in kinds)]
    versions: dict[str, int | str] = dict(filter(None, loaders))
    for base in type(backbone).__mro__:
        package = base.__module__.partition(".")[0]
        if base is not object and package not in ("evaluator", "torch", "typing"):
            file = getattr(sys.modules.get(base.__module__), "__file__", None)
            if file and Path(file).is_file() and _loader_of(base.__module__) is None:
                versions[base.__qualname__] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return versions


def _loader_of(module: str) -> tuple[str, int] | None:
    """Name and version of the loader that a module belongs to; None for other modules."""
    while module:
        found = getattr(sys.modules.get(module), "LOADER", None)
        name, version = getattr(found, "name", None), getattr(found, "version", None)
        # A user's module may have a LOADER of its own, of another kind.
        if isinstance(name, str) and isinstance(version, int):
            return name, version
        module = module.rpartition(".")[0]
    return None
