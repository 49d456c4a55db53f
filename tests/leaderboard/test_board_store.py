"""The database, on real SQLite files and a real PostgreSQL; a mistake here loses results or shows wrong ones."""

import socket
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from factory import make_record
from ports import free_port

import leaderboard.database.profiles  # noqa: F401  # its table belongs to the schema
from leaderboard.database import migrate
from leaderboard.database.engine import make_engine
from leaderboard.database.store import Base, Store
from leaderboard.ranking.columns import stored_values
from leaderboard.records.failure import Failure
from leaderboard.records.files import confirm, record_paths, tracking_path, write_record
from leaderboard.records.predictions import PredictedScores, write_predictions
from leaderboard.records.record import Record, Tracking
from leaderboard.records.result import Result
from leaderboard.records.stored import StoredRecord
from tasks.support.errors import UserError

RUN = Tracking(uri="http://localhost:5000", experiment_id="1", run_id="abc")


def test_what_was_published_is_read_back_to_the_last_digit(url: str) -> None:
    record = make_record(test=0.1 + 0.2, created=datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2))))
    store = Store(url)
    store.publish(record, RUN)
    assert store.record(record.id) == record
    assert store.results() == [Result.of(record, RUN, stored_values(record))]
    assert store.results()[0].created == datetime(2026, 3, 1, 10, tzinfo=UTC)


def test_empty_database_is_no_error(url: str) -> None:
    """The first page a new user opens."""
    store = Store(url)
    assert store.results() == []
    assert store.record("0" * 16) is None


def test_creating_a_store_touches_nothing(tmp_path: Path) -> None:
    Store(f"sqlite:///{tmp_path / 'new' / 'beans.db'}")
    assert list(tmp_path.iterdir()) == []


def test_publishing_twice_is_publishing_once(url: str) -> None:
    """`beans records push` may be run again at any time."""
    store = Store(url)
    for _ in range(2):
        store.publish(make_record())
    assert len(store.results()) == 1


def test_run_is_added_later_and_never_lost(url: str) -> None:
    """A record published while MLflow was down gets its link afterwards and keeps it."""
    store = Store(url)
    store.publish(make_record())
    assert store.results()[0].run is None
    store.publish(make_record(), RUN)
    store.publish(make_record())
    assert store.results()[0].run == RUN


def test_older_results_stay_as_history(url: str) -> None:
    store = Store(url)
    first = make_record(test=0.4)
    store.publish(first)
    store.publish(make_record(test=0.5, created=first.created + timedelta(days=1)))
    assert [result.test for result in store.results("wavlm-large")] == [0.4, 0.5]
    assert store.results("somebody else") == []


def test_migrations_build_what_the_code_expects_and_go_down_again(url: str) -> None:
    store = Store(url)
    store.publish(make_record(), RUN)
    engine = make_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    migrate.upgrade(engine)
    assert len(store.results()) == 1, "upgrading what is up to date keeps the data"
    migrate.downgrade(engine, "base")
    assert "results" not in sa.inspect(engine).get_table_names()
    migrate.upgrade(engine)
    again = Store(url)
    again.publish(make_record(), RUN)
    assert again.record(make_record().id) == make_record()


def test_results_of_an_older_version_survive_every_migration_up_and_down(url: str) -> None:
    """A board of years must not be lost by an update of the suite, nor by going back."""
    about: dict[str, object] = {"family": "Ours “é” \x01", "licence": "MIT", "pretraining": [{"data": "FSD50K"}]}
    records = [
        *(make_record("a", about=about), make_record("b", limit=5, n_layers=3, best_layer=1)),
        make_record("c", vram_bytes=2**40, test=0.1 + 0.2),
    ]
    store, engine = Store(url), make_engine(url)
    for record in records:
        store.publish(record, RUN)
    before = store.results()
    migrate.downgrade(engine, "0001")
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT * FROM results")).mappings().all()
    assert "confirmed" not in rows[0]
    assert {row["record_id"] for row in rows} == {record.id for record in records}
    migrate.upgrade(engine)
    after = Store(url).results()
    assert sorted(after, key=lambda result: result.submission) == sorted(before, key=lambda result: result.submission)
    assert [Store(url).record(record.id) for record in records] == records
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM results WHERE confirmed = created")) == 3
        assert {column["name"] for column in sa.inspect(engine).get_columns("results")} == set(
            Base.metadata.tables["results"].columns.keys()
        )
        assert "ix_results_submission" in {index["name"] for index in sa.inspect(engine).get_indexes("results")}


def submit(store: Store, directory: Path, record: Record, again: bool = False) -> list[str]:
    """As `beans submit` does: the files first, then the board."""
    scores = PredictedScores(["x"], ["x"], np.zeros((1, 1, 2), np.float32), np.zeros(1, np.int64))
    predictions = write_predictions(directory, record.stem, scores)
    path = write_record(directory, record.model_copy(update={"predictions": predictions}))
    if again:
        confirm(path)
    return store.publish_stored(StoredRecord.read(path))


