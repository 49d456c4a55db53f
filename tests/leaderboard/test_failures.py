"""What the board says where a submission was tried and has no result."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import Run, write_clips_task, write_submission
from factory import make_record
from ports import free_port

from leaderboard.database.store import Store
from leaderboard.ranking.boards import NOT_RUN, OTHER_WEIGHTS, boards
from leaderboard.records.failure import MOST_CHARACTERS, Failure, for_others
from leaderboard.records.result import Result
from tasks.support.home import Home

QUICK = ("--trials", "2", "--seeds", "2")
FLOOR = 'loader = "statistics"\nsample_rate = 16000\nbands = 24'


@pytest.fixture
def tasks(tmp_path: Path) -> tuple[Path, Path]:
    """Two own tasks."""
    return write_clips_task(tmp_path / "a", "first", 5), write_clips_task(tmp_path / "b", "second", 5)


def reason(beans: Run, submission: str, task: str) -> str:
    """What the terminal's board says of one cell."""
    code, out, err = beans("leaderboard", "show", "--json")
    assert code == 0, err
    (board,) = json.loads(out)
    index = [column["task"] for column in board["columns"]].index(task)
    return next(str(row["cells"][index]["reason"]) for row in board["rows"] if row["submission"] == submission)


def test_cell_says_why_a_run_failed_until_it_succeeds(
    beans: Run, tasks: tuple[Path, Path], tmp_path: Path, own_home: Path
) -> None:
    """From a sound that is gone to the result of the same command once it is back."""
    first, second = tasks
    both = f"{first},{second}"
    code, _, err = beans("submit", write_submission(tmp_path / "one.toml", FLOOR), "--tasks", both, *QUICK)
    assert code == 0, err
    clip = next((second.parent / "audio").glob("clip_003.*"))
    hidden = clip.rename(tmp_path / "hidden")
    two = write_submission(tmp_path / "two.toml", FLOOR.replace("24", "23"))
    code, _, err = beans("submit", two, "--tasks", both, *QUICK)
    assert code == 2
    told = reason(beans, "two", "second")
    assert told.startswith(f"failed on {datetime.now(UTC):%Y-%m-%d}: "), told
    assert clip.name in told, "the file that is missing is what the submitter has to look for"
    assert str(tmp_path) not in told and str(tmp_path) in err, "the board is shared, the terminal is not"
    assert reason(beans, "two", "first") == "", "the other task has its result"
    hidden.rename(clip)
    code, _, err = beans("submit", two, "--tasks", both, *QUICK)
    assert code == 0, err
    assert reason(beans, "two", "second") == ""
    assert Store(Home.at(own_home).database_url).failures() == []


def test_cell_says_that_a_task_was_not_prepared(
    beans: Run, tasks: tuple[Path, Path], tmp_path: Path, own_home: Path
) -> None:
    one = write_submission(tmp_path / "one.toml", FLOOR)
    code, _, err = beans("submit", one, "--tasks", f"bats,{tasks[0]}", "--track", "ta,twa", *QUICK)
    assert code == 2 and "beans tasks prepare bats" in err
    store = Store(Home.at(own_home).database_url)
    (mine, _) = store.results()
    found = store.failures()
    assert {(one.task, one.track, one.kind) for one in found} == {
        ("bats", "ta", "not prepared"),
        ("bats", "twa", "not prepared"),
    }
    for failure in found:
        assert (failure.submission, failure.protocol, failure.limit) == ("one", mine.protocol, None)
        assert failure.weights_sha256 == mine.weights_sha256
        assert failure.words.startswith("task not prepared on ") and "beans tasks prepare bats" in failure.words
        assert str(own_home) not in failure.words


def test_database_that_is_down_changes_nothing_of_a_failed_run(
    beans: Run, tasks: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next((tasks[0].parent / "audio").glob("clip_003.*")).unlink()
    one = write_submission(tmp_path / "one.toml", FLOOR)
    command = ("submit", one, "--tasks", tasks[0], *QUICK)
    code, _, expected = beans(*command)
    assert code == 2
    monkeypatch.setenv("BEANS_DATABASE_URL", f"postgresql://beans@127.0.0.1:{free_port()}/board")
    code, _, err = beans(*command)
    assert (code, err.splitlines()[-1]) == (2, expected.splitlines()[-1])
    assert "cannot be used" not in err


def failure(**changes: Any) -> Failure:
    fields: dict[str, Any] = {
        "submission": "a",
        "weights_sha256": make_record("a").submission.weights_sha256,
        "task": "mini-soundscape",
        "track": "ta",
        "protocol": "beans-probe/2",
        "limit": None,
        "at": datetime(2026, 11, 22, tzinfo=UTC),
        "kind": "failed",
        "reason": "The GPU's memory is full: 80.1 GiB are needed.",
    }
    return Failure(**{**fields, **changes})


def cell_reason(failed: Failure, *records: Any) -> str:
    results = [Result.of(record) for record in (make_record("a"), make_record("b", "mini-soundscape"), *records)]
    (board,) = boards(results, (), [failed])
    row = next(row for row in board.rows if row.submission == "a" and row.limit is None)
    return row.cells[[column.task for column in board.columns].index("mini-soundscape")].reason


def test_failure_is_shown_where_nothing_better_is_known() -> None:
    assert cell_reason(failure()) == "failed on 2026-11-22: The GPU's memory is full: 80.1 GiB are needed."
    old = make_record("a", "mini-soundscape", weights="before", created=datetime(2025, 1, 1, tzinfo=UTC))
    assert cell_reason(failure(), old) == failure().words, "tried again with the new weights, and failed"
    assert cell_reason(failure(weights_sha256="0" * 64), old) == OTHER_WEIGHTS
    assert cell_reason(failure(), make_record("a", "mini-soundscape")) == "", "a result is shown"


@pytest.mark.parametrize(
    "change",
    [
        *({"weights_sha256": "0" * 64}, {"task": "mini-calls"}, {"track": "twa"}, {"limit": 5}, {"submission": "b"}),
        {"protocol": "beans-probe/2+trials=4"},
    ],
)
def test_failure_of_something_else_is_not_this_cells(change: dict[str, object]) -> None:
    assert cell_reason(failure(**change)) == NOT_RUN


def test_failure_alone_makes_no_row() -> None:
    """A row without a single result says nothing about a model."""
    assert boards([], (), [failure()]) == []


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("Audio file /home/alice/sounds/a.wav (row 3) is missing", "Audio file a.wav (row 3) is missing"),
        ("'~/models/w.pt' cannot be read; see \"/opt/x/y.log\".", "'w.pt' cannot be read; see \"y.log\"."),
        ("submissions/a.toml: model microsoft/wavlm-large and/or 16/32 bit", None),
        ("get it from https://zenodo.org/record/1/file.zip first", None),
        ("https://me:secret@example.org/x answers 403", "https://example.org/x answers 403"),
        ("a\nb\tc\x1b[31md", r"a b c\u001b[31md"),
    ],
)
def test_board_shows_no_directory_and_no_password(sentence: str, shown: str | None) -> None:
    assert for_others(sentence) == (sentence if shown is None else shown)


def test_home_and_working_directory_are_not_shown_whatever_they_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, work = tmp_path / "Alice's own home", tmp_path / "my work, today"
    for place in (home, work):
        place.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    for place in (home, work):
        assert for_others(f"{place}/sounds/x.wav is missing") == "x.wav is missing"


def test_a_reason_as_long_as_a_book_is_cut() -> None:
    assert for_others("no " * 10_000) == ("no " * 10_000)[: MOST_CHARACTERS - 1] + "…"
