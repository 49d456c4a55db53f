"""The feature store: every layer of every clip, under a key of everything that the features depend on."""

import hashlib
import json
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock
from torch import Tensor

from evaluator.features import cuts, extraction
from evaluator.features.clips import Clip, Shard, ahead, plan, refuse, same_sound, without_audio
from evaluator.features.extraction import Block, Extractor, Kept
from evaluator.features.headers import Headers
from evaluator.features.samples import Frames, Pooled, Samples
from evaluator.features.scale import Scale
from evaluator.features.shards import Ledger, described, is_stored, paths, pooled_path, read, spread_path, store
from evaluator.features.streaming import Streamed, keep_sounds
from tasks.support.errors import UserError
from tasks.support.files import write_atomically

if TYPE_CHECKING:
    from tasks.task import Manifest, Split

# Shards that may wait in memory to be written. If the disk is slower than the backbone, the backbone waits.
_SHARDS_BEHIND = 2


@dataclass(frozen=True)
class Progress:
    """Progress of an extraction: seconds of audio that are encoded, and seconds to encode in total."""

    done: float
    total: float


@dataclass(frozen=True)
class Estimate:
    """Work of an extraction: seconds of audio still to encode, seconds of the whole task, and bytes to write.

    ``streamed`` is true if the frames exceed the budget, so that the backbone runs again in every epoch.
    """

    seconds: float
    total_seconds: float
    bytes: int
    streamed: bool = False