def test_record_submitted_again_comes_after_those_made_since(url: str, tmp_path: Path) -> None:
    """Data switched back to an older split: what `beans submit` just called kept is what the board must show."""
    store, first = Store(url), make_record(split="older", test=0.4)
    second = make_record(split="newer", test=0.5, created=first.created + timedelta(days=1))
    submit(store, tmp_path, first)
    submit(store, tmp_path, second)
    assert [result.test for result in store.results()] == [0.4, 0.5]
    submit(store, tmp_path, first, again=True)
    assert [result.test for result in store.results()] == [0.5, 0.4]
    store.publish(first)
    assert [result.test for result in store.results()] == [0.5, 0.4], "who knows of no later submission undoes none"
    for _ in range(2):
        store.rebuild(tmp_path)
        assert [result.test for result in store.results()] == [0.5, 0.4], "the files alone tell the same"


def test_another_model_of_the_same_name_is_told_once(url: str) -> None:
    """The newer takes the name; whoever did not mean to must hear of it."""
    store, day = Store(url), timedelta(days=1)
    old = make_record(weights="one")
    assert store.publish(old) == []
    assert store.publish(make_record(weights="one", task="mini-soundscape", created=old.created + day)) == []
    new = make_record(weights="two", created=old.created + 2 * day)
    (sentence,) = store.publish(new)
    assert sentence.startswith("The name wavlm-large was used with other weights")
    assert "2026-01-02 00:00" in sentence
    assert "no longer count" in sentence
    assert store.publish(make_record(weights="two", task="mini-soundscape", created=old.created + 3 * day)) == []
    (sentence,) = store.publish(old)
    assert "this result does not count" in sentence
    for other in (
        {"track": "twa"},
        {"limit": 5},
        {"protocol": "beans-probe/2+trials=4"},
        {"group": "core"},
        {"submission": "somebody else"},
    ):
        assert store.publish(make_record(weights="three", **other)) == [], f"another board or name: {other}"


@pytest.mark.parametrize(
    "protocol", ["mine/1", "beans-probe/0", "beans-probe/2+", "beans-probe/2+<b>=1", "beans-probe"]
)
def test_protocol_that_is_none_is_not_published(url: str, protocol: str) -> None:
    """It would be a board of its own, where the submission is always first."""
    store = Store(url)
    with pytest.raises(UserError, match="protocol"):
        store.publish(make_record(protocol=protocol))
    assert store.results() == []


@pytest.mark.parametrize("created", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2999-01-01T00:00:00Z"])
def test_date_that_cannot_be_is_not_published(url: str, created: str) -> None:
    """A record from the future would be the newest of its name for ever."""
    with pytest.raises(UserError, match="created"):
        Store(url).publish(make_record(created=datetime.fromisoformat(created)))


def test_record_is_not_published_without_its_own_predictions(url: str, tmp_path: Path) -> None:
    store, record = Store(url), make_record()
    submit(store, tmp_path, record)
    (path,) = record_paths(tmp_path)
    predictions = tmp_path / f"{record.stem}.predictions.safetensors"
    content = predictions.read_bytes()
    predictions.unlink()
    with pytest.raises(UserError, match="is missing"):
        store.publish_stored(StoredRecord.read(path))
    assert store.rebuild(tmp_path) == 1, "the records alone are enough to rebuild the board"
    predictions.write_bytes(content[:-1] + b"\1")
    for refused in (lambda: store.publish_stored(StoredRecord.read(path)), lambda: store.rebuild(tmp_path)):
        with pytest.raises(UserError, match="its sha256 differs"):
            refused()
    assert len(store.results()) == 1


def test_transaction_that_fails_halfway_leaves_no_trace(url: str) -> None:
    """What stands is what stood before, and the next publish works."""
    store = Store(url)
    store.publish(make_record("good"))
    with pytest.raises(UserError), store.transaction() as connection:
        connection.execute(sa.text("DELETE FROM results"))
        connection.execute(sa.text("SELECT * FROM nothing"))
    assert [result.submission for result in store.results()] == ["good"]
    store.publish(make_record("next"))
    assert len(store.results()) == 2


def test_name_that_postgresql_cannot_hold_is_refused_in_one_sentence(postgres: str) -> None:
    with pytest.raises(UserError, match="NUL"):
        Store(f"{postgres}/postgres").publish(make_record("a\0b"))


def write(directory: Path, *records: Record) -> list[Path]:
    return [write_record(directory, record) for record in records]


def test_rebuild_replaces_everything_by_the_files(url: str, tmp_path: Path) -> None:
    store, records = Store(url), tmp_path / "records"
    store.publish(make_record("gone"))
    (path, _) = write(records, make_record("a"), make_record("b"))
    tracking_path(path).write_text(RUN.model_dump_json())
    assert store.rebuild(records) == 2
    assert {result.submission: result.run for result in store.results()} == {"a": RUN, "b": None}


@pytest.mark.parametrize("content", [b"", b'{"schema_version": 1}', b"\xff\xfe", b"[]"])
def test_rebuild_with_a_broken_file_names_it_and_changes_nothing(url: str, tmp_path: Path, content: bytes) -> None:
    """Half a board would look like a whole one."""
    store, records = Store(url), tmp_path / "records"
    store.publish(make_record("kept"))
    write(records, make_record("a"))
    (records / "zz-broken.json").write_bytes(content)
    with pytest.raises(UserError, match=r"zz-broken\.json"):
        store.rebuild(records)
    assert [result.submission for result in store.results()] == ["kept"]


def test_a_damaged_note_of_a_run_takes_no_result_from_the_board(url: str, tmp_path: Path) -> None:
    """The run is found in MLflow again when the record is sent."""
    (path,) = write(tmp_path / "records", make_record("a"))
    tracking_path(path).write_text("{}")
    store = Store(url)
    assert store.rebuild(path.parent) == 1
    assert [result.run for result in store.results()] == [None]


def test_rebuild_from_a_directory_that_is_not_there_empties_nothing(url: str, tmp_path: Path) -> None:
    """A mistyped BEANS_HOME must not wipe the board."""
    store = Store(url)
    store.publish(make_record())
    with pytest.raises(UserError, match="nowhere"):
        store.rebuild(tmp_path / "nowhere")
    assert len(store.results()) == 1


def test_unreachable_server_is_one_sentence_without_the_password() -> None:
    with pytest.raises(UserError) as caught:
        Store(f"postgresql://beans:s3cret@127.0.0.1:{free_port()}/board?password=s3cret").results()
    message = str(caught.value)
    assert "127.0.0.1" in message
    assert "BEANS_DATABASE_URL" in message
    assert "s3cret" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "address",
    ["nonsense", "mysql://u:s3cret@h/d", "oracle+nothing://u:s3cret@h/d", "sqlite://", "postgresql://u:s3cret@h:x/d"],
)
def test_wrong_address_is_one_sentence_without_the_password(address: str) -> None:
    with pytest.raises(UserError) as caught:
        Store(address).results()
    assert "s3cret" not in str(caught.value)


