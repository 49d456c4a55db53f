"""The resamples of a record's test score. They are computed once and stored beside the record."""

import hashlib
import json
from pathlib import Path

from leaderboard.ranking.bootstrap import VERSION, resampled
from leaderboard.ranking.significance import Scored
from leaderboard.records.predictions import PredictedScores
from leaderboard.records.record import Record
from leaderboard.records.result import Result
from leaderboard.records.stored import StoredRecord
from tasks.support.errors import UserError
from tasks.support.files import write_atomically
from tasks.task import Metric

RESAMPLES = 1000


def scored(stored: StoredRecord) -> Scored:
    """A record's test score and its resamples.

    The file ``STEM.resamples.safetensors`` beside the record is read if it was made from the record's predictions with
    this VERSION; else it is made. It can be deleted at any time. If the directory cannot be written, the resamples are
    computed again at every call.

    Raises:
        UserError: the predictions are missing or have another checksum than the record states.
    """
    record, directory = stored.record, stored.path.parent
    result = Result.of(record)
    score = kept(directory, result)
    if score is not None:
        return score
    score = resample(record.task.name, record.metric, record.test, stored.predictions)
    _write(resamples_path(directory, result), _made_from(result), score)
    return score


def kept(directory: Path, result: Result) -> Scored | None:
    """As `scored`, but None if the resamples are not stored. Nothing is computed, so that a page does not wait."""
    return _read(resamples_path(directory, result), _made_from(result), result.test)


def _made_from(result: Result) -> dict[str, str | int]:
    return {
        "version": VERSION,
        "predictions": result.predictions_sha256,
        "task": result.task,
        "metric": result.metric,
    }


def resample(task: str, metric: Metric, test: float, predictions: PredictedScores) -> Scored:
    """Compute the resamples of one result from its predictions.

    Each task has its own seed, so tasks are resampled independently. Two submissions with equal ``drawn_from`` are
    scored on the same resamples.

    Args:
        task: the task's name.
        metric: the task's metric.
        test: the test score of the record.
        predictions: the stored test scores per item.
    """
    seed = int.from_bytes(hashlib.sha256(task.encode()).digest()[:8])
    answers = predictions.targets.tolist()
    items = sorted(map(list, zip(predictions.ids, predictions.recordings, answers, strict=True)))
    drawn_from = json.dumps([VERSION, RESAMPLES, task, metric, items])
    return Scored(
        test=test,
        resampled=resampled(
            metric, predictions.scores, predictions.targets, predictions.recordings, resamples=RESAMPLES, seed=seed
        ),
        recordings=len(set(predictions.recordings)),
        drawn_from=hashlib.sha256(drawn_from.encode()).hexdigest(),
    )


def resamples_path(directory: Path, record: Record | Result) -> Path:
    """The path of the resamples of ``record``."""
    return directory / resamples_name(record)


def resamples_name(record: Record | Result) -> str:
    """The file name of the resamples of ``record``."""
    return f"{record.stem}.resamples.safetensors"


def _read(path: Path, made_from: dict[str, str | int], test: float) -> Scored | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads(file.metadata()["resamples"])
            if header["made_from"] != made_from:
                return None
            return Scored(test, file.get_tensor("resampled"), header["recordings"], header["drawn_from"])
    except (OSError, SafetensorError, TypeError, KeyError, ValueError):
        return None


def _write(path: Path, made_from: dict[str, str | int], score: Scored) -> None:
    from safetensors.numpy import save

    header = {"made_from": made_from, "recordings": score.recordings, "drawn_from": score.drawn_from}
    # A board may read its records from a directory that cannot be written.
    try:
        write_atomically(path, save({"resampled": score.resampled}, metadata={"resamples": json.dumps(header)}))
    except (OSError, UserError):
        return
