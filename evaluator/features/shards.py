"""A shard's features on disk. Each file is written completely or not at all, with a checksum of its content."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from evaluator.features.clips import DecodedClip, Shard, decode_clips
from evaluator.features.extraction import Encoded, Kept
from tasks.support.errors import UserError
from tasks.support.files import write_atomically

_CHECKSUM = "xxh3_128"
_LEDGER = "ledger.json"
FAULTS = "faults"

Stamp = tuple[int, int, int]
"""Size in bytes, and times of last change of content and inode in nanoseconds. Equal stamps mean an unchanged file."""


def pooled_path(directory: Path, shard: Shard) -> Path:
    """Path of a shard's pooled features: per block (layers, clips, width), frame counts, sound fingerprints, faults."""
    return directory / f"{shard.name}.pooled.safetensors"


def spread_path(directory: Path, shard: Shard) -> Path:
    """Path of a shard's deviations: per block (layers, clips, width)."""
    return directory / f"{shard.name}.spread.safetensors"


def frames_path(directory: Path, shard: Shard) -> Path:
    """Path of a shard's frames: per block (layers, frames of all clips, width), relative to each clip."""
    return directory / f"{shard.name}.frames.safetensors"


def paths(directory: Path, shard: Shard, kept: Kept) -> list[Path]:
    """Paths of the shard's files: its pooled features, its deviations and its frames, as far as they are kept."""
    every = [place(directory, shard) for place in (pooled_path, spread_path, frames_path)]
    return every[: {"means": 1, "spreads": 2, "frames": 3}[kept]]


def described(decoded: Sequence[DecodedClip]) -> dict[str, Tensor]:
    """What is stored of the sounds of a shard: their fingerprints and, if they were decoded, their faults."""
    stored = {"sounds": torch.tensor([one.sound for one in decoded])}
    if all(one.faults is not None for one in decoded):
        stored[FAULTS] = torch.tensor([int(one.faults or 0) for one in decoded])
    return stored


def store(directory: Path, shard: Shard, encoded: Encoded, sounds: Mapping[str, Tensor]) -> None:
    """Write the features of a shard; its deviations and its frames only if ``encoded`` has them.

    Args:
        directory: where the files are.
        shard: the shard.
        encoded: its features.
        sounds: what `described` returns for its sounds.
    """
    pooled = dict(sounds)
    for number, tensor in enumerate(encoded.pooled):
        pooled[f"pooled.{number}"] = tensor.contiguous()
        pooled[f"counts.{number}"] = encoded.counts[number]
    # Frames first: if the pooled file exists, the others exist too.
    for path, name, tensors in (
        (frames_path(directory, shard), "frames", encoded.halves),
        (spread_path(directory, shard), "spread", encoded.spreads),
    ):
        if tensors is not None:
            _write(path, {f"{name}.{number}": tensor.contiguous() for number, tensor in enumerate(tensors)})
    _write(pooled_path(directory, shard), pooled)


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save

    write_atomically(path, save(tensors, metadata={_CHECKSUM: _checksum(tensors)}))


def faults(directory: Path, shard: Shard, rate: int) -> Tensor:
    """(clips,) the faults of a shard's sounds.

    Features that an older version stored do not have them. Then the shard is decoded again, and they are added.
    """
    path = pooled_path(directory, shard)
    stored = read(path)
    if FAULTS not in stored:
        stored = {name: tensor.clone() for name, tensor in stored.items()} | described(decode_clips(shard, rate))
        _write(path, stored)
    return stored[FAULTS]


def stamp(path: Path) -> Stamp:
    """The stamp of a file, without reading its content."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass
class Ledger:
    """The files of a feature directory that are known to be intact, so that a second run does not read them all.

    Attributes:
        directory: the directory of features.
        files: by name, the stamp of a file when it was written or verified.
        distinct: digests of sets of shards whose features passed `Features.check`.
    """

    directory: Path
    files: dict[str, Stamp]
    distinct: set[str]

    @classmethod
    def read(cls, directory: Path) -> "Ledger":
        """Read the directory's ledger. A missing or unreadable file gives an empty ledger."""
        try:
            content = json.loads((directory / _LEDGER).read_bytes())
            files = {name: (size, changed, moved) for name, (size, changed, moved) in content["files"].items()}
            return cls(directory, files, set(content["distinct"]))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return cls(directory, {}, set())

    def add(self, files: Iterable[Path], distinct: str) -> None:
        """Store that ``files`` are intact now, and that the set of shards ``distinct`` passed its check."""
        before = len(self.distinct), dict(self.files)
        for path in files:
            # A user may delete the store at this moment. Deleted features are computed again.
            with suppress(FileNotFoundError):
                self.files[path.name] = stamp(path)
        self.distinct.add(distinct)
        if before != (len(self.distinct), self.files):
            content = {"files": self.files, "distinct": sorted(self.distinct)}
            write_atomically(self.directory / _LEDGER, json.dumps(content))


def is_stored(directory: Path, shard: Shard, kept: Kept, known: Mapping[str, Stamp]) -> bool:
    """Whether every file of the shard exists and is intact. A damaged file is removed.

    Args:
        directory: the directory of the files.
        shard: the shard.
        kept: what is needed of its frames.
        known: by name, the stamps of files that were intact before; a file with an equal stamp is not read again.
    """
    for path in paths(directory, shard, kept):
        try:
            current = stamp(path)
            if known.get(path.name) != current:
                _verify(path, current)
        except (FileNotFoundError, UserError):
            return False
    return True


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, mapped into memory and not copied. The checksum is compared once per process.

    Raises:
        UserError: the file is damaged and was removed, or somebody deleted it.
    """
    from safetensors.torch import load_file

    try:
        _verify(path, stamp(path))
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} was deleted during the run: run the same command again to compute it.") from error


@lru_cache(maxsize=1 << 16)
def _verify(path: Path, current: Stamp) -> None:
    """Compare the content with its checksum. ``current`` is part of the cache's key: a changed file is read again."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            recorded = (file.metadata() or {}).get(_CHECKSUM)
            intact = recorded == _checksum({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except SafetensorError:
        intact = False
    if not intact:
        path.unlink(missing_ok=True)
        raise UserError(
            f"{path} was damaged (its content does not match its checksum) and was removed: run the same command again"
            " to compute it."
        )


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    import xxhash

    content = xxhash.xxh3_128()
    for name, tensor in sorted(tensors.items()):
        content.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        content.update(tensor.contiguous().view(torch.uint8).numpy().data if tensor.numel() else b"")
    return content.hexdigest()
