"""`benchmarks.leaderboard` on a small board: what it measures is real, whatever the time it takes here."""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Error as BrowserError

from leaderboard.database.standings import read_standings, with_certainty
from leaderboard.database.store import Store
from leaderboard.records.files import read_record, record_paths
from leaderboard.records.predictions import read_predictions
from tasks.support.home import Home


@pytest.fixture
def leaderboard(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``benchmarks.leaderboard``; the benchmarks are no installed package."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2]))
    import benchmarks.leaderboard

    return benchmarks.leaderboard


def apart(run: Callable[[], Any]) -> Any:
    """In a thread of its own: Playwright runs once a thread, and the browser tests' may be running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


@pytest.fixture
def chromium(leaderboard: Any) -> str:
    """Where the browser is."""
    found = leaderboard.chromium()
    if found is None:
        pytest.skip("no browser: install chromium or set CHROMIUM to its path")
    return str(found)


def test_the_board_it_draws_is_whole_and_its_records_are_as_large_as_real_ones(
    leaderboard: Any, tmp_path: Path
) -> None:
    """Rows without ranges, or records without curves, would be quicker to draw than those of real submissions."""
    home = Home.at(tmp_path / "home")
    assert leaderboard.fill(home, 3, variants=2, report=lambda _: None) == 3 * 12 * 2
    store = Store(home.database_url)
    boards = {(board.track, board.group): with_certainty(board, store, home.records) for board in read_standings(store)}
    assert sorted(boards) == [("ta", "auxiliary"), ("ta", "core"), ("twa", "auxiliary"), ("twa", "core")]
    for board in boards.values():
        assert [row.standing is not None for row in board.rows] == [True] * 3, board.rows[0].standing_reason
        assert len(board.columns) == (10 if board.group == "core" else 2)
    record = next(read_record(path) for path in record_paths(home.records) if ".bats.ta." in path.name)
    assert (len(record.layers), len(record.trials)) == (26, 16)
    assert len(record.model_dump_json()) > 15_000
    found = read_predictions(home.records, record)
    right = [[row.argmax() == answer for row, answer in zip(s, found.targets, strict=True)] for s in found.scores]
    assert record.test == pytest.approx(np.mean(right)), "the score is that of the predictions beside it"


@pytest.mark.slow
@pytest.mark.browser
def test_it_measures_in_a_browser_and_fails_beyond_the_goal(
    leaderboard: Any, chromium: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["benchmarks.leaderboard", "--submissions", "3", "--repetitions", "1", "--home", str(tmp_path / "home")]
    monkeypatch.setattr(sys, "argv", [*command, "--json", str(tmp_path / "board.json")])
    monkeypatch.setattr(leaderboard, "GOAL_SECONDS", 0.001)
    # Forty outcomes of each task are for a thousand submissions.
    monkeypatch.setattr(leaderboard, "fill", partial(leaderboard.fill, variants=2))
    assert apart(leaderboard.main) == 1, "a goal that is missed fails"
    found = json.loads((tmp_path / "board.json").read_text())
    assert (found["submissions"], found["records"], found["database"]) == (3, 72, "SQLite")
    seconds = {one["what"]: one["seconds"] for one in found["measured"]}
    assert set(seconds) == {
        *(leaderboard.FRESH, leaderboard.FIRST_ROW, leaderboard.WHOLE),
        *(leaderboard.SORTED, leaderboard.SUBMISSION),
    }
    assert all(len(laps) == 1 and laps[0] > 0 for laps in seconds.values())
    assert seconds[leaderboard.WHOLE][0] >= seconds[leaderboard.FIRST_ROW][0]
    printed = capsys.readouterr()
    assert "3 submissions x 12 tasks x 2 tracks" in printed.out
    assert "the goal is 0.001 s" in printed.err


@pytest.mark.browser
def test_a_table_that_lacks_a_row_is_not_taken_for_whole(
    leaderboard: Any, chromium: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the time of a first screen could be sold for that of the table."""
    from playwright.sync_api import sync_playwright

    monkeypatch.setattr(leaderboard, "_TIMEOUT", 500)
    rows = [f"<tr><td>1</td><td>{name}</td><td>0.5</td></tr>" for name in "abc"]

    def look() -> None:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=leaderboard.CHROMIUM_ARGUMENTS)
            page = browser.new_page()
            page.set_content(f"<table><tbody>{''.join(rows)}</tbody></table>")
            leaderboard._complete(page, "abc")
            page.set_content(f"<table><tbody>{''.join(rows[:2])}</tbody></table>")
            with pytest.raises(BrowserError, match="Timeout"):
                leaderboard._complete(page, "abc")
            page.set_content(f"<table><tbody>{''.join(rows).replace('0.5', '')}</tbody></table>")
            with pytest.raises(BrowserError, match="Timeout"):
                leaderboard._complete(page, "abc")
            browser.close()

    apart(look)
