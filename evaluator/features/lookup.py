"""Features that were computed elsewhere: a table of vectors per task, looked up by item id.

VERSION in `evaluator.backbones.embeddings` stands for this module too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluator.backbone import Layer
from evaluator.features.clips import Clip
from evaluator.features.extraction import Encoded, Extractor, Kept
from tasks.support.errors import UserError

if TYPE_CHECKING:
    from tasks.task import Manifest


@dataclass(frozen=True)
class Table:
    """One task's embeddings: ids, and per layer (items, width) float32."""

    file: Path
    ids: list[str]
    layers: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Lookup(Extractor):
    """Reads a task's vectors where another extractor would run a backbone.

    Attributes:
        directory: where the embeddings are.
        files: the file of each task, by the task's name.
        vectors: the vectors of one task by item id, per block (layers, width); None before `on`.
    """

    directory: Path
    files: Mapping[str, Path]
    vectors: Mapping[str, tuple[Tensor, ...]] | None = None
    needs_audio = False

    def on(self, manifest: "Manifest") -> "Lookup":
        """The same for one task, whose ids must be those of the manifest.

        Raises:
            UserError: names ids that are missing, unknown or there twice, and layers that differ from other tasks'.
        """
        from tasks.manifest import read_manifest

        name = manifest.task.name
        if name not in self.files:
            raise UserError(f"{self.directory} holds no embeddings of {name}: add {name}.npz or .parquet.")
        table = read_table(self.files[name])
        found = [Layer(layer, values.shape[1]) for layer, values in table.layers.items()]
        declared = self.model.backbone.layers
        if found != declared:
            raise UserError(
                f"{table.file} has the layers {_layers(found)}, but {_layers(declared)} are in"
                f" {next(iter(self.files.values()))}: write the same layers for every task."
            )
        # A quick look or a few shots evaluate a part of the task; the embeddings may be of all of it.
        known = {item.id for items in read_manifest(manifest.task).items.values() for item in items}
        wanted = {item.id for items in manifest.items.values() for item in items}
        there = set(table.ids)
        problems = {
            "are missing": sorted(wanted - there),
            "are no items of the task": sorted(there - known),
            "are there twice": sorted({one for one in there if table.ids.count(one) > 1})
            if len(there) < len(table.ids)
            else [],
        }
        wrong = [f"{len(ids)} ids {what} ({', '.join(ids[:3])})" for what, ids in problems.items() if ids]
        if wrong:
            raise UserError(f"{table.file}: {'; '.join(wrong)}: `beans tasks items {name}` lists them all.")
        stacked = [
            torch.from_numpy(np.stack([list(table.layers.values())[index] for index in block.layers]))
            for block in self.blocks
        ]
        vectors = {one: tuple(block[:, row] for block in stacked) for row, one in enumerate(table.ids)}
        return replace(self, vectors=vectors)

    def size(self, clips: Sequence[Clip], kept: Kept) -> int:
        """Bytes that the features of ``clips`` take on disk."""
        return 4 * len(clips) * sum(layer.width for layer in self.model.backbone.layers)

    def encode(
        self,
        clips: Sequence[Clip],
        sounds: Sequence[Tensor],
        *,
        frames: bool,
        spread: bool = False,
        on_batch: Callable[[float], None] = lambda seconds: None,
    ) -> Encoded:
        """The clips' vectors."""
        if frames or spread:
            raise UserError(
                "Embeddings hold one vector per clip, and no frames: choose tracks that do not read frames"
                " (`beans submit --help` lists them)."
            )
        assert self.vectors is not None
        rows = [self.vectors[clip.item.id] for clip in clips]
        on_batch(sum(clip.samples for clip in clips) / self.model.backbone.sample_rate)
        return Encoded(
            pooled=[torch.stack([row[number] for row in rows], 1) for number in range(len(self.blocks))],
            spreads=None,
            pieces=None,
            counts=[torch.ones(len(clips), dtype=torch.long) for _ in self.blocks],
        )


def read_table(file: Path) -> Table:
    """One task's embeddings.

    Raises:
        UserError: the file is not as :func:`load` describes it; the sentence says what is wrong.
    """
    try:
        ids, layers = _read_npz(file) if file.suffix == ".npz" else _read_parquet(file)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{file} cannot be read as {file.suffix[1:]}: {' '.join(str(error).split())}.") from error
    if not layers:
        raise UserError(f"{file} holds ids and no layer: add one array (items, width) a layer.")
    for name, values in layers.items():
        if values.ndim != 2 or len(values) != len(ids) or values.dtype.kind != "f":
            raise UserError(
                f"{file}: {name} is {values.dtype} of shape {values.shape}, not floating point of ({len(ids)}, width)."
            )
        bad = np.flatnonzero(~np.isfinite(values).all(1))
        if len(bad):
            raise UserError(f"{file}: {name} of {ids[bad[0]]} is not finite ({len(bad)} items in all).")
    return Table(file, ids, {name: values.astype(np.float32) for name, values in layers.items()})


def _read_npz(file: Path) -> tuple[list[str], dict[str, NDArray[np.float32]]]:
    with np.load(file, allow_pickle=False) as arrays:
        if "ids" not in arrays:
            raise UserError(f"{file} has no array ids but {', '.join(arrays)}: name every row's item.")
        return [str(one) for one in arrays["ids"]], {name: arrays[name] for name in arrays.files if name != "ids"}


def _read_parquet(file: Path) -> tuple[list[str], dict[str, NDArray[np.float32]]]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(file)
    if "id" not in table.column_names:
        raise UserError(f"{file} has no column id but {', '.join(table.column_names)}: name every row's item.")
    layers = {}
    for name in table.column_names:
        if name != "id":
            rows = table.column(name).to_pylist()
            if any(row is None for row in rows):
                raise UserError(f"{file}: {name} has rows without a vector.")
            layers[name] = np.array(rows, dtype=np.float32)
    return [str(one) for one in table.column("id").to_pylist()], layers


def _layers(layers: Sequence[Layer]) -> str:
    return ", ".join(f"{layer.name} ({layer.width})" for layer in layers)
