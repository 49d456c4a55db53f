"""Send a finished record to MLflow: one run for each submission, task and track, in one experiment a protocol."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from evaluator.figures import class_precision, confusion_matrix, layer_curve
from leaderboard.predictions import read_predictions
from leaderboard.record import (
    Record,
    Tracking,
    read_record,
    read_tracking,
    record_paths,
    tracking_path,
)
from tasks.errors import UserError
from tasks.files import write_atomically

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

LOCK_SECONDS = 60
CONNECT_SECONDS = 5
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
# A server that is down is noticed after two tries of 4 s. One that has answered may be slow with a large file.
FIRST_REQUEST = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}
LATER_REQUESTS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
EVERY_REQUEST = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
NOISY_LOGGERS = ("mlflow", "alembic", "urllib3.connectionpool", "matplotlib")
CREDENTIALS = re.compile(r"(?<=://)[^/\s]+@")
DIGEST_LENGTH = 36  # MLflow's limit; the whole hash is the parameter split_hash


class TrackingError(Exception):
    """A record could not be sent: where to, why, and what sends it later, in one sentence.

    Attributes:
        down: MLflow cannot be reached at all, so that no other record would get through either.
    """

    def __init__(self, message: str, *, down: bool = False) -> None:
        super().__init__(message)
        self.down = down


def track(record_file: Path, uri: str, artifacts: Path) -> Tracking:
    """Log one record as one MLflow run, and note beside the record which run it is.

    Everything comes from the record file and the predictions beside it. A record that was sent already is not sent
    again; what a killed process left behind is removed first.

    Args:
        record_file: the record.
        uri: MLflow's tracking address: ``http(s)://...``, ``sqlite:///...`` or another database.
        artifacts: where a new experiment keeps its files, unless a server at ``uri`` decides that itself.

    Raises:
        TrackingError: MLflow is unreachable or refuses; nothing was noted and the record is untouched.
        UserError: the record or its predictions cannot be read.
        ValueError: a metric is not finite; MLflow would store it as 0.
    """
    record = read_record(record_file)
    with _connect(uri, record_file.parent) as client:
        note = read_tracking(record_file)
        if note is not None and note.uri == address(uri) and _is_finished(client, note.run_id):
            return note
        experiment_id = _experiment(client, record.protocol, None if _is_http(uri) else artifacts.resolve().as_uri())
        run_id = _finished_run(client, experiment_id, record.id)
        if run_id is None:
            run_id = _log(client, experiment_id, record_file, record)
        note = Tracking(uri=address(uri), experiment_id=experiment_id, run_id=run_id)
        write_atomically(tracking_path(record_file), note.model_dump_json(indent=2))
        return note


def push(records: Path, uri: str, artifacts: Path) -> Iterator[tuple[Path, Tracking | TrackingError]]:
    """Send every record below ``records`` that has no note yet, in the order of their names.

    One record that fails does not stop the others, unless MLflow is down: then its error is the last thing yielded.
    """
    for record_file in record_paths(records):
        if tracking_path(record_file).exists():
            continue
        try:
            yield record_file, track(record_file, uri, artifacts)
        except TrackingError as error:
            yield record_file, error
            if error.down:
                return
        except (UserError, ValueError) as error:
            yield record_file, TrackingError(f"{record_file} was not sent to MLflow: {error}")


def address(uri: str) -> str:
    """A tracking address that may be shown and stored: without user name, password and query."""
    return CREDENTIALS.sub("", uri).partition("?")[0]


def metric_points(record: Record) -> list[tuple[str, float, int]]:
    """All metrics of a record as (name, value, step). A curve's step is the layer index, or the epoch from 1.

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
        *(("layer_valid", layer.valid, layer.index) for layer in record.layers),
        *(("layer_test", layer.test, layer.index) for layer in record.layers),
        *(("epoch_valid", value, epoch) for epoch, value in enumerate(record.epochs, start=1)),
    ]
    for name, value, step in points:
        if not math.isfinite(value):
            raise ValueError(f"Metric {name} is {value} at step {step} in record {record.stem}: it must be finite.")
    return points


def _log(client: MlflowClient, experiment_id: str, record_file: Path, record: Record) -> str:
    from mlflow.entities import Metric, Param

    created = int(record.created.timestamp() * 1000)  # the run's own time, however much later it is sent
    metrics = [Metric(name, float(value), created, step) for name, value, step in metric_points(record)]
    params = [Param(key, str(value)) for key, value in _params(record).items()]
    with tempfile.TemporaryDirectory() as directory:
        # All that can fail here comes before the run exists.
        _write_artifacts(Path(directory), record_file, record)
        # The tag comes with the run: from its first moment on, whoever finds the run knows its record.
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
    # One dataset with three splits: MLflow keeps one input a name and digest, so the splits cannot be three inputs.
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "train, valid, test")])


def _trial_table(record: Record) -> dict[str, list[object]]:
    """One row a trial and layer, as columns."""
    rows = [
        (trial.number, trial.lr, layer.index, layer.name, trial.valid[place], trial.epoch[place])
        for trial in record.trials
        for place, layer in enumerate(record.layers)
    ]
    names = ("trial", "lr", "layer", "layer_name", "valid", "epoch")
    return {name: [row[column] for row in rows] for column, name in enumerate(names)}


