"""Send a finished record to MLflow: one run per submission, task and track, in one experiment per protocol."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from evaluator.tracking.connection import TrackingError, address, connect, is_http
from evaluator.tracking.figures import class_precision, confusion_matrix, layer_curve
from leaderboard.ranking.formats import ranges
from leaderboard.records.files import tracking_path
from leaderboard.records.record import Record, Tracking
from leaderboard.records.stored import StoredRecord
from tasks.support.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

DIGEST_LENGTH = 36  # MLflow's limit; the parameter split_hash holds the whole hash


def log_record(
    stored: StoredRecord, uri: str, artifacts: Path, complain: Callable[[str], None] = lambda sentence: None
) -> Tracking:
    """Log one record as one MLflow run, and write a note of the run beside the record.

    A logged record is not logged again. Unfinished runs of a killed process are deleted first.

    Args:
        stored: the record, with its file and its predictions.
        uri: MLflow's tracking address: ``http(s)://...``, ``sqlite:///...`` or another database.
        artifacts: where a new experiment stores its files; a server at ``uri`` uses its own place.
        complain: receives a sentence for each figure that cannot be drawn. The run is logged without it.

    Raises:
        TrackingError: MLflow cannot be reached or refuses; no note is written and the record does not change.
        UserError: the predictions cannot be read.
        ValueError: a metric is not finite; MLflow would store it as 0.
    """
    record = stored.record
    with connect(uri, stored.path.parent) as client:
        note = stored.tracking
        if note is not None and note.uri == address(uri) and is_finished(client, note.run_id):
            return note
        experiment_id = open_experiment(client, record.protocol, None if is_http(uri) else artifacts.resolve().as_uri())
        run_id = _finished_run(client, experiment_id, record.id)
        if run_id is None:
            run_id = _log(client, experiment_id, stored, complain)
        note = Tracking(uri=address(uri), experiment_id=experiment_id, run_id=run_id)
        write_atomically(tracking_path(stored.path), note.model_dump_json(indent=2))
        return note


def metric_points(record: Record) -> list[tuple[str, float, int]]:
    """All metrics of a record as (name, value, step). The step of a curve is the layer index, or the epoch from 1.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    efficiency = record.efficiency
    measured = {
        "vram_bytes": efficiency.vram_bytes,
        "weights_bytes": efficiency.weights_bytes,
        "forward_seconds": efficiency.seconds,
    }
    points: list[tuple[str, float, int]] = [
        *((name, getattr(record, name), 0) for name in ("valid", "test", "test_std", "ci_low", "ci_high")),
        *((f"secondary.{name}", value, 0) for name, value in record.secondary.items()),
        *((f"seconds.{name}", value, 0) for name, value in record.seconds.items()),
        *((name, value, 0) for name, value in measured.items() if value is not None),
        *((name, value, 0) for name, value in _doubt(record).items()),
        *(("layer_valid", layer.valid, layer.index) for layer in record.layers),
        *(("layer_test", layer.test, layer.index) for layer in record.layers),
        *(("epoch_valid", value, epoch) for epoch, value in enumerate(record.epochs, start=1)),
    ]
    for name, value, step in points:
        if not math.isfinite(value):
            raise ValueError(f"Metric {name} is {value} at step {step} in record {record.stem}: it must be finite.")
    return points


def _doubt(record: Record) -> dict[str, float]:
    """How far the choice on validation can be trusted. Records of older versions do not state it."""
    found: dict[str, float] = {}
    if record.selection is not None:
        found |= {"looks": record.selection.looks, "valid_recordings": record.selection.recordings}
        found["optimism"] = record.selection.optimism
    if record.reference is not None:
        found |= {"reference.valid": record.reference.valid, "reference.test": record.reference.test}
    return found


def _log(client: MlflowClient, experiment_id: str, stored: StoredRecord, complain: Callable[[str], None]) -> str:
    from mlflow.entities import Metric, Param

    record = stored.record
    created = int(record.created.timestamp() * 1000)  # the time of the result, also when it is sent later
    metrics = [Metric(name, float(value), created, step) for name, value, step in metric_points(record)]
    params = [Param(key, str(value)) for key, value in _params(record).items()]
    with tempfile.TemporaryDirectory() as directory:
        # First, because it can fail: then no run exists yet.
        _write_artifacts(Path(directory), stored, complain)
        # The tags are set when the run is created, so that an unfinished run also names its record.
        name = f"{record.submission.name} · {record.task.name} · {record.track}"
        run = client.create_run(experiment_id, start_time=created, tags=_tags(record), run_name=name)
        run_id: str = run.info.run_id
        client.log_batch(run_id, metrics=metrics, params=params, synchronous=True)
        client.log_inputs(run_id, datasets=[_dataset(record)])
        client.log_table(run_id, _trial_table(record), "trials.json")
        client.log_artifacts(run_id, directory)
    client.set_terminated(run_id, "FINISHED", end_time=created)
    return run_id


