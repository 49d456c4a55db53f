"""The page that compares submissions, as a reader uses it."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from sample import A100, COSTS, H200, HOSTILE

from leaderboard.ranking import formats
from leaderboard.ranking.resamples import scored
from leaderboard.ranking.significance import Scored, compare
from leaderboard.records.files import read_record, record_path
from leaderboard.records.stored import StoredRecord
from tasks.support.home import Home

pytestmark = pytest.mark.browser

CHART = '[data-testid="stVegaLiteChart"]'


def on_disk(home: Home, submission: str) -> dict[str, Scored]:
    found = {}
    for path in home.records.glob(f"{submission}.*.ta.????????????????.json"):
        record = read_record(path)
        found[record.task.name] = scored(StoredRecord(record, record_path(home.records, record)))
    return found


def test_differences_are_those_of_the_records_beside_curves_and_costs(
    settled: str, settled_home: Home, page: Page
) -> None:
    """The sign above all: a plus means that the column's submission is better than the first one."""
    page.goto(f"{settled}/compare?with=small&with=large&with=medium")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3, timeout=30_000)
    small = on_disk(settled_home, "small")
    for column, name in ((2, "large"), (3, "medium")):
        other = on_disk(settled_home, name)
        comparison = compare(other, small)
        for index, one in enumerate(comparison.tasks):
            expect(rows.nth(index)).to_contain_text(one.task)
            assert one.difference == pytest.approx(other[one.task].test - small[one.task].test)
            cell = rows.nth(index).locator("td").nth(column)
            interval = f"[{formats.signed(one.low)}, {formats.signed(one.high)}]"
            expect(cell).to_have_text(f"{formats.signed(one.difference)}p {one.p_corrected:.3f}{interval}")
        assert comparison.mean is not None
        expect(rows.nth(2).locator("td").nth(column)).to_contain_text(formats.signed(comparison.mean.difference))
    expect(page.get_by_text("corrected over the tasks of a column (Holm)")).to_be_visible()

    # Memory, speed, parameters, and the curves of two tasks.
    expect(page.locator(CHART)).to_have_count(5, timeout=30_000)
    for chart in page.locator(CHART).all():
        chart.scroll_into_view_if_needed()
        expect(chart.locator("canvas, svg").first).to_be_visible(timeout=20_000)
    expect(page.get_by_text("Left out (not measured on a GPU): medium.")).to_have_count(2)
    expect(page.get_by_text("Mean score of the 2 tasks that all of them have.")).to_be_visible()

    # Wide tables scroll in their frames; the page itself never scrolls sideways.
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.locator(CHART).last).to_be_visible()
    page.wait_for_timeout(500)
    main = page.locator('[data-testid="stMain"]')
    assert main.evaluate("element => element.scrollWidth - element.clientWidth") <= 0, "too wide for a phone"


def test_chosen_on_the_board_and_kept_in_the_address(settled: str, page: Page) -> None:
    page.goto(settled)
    link = page.get_by_role("link", name="Compare side by side")
    expect(page.get_by_role("combobox", name="Compare")).to_be_visible(timeout=30_000)
    expect(link, "one submission alone cannot be compared").to_have_count(0)
    for name in ("large", "small"):
        page.get_by_role("combobox", name="Compare").click()
        page.get_by_role("option", name=name, exact=True).click()
    page.keyboard.press("Escape")
    expect(link).to_be_enabled()
    link.click()
    expect(page).to_have_url(re.compile(r"/compare\?.*with=large&with=small"), timeout=20_000)
    expect(page.locator("th").nth(1)).to_contain_text("large")
    page.get_by_role("combobox", name="Submissions").click()
    page.get_by_role("option", name="medium", exact=True).click()
    expect(page).to_have_url(re.compile(r"with=large&with=small&with=medium"))
    page.reload()
    expect(page.locator("th")).to_have_count(4, timeout=30_000)


def test_addresses_that_anybody_can_type(board: str, page: Page) -> None:
    """Without predictions beside the records there is a reason for each gap; unknown names are left out and said."""
    page.goto(f"{board}/compare?with=nobody&with=aves&with=hubert&with=aves&with={HOSTILE}")
    expect(page.get_by_text("Left out, since they are not on this board: “nobody”.")).to_be_visible(timeout=30_000)
    differences = page.get_by_role("table", name="Differences")
    expect(differences.locator("th")).to_have_count(4, timeout=30_000)
    expect(differences.locator("tbody tr").first.locator("td").nth(2)).to_have_attribute(
        "title", re.compile(r"no predictions beside the record.*\(hubert\)")
    )
    expect(differences.locator("tbody tr").nth(2)).to_contain_text("no task to compare")
    assert page.locator('img[src="x"]').count() == 0
    page.goto(f"{board}/compare?with=aves")
    expect(page.get_by_text("Choose two to five submissions")).to_be_visible(timeout=30_000)


def test_fronts_are_of_one_device_and_told_in_words(varied: str, page: Page) -> None:
    """Memory and speed have different fronts; the figures of another device never compete."""
    chosen = "&".join(f"with={name}" for name in COSTS)
    page.goto(f"{varied}/compare?group=own&{chosen}")

    def expected(cost: Callable[[str], float], device: str) -> str:
        of_device = [name for name in COSTS if COSTS[name][3] == device]
        front = [
            name
            for name in of_device
            if not any(cost(o) <= cost(name) and COSTS[o][0] > COSTS[name][0] for o in of_device)
            and not any(cost(o) < cost(name) and COSTS[o][0] >= COSTS[name][0] for o in of_device)
        ]
        return f"On the front: {', '.join(front)}."

    memory = expected(lambda name: COSTS[name][1] or 0, H200)
    speed = expected(lambda name: COSTS[name][2] or 0, H200)
    assert (memory, speed) == ("On the front: big, slow.", "On the front: big, quick.")
    expect(page.get_by_text(memory)).to_be_visible(timeout=30_000)
    expect(page.get_by_text(speed)).to_be_visible()
    expect(page.get_by_text(f"Left out (measured on {A100}): other.")).to_have_count(2)
    expect(page.get_by_text("Left out (not measured on a GPU): floor.")).to_have_count(2)
    expect(page.get_by_text(f"Measured on {H200}.")).to_have_count(2)

    page.get_by_role("combobox", name="Device").click()
    page.get_by_role("option", name=A100, exact=True).click()
    expect(page).to_have_url(re.compile("device=NVIDIA.A100"), timeout=20_000)
    expect(page.get_by_text(f"Left out (measured on {H200}): big, slow, quick.")).to_have_count(2)
    page.reload()
    expect(page.get_by_text(f"Measured on {A100}.")).to_have_count(2, timeout=30_000)

    # Runs of some are known, and MLflow compares just these.
    runs = page.get_by_role("table", name="Runs in MLflow").locator("tbody tr")
    expect(runs.nth(1).locator("td").nth(1).get_by_role("link")).to_have_attribute(
        "href", "https://mlflow.example.org/#/experiments/7/runs/bigtwo"
    )
    expect(runs.nth(1).locator("td").nth(3)).to_have_text("–")
    link = page.get_by_role("link", name="Compare in MLflow")
    expect(link).to_have_attribute("href", re.compile(r"^https://mlflow\.example\.org/#/compare-runs\?runs="))
    address_of = link.get_attribute("href") or ""
    assert all(run in address_of for run in ("bigone", "bigtwo", "slowone", "slowtwo"))
