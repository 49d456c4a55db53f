"""A shard's features on disk: written whole or not at all, with a checksum of their content."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from evaluator.features.clips import Shard, fingerprint
from evaluator.features.extraction import Encoded
from tasks.support.errors import UserError
from tasks.support.files import write_atomically

_CHECKSUM = "xxh3_128"
_LEDGER = "ledger.json"

Stamp = tuple[int, int, int]
"""Size in bytes, and when content and inode were last changed, in nanoseconds: a file of the same stamp is the same."""


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

    write_atomically(path, save(tensors, metadata={_CHECKSUM: _checksum(tensors)}))


def stamp(path: Path) -> Stamp:
    """What tells, without reading a file, whether it is still the one it was."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass
class Ledger:
    """What is known to be whole in a directory of features, so that a second run need not read all of it.

    Attributes:
        directory: where.
        files: name to the stamp of a file that was written or found whole.
        distinct: digests of sets of shards whose features were found to differ wherever the sounds do.
    """

    directory: Path
    files: dict[str, Stamp]
    distinct: set[str]

    @classmethod
    def read(cls, directory: Path) -> "Ledger":
        """The directory's ledger; an empty one where there is none, or where it cannot be understood."""
        try:
            content = json.loads((directory / _LEDGER).read_bytes())
            files = {name: (size, changed, moved) for name, (size, changed, moved) in content["files"].items()}
            return cls(directory, files, set(content["distinct"]))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return cls(directory, {}, set())

    def add(self, files: Iterable[Path], distinct: str) -> None:
        """Note files that are whole, as they are now, and a set of shards that is distinct."""
        before = len(self.distinct), dict(self.files)
        for path in files:
            # Somebody may clear the store meanwhile; what is gone is computed again.
            with suppress(FileNotFoundError):
                self.files[path.name] = stamp(path)
        self.distinct.add(distinct)
        if before != (len(self.distinct), self.files):
            content = {"files": self.files, "distinct": sorted(self.distinct)}
            write_atomically(self.directory / _LEDGER, json.dumps(content))


def is_stored(directory: Path, shard: Shard, frames: bool, known: Mapping[str, Stamp]) -> bool:
    """Whether every file of the shard is there and is what was written; what is damaged is removed.

    Args:
        directory: where the files lie.
        shard: which.
        frames: whether its frames count.
        known: files that were found whole before, by name; one with the same stamp is not read again.
    """
    for path in paths(directory, shard, frames):
        try:
            found = stamp(path)
            if known.get(path.name) != found:
                _verify(path, found)
        except (FileNotFoundError, UserError):
            return False
    return True


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, mapped into memory rather than copied, and checked once in a process.

    Raises:
        UserError: they are not what was written; the file is removed.
    """
    from safetensors.torch import load_file

    try:
        _verify(path, stamp(path))
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} was removed meanwhile: run the same command again, which computes it anew.") from error


@lru_cache(maxsize=1 << 16)
def _verify(path: Path, found: Stamp) -> None:
    """Compare the content with its checksum. ``found`` is only to do it again for another file of that name."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            recorded = (file.metadata() or {}).get(_CHECKSUM)
            whole = recorded == _checksum({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except SafetensorError:
        whole = False
    if not whole:
        path.unlink(missing_ok=True)
        raise UserError(
            f"{path} was damaged, its content does not match its checksum, and is removed: run the same command again,"
            " which computes it anew."
        )


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    import xxhash

    content = xxhash.xxh3_128()
    for name, tensor in sorted(tensors.items()):
        content.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        content.update(tensor.contiguous().view(torch.uint8).numpy().data if tensor.numel() else b"")
    return content.hexdigest()
