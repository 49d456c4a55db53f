"""Embeddings computed elsewhere, one vector per clip and layer: for models that do not run in torch."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from evaluator.backbones import Loader
from evaluator.backbones.support.keys import Hertz
from evaluator.backbones.support.paths import not_there
from tasks.support.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from evaluator.backbone import Loaded
    from evaluator.features.extraction import Extractor

# Part of the key of every feature: raise it with any change that alters what this loader's models return.
VERSION = 1
SUFFIXES = (".npz", ".parquet")
# Bytes of a file that are hashed at once.
_PART = 2**24


class Embeddings:
    """A directory with one file per task, ``TASK.npz`` or ``TASK.parquet``.

    It encodes no audio: the suite reads the vectors by item id.
    """

    def __init__(self, directory: Path, sample_rate: int) -> None:
        from evaluator.backbone import Layer
        from evaluator.features.lookup import read_table

        self.directory = directory
        self.sample_rate = sample_rate
        files = sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES and path.is_file())
        if not files:
            raise UserError(
                f"{directory} holds no {' or '.join(SUFFIXES)} file: it needs one per task, such as esc50.npz."
            )
        self.files: dict[str, Path] = {}
        for path in files:
            if path.stem in self.files:
                raise UserError(f"{self.files[path.stem]} and {path} are of the same task: remove one of them.")
            self.files[path.stem] = path
        self.layers = [Layer(name, values.shape[1]) for name, values in read_table(files[0]).layers.items()]
        content = hashlib.sha256()
        for path in files:
            content.update(path.name.encode())
            with path.open("rb") as file:
                while part := file.read(_PART):
                    content.update(part)
        self.options = {"embeddings": content.hexdigest()}

    def encode(self, waveforms: "Tensor", lengths: "Tensor") -> "tuple[list[Tensor], Tensor]":
        """Fail, because there is no model to run."""
        raise UserError("Embeddings that were computed elsewhere cannot be computed here.")

    def extractor(self, model: "Loaded", device: "torch.device", precision: str) -> "Extractor":
        """The extractor that reads the vectors instead of running a forward pass."""
        from evaluator.features.extraction import Block
        from evaluator.features.lookup import Lookup

        grouped: dict[int, list[int]] = {}
        for index, layer in enumerate(self.layers):
            grouped.setdefault(layer.width, []).append(index)
        blocks = tuple(Block(tuple(indices), width, 0.0) for width, indices in grouped.items())
        return Lookup(model, device, precision, blocks, directory=self.directory, files=self.files)


def load(*, directory: str, sample_rate: Hertz, base: Path = Path()) -> Embeddings:
    """Read embeddings that were computed elsewhere.

    Args:
        directory: one file per task (relative to the submission file). ``TASK.npz`` contains ``ids`` (items,) and one
            array (items, width) per layer, in the order of the layers. ``TASK.parquet`` contains a column ``id`` and
            one column of lists per layer. `beans tasks items TASK` prints each id with its file and time span.
        sample_rate: Hz of the audio that the model encoded, for the record.
        base: the directory of the submission file.

    Raises:
        UserError: no such directory, or a file in it has another format.
    """
    path = base / directory
    if not path.is_dir():
        advice = "give the directory of the embeddings, one file a task"
        raise UserError(not_there("directory", directory, base, advice))
    return Embeddings(path, sample_rate)


LOADER = Loader(
    name="features",
    help="embeddings that were computed elsewhere, by item id",
    version=VERSION,
    load=load,
    template="""
directory = "embeddings"  # directory of the embeddings, one file per task
sample_rate = 16000  # Hz of the audio that the model encoded
""",
    files=("directory",),
    counted=False,
    needs_audio=False,
)
