"""What the board says of its ranks: kept resamples in, ranges and groups out, and a reason where there are none."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders import write_clips_task, write_submission
from consistent import write_consistent
from scipy.stats import rankdata

from leaderboard.database.standings import (
    NO_PREDICTIONS,
    NOT_COMPUTED,
    compute,
    read_standings,
    with_certainty,
)
from leaderboard.database.store import Store
from leaderboard.ranking import formats, resamples
from leaderboard.ranking.boards import Board
from leaderboard.ranking.columns import sort_rows
from leaderboard.ranking.resamples import resamples_path
from leaderboard.records.files import read_record
from leaderboard.records.predictions import read_predictions
from leaderboard.records.stored import StoredRecord
from leaderboard.web.export import to_csv
from tasks.support.home import Home
from tasks.support.progress import silent

NAMES = ("one", "two", "three", "four")
TARGETS = {"mine": np.arange(24) % 3, "yours": np.arange(24) // 2 % 3}


def published(home: Home) -> Store:
    """Four submissions on two own tasks, without resamples."""
    store = Store(home.database_url)
    for number, name in enumerate(NAMES):
        for task, targets in TARGETS.items():
            path = write_consistent(home.records, name, task=task, targets=targets, seed=number + 25)
            store.publish_stored(StoredRecord.read(path))
    return store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("BEANS_HOME", str(tmp_path))
    for variable in ("BEANS_DATABASE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)
    found = Home.from_environment()
    found.records.mkdir()
    return found


def shown(store: Store, home: Home) -> Board:
    (board,) = read_standings(store)
    return with_certainty(board, store, home.records)


def literal_intervals(home: Home) -> dict[str, tuple[int, int]]:
    """Rank every resample of the means by hand, and take the 25th smallest and largest of the 1000 ranks."""
    means: dict[str, np.ndarray] = {name: np.zeros(1000) for name in NAMES}
    for path in sorted(home.records.glob("*.json")):
        record = read_record(path)
        found = resamples.resample(record.task.name, record.metric, record.test, read_predictions(home.records, record))
        means[record.submission.name] += found.resampled / 2
    ranks = rankdata(-np.stack(list(means.values())).round(12), method="min", axis=0).astype(int)
    return {name: (sorted(row)[24], sorted(row)[974]) for name, row in zip(means, ranks, strict=True)}


def test_page_never_computes_and_says_what_to_run(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resamples take seconds a record: a page that made them would hang for minutes."""
    store = published(home)
    before = sorted(home.records.iterdir())
    with monkeypatch.context() as patched:
        patched.setattr(resamples, "resampled", lambda *_, **__: pytest.fail("the page computed resamples"))
        board = shown(store, home)
    assert [row.standing_reason for row in board.rows] == [NOT_COMPUTED] * 4
    assert [row.rank for row in board.rows] == [1, 2, 3, 4], "ranks need no resamples"
    assert sorted(home.records.iterdir()) == before
    assert any(NOT_COMPUTED in note for note in formats.certainty_notes(board))


def test_ranges_are_those_of_the_resampled_ranking(home: Home) -> None:
    store = published(home)
    assert compute(home.records, silent) == []
    board = shown(store, home)
    expected = literal_intervals(home)
    for row in board.rows:
        assert row.standing is not None and row.rank is not None
        low, high = expected[row.submission]
        assert (row.standing.rank_low, row.standing.rank_high) == (min(low, row.rank), max(high, row.rank))
        assert row.standing.rank == row.rank and row.standing.mean == pytest.approx(row.mean)
    assert [column.recordings for column in board.columns] == [8, 8]
    assert sum(row.standing.borda for row in board.rows if row.standing) == 2 * 6, "two tasks, six pairs each"
    assert "mine (8), yours (8)" in " ".join(formats.certainty_notes(board)), (
        "eight recordings are few; it must be said"
    )


def test_row_without_predictions_says_so_and_the_others_keep_their_ranks(home: Home) -> None:
    """Only the database came along, say: the second may not make the third one second."""
    store = published(home)
    compute(home.records, silent)
    full = shown(store, home)
    second = full.rows[1]
    for cell in second.cells:
        assert cell.result is not None
        record = store.record(cell.result.record_id)
        assert record is not None
        (home.records / record.predictions.file).unlink()
        resamples_path(home.records, record).unlink()
    board = shown(store, home)
    assert [row.rank for row in board.rows] == [1, 2, 3, 4]
    assert board.rows[1].standing is None and board.rows[1].standing_reason == NO_PREDICTIONS
    for row in (board.rows[0], *board.rows[2:]):
        assert row.standing is not None and row.rank is not None
        assert row.standing.rank == row.rank
        assert row.standing.rank_low <= row.rank <= row.standing.rank_high <= 4
    assert board.rows[3].standing is not None and board.rows[3].standing.rank_low >= 2
    assert "3 rows with a range" in " ".join(formats.certainty_notes(board))
    assert formats.rank_interval(board.rows[1]) == "(–)"


