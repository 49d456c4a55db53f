"""What is sent to MLflow can be read back from MLflow, once, and never at the price of the record."""

import json
import logging
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow_server import Store
from record_factory import make_record

from evaluator.results.publish import log, push
from evaluator.tracking.runs import log_record, metric_points
from leaderboard.records.files import read_record, read_tracking
from leaderboard.records.predictions import read_predictions
from leaderboard.records.record import Record, Tracking
from leaderboard.records.stored import StoredRecord


def runs_of(client: MlflowClient, protocol: str, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    experiment = client.get_experiment_by_name(protocol)
    return list(client.search_runs([experiment.experiment_id], run_view_type=view)) if experiment else []


def send(store: Store, record_file: Path) -> tuple[Record, Run]:
    tracking = log_record(StoredRecord.read(record_file), store.uri, store.artifacts)
    return read_record(record_file), store.client.get_run(tracking.run_id)


def history(store: Store, run: Run, key: str) -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in store.client.get_metric_history(run.info.run_id, key))


def test_run_carries_everything_one_compares_by(store: Store, records: Path, protocol: str) -> None:
    record, run = send(store, make_record(records, protocol=protocol, limit=50))
    assert run.info.run_name == "wavlm-large · mini-calls · ta"
    assert run.info.status == "FINISHED"
    assert run.info.start_time == record.created.timestamp() * 1000, "a late push must not look like a new result"

    experiment = store.client.get_experiment(run.info.experiment_id)
    assert experiment.name == protocol, "results of different protocols would be compared"
    local = store.uri.startswith("sqlite")
    assert experiment.artifact_location.startswith(store.artifacts.as_uri() if local else "mlflow-artifacts:")

    expected_tags = {
        "record_id": record.id,
        "backbone": "wavlm-large",
        "task": "mini-calls",
        "track": "ta",
        "protocol": protocol,
        "best_layer": str(record.best_layer),
        "device": "NVIDIA H200",
        "git_commit": record.environment.git_commit,
        "git_dirty": "false",
        "limit": "50",
    }
    assert {key: run.data.tags.get(key) for key in expected_tags} == expected_tags

    expected_params = {
        "submission": "wavlm-large",
        "loader": "huggingface",
        "task": "mini-calls",
        "track": "ta",
        "protocol": protocol,
        "lr": str(record.lr),
        "best_layer": str(record.best_layer),
        "best_layer_name": record.best_layer_name,
        "layers_alike": f"0, {record.best_layer}",
        "n_train": "240",
        "n_valid": "60",
        "n_test": "80",
        "limit": "50",
        "split_hash": record.task.split_hash,
        "audio.padding": "none",
    }
    assert {key: run.data.params.get(key) for key in expected_params} == expected_params
    assert json.loads(run.data.params["arguments"]) == record.submission.arguments

    expected_metrics: dict[str, Any] = {
        **{name: getattr(record, name) for name in ("valid", "test", "test_std", "ci_low", "ci_high")},
        **{f"secondary.{name}": value for name, value in record.secondary.items()},
        **{f"seconds.{name}": value for name, value in record.seconds.items()},
        "vram_bytes": record.efficiency.vram_bytes,
        "weights_bytes": record.efficiency.weights_bytes,
        "forward_seconds": record.efficiency.seconds,
        "looks": 30 * len(record.layers) * len(record.trials),
        "valid_recordings": 60,
        "optimism": record.valid - record.test,
        "reference.valid": 0.625,
        "reference.test": 0.75,
    }
    assert {key: run.data.metrics.get(key) for key in expected_metrics} == expected_metrics


def test_curves_are_the_records_step_by_step(store: Store, records: Path, protocol: str) -> None:
    record, run = send(store, make_record(records, protocol=protocol))
    assert history(store, run, "layer_valid") == [(layer.index, layer.valid) for layer in record.layers]
    assert history(store, run, "layer_test") == [(layer.index, layer.test) for layer in record.layers]
    assert history(store, run, "epoch_valid") == list(enumerate(record.epochs, start=1))


def test_two_submissions_share_one_experiment_and_one_curve(store: Store, records: Path, protocol: str) -> None:
    small, small_run = send(store, make_record(records, protocol=protocol, submission="hubert-base", seed=1))
    large, large_run = send(store, make_record(records, protocol=protocol, submission="wavlm", seed=2, n_layers=25))
    assert small_run.info.experiment_id == large_run.info.experiment_id, "MLflow compares within an experiment"
    assert [step for step, _ in history(store, small_run, "layer_valid")] == list(range(len(small.layers)))
    assert [step for step, _ in history(store, large_run, "layer_valid")] == list(range(len(large.layers)))


