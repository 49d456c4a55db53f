"""The test scores behind a record, in one safetensors file beside it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from leaderboard.records.record import Predictions, Record
from tasks.support.errors import UserError
from tasks.support.files import write_atomically


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
        UserError: the file is missing, is not the one the record was made with, or does not hold test scores.
    """
    path = check_predictions(directory, record)
    try:
        ids, recordings, scores, targets = _contents(path)
    except (SafetensorError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} does not hold test scores as the suite writes them: submit again.") from error
    return PredictedScores(ids=ids, recordings=recordings, scores=scores, targets=targets)


def check_predictions(directory: Path, record: Record) -> Path:
    """The file with the scores that belong to ``record``, after its sha256 was compared; nothing in it is looked at.

    Raises:
        UserError: the file is missing, or is not the one the record was made with.
    """
    path = directory / record.predictions.file
    if not path.is_file():
        raise UserError(f"{path} is missing: the record beside it is incomplete; copy the file back or submit again.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != record.predictions.sha256:
        raise UserError(
            f"{path} is not the file its record was made with (its sha256 differs): copy it again from the source."
        )
    return path


def _contents(path: Path) -> tuple[list[str], list[str], NDArray[np.float32], NDArray[np.int64] | NDArray[np.uint8]]:
    """Ids, recordings, scores and targets, of the right types and as many as there are items; a ValueError if not."""
    with safe_open(path, framework="numpy") as file:
        items = json.loads(file.metadata()["items"])
        # Looked at before anything is read: numpy has no name for some of the types that the format knows.
        types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        if types not in ({"scores": "F32", "targets": "I64"}, {"scores": "F32", "targets": "U8"}):
            raise ValueError(types)
        scores, targets = file.get_tensor("scores"), file.get_tensor("targets")
    ids, recordings = items["ids"], items["recordings"]
    if not all(isinstance(text, str) for texts in (ids, recordings) for text in texts):
        raise TypeError("ids and recordings are text")
    shape = {np.dtype(np.int64): scores.shape[1:2], np.dtype(np.uint8): scores.shape[1:]}[targets.dtype]
    if scores.ndim != 3 or targets.shape != shape or len(ids) != scores.shape[1] or len(recordings) != scores.shape[1]:
        raise ValueError("scores, targets, ids and recordings are not of the same items")
    return list(ids), list(recordings), scores, targets
