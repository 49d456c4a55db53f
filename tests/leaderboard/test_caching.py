"""The board is kept between pages: what is shown must never be older than the database and the files."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from consistent import write_consistent
from factory import make_record

from leaderboard.database import standings as standings_module
from leaderboard.database.standings import (
    NO_PREDICTIONS,
    NOT_COMPUTED,
    catalogue,
    compute,
    read_standings,
    with_certainty,
)
from leaderboard.database.store import Store, StoredResult
from leaderboard.ranking import resamples
from leaderboard.ranking.boards import Board, boards
from leaderboard.ranking.columns import stored_values
from leaderboard.ranking.resamples import resamples_path
from leaderboard.records.failure import Failure
from leaderboard.records.files import record_paths, write_record
from leaderboard.records.record import Record, Tracking
from leaderboard.records.result import Result
from leaderboard.records.stored import StoredRecord
from tasks.support.progress import silent

RUN = Tracking(uri="http://localhost:5000", experiment_id="1", run_id="abc")
FAMILY = {"family": "AVES"}


def rename(url: str, record: Record, directory: Path) -> None:
    """Publish it again, as the submission file describes it now."""
    Store(url).publish(make_record("a", about=FAMILY))


def run(url: str, record: Record, directory: Path) -> None:
    Store(url).publish(record, RUN)


def confirm(url: str, record: Record, directory: Path) -> None:
    Store(url).publish(record, confirmed=record.created + timedelta(days=1))


def publish(url: str, record: Record, directory: Path) -> None:
    Store(url).publish(make_record("b"))


def exchange(url: str, record: Record, directory: Path) -> None:
    """As many results as before, none later than before."""
    with Store(url).transaction() as connection:
        connection.execute(sa.delete(StoredResult))
    Store(url).publish(make_record("b"))


def delete(url: str, record: Record, directory: Path) -> None:
    with Store(url).transaction() as connection:
        connection.execute(sa.delete(StoredResult).where(StoredResult.record_id == record.id))


def rebuild(url: str, record: Record, directory: Path) -> None:
    write_record(directory, make_record("a", about=FAMILY))
    Store(url).rebuild(directory)


@pytest.mark.parametrize("change", [rename, run, confirm, publish, exchange, delete, rebuild])
def test_what_another_process_changes_is_on_the_next_page(
    url: str, change: Callable[[str, Record, Path], None], tmp_path: Path
) -> None:
    """`Store(url)` is another process's view here: nothing is kept between two stores."""
    server, record = Store(url), make_record("a")
    server.publish(record)
    before, kept = server.results(), read_standings(server)
    assert server.results() == before == [Result.of(record, stored=stored_values(record))]
    assert read_standings(server) is kept, "a page without a change does no work"
    change(url, record, tmp_path)
    after = Store(url).results()
    assert after != before, "the change is one that a reader sees"
    assert server.results() == after
    assert read_standings(server) == boards(after, catalogue())


def test_a_caller_that_sorts_what_it_got_changes_no_other_page(url: str) -> None:
    store = Store(url)
    for name in "abc":
        store.publish(make_record(name))
    before = store.results()
    store.results().clear()
    assert store.results() == before


def test_two_databases_do_not_mix(tmp_path: Path) -> None:
    first, second = (Store(f"sqlite:///{tmp_path / name}") for name in ("a.db", "b.db"))
    first.publish(make_record("a"))
    second.publish(make_record("b"))
    for _ in range(2):
        assert [board.rows[0].submission for store in (first, second) for board in read_standings(store)] == ["a", "b"]


def test_database_put_back_from_a_copy_is_what_is_shown(tmp_path: Path) -> None:
    """A counter of changes would come to the same number again."""
    path, copy = tmp_path / "beans.db", tmp_path / "copy.db"
    server = Store(f"sqlite:///{path}")
    server.publish(make_record("a"))
    with closing(sqlite3.connect(path)) as now, closing(sqlite3.connect(copy)) as then:
        now.backup(then)
        server.publish(make_record("b"))
        assert {result.submission for result in server.results()} == {"a", "b"}
        then.backup(now)
    Store(f"sqlite:///{path}").publish(make_record("c"))
    assert {result.submission for result in server.results()} == {"a", "c"}


