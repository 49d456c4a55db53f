"""Embeddings computed elsewhere, one vector a clip and layer: for models that do not run in torch."""

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


class Embeddings:
    """A directory with one file a task, ``TASK.npz`` or ``TASK.parquet``.

    It hears nothing: the suite looks its vectors up by item id instead of running it.
    """

    def __init__(self, directory: Path, sample_rate: int) -> None:
        from evaluator.backbone import Layer
        from evaluator.features.lookup import read_table

        self.directory = directory
        self.sample_rate = sample_rate
        files = sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES)
        if not files:
            raise UserError(
                f"{directory} holds no {' or '.join(SUFFIXES)} file: it needs one a task, such as esc50.npz."
            )
        self.files = {path.stem: path for path in files}
        self.layers = [Layer(name, values.shape[1]) for name, values in read_table(files[0]).layers.items()]
        content = hashlib.sha256()
        for path in files:
            content.update(path.name.encode() + path.read_bytes())
        self.options = {"embeddings": content.hexdigest()}

    def encode(self, waveforms: "Tensor", lengths: "Tensor") -> "tuple[list[Tensor], Tensor]":
        """There is no model to run."""
        raise UserError("Embeddings that were computed elsewhere cannot be computed here.")

    def extractor(self, model: "Loaded", device: "torch.device", precision: str) -> "Extractor":
        """What reads the vectors in place of a forward pass."""
        from evaluator.features.extraction import Block
        from evaluator.features.lookup import Lookup

        grouped: dict[int, list[int]] = {}
        for index, layer in enumerate(self.layers):
            grouped.setdefault(layer.width, []).append(index)
        blocks = tuple(Block(tuple(indices), width, 0.0) for width, indices in grouped.items())
        return Lookup(model, device, precision, blocks, directory=self.directory, files=self.files)


def load(*, directory: str, sample_rate: Hertz, base: Path = Path()) -> Embeddings:
    """Take embeddings that were computed elsewhere.

    Args:
        directory: one file a task (relative to the submission file). ``TASK.npz`` holds ``ids`` (items,) and one array
            (items, width) a layer, in the order of the layers; ``TASK.parquet`` a column ``id`` and a column of lists
            a layer. `beans tasks items TASK` prints the ids and which stretch of which file each is.
        sample_rate: Hz at which the model heard the audio, for the record.
        base: the directory of the submission file.

    Raises:
        UserError: no such directory, or a file in it that is not as above.
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
sample_rate = 16000  # Hz at which the model heard the audio
""",
    files=("directory",),
    counted=False,
    needs_audio=False,
)
