"""Servers that are down, processes that are killed, and two at once: nothing is lost and nothing is there twice."""

import http.server
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow_server import Server, Store
from ports import free_port
from quick_processes import QuickProcess
from record_factory import make_record

import evaluator.tracking.runs
from evaluator.results.publish import push
from evaluator.tracking.connection import FIRST_REQUEST, TrackingError
from evaluator.tracking.runs import log_record
from leaderboard.records.files import read_record, read_tracking, tracking_path
from leaderboard.records.record import Tracking
from leaderboard.records.stored import StoredRecord

LONGEST_WAIT = 12  # seconds: two tries of 4 s, and what a busy machine adds

# MLflow makes its tables in some 1700 statements. A file left after this one can never be opened by MLflow again.
MIGRATIONS_KILLED_AT = 400


def slow_to_create() -> None:
    """Whoever looks for the experiment is slow to act on the answer: both processes find none and create it."""
    look = MlflowClient.get_experiment_by_name

    def slowly(*arguments: Any) -> Any:
        found = look(*arguments)
        time.sleep(1)
        return found

    MlflowClient.get_experiment_by_name = slowly  # type: ignore[method-assign]


def killed_in_migrations() -> None:
    statements = itertools.count()

    def count(*_: object) -> None:
        if next(statements) == MIGRATIONS_KILLED_AT:
            die()

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", count)


def killed_in_log_artifacts() -> None:
    MlflowClient.log_artifacts = die  # type: ignore[assignment]


def killed_in_set_terminated() -> None:
    MlflowClient.set_terminated = die  # type: ignore[assignment]


def killed_before_the_note() -> None:
    evaluator.tracking.runs.write_atomically = die  # type: ignore[attr-defined]


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def track_all(before: Callable[[], None] | None, store: Store, *record_files: Path) -> None:
    if before is not None:
        before()
    for record_file in record_files:
        log_record(StoredRecord.read(record_file), store.uri, store.artifacts)


def start(directory: Path, store: Store, *record_files: Path, before: Callable[[], None] | None = None) -> QuickProcess:
    return QuickProcess(directory, track_all, before, store, *record_files, environment={})