def _write_artifacts(directory: Path, record_file: Path, record: Record) -> None:
    test = read_predictions(record_file.parent, record)
    layer_curve(record).savefig(directory / "layer_curve.png")
    if record.task.kind == "classification":
        confusion_matrix(record, test).savefig(directory / "confusion_matrix.png")
    else:
        class_precision(record, test).savefig(directory / "class_precision.png")
    # Under their own names, so that what is downloaded from "record" is a records directory again.
    kept = directory / "record"
    kept.mkdir()
    (kept / record_file.name).write_bytes(record_file.read_bytes())
    predictions = record.predictions.file
    (kept / predictions).write_bytes((record_file.parent / predictions).read_bytes())


def _is_finished(client: MlflowClient, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        info = client.get_run(run_id).info
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return bool(info.lifecycle_stage == "active" and info.status == "FINISHED")


def _experiment(client: MlflowClient, name: str, artifact_location: str | None) -> str:
    """The id of the experiment of that name, created if need be; another process may create it at the same time."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, artifact_location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"MLflow's experiment {name!r} was deleted: restore it in MLflow, then run `beans records push`."
        )
    return str(experiment.experiment_id)


def _finished_run(client: MlflowClient, experiment_id: str, record_id: str) -> str | None:
    """The finished run of this record, if there is one; unfinished ones, of killed processes, are deleted."""
    finished: str | None = None
    for run in client.search_runs([experiment_id], f"tags.record_id = '{record_id}'"):
        if run.info.status == "FINISHED":
            finished = finished or run.info.run_id
        else:
            client.delete_run(run.info.run_id)
    return finished


@contextmanager
def _connect(uri: str, records: Path) -> Iterator[MlflowClient]:
    """A client that has reached MLflow, alone among the processes that track here, quiet and without long retries.

    Raises:
        TrackingError: whatever goes wrong between here and MLflow.
    """
    with _environment(EVERY_REQUEST), _quiet():
        from filelock import FileLock
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            # Two processes at once would delete each other's unfinished run, or find half of the tables.
            lock = _lock_path(uri, records)
            lock.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock, timeout=LOCK_SECONDS):
                _open_database(uri)
                client = MlflowClient(tracking_uri=uri)
                with _environment(FIRST_REQUEST):
                    client.search_experiments(max_results=1)
                with _environment(LATER_REQUESTS):
                    yield client
        except (MlflowException, SQLAlchemyError, ImportError, OSError) as error:
            reason, down = _explain(error)
            raise TrackingError(
                f"MLflow at {address(uri)} did not take the record ({reason}): the record is kept, and"
                " `beans records push` sends it later.",
                down=down,
            ) from error


def _lock_path(uri: str, records: Path) -> Path:
    database = _sqlite_file(uri)
    return records / ".mlflow.lock" if database is None else database.with_name(f".{database.name}.lock")


def _open_database(uri: str) -> None:
    """Fail at once where MLflow would retry for minutes, and make a new SQLite database whole or not at all."""
    dialect = urlsplit(uri).scheme.partition("+")[0]
    if dialect not in DATABASES:
        return
    import sqlalchemy
    from mlflow import MlflowClient

    database = _sqlite_file(uri)
    if database is not None and not database.exists():
        for stale in database.parent.glob(f".{database.name}.*.new*"):
            stale.unlink(missing_ok=True)
        new = database.with_name(f".{database.name}.{uuid.uuid4().hex}.new")
        MlflowClient(tracking_uri=f"sqlite:///{new}").search_experiments(max_results=1)
        new.replace(database)
    arguments = {"connect_timeout": CONNECT_SECONDS} if dialect in ("postgresql", "mysql") else {}
    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool, connect_args=arguments)
    sqlalchemy.inspect(engine).get_table_names()


def _sqlite_file(uri: str) -> Path | None:
    if urlsplit(uri).scheme.partition("+")[0] != "sqlite":
        return None
    from sqlalchemy import make_url

    database = make_url(uri).database
    return Path(database) if database and database != ":memory:" else None


def _is_http(uri: str) -> bool:
    return urlsplit(uri).scheme in ("http", "https")


def _explain(error: BaseException) -> tuple[str, bool]:
    """Why it failed, on one short line without credentials, and whether MLflow is out of reach for every record."""
    import requests
    from filelock import Timeout
    from sqlalchemy.exc import OperationalError

    reason, down = str(error), False
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, requests.ConnectionError | requests.Timeout):
            # urllib3 says it best, at the end: "HTTPConnection(...): Failed to ...: [Errno 111] Connection refused".
            urllib3_error = cause.args[0] if cause.args else cause
            reason, down = str(getattr(urllib3_error, "reason", urllib3_error)).rpartition(": ")[2], True
        down = down or isinstance(cause, OperationalError | Timeout)
        cause = cause.__cause__ or cause.__context__
    line = CREDENTIALS.sub("", reason).strip().partition("\n")[0]
    return line[:200].rstrip(". "), down


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set what the user has not set, for as long as the block runs: MLflow reads these at every request."""
    ours = {key: value for key, value in values.items() if key not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for key in ours:
            os.environ.pop(key, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of MLflow's own on the terminal: what matters is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow  # noqa: F401  # sets the levels of its loggers when it is first imported

        loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
