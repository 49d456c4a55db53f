"""Pooled vectors: written once through the suite's feature store, read, split again, and brought to a scale."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.protocol.candidates import Scale
from evaluator.api.tasks import read_task
from evaluator.backbone import ready
from evaluator.features.extraction import Extractor
from evaluator.features.samples import Pooled
from evaluator.features.store import FeatureStore
from evaluator.submission import Submission
from tasks.support.files import write_atomically
from tasks.support.home import Home
from tasks.support.progress import Report
from tasks.task import SPLITS, Metric, Split

# A random split of fewer recordings leaves classes out of train or test.
FEWEST_RECORDINGS = 50
# More layers of an encoder take time and tell little new.
_LAYERS = 6
# A dimension whose deviation is this share of its largest value is constant but for rounding.
_CONSTANT = 1e-6


@dataclass(frozen=True, eq=False)
class Vectors:
    """The vectors of one encoder on one task.

    Attributes:
        task, encoder: their names.
        metric: of the task.
        layers: per layer and split, (items, width) float32.
        numbers: of the layers, in the encoder.
        targets: per split, (items,) class indices, or (items, classes) of 0 and 1.
        recordings: per split, (items,) the recording of each item.
    """

    task: str
    encoder: str
    metric: Metric
    layers: Sequence[dict[Split, Tensor]]
    numbers: Sequence[int]
    targets: dict[Split, Tensor]
    recordings: dict[Split, NDArray[np.str_]]

    @classmethod
    def read(cls, path: Path) -> "Vectors":
        """Read a file ``TASK.ENCODER.npz``. Of more than six layers, six are taken, evenly spread."""
        task, encoder = path.stem.split(".", 1)
        with np.load(path) as arrays:
            count = sum(name.startswith("pooled_train_") for name in arrays.files)
            numbers = np.linspace(0, count - 1, min(count, _LAYERS)).round().astype(int).tolist()
            return cls(
                task,
                encoder,
                str(arrays["metric"]),  # type: ignore[arg-type]
                [
                    {split: torch.from_numpy(arrays[f"pooled_{split}_{number}"]) for split in SPLITS}
                    for number in numbers
                ],
                numbers,
                {split: torch.from_numpy(arrays[f"targets_{split}"]) for split in SPLITS},
                {split: arrays[f"recordings_{split}"] for split in SPLITS},
            )

    @property
    def name(self) -> str:
        """Task and encoder."""
        return f"{self.task}.{self.encoder}"

    @property
    def classes(self) -> int:
        """Number of classes."""
        targets = self.targets["train"]
        return targets.shape[1] if targets.ndim == 2 else 1 + max(int(own.max()) for own in self.targets.values())

    @property
    def values(self) -> int:
        """How many values train has, all layers together: a measure of the work."""
        return sum(layer["train"].numel() for layer in self.layers)

    @property
    def can_be_split(self) -> bool:
        """Whether there are enough recordings for another split."""
        return len(np.unique(np.concatenate(list(self.recordings.values())))) >= FEWEST_RECORDINGS

    def split_again(self, seed: int) -> "Vectors":
        """The same items in a random split by recording, with as many recordings per split as before."""
        recordings = np.concatenate([self.recordings[split] for split in SPLITS])
        counts = [len(np.unique(self.recordings[split])) for split in SPLITS]
        order = np.random.default_rng(seed).permutation(np.unique(recordings))
        parts = dict(zip(SPLITS, np.split(order, np.cumsum(counts)[:2]), strict=True))
        items = {split: np.flatnonzero(np.isin(recordings, part)) for split, part in parts.items()}

        def again(splits: dict[Split, Tensor]) -> dict[Split, Tensor]:
            whole = torch.cat([splits[split] for split in SPLITS])
            return {split: whole[places] for split, places in items.items()}

        return replace(
            self,
            layers=[again(layer) for layer in self.layers],
            targets=again(self.targets),
            recordings={split: recordings[places] for split, places in items.items()},
        )

    def times(self, factor: float) -> "Vectors":
        """All vectors multiplied in single precision, as an encoder with other units would give them."""
        return replace(self, layers=[{split: part * factor for split, part in own.items()} for own in self.layers])

    def scaled(self, scale: Scale) -> "Vectors":
        """The vectors on a scale. Mean and deviation are those of train."""
        if scale == "unscaled":
            return self
        layers = []
        for layer in self.layers:
            train = layer["train"].double()
            deviation = train.std(0, correction=0)
            factor = torch.where(deviation > _CONSTANT * train.abs().amax(0), 1 / deviation, 0.0)
            if scale != "standardised":
                factor = factor / train.shape[1] ** 0.5
            scaled = {split: (part.double() - train.mean(0)) * factor for split, part in layer.items()}
            if scale == "principal axes over root":
                # L2 has the same optimum on rotated vectors. Adam, which scales each dimension, gets there sooner.
                axes = torch.linalg.eigh(scaled["train"].T @ scaled["train"]).eigenvectors
                scaled = {split: part @ axes for split, part in scaled.items()}
            layers.append({split: part.float() for split, part in scaled.items()})
        return replace(self, layers=layers)


def write(
    submissions: Sequence[Path], tasks: Sequence[str], data_dir: Path | None, out: Path, home: Home, report: Report
) -> None:
    """Write one file per submission and task into ``out``. Files that are there already are kept.

    ``data_dir`` is where the relative paths of task files start, as in `beans submit`.
    """
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cpu")
    for path in submissions:
        submission = Submission.read(path)
        extractor = Extractor.of(ready(submission.load(), device), device)
        for name in tasks:
            manifest = read_task(name, home.data, data_dir)
            target = out / f"{manifest.task.name}.{submission.name}.npz"
            if target.exists():
                continue
            what = target.stem
            features = FeatureStore(home.features).extract(
                extractor,
                manifest,
                frames=False,
                on_progress=lambda progress, what=what: report(what, progress.done, progress.total),  # type: ignore[misc]
            )
            arrays: dict[str, NDArray[np.generic]] = {"metric": np.array(manifest.task.metric)}
            for split in SPLITS:
                arrays[f"targets_{split}"] = features.targets(split).numpy()
                arrays[f"recordings_{split}"] = np.array([item.recording for item in manifest.items[split]])
                for block in features.blocks:
                    samples = features.samples(split, block.layers, device, frames=False)
                    assert isinstance(samples, Pooled)
                    for row, layer in enumerate(block.layers):
                        arrays[f"pooled_{split}_{layer}"] = samples.features[:, row].numpy()
            _save(target, arrays)


def _save(target: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    write_atomically(target, content.getvalue())
