"""The resamples of a record's test score, made once and kept beside it."""

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

    The file ``STEM.resamples.safetensors`` beside the record is used when it was made from the record's predictions by
    this version of the rules; else it is made. It can always be deleted, and a directory that cannot be written
    only costs the time to work the numbers out again.

    Raises:
        UserError: the predictions are missing or are not those the record was made with.
    """
    record, directory = stored.record, stored.path.parent
    result = Result.of(record)
    found = kept(directory, result)
    if found is not None:
        return found
    found = resample(record.task.name, record.metric, record.test, stored.predictions)
    _write(resamples_path(directory, result), _made_from(result), found)
    return found


def kept(directory: Path, result: Result) -> Scored | None:
    """As `scored`, but None where the resamples are not kept: for a reader who is not to wait for them."""
    return _read(resamples_path(directory, result), _made_from(result), result.test)


def _made_from(result: Result) -> dict[str, str | int]:
    return {
        "version": VERSION,
        "predictions": result.predictions_sha256,
        "task": result.task,
        "metric": result.metric,
    }


def resample(task: str, metric: Metric, test: float, predictions: PredictedScores) -> Scored:
    """What `leaderboard.ranking.significance` needs of one result, from its predictions.

    Tasks are resampled independently, since each has its own seed. Every submission of a task is scored on the same
    resamples, as long as its ``drawn_from`` is the same.

    Args:
        task: its name.
        metric: the task's metric.
        test: the score that is shown.
        predictions: the stored scores.
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
    """Where the resamples of ``record`` are kept."""
    return directory / resamples_name(record)


def resamples_name(record: Record | Result) -> str:
    """How the file of `resamples_path` is called."""
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


def _write(path: Path, made_from: dict[str, str | int], found: Scored) -> None:
    from safetensors.numpy import save

    header = {"made_from": made_from, "recordings": found.recordings, "drawn_from": found.drawn_from}
    # A board may be shown from a directory that cannot be written.
    try:
        write_atomically(path, save({"resampled": found.resampled}, metadata={"resamples": json.dumps(header)}))
    except (OSError, UserError):
        return
