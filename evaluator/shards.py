"""A shard's features on disk: written whole or not at all, with a checksum of their content."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from evaluator.clips import Shard, fingerprint
from evaluator.extraction import Encoded
from tasks.files import write_atomically


def pooled_path(directory: Path, shard: Shard) -> Path:
    """Where a shard's pooled features lie: per block (layers, clips, width), frame counts, sound fingerprints."""
    return directory / f"{shard.name}.pooled.safetensors"


def paths(directory: Path, shard: Shard, frames: bool) -> list[Path]:
    """The shard's files: pooled features and, if ``frames``, the file of its frames."""
    pooled = pooled_path(directory, shard)
    return [pooled, directory / f"{shard.name}.frames.safetensors"] if frames else [pooled]


def store(directory: Path, shard: Shard, encoded: Encoded, sounds: Sequence[Tensor]) -> None:
    """Write a shard; its frames only if ``encoded`` has them."""
    pooled: dict[str, Tensor] = {"sounds": torch.tensor([fingerprint(sound) for sound in sounds])}
    for number, tensor in enumerate(encoded.pooled):
        pooled[f"pooled.{number}"] = tensor.contiguous()
        pooled[f"counts.{number}"] = encoded.counts[number]
    # Frames first: where the pooled file stands, its frames, if asked for, stand too.
    if encoded.frames is not None:
        content = {f"frames.{number}": tensor.contiguous() for number, tensor in enumerate(encoded.frames)}
        _write(paths(directory, shard, frames=True)[1], content)
    _write(pooled_path(directory, shard), pooled)


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save

    write_atomically(path, save(tensors, metadata={"sha256": _content_hash(tensors)}))


def is_stored(directory: Path, shard: Shard, frames: bool) -> bool:
    """Whether every file of the shard is there and is what was written."""
    from safetensors import SafetensorError, safe_open

    for path in paths(directory, shard, frames):
        try:
            with safe_open(path, framework="pt") as file:
                recorded = file.metadata().get("sha256")
            if _content_hash(read(path)) != recorded:
                raise SafetensorError("content does not match its checksum")
        except (SafetensorError, OSError, AttributeError):
            path.unlink(missing_ok=True)
            return False
    return True


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, mapped into memory rather than copied."""
    from safetensors.torch import load_file

    return load_file(path)


def _content_hash(tensors: dict[str, Tensor]) -> str:
    content = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        content.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        content.update(tensor.contiguous().view(torch.uint8).numpy().data if tensor.numel() else b"")
    return content.hexdigest()