class FeatureStore:
    """Features on disk, below ``root``. Several processes can share it. It can be deleted at any time.

    A shard's name is a hash of everything that determines its waveforms; the directory's name is a hash of everything
    that determines the backbone's outputs. A changed weight, file, crop, rate or VERSION therefore never finds an old
    feature. Each file is written completely or not at all, with a checksum of its content. The checksum is compared
    when the file is read, and when its size or times have changed. A damaged shard is computed again.
    """

    def __init__(self, root: Path, frames_budget: int | None = None) -> None:
        """The store in a directory.

        Args:
            root: the directory; it is created when needed.
            frames_budget: bytes of frames that may be written per task; half of the free disk if None. If a task needs
                more, none of its frames are written, and the backbone runs again whenever they are read.
        """
        self.root = root
        self.frames_budget = frames_budget

    def key(self, extractor: Extractor) -> str:
        """The key of a backbone: a hash of its weights and settings, how it runs, and the versions of the stages."""
        return _digest(self._identity(extractor))[:16]

    def is_checked(self, extractor: Extractor) -> bool:
        """Whether the backbone with this key has passed its checks."""
        return (self.root / self.key(extractor) / "checked").is_file()

    def mark_checked(self, extractor: Extractor) -> None:
        """Store that the backbone passed its checks."""
        write_atomically(self.root / self.key(extractor) / "checked", "")

    def estimate(self, extractor: Extractor, manifest: "Manifest", *, frames: bool) -> Estimate:
        """The work that ``extract`` would do, from file headers and file names alone."""
        directory = self.root / self.key(extractor)
        rate = extractor.model.backbone.sample_rate
        missing = total = 0.0
        size = 0
        headers = Headers.read(self._headers(manifest))
        shards = [
            shard
            for items in manifest.items.values()
            for shard in plan(manifest.task, items, rate, extractor.model.min_samples, headers)
        ]
        wanted: Kept = "frames" if frames else "means"
        absent = [shard for shard in shards if not all(path.exists() for path in paths(directory, shard, wanted))]
        kept = self._kept(extractor, absent, frames)
        for shard in shards:
            seconds = sum(clip.samples for clip in shard.clips) / rate
            total += seconds
            if not all(path.exists() for path in paths(directory, shard, kept)):
                missing += seconds
                size += extractor.size(shard.clips, kept)
        return Estimate(missing, total, size, streamed=kept == "spreads")

    def extract(
        self,
        extractor: Extractor,
        manifest: "Manifest",
        *,
        frames: bool,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> "Features":
        """The features of every item of a task. Only missing ones are computed.

        Args:
            extractor: the backbone.
            manifest: the items.
            frames: whether a head will read frames. If not, only the mean over each clip's frames is stored. Frames
                that exceed the budget are not stored, but their deviations are.
            on_progress: receives the progress after each batch.

        Raises:
            UserError: names the audio that cannot be used; the features of all other audio are stored.
        """
        extractor = extractor.on(manifest)
        directory = self.root / self.key(extractor)
        rate = extractor.model.backbone.sample_rate
        headers = Headers.read(self._headers(manifest))
        plans = {
            split: plan(manifest.task, items, rate, extractor.model.min_samples, headers)
            for split, items in manifest.items.items()
        }
        headers.write(self._headers(manifest))
        shards = [shard for split in plans.values() for shard in split]
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / ".lock"):
            write_atomically(directory / "about.json", json.dumps(self._identity(extractor), indent=2))
            ledger = Ledger.read(directory)
            wanted: Kept = "frames" if frames else "means"
            todo = [shard for shard in shards if not is_stored(directory, shard, wanted, ledger.files)]
            kept = self._kept(extractor, todo, frames)
            if kept != wanted:
                todo = [shard for shard in shards if not is_stored(directory, shard, kept, ledger.files)]
            streamed = extractor if kept == "spreads" else None
            features = Features(manifest, extractor.blocks, plans, directory, streamed, self._budget() // len(plans))
            self._compute(extractor, todo, directory, kept, on_progress)
            together = _digest([shard.name for shard in shards])
            if todo or together not in ledger.distinct:
                features.check(rate)
            ledger.add([path for shard in shards for path in paths(directory, shard, kept)], together)
        return features

    def _kept(self, extractor: Extractor, shards: Sequence[Shard], frames: bool) -> Kept:
        """What to keep if ``shards`` are missing: frames only if they are requested and within the budget."""
        if not frames:
            return "means"
        size = sum(extractor.size(shard.clips, "frames") - extractor.size(shard.clips, "spreads") for shard in shards)
        return "frames" if size <= self._budget() else "spreads"

    def _budget(self) -> int:
        if self.frames_budget is not None:
            return self.frames_budget
        existing = next(folder for folder in (self.root, *self.root.resolve().parents) if folder.exists())
        return shutil.disk_usage(existing).free // 2

    def _headers(self, manifest: "Manifest") -> Path:
        """Path of the cached headers of a task's files."""
        task = manifest.task
        return self.root / "headers" / f"{task.name}-{_digest(str(task.root))[:8]}.json"

    def _compute(
        self,
        extractor: Extractor,
        shards: Sequence[Shard],
        directory: Path,
        kept: Kept,
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
        pending: deque[Future[None]] = deque()
        # Shards are written one at a time, while the next forward passes run.
        with ThreadPoolExecutor(1) as writer:
            for shard, decoded in ahead(shards, rate) if extractor.needs_audio else without_audio(shards):
                if isinstance(decoded, UserError):
                    # All other shards are still computed: after the file is repaired, one shard is missing.
                    problems.append(str(decoded))
                    continue
                encoded = extractor.encode(
                    shard.clips,
                    [one.waveform for one in decoded],
                    frames=kept == "frames",
                    spread=kept != "means",
                    on_batch=advance,
                )
                sounds = described(decoded)
                # The next shard may hold a clip of hours: the waveforms of this one must leave the memory first.
                del decoded
                if len(pending) == _SHARDS_BEHIND:
                    pending.popleft().result()
                pending.append(writer.submit(store, directory, shard, encoded, sounds))
            for written in pending:
                written.result()
        refuse(problems)

    def _identity(self, extractor: Extractor) -> dict[str, object]:
        import soxr
        import torchaudio

        model = extractor.model
        return {
            "weights": model.weights_sha256,
            "options": model.options,
            "sample_rate": model.backbone.sample_rate,
            "layers": [list(layer) for layer in model.backbone.layers],
            "blocks": [asdict(block) for block in extractor.blocks],
            "normalisation": model.normalisation,
            "min_samples": model.min_samples,
            "exact_masking": model.exact_masking,
            "device": extractor.device.type,
            "precision": extractor.precision,
            "versions": {"decoding": cuts.VERSION, "extraction": extraction.VERSION, "backbone": dict(model.versions)},
            "torch": torch.__version__,
            "torchaudio": torchaudio.__version__,
            "soxr": soxr.__version__,
        }


@dataclass(frozen=True)
class Features:
    """The features of a task. `samples` reads a split in the form that a head needs.

    ``streamed`` is the backbone if its frames are not on disk, else None. Then the frames of the layers in use, or the
    waveforms in ``decoded``, are kept in a temporary file if they take at most ``budget`` bytes per split.
    """

    manifest: "Manifest"
    blocks: tuple[Block, ...]
    plans: dict["Split", list[Shard]]
    directory: Path
    streamed: Extractor | None = None
    budget: int = 0
    decoded: dict["Split", dict[int, Tensor]] = field(default_factory=dict)
    scales: dict[tuple[int, bool, float], Scale] = field(default_factory=dict)

    def samples(
        self,
        split: "Split",
        layers: Sequence[int],
        device: torch.device,
        *,
        frames: bool,
        standardise: bool = False,
        multiplier: float = 1.0,
    ) -> Samples:
        """One split in ``layers``, which must belong to one block.

        Args:
            split: the split to read.
            layers: indices of the layers.
            device: where the inputs are wanted.
            frames: read every frame, and not the mean over each clip's frames.
            standardise: subtract from each channel of a layer its mean over the train split, and divide it by its
                deviation over the train split. Both are taken over what is read: vectors, or all frames. A channel
                that is constant on the train split becomes 0.
            multiplier: of standardised inputs.
        """
        number, rows = self._place(layers)
        block = self.blocks[number]
        scale = self.scale(layers, frames=frames, multiplier=multiplier) if standardise else None
        targets = self.targets(split).to(device)
        if frames and self.streamed is not None:
            clips = {clip.index: clip for shard in self.plans[split] for clip in shard.clips}
            samples = Streamed(self.streamed, clips, number, rows, targets, layers, scale=scale)
            held = sum(sound.nbytes for sound in self.decoded.get(split, {}).values())
            if samples.size + held <= self.budget:
                return samples.kept(self.directory)
            return replace(samples, sounds=self._sounds(self.streamed, split))
        if frames:
            return Frames.read(self.directory, self.plans[split], number, rows, targets, layers, block.width, scale)
        pooled = torch.empty(len(targets), len(rows), block.width)
        for shard in self.plans[split]:
            index = [clip.index for clip in shard.clips]
            stored = read(pooled_path(self.directory, shard))[f"pooled.{number}"]
            # numpy copies the few rows of a shard a dozen times faster than torch's threads.
            pooled.numpy()[index] = stored.numpy()[rows].swapaxes(0, 1)
        if scale is not None:
            pooled.sub_(scale.shift).mul_(scale.factor)
        return Pooled(pooled.to(device), targets, layers)

    def scale(self, layers: Sequence[int], *, frames: bool, multiplier: float = 1.0) -> Scale:
        """The scale of ``layers``, which must belong to one block, from the train split.

        Args:
            layers: indices of the layers.
            frames: of frames, and not of the mean over each clip's frames.
            multiplier: of standardised inputs.
        """
        number, rows = self._place(layers)
        key = number, frames, multiplier
        if key not in self.scales:
            parts = (read(pooled_path(self.directory, shard)) for shard in self.plans["train"])
            if frames:
                spreads = (read(spread_path(self.directory, shard)) for shard in self.plans["train"])
                clips = (
                    (means[f"pooled.{number}"], deviations[f"spread.{number}"], means[f"counts.{number}"])
                    for means, deviations in zip(parts, spreads, strict=True)
                )
                self.scales[key] = Scale.of_frames(clips, multiplier)
            else:
                self.scales[key] = Scale.of_vectors((part[f"pooled.{number}"] for part in parts), multiplier)
        return self.scales[key].rows(rows)

    def _place(self, layers: Sequence[int]) -> tuple[int, list[int]]:
        """The number of the block that holds ``layers``, and their rows in it."""
        number, block = next(
            (number, block) for number, block in enumerate(self.blocks) if set(layers) <= set(block.layers)
        )
        return number, [block.layers.index(layer) for layer in layers]

    def _sounds(self, extractor: Extractor, split: "Split") -> dict[int, Tensor] | None:
        """Waveforms of a split, decoded once for all its samples; None if they exceed the budget."""
        shards = self.plans[split]
        size = sum(clip.samples for shard in shards for clip in shard.clips) * torch.float32.itemsize
        if not extractor.needs_audio or size > self.budget:
            return None
        if split not in self.decoded:
            self.decoded[split] = keep_sounds(shards, extractor.model.backbone.sample_rate, self.directory)
        return self.decoded[split]

    def targets(self, split: "Split") -> Tensor:
        """(items,) class indices, or (items, classes) of 0 and 1 for detection."""
        items = self.manifest.items[split]
        if self.manifest.task.kind == "classification":
            return torch.tensor([item.labels[0] for item in items])
        targets = torch.zeros(len(items), len(self.manifest.labels))
        rows = [row for row, item in enumerate(items) for _ in item.labels]
        targets.numpy()[rows, [label for item in items for label in item.labels]] = 1
        return targets

    def check(self, rate: int) -> None:
        """Check that different sounds have different features. Equal ones show a wrong rate or a broken encoder.

        Raises:
            UserError: names two items with equal features.
        """
        seen: dict[bytes, tuple[int, Clip]] = {}
        numbers = range(len(self.blocks))
        for shards in self.plans.values():
            for shard in shards:
                stored = read(pooled_path(self.directory, shard))
                rows = torch.cat([stored[f"pooled.{number}"].transpose(0, 1).flatten(1) for number in numbers], 1)
                for clip, row, sound in zip(shard.clips, rows, stored["sounds"].tolist(), strict=True):
                    digest = hashlib.blake2b(row.numpy().data, digest_size=16).digest()
                    other_sound, other = seen.setdefault(digest, (sound, clip))
                    # Fingerprint 0 is silence; two stretches of silence may have equal features.
                    if 0 not in (sound, other_sound) and sound != other_sound and not same_sound(clip, other, rate):
                        raise UserError(
                            f"The features of {clip.item.id} and {other.item.id} are identical although the audio"
                            f" differs ({clip.item.path}): check the backbone's sample_rate and encode."
                        )


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