def test_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "beans.db"
    path.write_bytes(b"this is a text file, and no database at all" * 100)
    with pytest.raises(UserError, match=r"beans\.db"):
        Store(f"sqlite:///{path}").publish(make_record())


def test_database_of_a_newer_suite_is_refused(url: str) -> None:
    """An old program must not write into a schema it does not know."""
    Store(url).publish(make_record())
    with make_engine(url).begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UserError, match="another version"):
        Store(url).publish(make_record("b"))


def test_store_recovers_when_the_file_was_replaced(tmp_path: Path) -> None:
    """Deleting .beans while the board is open must not need a restart of the board."""
    path = tmp_path / "beans.db"
    store = Store(f"sqlite:///{path}")
    store.publish(make_record())
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(UserError):
        store.results()
    assert store.results() == []


def test_server_that_accepts_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leaderboard.database.engine.CONNECT_TIMEOUT", 2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(UserError, match="timeout"):
            Store(f"postgresql://beans@127.0.0.1:{silent.getsockname()[1]}/board").results()


def row(**changes: Any) -> Failure:
    fields: dict[str, Any] = {
        "submission": "wavlm-large",
        "weights_sha256": make_record().submission.weights_sha256,
        "task": "mini-calls",
        "track": "ta",
        "protocol": "beans-probe/2",
        "limit": None,
        "at": datetime(2026, 11, 22, 10, 30, tzinfo=UTC),
        "kind": "failed",
        "reason": "out of memory",
    }
    return Failure(**{**fields, **changes})


def test_newest_failure_of_a_task_is_kept_and_a_result_takes_it_away(url: str) -> None:
    store, later = Store(url), timedelta(hours=1)
    first = row()
    store.publish_failure(first)
    store.publish_failure(row(at=first.at + later, reason="no such file", kind="not prepared"))
    store.publish_failure(row(at=first.at - later, reason="an older one, heard of late"))
    assert store.failures() == [row(at=first.at + later, reason="no such file", kind="not prepared")]
    others = [
        *(row(limit=5), row(track="twa"), row(task="x"), row(submission="y"), row(weights_sha256="0" * 64)),
        row(protocol="beans-probe/2+trials=4"),
    ]
    for other in others:
        store.publish_failure(other)
    store.publish(make_record())
    assert sorted(store.failures(), key=repr) == sorted(others, key=repr), "only what has a result now is gone"
    store.publish(make_record(limit=5))
    assert len(store.failures()) == len(others) - 1


def test_rebuild_keeps_failures_without_a_result(url: str, tmp_path: Path) -> None:
    """No file could bring them back."""
    store = Store(url)
    for failure in (row(), row(task="mini-soundscape")):
        store.publish_failure(failure)
    write(tmp_path / "records", make_record())
    store.rebuild(tmp_path / "records")
    assert store.failures() == [row(task="mini-soundscape")]


def test_failures_survive_only_their_own_migration(url: str) -> None:
    store, engine = Store(url), make_engine(url)
    store.publish(make_record())
    store.publish_failure(row(task="mini-soundscape"))
    migrate.downgrade(engine, "0004")
    migrate.upgrade(engine)
    assert Store(url).failures() == []
    assert len(Store(url).results()) == 1
