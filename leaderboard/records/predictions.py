"""The test scores of a record, in a safetensors file beside it."""

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
    """The scores of the chosen probe for every test item.

    Attributes:
        ids: (items,) item ids, in the order of the manifest.
        recordings: (items,) the recording of each item.
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

    # One key only: safetensors writes several keys in random order, and equal predictions must give equal files.
    metadata = {"items": json.dumps({"ids": test.ids, "recordings": test.recordings})}
    content = save({"scores": test.scores, "targets": test.targets}, metadata=metadata)
    file = f"{stem}.predictions.safetensors"
    write_atomically(directory / file, content)
    return Predictions(file=file, sha256=hashlib.sha256(content).hexdigest())


def read_predictions(directory: Path, record: Record) -> PredictedScores:
    """Read the scores of ``record``, whose file is in ``directory``.

    Raises:
        UserError: the file is missing, has another checksum than the record states, or does not contain test scores.
    """
    path = check_predictions(directory, record)
    try:
        ids, recordings, scores, targets = _contents(path)
    except (SafetensorError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} does not contain test scores in the suite's format: submit again.") from error
    return PredictedScores(ids=ids, recordings=recordings, scores=scores, targets=targets)


def check_predictions(directory: Path, record: Record) -> Path:
    """Compare the sha256 of the predictions of ``record`` and return their path. The content is not parsed.

    Raises:
        UserError: the file is missing, or has another checksum than the record states.
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
    """Ids, recordings, scores and targets. Raises a ValueError if types or numbers of items are wrong."""
    with safe_open(path, framework="numpy") as file:
        items = json.loads(file.metadata()["items"])
        # Checked before a tensor is read: numpy does not know some types of the format.
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
