"""Evaluation from Python, as `beans submit` does it."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from evaluator.api.tasks import read_task, require_different_names
from evaluator.evaluate import evaluate as evaluate_all
from evaluator.probes.heads import HEADS
from evaluator.results.environment import pick_device
from evaluator.submission import Submission
from leaderboard.api import Results
from leaderboard.records.protocol import Protocol
from leaderboard.records.stored import StoredRecord
from tasks.subsets import select_train
from tasks.support.errors import UserError
from tasks.support.home import Home
from tasks.support.progress import Report, silent
from tasks.train_part import TrainPart

_STANDARD = Protocol()


def load_submission(path: str | Path) -> Submission:
    """Read and check a submission file. The model is not loaded.

    Raises:
        UserError: the file is missing, is not TOML, or has a wrong or unknown key.
    """
    return Submission.read(Path(path))


def evaluate(
    submission: Submission | str | Path,
    task: str | Path | Sequence[str | Path],
    track: str | Sequence[str] = "ta",
    protocol: Protocol = _STANDARD,
    home: Home | Path | str | None = None,
    device: str = "auto",
    limit: int | None = None,
    *,
    data_dir: str | Path | None = None,
    report: Report = silent,
) -> Results:
    """Evaluate a submission, exactly as `beans submit` does: the same record, MLflow run and row on the board.

    A result that is already in the home is not computed again. A probable mistake in the files of a task, and a failure
    after the record was written, such as an MLflow server that is down, give a Python warning.

    Args:
        submission: a submission, or the path of its file.
        task: the name of a prepared task, the path of a task file (``.toml``), or a list of them.
        track: the name of a head, or a list of them.
        protocol: the rules. A setting that differs from the standard is part of the result's protocol name.
        home: the home directory with its own SQLite files, or a `Home`; None for the home that the environment names,
            as on the command line.
        device: "auto" (CUDA if it is available), "cpu" or "cuda".
        limit: maximum number of items per split, for a quick look. The result is marked and never ranked.
        data_dir: the start of relative paths in task files; None for the directory of each file.
        report: receives the progress.

    Returns:
        One record per task and track, tasks in the outer loop.

    Raises:
        UserError: the submission, a task, the track or the device cannot be used; this is raised before the
            computation. Or a task failed; this is raised after the other tasks were evaluated. Their records are kept,
            and a call without the failed task returns them at once.
    """
    entry = submission if isinstance(submission, Submission) else load_submission(submission)
    place = Home.of(home)
    tracks = list(dict.fromkeys([track] if isinstance(track, str) else track))
    names = list(dict.fromkeys(str(entry) for entry in ([task] if isinstance(task, str | Path) else task)))
    unknown = [name for name in tracks if name not in HEADS.names()]
    if unknown or not tracks or not names:
        what = f"There is no track {unknown[0]!r}" if unknown else "There is nothing to evaluate"
        raise UserError(f"{what}: name at least one task, and a track of {', '.join(HEADS.names())}.")
    part = TrainPart.parse(protocol.train)
    folder = None if data_dir is None else Path(data_dir)
    manifests = [select_train(read_task(name, place.data, folder, limit), part) for name in names]
    require_different_names(manifests)
    for manifest in manifests:
        for warning in manifest.warnings:
            warnings.warn(f"Task {manifest.task.name}: {warning}.", stacklevel=2)
    stored, failed = [], []
    for outcome in evaluate_all(
        entry, manifests, tracks, protocol, place, device=pick_device(device), limit=limit, report=report
    ):
        where = f"{outcome.submission} · {outcome.task} · {outcome.track}"
        for warning in outcome.warnings:
            warnings.warn(f"{where}: {warning}", stacklevel=2)
        if outcome.record is None or outcome.path is None:
            failed.append(f"{where}: {outcome.error}")
        else:
            stored.append(StoredRecord(outcome.record, outcome.path))
    if failed:
        raise UserError(" ".join(failed))
    return Results(tuple(stored))