def contents(directory: Path) -> dict[str, bytes]:
    """All files but lock files."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix != ".lock"}


def tracked_runs(client: MlflowClient, protocol: str) -> list[str]:
    experiments = [found for found in client.search_experiments(ViewType.ALL) if found.name == protocol]
    assert len(experiments) == 1, "two processes made two experiments, and half of the runs are in each"
    runs = client.search_runs([experiments[0].experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    return [run.data.tags["record_id"] for run in runs]


def test_nothing_listens_then_a_server_does(server: Server, records: Path, protocol: str, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    for number in range(3):
        make_record(records, protocol=protocol, seed=number)
    before = contents(records)
    started = time.monotonic()
    sent = list(push(records, nobody, tmp_path / "artifacts"))
    assert time.monotonic() - started < LONGEST_WAIT
    assert len(sent) == 1, "a server that is down is asked once, not once a record"
    error = sent[0][1]
    assert isinstance(error, TrackingError)
    assert error.down
    assert nobody in str(error)
    assert "Connection refused" in str(error)
    assert "`beans records push` sends it later" in str(error)
    assert "\n" not in str(error)
    assert contents(records) == before, "the record changed, or half a note was written"

    sent = list(push(records, server.uri, tmp_path / "artifacts"))
    assert [type(outcome) for _, outcome in sent] == [Tracking] * 3
    identities = {read_record(record_file).id for record_file, _ in sent}
    assert sorted(tracked_runs(MlflowClient(tracking_uri=server.uri), protocol)) == sorted(identities)


def test_a_server_that_hangs_is_given_up_soon(
    server: Server, records: Path, protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_file = make_record(records, protocol=protocol)
    seconds = float(FIRST_REQUEST["MLFLOW_HTTP_REQUEST_TIMEOUT"])
    assert 2 * seconds < LONGEST_WAIT, "the user waits for a server that never answers"
    monkeypatch.setitem(FIRST_REQUEST, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    server.signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(TrackingError, match="timed out") as raised:
            log_record(StoredRecord.read(record_file), server.uri, tmp_path / "artifacts")
        waited = time.monotonic() - started
        assert waited < LONGEST_WAIT - 2 * (seconds - 1), "the user waits for a server that never answers"
        assert raised.value.down
        assert read_tracking(record_file) is None
    finally:
        server.signal(signal.SIGCONT)
    ((_, tracking),) = push(records, server.uri, tmp_path / "artifacts")
    assert isinstance(tracking, Tracking)
    assert tracked_runs(MlflowClient(tracking_uri=server.uri), protocol) == [read_record(record_file).id]


@pytest.mark.parametrize(
    "uri",
    ["sqlite:///{file}", "sqlite:///{directory}/missing/mlflow.db", "postgresql+psycopg://me:secret@127.0.0.1:9/x"],
)
def test_a_database_that_cannot_be_opened_is_given_up_soon(records: Path, tmp_path: Path, uri: str) -> None:
    (tmp_path / "blocked").write_text("not a database, and not a directory")
    uri = uri.format(file=tmp_path / "blocked", directory=tmp_path / "blocked")
    record_file = make_record(records)
    started = time.monotonic()
    with pytest.raises(TrackingError, match="the record is kept") as raised:
        log_record(StoredRecord.read(record_file), uri, tmp_path / "artifacts")
    assert time.monotonic() - started < LONGEST_WAIT, "MLflow itself retries for 100 s"
    assert "secret" not in str(raised.value)
    assert read_tracking(record_file) is None


def test_something_that_is_not_mlflow(records: Path, tmp_path: Path) -> None:
    class NoMethods(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), NoMethods)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    for number in range(2):
        make_record(records, seed=number)
    sent = list(push(records, f"http://127.0.0.1:{other.server_port}", tmp_path))
    other.shutdown()
    other.server_close()
    assert len(sent) == 2, "MLflow answered, so one refused record must not stop the others"
    assert all(isinstance(outcome, TrackingError) and "error code 501" in str(outcome) for _, outcome in sent)


def test_a_password_in_the_address_is_neither_shown_nor_kept(server: Server, records: Path, protocol: str) -> None:
    record_file = make_record(records, protocol=protocol)
    with pytest.raises(TrackingError) as raised:
        log_record(StoredRecord.read(record_file), f"http://me:p@ss-word@127.0.0.1:{free_port()}", records)
    assert "ss-word" not in str(raised.value)
    tracking = log_record(StoredRecord.read(record_file), f"http://me:pass-word@127.0.0.1:{server.port}", records)
    assert tracking.uri == server.uri
    assert "pass-word" not in tracking_path(record_file).read_text()


def test_one_broken_record_does_not_stop_the_others(sqlite_store: Store, records: Path, protocol: str) -> None:
    first, broken, last = sorted(make_record(records, protocol=protocol, seed=number) for number in range(3))
    (records / read_record(broken).predictions.file).write_bytes(b"cut off")
    sent = dict(push(records, sqlite_store.uri, sqlite_store.artifacts))
    assert isinstance(sent[first], Tracking)
    assert isinstance(sent[broken], TrackingError)
    assert "sha256" in str(sent[broken])
    assert isinstance(sent[last], Tracking)
    assert len(tracked_runs(sqlite_store.client, protocol)) == 2, "half a run of the broken record was left"


def test_an_experiment_deleted_in_mlflow_is_named(sqlite_store: Store, records: Path, protocol: str) -> None:
    sqlite_store.client.delete_experiment(sqlite_store.client.create_experiment(protocol))
    with pytest.raises(TrackingError, match="was deleted: restore it"):
        log_record(StoredRecord.read(make_record(records, protocol=protocol)), sqlite_store.uri, sqlite_store.artifacts)


def test_killed_while_the_database_is_made(records: Path, protocol: str, tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}", tmp_path / "artifacts")
    record_file = make_record(records, protocol=protocol)
    status, _, _ = start(tmp_path, store, record_file, before=killed_in_migrations).end()
    assert status == -signal.SIGKILL
    log_record(StoredRecord.read(record_file), store.uri, store.artifacts)
    assert tracked_runs(store.client, protocol) == [read_record(record_file).id]


@pytest.mark.parametrize("moment", [killed_in_log_artifacts, killed_in_set_terminated, killed_before_the_note])
def test_killed_at_any_moment_ends_in_one_finished_run(
    server_store: Store, records: Path, protocol: str, tmp_path: Path, moment: Callable[[], None]
) -> None:
    record_file = make_record(records, protocol=protocol)
    status, _, _ = start(tmp_path, server_store, record_file, before=moment).end()
    assert status == -signal.SIGKILL
    assert read_tracking(record_file) is None
    tracking = log_record(StoredRecord.read(record_file), server_store.uri, server_store.artifacts)
    assert tracked_runs(server_store.client, protocol) == [read_record(record_file).id]
    run = server_store.client.get_run(tracking.run_id)
    assert run.data.metrics["test"] == read_record(record_file).test
    files = {file.path for file in server_store.client.list_artifacts(tracking.run_id)}
    assert "layer_curve.png" in files, "the run that is left is the half one"


def test_two_processes_share_an_experiment_and_a_record(server_store: Store, tmp_path: Path, protocol: str) -> None:
    # The first records lie in two homes, so that no lock of ours keeps the processes apart: the server has to.
    own = [make_record(tmp_path / f"home{number}", protocol=protocol, seed=number) for number in range(2)]
    shared = make_record(tmp_path / "home0", protocol=protocol, seed=2)
    both = [start(tmp_path, server_store, file, shared, before=slow_to_create) for file in own]
    assert [process.end() for process in both] == [(0, "", "")] * 2
    assert sorted(tracked_runs(server_store.client, protocol)) == sorted(read_record(f).id for f in (*own, shared))


def test_two_processes_make_one_new_database(tmp_path: Path, protocol: str) -> None:
    store = Store(f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}", tmp_path / "artifacts")
    files = [make_record(tmp_path / f"home{number}", protocol=protocol, seed=number) for number in range(2)]
    both = [start(tmp_path, store, file) for file in files]
    assert [process.end() for process in both] == [(0, "", "")] * 2, (
        "MLflow's migrations ran into each other, or wrote to the terminal"
    )
    assert sorted(tracked_runs(store.client, protocol)) == sorted(read_record(f).id for f in files)
