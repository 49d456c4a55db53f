"""The feature store: every layer of every clip, kept under a key that names all it depends on."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock
from torch import Tensor

from evaluator import audio, extraction
from evaluator.extraction import Block, Encoded, Extractor, Shard, ahead, plan, refuse
from evaluator.heads import NEEDS_FRAMES
from evaluator.probes import Pooled, Samples
from tasks.errors import UserError
from tasks.files import write_atomically

if TYPE_CHECKING:
    from tasks.task import Manifest, Split

# Values of frames brought to single precision at once (256 MB); more does not run faster.
_CHUNK_VALUES = 64_000_000
# Beyond this many values a piece is ended before more than a quarter of it is padding; below, a piece costs more than
# the padding it saves.
_SMALL_CHUNK_VALUES = 2_000_000
# Two clips whose lengths differ by less are the same sound if the shorter is the beginning of the longer.
_SAME_SOUND_SECONDS = 0.1


@dataclass(frozen=True)
class Progress:
    """Where an extraction is: seconds of audio that the backbone has heard, of those it has to hear."""

    done: float
    total: float


@dataclass(frozen=True)
class Estimate:
    """What an extraction would still do: seconds of audio to hear, of how many in all, and bytes to write."""

    seconds: float
    total_seconds: float
    bytes: int


class FeatureStore:
    """Features on disk, below ``root``. Safe to share between processes; safe to delete.

    A shard's name is a hash of what fixes its waveforms, and the directory's of what fixes the backbone, so a changed
    weight, file, crop, rate or line of code never meets an old feature. Each shard is written whole or not at all,
    with a checksum of its content; one that does not check out is computed again.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def key(self, extractor: Extractor) -> str:
        """What identifies a backbone, how it is run, and the code that runs it."""
        return _digest(self._identity(extractor))[:16]

    def estimate(self, extractor: Extractor, manifest: "Manifest", tracks: Sequence[str]) -> Estimate:
        """What ``extract`` would have to do, from file headers and names alone."""
        directory = self.root / self.key(extractor)
        rate = extractor.model.backbone.sample_rate
        missing = total = 0.0
        size = 0
        frames = any(NEEDS_FRAMES[track] for track in tracks)
        for items in manifest.items.values():
            for shard in plan(manifest.task, items, rate, extractor.model.min_samples):
                seconds = sum(clip.samples for clip in shard.clips) / rate
                total += seconds
                if not all(path.exists() for path in _paths(directory, shard, frames)):
                    missing += seconds
                    size += extractor.size(shard.clips, frames)
        return Estimate(missing, total, size)

    def extract(
        self,
        extractor: Extractor,
        manifest: "Manifest",
        tracks: Sequence[str],
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> "Features":
        """The features of every item of a task, computing only those that are not there yet.

        Args:
            extractor: the backbone.
            manifest: the items.
            tracks: which heads will read them; frames are kept only for those that need frames.
            on_progress: called as the backbone goes through the audio.

        Raises:
            UserError: names the audio that cannot be used; features of all other audio are kept.
        """
        directory = self.root / self.key(extractor)
        frames = any(NEEDS_FRAMES[track] for track in tracks)
        rate = extractor.model.backbone.sample_rate
        plans = {
            split: plan(manifest.task, items, rate, extractor.model.min_samples)
            for split, items in manifest.items.items()
        }
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / ".lock"):
            write_atomically(directory / "about.json", json.dumps(self._identity(extractor), indent=2))
            todo = [shard for shards in plans.values() for shard in shards if not _is_stored(directory, shard, frames)]
            self._compute(extractor, todo, directory, frames, on_progress)
        features = Features(manifest, extractor.blocks, plans, directory)
        features.check(rate)
        return features

    def _compute(
        self,
        extractor: Extractor,
        shards: Sequence[Shard],
        directory: Path,
        frames: bool,
        on_progress: Callable[[Progress], None],
    ) -> None:
        rate = extractor.model.backbone.sample_rate
        total = sum(clip.samples for shard in shards for clip in shard.clips) / rate
        done = 0.0

        def advance(seconds: float) -> None:
            nonlocal done
            done += seconds
            on_progress(Progress(done, total))

        problems = []
        for shard, sounds in ahead(shards, rate):
            if isinstance(sounds, UserError):
                # The rest is computed all the same, so that mending one file costs one shard.
                problems.append(str(sounds))
                continue
            encoded = extractor.encode(shard.clips, sounds, frames=frames, on_batch=advance)
            _store(directory, shard, encoded, sounds)
        refuse(problems)

    def _identity(self, extractor: Extractor) -> dict[str, object]:
        import torchaudio

        model = extractor.model
        code = [Path(audio.__file__), Path(extraction.__file__)]
        return {
            "weights": model.weights_sha256,
            "class": type(model.backbone).__qualname__,
            "options": model.options,
            "sample_rate": model.backbone.sample_rate,
            "layers": [list(layer) for layer in model.backbone.layers],
            "blocks": [asdict(block) for block in extractor.blocks],
            "normalisation": model.normalisation,
            "min_samples": model.min_samples,
            "exact_masking": model.exact_masking,
            "device": extractor.device.type,
            "precision": extractor.precision,
            "code": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in [*code, *model.code]},
            "torch": torch.__version__,
            "torchaudio": torchaudio.__version__,
        }


