"""Features that were computed elsewhere: a table of vectors per task, looked up by item id.

VERSION in `evaluator.backbones.embeddings` stands for this module too.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
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
        there = Counter(table.ids)
        problems = {
            "are missing": sorted(wanted - there.keys()),
            "are no items of the task": sorted(there.keys() - known),
            "are there twice": sorted(one for one, count in there.items() if count > 1),
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
    except UserError:
        raise
    # numpy, zipfile, zlib and pyarrow raise errors of many classes for a damaged file.
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if "pickle" in reason:
            # numpy's own message advises to load the file unsafely.
            reason = "it holds Python objects or is no archive of numpy.savez"
        raise UserError(
            f"{file} cannot be read as {file.suffix[1:]} ({reason}): write the file again, or copy it again from its"
            " source."
        ) from error
    if not layers:
        raise UserError(f"{file} holds ids and no layer: add one array (items, width) a layer.")
    return Table(file, ids, {name: _vectors(file, name, values, ids) for name, values in layers.items()})


def _vectors(file: Path, name: str, values: NDArray[Any], ids: Sequence[str]) -> NDArray[np.float32]:
    """One layer as float32. Raises a UserError for another shape or type, and for a number that is not finite."""
    if values.ndim != 2 or len(values) != len(ids) or values.dtype.kind != "f" or not values.shape[1]:
        raise UserError(
            f"{file}: {name} is {values.dtype} of shape {values.shape}, not floating point of ({len(ids)}, width):"
            " write one vector of at least one number for each id."
        )
    # A float64 beyond the range of float32 becomes infinite here.
    with np.errstate(over="ignore"):
        converted = values.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(converted).all(1))
    if len(bad):
        what = "is not finite" if not np.isfinite(values[bad[0]]).all() else "is beyond the range of float32 (3.4e38)"
        raise UserError(f"{file}: {name} of {ids[bad[0]]} {what} ({len(bad)} items in all): correct these vectors.")
    return converted


def _read_npz(file: Path) -> tuple[list[str], dict[str, NDArray[Any]]]:
    # Without pickle, an array of objects is refused and no code of the file runs.
    with file.open("rb") as source:
        arrays = np.load(source, allow_pickle=False)
        if not isinstance(arrays, NpzFile):
            raise UserError(f"{file} holds one array, as numpy.save writes it: write ids and layers with numpy.savez.")
        if twice := [name for name, count in Counter(arrays.files).items() if count > 1]:
            raise UserError(f"{file} holds {twice[0]} twice: write each layer once.")
        found = {name: arrays[name] for name in arrays.files}
    foreign = [name for name, values in found.items() if not isinstance(values, np.ndarray)]
    if foreign:
        raise UserError(f"{file} holds {foreign[0]}, which is no array: write ids and layers with numpy.savez.")
    if "ids" not in found:
        raise UserError(f"{file} has no array ids but {', '.join(found) or 'nothing'}: name every row's item.")
    ids = found.pop("ids")
    if ids.ndim != 1 or ids.dtype.kind not in "USiu":
        raise UserError(f"{file}: ids is {ids.dtype} of shape {ids.shape}: write one list of the items' ids.")
    return [one.decode() if isinstance(one, bytes) else str(one) for one in ids.tolist()], found


def _read_parquet(file: Path) -> tuple[list[str], dict[str, NDArray[Any]]]:
    import pyarrow.parquet
    from pyarrow.types import is_fixed_size_list, is_floating, is_large_list, is_list

    with file.open("rb") as source:
        parquet = pyarrow.parquet.ParquetFile(source)
        if twice := [name for name, count in Counter(parquet.schema_arrow.names).items() if count > 1]:
            raise UserError(f"{file} holds the column {twice[0]} twice: write each layer once.")
        table = parquet.read()
    if "id" not in table.column_names:
        raise UserError(f"{file} has no column id but {', '.join(table.column_names)}: name every row's item.")
    ids = table.column("id").to_pylist()
    if not all(isinstance(one, str | int) and not isinstance(one, bool) for one in ids):
        raise UserError(f"{file}: the column id is {table.column('id').type} or has empty rows: write every row's id.")
    layers = {}
    for name in table.column_names:
        if name == "id":
            continue
        column = table.column(name)
        lists = any(kind(column.type) for kind in (is_list, is_large_list, is_fixed_size_list))
        if not lists or not is_floating(column.type.value_type):
            raise UserError(f"{file}: {name} is {column.type}, not lists of floating point: write one vector a row.")
        rows = column.combine_chunks()
        if rows.null_count:
            raise UserError(f"{file}: {name} has rows without a vector: write one for each id.")
        widths = set(rows.value_lengths().to_pylist())
        if len(widths) > 1:
            raise UserError(f"{file}: the vectors of {name} have different lengths: write vectors of one width.")
        # An empty entry becomes NaN, which is refused.
        layers[name] = rows.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), *widths)
    return [str(one) for one in ids], layers


def _layers(layers: Sequence[Layer]) -> str:
    return ", ".join(f"{layer.name} ({layer.width})" for layer in layers)