def _params(record: Record) -> dict[str, object]:
    task, submission = record.task, record.submission
    return {
        "submission": submission.name,
        "loader": submission.loader,
        "arguments": json.dumps(submission.arguments, sort_keys=True, default=str),
        "weights_sha256": submission.weights_sha256,
        "parameters": submission.parameters,
        "sample_rate": submission.sample_rate,
        "task": task.name,
        "kind": task.kind,
        "metric": record.metric,
        "split_hash": task.split_hash,
        "n_classes": len(task.labels),
        "n_train": task.n_train,
        "n_valid": task.n_valid,
        "n_test": task.n_test,
        "track": record.track,
        "protocol": record.protocol,
        "precision": record.environment.precision,
        "limit": record.limit or "none",
        "n_trials": len(record.trials),
        "n_seeds": len(record.test_seeds),
        "n_layers": len(record.layers),
        "best_layer": record.best_layer,
        "best_layer_name": record.best_layer_name,
        "layers_alike": "unknown" if record.alike is None else ranges(record.alike),
        "lr": record.lr,
        "epoch": record.epoch,
        "flags": ", ".join(record.flags) or "none",
        **{f"audio.{key}": value for key, value in record.audio.items()},
    }


def _tags(record: Record) -> dict[str, str]:
    environment = record.environment
    tags = {
        "record_id": record.id,
        "backbone": record.submission.name,
        "task": record.task.name,
        "track": record.track,
        "protocol": record.protocol,
        "best_layer": str(record.best_layer),
        "limit": str(record.limit or "none"),
        "device": environment.device,
        "git_commit": environment.git_commit or "unknown",
        "git_dirty": "unknown" if environment.git_dirty is None else str(environment.git_dirty).lower(),
    }
    if environment.git_commit:
        tags["mlflow.source.git.commit"] = environment.git_commit  # MLflow's own column "Version"
    return tags


def _dataset(record: Record) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    task = record.task
    counts = {"n_train": task.n_train, "n_valid": task.n_valid, "n_test": task.n_test}
    dataset = Dataset(
        name=task.name,
        digest=task.split_hash[:DIGEST_LENGTH],
        source_type="code",
        source=json.dumps({"tags": {"task": task.name, "group": task.group, "split_hash": task.split_hash}}),
        profile=json.dumps({"num_rows": sum(counts.values()), **counts}),
    )
    # One dataset for three splits: MLflow keeps one input per name and digest, so three inputs are not possible.
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "train, valid, test")])


def _trial_table(record: Record) -> dict[str, list[object]]:
    """The trials as columns, with one row per trial and layer."""
    rows: list[tuple[object, ...]] = [
        (
            *(trial.number, trial.lr, layer.index, layer.name, trial.valid[place], trial.epoch[place]),
            None if trial.loss is None else trial.loss[place],
        )
        for trial in record.trials
        for place, layer in enumerate(record.layers)
    ]
    names = ("trial", "lr", "layer", "layer_name", "valid", "epoch", "loss")
    return {name: [row[column] for row in rows] for column, name in enumerate(names)}


def _write_artifacts(directory: Path, stored: StoredRecord, complain: Callable[[str], None]) -> None:
    record, test = stored.record, stored.predictions
    figures: dict[str, Callable[[], Figure]] = {"layer_curve.png": lambda: layer_curve(record)}
    if record.task.kind == "classification":
        figures["confusion_matrix.png"] = lambda: confusion_matrix(record, test)
    else:
        figures["class_precision.png"] = lambda: class_precision(record, test)
    for name, draw in figures.items():
        try:
            draw().savefig(directory / name)
        # A figure may fail for a font, a strange name or memory. It is the least part of a result.
        except Exception as error:
            (directory / name).unlink(missing_ok=True)
            complain(f"The figure {name} was not drawn ({type(error).__name__}: {' '.join(str(error).split())[:200]}).")
    # The files keep their names, so that a downloaded folder "record" is a valid records directory.
    folder = directory / "record"
    folder.mkdir()
    for file in (stored.path, stored.path.with_name(record.predictions.file)):
        shutil.copyfile(file, folder / file.name)


def is_finished(client: MlflowClient, run_id: str) -> bool:
    """Whether a run exists and was logged completely."""
    from mlflow.exceptions import MlflowException

    try:
        info = client.get_run(run_id).info
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return bool(info.lifecycle_stage == "active" and info.status == "FINISHED")


def open_experiment(client: MlflowClient, name: str, artifact_location: str | None) -> str:
    """The id of the experiment ``name``. It is created if it does not exist."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, artifact_location))
        except MlflowException as error:
            # Another process may create it at the same time.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"MLflow's experiment {name!r} was deleted: restore it in MLflow and send the record again."
        )
    return str(experiment.experiment_id)


def _finished_run(client: MlflowClient, experiment_id: str, record_id: str) -> str | None:
    """The finished run of this record, or None. Unfinished runs of killed processes are deleted."""
    finished: str | None = None
    for run in client.search_runs([experiment_id], f"tags.record_id = '{record_id}'"):
        if run.info.status == "FINISHED":
            finished = finished or run.info.run_id
        else:
            client.delete_run(run.info.run_id)
    return finished
