"""The page that compares submissions, as a reader uses it."""

import re

import pytest
from playwright.sync_api import Page, expect
from sample import HOSTILE

from leaderboard import text
from leaderboard.record import read_record
from leaderboard.resamples import scored
from leaderboard.significance import Scored, compare
from tasks.home import Home

pytestmark = pytest.mark.browser

CHART = '[data-testid="stVegaLiteChart"]'


def on_disk(home: Home, submission: str) -> dict[str, Scored]:
    found = {}
    for path in home.records.glob(f"{submission}.*.ta.????????????????.json"):
        record = read_record(path)
        found[record.task.name] = scored(home.records, record)
    return found


def test_differences_are_those_of_the_records(settled: str, settled_home: Home, page: Page) -> None:
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
            interval = f"[{text.signed(one.low)}, {text.signed(one.high)}]"
            expect(cell).to_have_text(f"{text.signed(one.difference)}p {one.p_corrected:.3f}{interval}")
        assert comparison.mean is not None
        expect(rows.nth(2).locator("td").nth(column)).to_contain_text(text.signed(comparison.mean.difference))
    expect(page.get_by_text("corrected over the tasks of a column (Holm)")).to_be_visible()


def test_curves_are_overlaid_and_costs_shown_where_measured(settled: str, page: Page) -> None:
    page.goto(f"{settled}/compare?with=small&with=large&with=medium")
    expect(page.locator(CHART)).to_have_count(4, timeout=30_000)
    for chart in page.locator(CHART).all():
        chart.scroll_into_view_if_needed()
        expect(chart.locator("canvas, svg").first).to_be_visible(timeout=20_000)
    expect(page.get_by_text("Left out (not measured): medium.")).to_be_visible()
    expect(page.get_by_text("Mean score of the 2 tasks that all of them have.")).to_be_visible()


def test_chosen_on_the_board_and_kept_in_the_address(settled: str, page: Page) -> None:
    page.goto(settled)
    button = page.get_by_role("button", name="Compare", exact=True)
    expect(button).to_be_disabled(timeout=30_000)
    for name in ("large", "small"):
        page.get_by_role("combobox", name="Compare").click()
        page.get_by_role("option", name=name, exact=True).click()
    page.keyboard.press("Escape")
    expect(button).to_be_enabled()
    button.click()
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
    expect(page.get_by_text("Not on this board, and left out: “nobody”.")).to_be_visible(timeout=30_000)
    expect(page.locator("th")).to_have_count(4)
    expect(page.locator("tbody tr").first.locator("td").nth(2)).to_have_attribute(
        "title", re.compile(r"no predictions beside the record.*\(hubert\)")
    )
    expect(page.locator("tbody tr").nth(2)).to_contain_text("no task to compare")
    assert page.locator('img[src="x"]').count() == 0
    page.goto(f"{board}/compare?with=aves")
    expect(page.get_by_text("Choose two to five submissions")).to_be_visible(timeout=30_000)