@dataclass(frozen=True)
class Features:
    """A task's features: read a split as the samples that a head wants."""

    manifest: "Manifest"
    blocks: tuple[Block, ...]
    plans: dict["Split", list[Shard]]
    directory: Path

    def samples(self, split: "Split", layers: Sequence[int], track: str, device: torch.device) -> Samples:
        """One split as ``layers``, which lie in one block, see it."""
        number, block = next(
            (number, block) for number, block in enumerate(self.blocks) if set(layers) <= set(block.layers)
        )
        rows = [block.layers.index(layer) for layer in layers]
        targets = self.targets(split).to(device)
        if NEEDS_FRAMES[track]:
            return Frames.read(self.directory, self.plans[split], number, rows, targets, layers, block.width)
        pooled = torch.empty(len(rows), len(targets), block.width)
        for shard in self.plans[split]:
            index = [clip.index for clip in shard.clips]
            pooled[:, index] = _read(_pooled_path(self.directory, shard))[f"pooled.{number}"][rows]
        return Pooled(pooled.to(device), targets, layers)

    def targets(self, split: "Split") -> Tensor:
        """(items,) class indices, or (items, classes) of 0 and 1 for detection."""
        items = self.manifest.items[split]
        if self.manifest.task.kind == "classification":
            return torch.tensor([item.labels[0] for item in items])
        targets = torch.zeros(len(items), len(self.manifest.labels))
        for row, item in enumerate(items):
            targets[row, list(item.labels)] = 1
        return targets

    def check(self, rate: int) -> None:
        """Refuse features that are the same for different sounds, the mark of a wrong rate or a broken encoder.

        Raises:
            UserError: names two items.
        """
        seen: dict[bytes, tuple[int, extraction.Clip]] = {}
        numbers = range(len(self.blocks))
        for shards in self.plans.values():
            for shard in shards:
                stored = _read(_pooled_path(self.directory, shard))
                rows = torch.cat([stored[f"pooled.{number}"].transpose(0, 1).flatten(1) for number in numbers], 1)
                for clip, row, sound in zip(shard.clips, rows, stored["sounds"].tolist(), strict=True):
                    digest = hashlib.blake2b(row.numpy().data, digest_size=16).digest()
                    other_sound, other = seen.setdefault(digest, (sound, clip))
                    # Sound 0 is silence, of which any two stretches may agree.
                    if 0 not in (sound, other_sound) and sound != other_sound and not _same_sound(clip, other, rate):
                        raise UserError(
                            f"The features of {clip.item.id} and {other.item.id} are identical although the audio"
                            f" differs ({clip.item.path}): check the backbone's sample_rate and encode."
                        )


