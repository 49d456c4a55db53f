"""A reader's way through the board on each database it can be kept in; every number is compared with the files."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect
from safetensors.numpy import load_file
from scipy.stats import rankdata

from leaderboard.store import Store
from tasks.home import Home

pytestmark = pytest.mark.browser

DATABASES = ["sqlite", "postgresql"]
on_both = pytest.mark.parametrize("live", DATABASES, indirect=True)
TASKS = ["clicks", "songs"]
RECORD = "{name}.{task}.ta.????????????????.json"


@pytest.fixture(scope="session")
def live(request: pytest.FixtureRequest, settled_home: Home, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a server on the records of `settled_home`, kept in the database that the test names."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("settled"))
    # A home of its own, without the other database: nothing could come from there.
    home = Home.at(tmp_path_factory.mktemp("on-postgresql"))
    shutil.copytree(settled_home.records, home.records)
    url = request.getfixturevalue("postgres_server").database()
    fill(Store(url), home.records)
    start: Callable[..., str] = request.getfixturevalue("start")
    return start(url, home.root)


def fill(store: Store, records: Path) -> None:
    for path in sorted(records.glob("*.json")):
        store.publish_file(path)


def scores(home: Home) -> dict[str, dict[str, float]]:
    """By name and task, the test score that is written in the file."""
    found: dict[str, dict[str, float]] = {}
    for path in home.records.glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(record["submission"]["name"], {})[record["task"]["name"]] = record["test"]
    return found


def means(home: Home) -> dict[str, float]:
    return {name: float(np.mean([of[task] for task in TASKS])) for name, of in scores(home).items()}


def by_mean(home: Home) -> list[str]:
    found = means(home)
    return sorted(found, key=lambda name: -found[name])


def rank_ranges(home: Home) -> dict[str, tuple[int, int]]:
    """Every resample is ranked by itself; the 25th smallest and the 25th largest of the 1000 ranks are the range."""
    names = by_mean(home)
    drawn = np.array([[resampled(home, name, task) for task in TASKS] for name in names]).mean(axis=1)
    ranks = np.sort(rankdata(-drawn.round(12), method="min", axis=0).astype(int), axis=1)
    return {
        name: (min(low, rank), max(high, rank))
        for rank, (name, low, high) in enumerate(zip(names, ranks[:, 24], ranks[:, 974], strict=True), start=1)
    }


def resampled(home: Home, name: str, task: str) -> np.ndarray:
    record = next(home.records.glob(RECORD.format(name=name, task=task)))
    return load_file(record.with_suffix(".resamples.safetensors"))["resampled"]


def names(page: Page) -> Locator:
    return page.locator("tbody tr td:nth-child(2) a")


def expect_names(page: Page, expected: list[str]) -> None:
    expect(names(page)).to_have_text(expected, timeout=30_000)


def download(page: Page, place: Path) -> list[dict[str, str]]:
    with page.expect_download() as waiting:
        page.get_by_role("button", name="CSV", exact=True).click()
    waiting.value.save_as(place / "board.csv")
    with (place / "board.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("database", DATABASES)
def test_an_empty_board_fills_without_a_new_start(
    database: str,
    start: Callable[..., str],
    request: pytest.FixtureRequest,
    settled_home: Home,
    tmp_path: Path,
    page: Page,
) -> None:
    """Somebody opens the board before the first submission, and sees it by reading the page again."""
    sqlite = f"sqlite:///{tmp_path / 'new' / 'beans.db'}"
    url = sqlite if database == "sqlite" else request.getfixturevalue("postgres_server").database()
    address = start(url, tmp_path)
    for path in ("", "submission", "compare"):
        page.goto(f"{address}/{path}")
        expect(page.get_by_text("The board is empty")).to_be_visible(timeout=30_000)
        expect(page.get_by_text("beans submit submissions/statistics.toml")).to_be_visible()
    fill(Store(url), settled_home.records)
    page.goto(address)
    expect_names(page, by_mean(settled_home))


@on_both
def test_ranks_sort_filter_and_download(live: str, settled_home: Home, page: Page, tmp_path: Path) -> None:
    page.goto(live)
    ranked, ranges, written = by_mean(settled_home), rank_ranges(settled_home), scores(settled_home)
    expect_names(page, ranked)
    for index, name in enumerate(ranked):
        cells = page.locator("tbody tr").nth(index).locator("td")
        low, high = ranges[name]
        expect(cells.nth(0)).to_contain_text(f"{index + 1}({low}-{high})")
        for place, task in enumerate(TASKS, start=3):
            expect(cells.nth(place).locator(".value")).to_have_text(f"{written[name][task]:.3f}")
    everything = download(page, tmp_path)
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
    (left,) = download(page, tmp_path)
    # A filter hides rows; the rank stays that among all of them.
    assert left == next(row for row in everything if row["submission"] == "small")


@on_both
def test_results_open_and_can_be_linked_to(live: str, settled_home: Home, page: Page) -> None:
    page.goto(live)
    first = by_mean(settled_home)[0]
    names(page).first.click()
    expect(page).to_have_url(re.compile(rf"/submission\?name={first}$"), timeout=20_000)
    expect(page.get_by_role("heading", name=first, exact=True)).to_be_visible(timeout=20_000)
    expect(page.get_by_text("1 of 3")).to_be_visible()
    row = page.locator("tbody tr").filter(has_text="songs")
    expect(row.locator("td").filter(has_text="±").locator(".value")).to_have_text(
        f"{scores(settled_home)[first]['songs']:.3f}"
    )

    path = next(settled_home.records.glob(RECORD.format(name="medium", task="songs")))
    record = json.loads(path.read_text(encoding="utf-8"))
    page.goto(f"{live}/submission?name=medium&record={record['id']}")
    expect(page.get_by_role("heading", name="songs · T-A", exact=True)).to_be_visible(timeout=30_000)
    expect(page.get_by_text(record["submission"]["weights_sha256"])).to_be_visible()
    # The classes are read from the predictions beside the record.
    expect(page.get_by_text("Average precision of each class").first).to_be_visible(timeout=20_000)
    page.goto(f"{live}/?sort=-mean&size=10-100&size=100-350")
    expect_names(page, [name for name in reversed(by_mean(settled_home)) if name != "small"])


@on_both
def test_chosen_submissions_are_compared(live: str, settled_home: Home, page: Page) -> None:
    page.goto(live)
    expect_names(page, by_mean(settled_home))
    for name in ("small", "large"):
        page.get_by_role("combobox", name="Compare").click()
        page.get_by_role("option", name=name, exact=True).click()
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Compare side by side").click()
    expect(page).to_have_url(re.compile(r"/compare\?.*with=small&with=large"), timeout=20_000)
    rows = page.get_by_role("table", name="Differences").locator("tbody tr")
    expect(rows).to_have_count(3, timeout=30_000)
    written = scores(settled_home)
    differences = [written["large"][task] - written["small"][task] for task in TASKS]
    for row, task, expected in zip(rows.all(), [*TASKS, "Mean"], [*differences, np.mean(differences)], strict=True):
        low, high = np.quantile(resampled_difference(settled_home, task), [0.025, 0.975])
        expect(row.locator("td").first).to_contain_text(task)
        expect(row.locator("td").nth(2).locator(".value")).to_have_text(signed(expected))
        expect(row.locator("td").nth(2)).to_contain_text(f"[{signed(low)}, {signed(high)}]")


def resampled_difference(home: Home, task: str) -> np.ndarray:
    """Large minus small in each resample, of one task or of the mean over both."""
    chosen = TASKS if task == "Mean" else [task]
    return np.mean([resampled(home, "large", one) - resampled(home, "small", one) for one in chosen], axis=0)


def signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−") if round(value, 3) else "0.000"
