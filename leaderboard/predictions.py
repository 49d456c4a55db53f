"""The test scores behind a record, in one safetensors file beside it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leaderboard.record import Predictions, Record
from tasks.errors import UserError
from tasks.files import write_atomically


@dataclass(frozen=True)
class PredictedScores:
    """What the chosen probe said of every test item.

    Attributes:
        ids: (items,) item ids, in the order of the manifest.
        recordings: (items,) the recording each item is from.
        scores: (seeds, items, classes) float32 logits.
        targets: (items,) int64 class indices for classification, (items, classes) uint8 for detection.
    """

    ids: list[str]
    recordings: list[str]
    scores: NDArray[np.float32]
    targets: NDArray[np.int64] | NDArray[np.uint8]


def write_predictions(directory: Path, stem: str, test: PredictedScores) -> Predictions:
    """Write ``STEM.predictions.safetensors`` atomically and return its name and sha256."""
    from safetensors.numpy import save

    # One key only: safetensors writes several in random order, and equal predictions must be equal files.
    metadata = {"items": json.dumps({"ids": test.ids, "recordings": test.recordings})}
    content = save({"scores": test.scores, "targets": test.targets}, metadata=metadata)
    file = f"{stem}.predictions.safetensors"
    write_atomically(directory / file, content)
    return Predictions(file=file, sha256=hashlib.sha256(content).hexdigest())


def read_predictions(directory: Path, record: Record) -> PredictedScores:
    """The scores that belong to ``record``, which lies in ``directory``.

    Raises:
        UserError: the file is missing, or is not the one the record was made with.
    """
    from safetensors import safe_open

    path = directory / record.predictions.file
    if not path.is_file():
        raise UserError(f"{path} is missing: the record beside it is incomplete; copy the file back or submit again.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != record.predictions.sha256:
        raise UserError(
            f"{path} is not the file its record was made with (its sha256 differs): copy it again from the source."
        )
    with safe_open(path, framework="numpy") as file:
        items = json.loads(file.metadata()["items"])
        return PredictedScores(
            ids=items["ids"],
            recordings=items["recordings"],
            scores=file.get_tensor("scores"),
            targets=file.get_tensor("targets"),
        )
