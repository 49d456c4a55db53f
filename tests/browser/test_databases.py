"""A reader's way through the board on each database it can be kept in; every number is compared with the files."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from postgres_server import Server
from reading import expect_names, names, table
from written import RECORD, TASKS, by_mean, rank_ranges, resampled_difference, scores, signed

from leaderboard.database.store import Store
from leaderboard.records.stored import StoredRecord
from tasks.support.home import Home

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def fill(store: Store, records: Path) -> None:
    for path in sorted(records.glob("*.json")):
        store.publish_stored(StoredRecord.read(path))


def test_an_empty_board_says_what_to_do_and_fills_without_a_new_start(
    start: Callable[..., str], settled_home: Home, tmp_path: Path, page: Page
) -> None:
    """Somebody opens the board before the first submission, and sees it by reading the page again.

    The first page opened after a start is that of a submission: Streamlit serves a `pages` directory by itself until
    the app has run once, and a shared link was empty.
    """
    url = f"sqlite:///{tmp_path / 'new' / 'beans.db'}"
    address = start(url, tmp_path)
    for path in ("submission?name=aves", "", "compare"):
        page.goto(f"{address}/{path}")
        expect(page.get_by_text("The board is empty"), f"/{path}").to_be_visible(timeout=30_000)
        expect(page.get_by_text("beans submit submissions/statistics.toml"), f"/{path}").to_be_visible()
    page.goto(f"{address}/efficiency")
    expect(page.get_by_text("beans profile submissions/random-hubert-small.toml")).to_be_visible(timeout=30_000)
    fill(Store(url), settled_home.records)
    page.goto(address)
    expect_names(page, by_mean(settled_home))


def test_a_readers_way_through_a_board_on_postgresql(
    start: Callable[..., str], postgres_server: Server, settled_home: Home, tmp_path: Path, page: Page
) -> None:
    """Empty, filled, sorted, filtered, downloaded, opened, sent as a link, compared."""
    # A home of its own, without the other database: nothing could come from there.
    home = Home.at(tmp_path / "on-postgresql")
    shutil.copytree(settled_home.records, home.records)
    url = postgres_server.database()
    address = start(url, home.root)
    page.goto(address)
    expect(page.get_by_text("The board is empty")).to_be_visible(timeout=30_000)
    fill(Store(url), home.records)
    page.goto(address)
    ranked, ranges, written = by_mean(settled_home), rank_ranges(settled_home), scores(settled_home)
    expect_names(page, ranked)
    for index, name in enumerate(ranked):
        cells = page.locator("tbody tr").nth(index).locator("td")
        low, high = ranges[name]
        expect(cells.nth(0)).to_contain_text(f"{index + 1}({low}-{high})")
        for place, task in enumerate(TASKS, start=3):
            expect(cells.nth(place).locator(".value")).to_have_text(f"{written[name][task]:.3f}")
    everything = table(page, tmp_path)
    assert [row["submission"] for row in everything] == ranked
    for row in everything:
        assert {task: float(row[task]) for task in TASKS} == written[row["submission"]]
        assert (int(row["rank_low"]), int(row["rank_high"])) == ranges[row["submission"]]

    head = page.locator("th").get_by_role("button", name=re.compile("^songs"))
    order = sorted(ranked, key=lambda name: -written[name]["songs"])
    head.click()
    # The order may be the one by the mean: the header says when the table is the new one.
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("songs", timeout=20_000)
    expect_names(page, order)
    head.click()
    expect_names(page, order[::-1])
    page.get_by_role("button", name="Filters").click()
    page.get_by_role("combobox", name="Parameters").click()
    page.get_by_role("option", name="< 10 M", exact=True).click()
    expect_names(page, ["small"])
    expect(page).to_have_url(re.compile("size=0-10"))
    page.reload()
    expect_names(page, ["small"])
    (left,) = table(page, tmp_path)
    # A filter hides rows; the rank stays that among all of them.
    assert left == next(row for row in everything if row["submission"] == "small")

    names(page).first.click()
    expect(page).to_have_url(re.compile(r"/submission\?name=small$"), timeout=20_000)
    expect(page.get_by_role("heading", name="small", exact=True)).to_be_visible(timeout=20_000)
    expect(page.get_by_text(f"{ranked.index('small') + 1} of 3")).to_be_visible()
    result = page.locator("tbody tr").filter(has_text="songs").locator("td").filter(has_text="±")
    expect(result.locator(".value")).to_have_text(f"{written['small']['songs']:.3f}")
    record = json.loads(next(home.records.glob(RECORD.format(name="medium", task="songs"))).read_text(encoding="utf-8"))
    page.goto(f"{address}/submission?name=medium&record={record['id']}")
    expect(page.get_by_role("heading", name="songs · ta", exact=True)).to_be_visible(timeout=30_000)
    expect(page.get_by_text(record["submission"]["weights_sha256"])).to_be_visible()
    # The classes are read from the predictions beside the record.
    expect(page.get_by_text("Average precision of each class").first).to_be_visible(timeout=20_000)

    page.goto(f"{address}/?sort=-mean&size=10-100&size=100-350")
    expect_names(page, [name for name in reversed(ranked) if name != "small"])
    for name in ("small", "large"):
        page.get_by_role("combobox", name="Compare").click()
        page.get_by_role("option", name=name, exact=True).click()
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Compare side by side").click()
    expect(page).to_have_url(re.compile(r"/compare\?.*with=small&with=large"), timeout=20_000)
    rows = page.get_by_role("table", name="Differences").locator("tbody tr")
    expect(rows).to_have_count(3, timeout=30_000)
    differences = [written["large"][task] - written["small"][task] for task in TASKS]
    for row, task, expected in zip(rows.all(), [*TASKS, "Mean"], [*differences, np.mean(differences)], strict=True):
        low, high = np.quantile(resampled_difference(settled_home, task), [0.025, 0.975])
        expect(row.locator("td").first).to_contain_text(task)
        expect(row.locator("td").nth(2).locator(".value")).to_have_text(signed(float(expected)))
        expect(row.locator("td").nth(2)).to_contain_text(f"[{signed(low)}, {signed(high)}]")