def test_trials_are_a_table(store: Store, records: Path, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record, run = send(store, make_record(records, protocol=protocol))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    table = store.client.load_table(run.info.experiment_id, "trials.json", [run.info.run_id])
    assert len(table) == len(record.trials) * len(record.layers)
    for trial in record.trials:
        rows = table[table["trial"] == trial.number].sort_values("layer")
        assert rows["valid"].tolist() == pytest.approx(trial.valid, abs=1e-9)
        assert rows["epoch"].tolist() == trial.epoch
        assert rows["loss"].tolist() == trial.loss
        assert rows["lr"].tolist() == pytest.approx([trial.lr] * len(trial.valid), rel=1e-6)
        assert rows["layer_name"].tolist() == [layer.name for layer in record.layers]


def test_record_of_an_older_version_is_sent_without_what_it_does_not_state(
    store: Store, records: Path, protocol: str
) -> None:
    """A zero would look like a measured optimism."""
    path = make_record(records, protocol=protocol, selection=None, reference=None)
    trials = [{**trial.model_dump(), "loss": None, "looks": None} for trial in read_record(path).trials]
    _, run = send(store, make_record(records, protocol=protocol, selection=None, reference=None, trials=trials))
    assert run.data.params["layers_alike"] == "unknown"
    assert not {"looks", "optimism", "reference.test"} & run.data.metrics.keys()


@pytest.mark.parametrize(
    ("kind", "figure"), [("classification", "confusion_matrix.png"), ("detection", "class_precision.png")]
)
def test_files_come_back_whole(store: Store, records: Path, protocol: str, kind: Any, figure: str) -> None:
    record_file = make_record(records, protocol=protocol, kind=kind)
    record, run = send(store, record_file)
    names = {file.path for file in store.client.list_artifacts(run.info.run_id)}
    assert names == {"layer_curve.png", figure, "trials.json", "record"}
    destination = records.parent / "downloaded"
    destination.mkdir()
    downloaded = Path(store.client.download_artifacts(run.info.run_id, "", str(destination)))
    for name in ("layer_curve.png", figure):
        assert (downloaded / name).read_bytes().startswith(b"\x89PNG")
    restored = downloaded / "record"
    assert read_record(restored / record_file.name) == record, "the board could not be rebuilt from MLflow"
    ids = read_predictions(restored, record).ids
    assert ids == read_predictions(records, record).ids


def test_dataset_is_an_input(store: Store, records: Path, protocol: str) -> None:
    record, run = send(store, make_record(records, protocol=protocol))
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.name == "mini-calls"
    assert record.task.split_hash.startswith(used.dataset.digest)
    assert len(used.dataset.digest) == 36
    assert json.loads(used.dataset.profile) == {"num_rows": 380, "n_train": 240, "n_valid": 60, "n_test": 80}
    assert mlflow.data.get_source(used.dataset).to_dict()["tags"]["split_hash"] == record.task.split_hash
    assert {tag.key: tag.value for tag in used.tags} == {"mlflow.data.context": "train, valid, test"}
    found = store.client.search_runs([run.info.experiment_id], "dataset.name = 'mini-calls'")
    assert [other.info.run_id for other in found] == [run.info.run_id]


def test_sending_twice_gives_one_run(store: Store, records: Path, protocol: str) -> None:
    record_file = make_record(records, protocol=protocol)
    first = log_record(StoredRecord.read(record_file), store.uri, store.artifacts)
    assert read_tracking(record_file) == first
    assert log_record(StoredRecord.read(record_file), store.uri, store.artifacts) == first
    assert list(push(records, store.uri, store.artifacts)) == [], "a record with a note has nothing to push"

    record_file.with_suffix(".mlflow.json").unlink()  # killed after the run was finished, before the note was written
    assert list(push(records, store.uri, store.artifacts)) == [(record_file, first)]
    assert [run.info.run_id for run in runs_of(store.client, protocol, ViewType.ALL)] == [first.run_id]


def test_unfinished_run_is_replaced(store: Store, records: Path, protocol: str) -> None:
    record_file = make_record(records, protocol=protocol)
    record = read_record(record_file)
    other_file = make_record(records, protocol=protocol, seed=1)
    experiment_id = log_record(StoredRecord.read(other_file), store.uri, store.artifacts).experiment_id
    killed = store.client.create_run(experiment_id, tags={"record_id": record.id})
    other = store.client.create_run(experiment_id, tags={"record_id": "f" * 16})
    tracking = log_record(StoredRecord.read(record_file), store.uri, store.artifacts)
    runs = {run.info.run_id: run for run in runs_of(store.client, protocol)}
    assert killed.info.run_id not in runs, "half a run is left"
    assert runs[other.info.run_id].info.status == "RUNNING", "another record's run was taken away"
    of_record = [run for run in runs.values() if run.data.tags["record_id"] == record.id]
    assert [(run.info.run_id, run.info.status) for run in of_record] == [(tracking.run_id, "FINISHED")]


def test_run_deleted_in_mlflow_is_sent_again(sqlite_store: Store, records: Path, protocol: str) -> None:
    record_file = make_record(records, protocol=protocol)
    first = log_record(StoredRecord.read(record_file), sqlite_store.uri, sqlite_store.artifacts)
    sqlite_store.client.delete_run(first.run_id)
    second = log_record(StoredRecord.read(record_file), sqlite_store.uri, sqlite_store.artifacts)
    assert [run.info.run_id for run in runs_of(sqlite_store.client, protocol)] == [second.run_id]
    assert read_tracking(record_file) == second


def test_moving_to_another_server_sends_again(
    sqlite_store: Store, server_store: Store, records: Path, protocol: str
) -> None:
    record_file = make_record(records, protocol=protocol)
    log_record(StoredRecord.read(record_file), sqlite_store.uri, sqlite_store.artifacts)
    note = log_record(StoredRecord.read(record_file), server_store.uri, server_store.artifacts)
    assert note.uri == server_store.uri
    assert len(runs_of(server_store.client, protocol)) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_refused_by_name(records: Path, value: float) -> None:
    record = read_record(make_record(records))
    broken = record.model_copy(update={"secondary": {"macro_f1": value}})
    with pytest.raises(ValueError, match=r"secondary\.macro_f1 is (nan|inf)"):
        metric_points(broken)
    layers = [*record.layers[:3], record.layers[3].model_copy(update={"valid": value}), *record.layers[4:]]
    with pytest.raises(ValueError, match=r"layer_valid is (nan|inf) at step 3"):
        metric_points(record.model_copy(update={"layers": layers}))


def test_a_users_own_mlflow_settings_stay(
    sqlite_store: Store, records: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    before = dict(os.environ), mlflow.get_tracking_uri(), logging.getLogger("mlflow").level, mlflow.active_run()
    log_record(StoredRecord.read(make_record(records)), sqlite_store.uri, sqlite_store.artifacts)
    after = dict(os.environ), mlflow.get_tracking_uri(), logging.getLogger("mlflow").level, mlflow.active_run()
    assert after == before
    assert capfd.readouterr() == ("", "")


def test_importing_is_cheap_and_pyplot_is_never_used(records: Path, sqlite_store: Store) -> None:
    record_file = make_record(records)
    script = f"""
import sys
from pathlib import Path
from evaluator.tracking.runs import log_record
from leaderboard.records.stored import StoredRecord
heavy = {{"mlflow", "matplotlib", "torch", "sqlalchemy", "pandas"}} & set(sys.modules)
assert not heavy, f"beans --help would wait for {{heavy}}"
log_record(StoredRecord.read(Path({str(record_file)!r})), {sqlite_store.uri!r}, Path({str(sqlite_store.artifacts)!r}))
assert "matplotlib.pyplot" not in sys.modules, "pyplot needs a display backend and keeps every figure"
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_figure_that_cannot_be_drawn_does_not_fail_the_result(
    records: Path, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of work must not end in a traceback because a font is missing."""

    def broken(record: Record) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr("evaluator.tracking.runs.layer_curve", broken)
    said: list[str] = []
    stored = StoredRecord.read(make_record(records))
    logged = log(stored, sqlite_store.uri, sqlite_store.artifacts, said.append)
    assert isinstance(logged, Tracking), "the run is logged without the figure"
    assert said == ["The figure layer_curve.png was not drawn (RuntimeError: no font)."]
    files = {file.path for file in MlflowClient(sqlite_store.uri).list_artifacts(logged.run_id)}
    assert files == {"confusion_matrix.png", "record", "trials.json"}