def test_failure_is_on_the_next_page_and_gone_with_the_result(url: str) -> None:
    server, record = Store(url), make_record("a", "bats", group="core")
    server.publish(record)

    def reason() -> str:
        (board,) = read_standings(server)
        index = [column.task for column in board.columns].index("cbi")
        return board.rows[0].cells[index].reason

    assert reason() == "not run"
    sha256 = record.submission.weights_sha256
    failure = Failure("a", sha256, "cbi", "ta", "beans-probe/2", None, record.created, "failed", "out of memory")
    Store(url).publish_failure(failure)
    assert reason() == "failed on 2026-01-01: out of memory"
    Store(url).publish(make_record("a", "cbi", group="core"))
    assert reason() == ""


def settled(store: Store, records: Path) -> Board:
    (board,) = read_standings(store)
    return with_certainty(board, store, records)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three submissions on two tasks; the files lie in ``records``."""
    store = Store(f"sqlite:///{tmp_path / 'beans.db'}")
    for number, name in enumerate(("one", "two", "three")):
        for task in ("mine", "yours"):
            path = write_consistent(tmp_path / "records", name, task=task, targets=np.arange(24) % 3, seed=number)
            store.publish_stored(StoredRecord.read(path))
    return store


def reasons(board: Board) -> list[str]:
    return [row.standing_reason for row in board.rows]


def test_resamples_are_seen_when_they_come_change_and_go(store: Store, tmp_path: Path) -> None:
    records = tmp_path / "records"
    assert reasons(settled(store, records)) == [NOT_COMPUTED] * 3
    assert compute(records, silent) == []
    first = settled(store, records)
    assert reasons(first) == [""] * 3
    assert settled(store, records) is first, "a page without a change does no work"
    record = store.record(first.rows[1].cells[0].result.record_id if first.rows[1].cells[0].result else "")
    assert record is not None
    path = resamples_path(records, record)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert reasons(settled(store, records)) == ["", NOT_COMPUTED, ""], "a file that is still being copied"
    path.unlink()
    assert reasons(settled(store, records)) == ["", NOT_COMPUTED, ""]
    (records / record.predictions.file).unlink()
    assert reasons(settled(store, records)) == ["", NO_PREDICTIONS, ""]
    path.write_bytes(content)
    assert settled(store, records) == first


def test_only_what_changed_is_read_again(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading 12,000 files for each new result would make every page slow while a cluster works."""
    records = tmp_path / "records"
    compute(records, silent)
    before = settled(store, records)
    for task in ("mine", "yours"):
        path = write_consistent(records, "four", task=task, targets=np.arange(24) % 3, seed=9)
        store.publish_stored(StoredRecord.read(path))
        resamples.scored(StoredRecord.read(path))
    read: list[str] = []
    kept = resamples.kept

    def listen(directory: Path, result: Result) -> object:
        read.append(result.submission)
        return kept(directory, result)

    with monkeypatch.context() as patched:
        patched.setattr(resamples, "kept", listen)
        after = settled(store, records)
    assert set(read) == {"four"}
    fresh = Store(f"sqlite:///{tmp_path / 'beans.db'}")
    assert after == settled(fresh, records) != before


def test_result_made_again_is_not_shown_with_the_old_certainty(store: Store, tmp_path: Path) -> None:
    """The same id with other predictions, as on another machine."""
    records = tmp_path / "records"
    compute(records, silent)
    before = settled(store, records)
    for path in record_paths(records):
        path.unlink()
    for task in ("mine", "yours"):
        write_consistent(records, "one", task=task, targets=np.arange(24) % 3, seed=8)
    for path in record_paths(records):
        store.publish_stored(StoredRecord.read(path))
    assert reasons(settled(store, records)).count(NOT_COMPUTED) == 1
    compute(records, silent)
    after = settled(store, records)
    assert reasons(after) == [""] * 3
    assert after == settled(Store(f"sqlite:///{tmp_path / 'beans.db'}"), records) != before


def test_many_protocols_do_not_fill_the_memory(tmp_path: Path) -> None:
    """Anybody can publish under one more."""
    store = Store(f"sqlite:///{tmp_path / 'beans.db'}")
    for number in range(12):
        store.publish(make_record("a", protocol=f"beans-probe/2+trials={number}", group="own"))
    for board in read_standings(store):
        assert reasons(with_certainty(board, store, tmp_path)) == [NO_PREDICTIONS]
    assert len(standings_module._ranges[store]) == 8


def test_pages_that_are_asked_for_at_once_wait_for_one(url: str) -> None:
    """A hundred readers after a new result: it is read once."""
    server = Store(url)
    server.publish(make_record("a"))
    found: list[list[Board]] = []
    threads = [threading.Thread(target=lambda: found.append(read_standings(server))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 8
    assert all(one is found[0] for one in found)