class Frames:
    """Samples of a head that reads frames: half precision on disk, brought to single precision piece by piece."""

    def __init__(
        self,
        places: list[tuple[Tensor, int, int]],
        rows: Sequence[int],
        targets: Tensor,
        layers: Sequence[int],
        width: int,
    ) -> None:
        self.targets = targets
        self.layers = layers
        self.width = width
        # Per item: the frames of its shard (block's layers, frames, width), where its own begin, and how many.
        self._places = places
        # All layers of a block in their order is the usual case, and a slice of them needs no copy.
        self._rows = slice(None) if list(rows) == list(range(len(places[0][0]))) else list(rows)
        self._buffer = torch.zeros(0, device=targets.device)

    @classmethod
    def read(
        cls,
        directory: Path,
        shards: Sequence[Shard],
        number: int,
        rows: Sequence[int],
        targets: Tensor,
        layers: Sequence[int],
        width: int,
    ) -> "Frames":
        """Map the shards of one split into memory; the operating system keeps what fits."""
        places: list[tuple[Tensor, int, int]] = [(torch.empty(0), 0, 0)] * len(targets)
        for shard in shards:
            pooled_path, frames_path = _paths(directory, shard, frames=True)
            counts = _read(pooled_path)[f"counts.{number}"].tolist()
            frames = _read(frames_path)[f"frames.{number}"]
            start = 0
            for clip, count in zip(shard.clips, counts, strict=True):
                places[clip.index] = (frames, start, count)
                start += count
        return cls(places, rows, targets, layers, width)

    def chunks(self, index: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Items in order of their length, so that little is padded, as many at once as the buffer holds."""
        batch = index.shape[1]
        counts = torch.tensor([[self._places[item][2] for item in row] for row in index.tolist()])
        order = counts.argsort(dim=1, stable=True)
        items, counts = index.cpu().gather(1, order), counts.gather(1, order)
        start = 0
        while start < batch:
            stop = start + 1
            while stop < batch and self._fits(counts[:, start : stop + 1]):
                stop += 1
            yield self._fill(items[:, start:stop], counts[:, start:stop])
            start = stop

    def _fits(self, counts: Tensor) -> bool:
        """Whether clips of so many frames, (sets, items), make one piece."""
        values = self._values(counts)
        used = int(counts.sum()) * len(self.layers) * self.width
        return values <= _CHUNK_VALUES and (values <= _SMALL_CHUNK_VALUES or values - used <= values / 4)

    def _values(self, counts: Tensor) -> int:
        return len(self.layers) * counts.numel() * int(counts.max()) * self.width

    def _fill(self, items: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sets, batch = items.shape
        longest = int(counts.max())
        size = self._values(counts)
        if len(self._buffer) < size:
            # Zeros once; later, what an earlier piece left beyond a clip's end is finite and gets no weight.
            self._buffer = torch.zeros(size, device=self.targets.device)
        inputs = self._buffer[:size].view(len(self.layers), sets, batch, longest, self.width)
        for row in range(sets):
            for column, item in enumerate(items[row].tolist()):
                frames, start, count = self._places[item]
                stretch = frames[:, start : start + count]
                inputs[:, row, column, :count].copy_(stretch[self._rows], non_blocking=True)
        device = self.targets.device
        mask = (torch.arange(longest) < counts[..., None]).repeat(len(self.layers), 1, 1)
        return items.to(device), inputs.flatten(0, 1), mask.to(device)


def _pooled_path(directory: Path, shard: Shard) -> Path:
    return directory / f"{shard.name}.pooled.safetensors"


def _paths(directory: Path, shard: Shard, frames: bool) -> list[Path]:
    pooled = _pooled_path(directory, shard)
    return [pooled, directory / f"{shard.name}.frames.safetensors"] if frames else [pooled]


def _store(directory: Path, shard: Shard, encoded: Encoded, sounds: Sequence[Tensor]) -> None:
    pooled: dict[str, Tensor] = {"sounds": torch.tensor([_sound(sound) for sound in sounds])}
    for number, tensor in enumerate(encoded.pooled):
        pooled[f"pooled.{number}"] = tensor.contiguous()
        pooled[f"counts.{number}"] = encoded.counts[number]
    # Frames first: where the pooled file stands, its frames, if asked for, stand too.
    if encoded.frames is not None:
        content = {f"frames.{number}": tensor.contiguous() for number, tensor in enumerate(encoded.frames)}
        _write(_paths(directory, shard, frames=True)[1], content)
    _write(_pooled_path(directory, shard), pooled)


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save

    write_atomically(path, save(tensors, metadata={"sha256": _content_hash(tensors)}))


def _is_stored(directory: Path, shard: Shard, frames: bool) -> bool:
    """Whether every file of the shard is there and is what was written."""
    from safetensors import SafetensorError, safe_open

    for path in _paths(directory, shard, frames):
        try:
            with safe_open(path, framework="pt") as file:
                recorded = file.metadata().get("sha256")
            if _content_hash(_read(path)) != recorded:
                raise SafetensorError("content does not match its checksum")
        except (SafetensorError, OSError, AttributeError):
            path.unlink(missing_ok=True)
            return False
    return True


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _content_hash(tensors: dict[str, Tensor]) -> str:
    content = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        content.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        content.update(tensor.contiguous().view(torch.uint8).numpy().data if tensor.numel() else b"")
    return content.hexdigest()


def _sound(waveform: Tensor) -> int:
    """A 63-bit fingerprint of a waveform, 0 for silence."""
    if bool((waveform == waveform[0]).all()):
        return 0
    return int.from_bytes(hashlib.blake2b(waveform.contiguous().numpy().data, digest_size=8).digest()) >> 1 or 1


def _same_sound(first: extraction.Clip, second: extraction.Clip, rate: int) -> bool:
    """Whether two clips differ only in a tail too short to make a frame."""
    one, two = (extraction.waveforms(Shard("", (clip,)), rate)[0] for clip in (first, second))
    length = min(len(one), len(two))
    return abs(len(one) - len(two)) < _SAME_SOUND_SECONDS * rate and torch.equal(one[:length], two[:length])


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