def test_row_that_misses_a_task_is_not_ranked_and_the_others_are_ranked_without_it(home: Home) -> None:
    """A range over one task of two would be that of another ranking."""
    store = published(home)
    store.publish_stored(
        StoredRecord.read(write_consistent(home.records, "part", task="mine", targets=TARGETS["mine"], seed=40))
    )
    compute(home.records, silent)
    *others, part = shown(store, home).rows
    assert (part.submission, part.rank, part.standing, part.standing_reason) == ("part", None, None, "")
    found = {row.submission: row.standing for row in others}
    assert set(found) == set(NAMES)
    for row in others:
        assert row.standing is not None and row.standing.rank_high <= len(NAMES)
    assert sum(one.borda for one in found.values() if one) == 2 * 6, "two tasks, six pairs each: the fifth is no pair"


def test_resamples_of_other_predictions_are_not_shown(home: Home) -> None:
    store = published(home)
    compute(home.records, silent)
    first, second = (
        read_record(next(home.records.glob(f"{name}.mine.ta.????????????????.json"))) for name in ("one", "two")
    )
    resamples_path(home.records, first).write_bytes(resamples_path(home.records, second).read_bytes())
    reasons = {row.submission: row.standing_reason for row in shown(store, home).rows}
    assert reasons == {"one": NOT_COMPUTED, "two": "", "three": "", "four": ""}


def test_damaged_predictions_stop_no_other_record(home: Home) -> None:
    published(home)
    broken = next(home.records.glob("one.mine.*.predictions.safetensors"))
    broken.write_bytes(b"nothing")
    (complaint,) = compute(home.records, silent)
    assert str(broken) in complaint
    assert len(list(home.records.glob("*.resamples.safetensors"))) == 7


def test_rebuild_computes_and_show_prints(home: Home, beans: Callable[..., tuple[int, str, str]]) -> None:
    store = published(home)
    code, out, _ = beans("leaderboard", "show")
    assert code == 0 and NOT_COMPUTED in " ".join(out.split())
    code, out, _ = beans("leaderboard", "rebuild")
    assert (code, out) == (0, "The board holds 8 records.\n")

    board = shown(store, home)
    code, out, _ = beans("leaderboard", "show", "--json")
    (told,) = json.loads(out)
    code, out, _ = beans("leaderboard", "show")
    table = list(csv.DictReader(io.StringIO(to_csv(board))))
    for row, as_json, as_csv in zip(board.rows, told["rows"], table, strict=True):
        standing = row.standing
        assert standing is not None
        assert f"{row.rank} ({standing.rank_low}-{standing.rank_high})" in out
        assert as_json["standing"]["rank_low"] == standing.rank_low == int(as_csv["rank_low"])
        assert as_json["standing"]["group"] == standing.group == int(as_csv["tie_group"])
        assert as_json["standing"]["borda"] == standing.borda == float(as_csv["borda"])
        assert as_json["standing"]["mean_rank"] == standing.mean_rank == float(as_csv["mean_rank"])
        assert (standing.low, standing.high) == (float(as_csv["mean_ci_low"]), float(as_csv["mean_ci_high"]))
    assert formats.TIE_LEGEND in " ".join(out.split())

    by_count = sort_rows(board, "borda")
    counts = [row.standing.borda for row in by_count if row.standing]
    assert counts == sorted(counts, reverse=True)


def test_submitted_result_has_its_range_at_once(
    home: Home, beans: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """Nobody should have to rebuild the board after each submission."""
    task = write_clips_task(tmp_path / "clips", per_label=5)
    submission = write_submission(tmp_path / "floor.toml", 'loader = "statistics"\nsample_rate = 16000\nbands = 24')
    code, _, err = beans("submit", submission, "--tasks", task, "--trials", 2, "--seeds", 2)
    assert code == 0, err
    code, out, _ = beans("leaderboard", "show", "--json")
    (board,) = json.loads(out)
    (row,) = board["rows"]
    assert (row["standing"]["rank_low"], row["standing"]["rank_high"], row["standing_reason"]) == (1, 1, "")


def test_rebuild_says_which_record_has_no_predictions(home: Home, beans: Callable[..., tuple[int, str, str]]) -> None:
    published(home)
    missing = next(home.records.glob("one.mine.*.predictions.safetensors"))
    missing.unlink()
    code, out, err = beans("leaderboard", "rebuild")
    assert (code, out) == (0, "The board holds 8 records.\n"), "the board is rebuilt all the same"
    assert "no rank interval" in err and missing.name in err


def test_limited_records_are_not_resampled(home: Home) -> None:
    path = write_consistent(home.records, limit=5)
    assert compute(home.records, silent) == []
    assert not resamples_path(home.records, read_record(path)).exists()


@pytest.mark.parametrize(
    ("value", "shown"), [(0.1236, "+0.124"), (-0.05, "−0.050"), (0.0004, "0.000"), (-0.0004, "0.000"), (0.0, "0.000")]
)
def test_differences_have_a_sign_unless_nothing_is_left(value: float, shown: str) -> None:
    assert formats.signed(value) == shown


@pytest.mark.parametrize(("number", "letters"), [(1, "A"), (26, "Z"), (27, "AA"), (53, "BA")])
def test_groups_have_letters(number: int, letters: str) -> None:
    assert formats.tie_group(number) == letters
