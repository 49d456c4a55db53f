"""The pages of tasks and of prose, as a reader uses them."""

import re

import pytest
from playwright.sync_api import Page, expect
from sample import HOSTILE, records

pytestmark = pytest.mark.browser


def test_task_shows_its_facts_and_all_results(board: str, page: Page) -> None:
    page.goto(f"{board}/task?name=mini-calls")
    expect(page.get_by_role("heading", name="mini-calls", exact=True)).to_be_visible(timeout=30_000)
    expect(page.get_by_text("classification, accuracy; Built-in tasks")).to_be_visible()
    rows = page.locator("tbody tr")
    expect(rows.locator("td:first-child a")).to_have_text(["aves", "hubert", HOSTILE, "floor", "aves"])
    of = {
        record.submission.name: record
        for record in records()
        if (record.task.name, record.track, record.limit) == ("mini-calls", "ta", None)
    }
    expect(rows.nth(1)).to_contain_text(f"{of['hubert'].test:.3f}")
    expect(rows.nth(1)).to_contain_text(f"{of['hubert'].valid:.3f}")
    expect(rows.nth(1)).to_contain_text("7 of 0 to 12")
    expect(rows.nth(1).locator("td").last).to_have_text("0.58")
    expect(rows.nth(4)).to_contain_text("limited to 20")
    # Three of 7/12 and one of 0; the limited result is not counted.
    expect(page.get_by_text("Median depth of 4 submissions: 0.58.")).to_be_visible()
    expect(page.locator('[data-testid="stVegaLiteChart"]').locator("canvas, svg").first).to_be_visible(timeout=20_000)
    rows.nth(1).click()
    expect(page).to_have_url(re.compile(r"/submission\?name=hubert$"), timeout=20_000)


def test_task_that_nobody_ran_has_facts_and_the_command(board: str, page: Page) -> None:
    page.goto(f"{board}/task?name=hainan-gibbons")
    expect(page.get_by_text("Nomascus hainanus")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("27,840 train, 13,920 valid, 18,560 test")).to_be_visible()
    expect(page.get_by_role("link", name="https://zenodo.org/records/3991714", exact=True)).to_be_visible()
    expect(page.get_by_text("beans submit SUBMISSION.toml --tasks hainan-gibbons")).to_be_visible()


def test_unknown_task_offers_the_known_ones(board: str, page: Page) -> None:
    page.goto(f"{board}/task?name={HOSTILE}")
    expect(page.get_by_text(f"There is no task called “{HOSTILE}”")).to_be_visible(timeout=30_000)
    page.get_by_role("combobox", name="Choose one").click()
    page.get_by_role("option", name="bats", exact=True).click()
    expect(page.get_by_role("heading", name="bats", exact=True)).to_be_visible(timeout=20_000)


def test_board_leads_to_its_tasks(settled: str, page: Page) -> None:
    """A submitter's own task has results and no facts."""
    page.goto(settled)
    link = page.get_by_role("link", name="songs", exact=True)
    expect(link).to_have_attribute("href", "task?name=songs", timeout=30_000)
    page.goto(f"{settled}/task?name=songs")
    expect(page.get_by_text("A submitter's own task")).to_be_visible(timeout=30_000)
    expect(page.locator("tbody tr")).to_have_count(3)


def test_prose_is_one_click_away(board: str, page: Page) -> None:
    page.goto(board)
    page.get_by_role("link", name="Submit", exact=True).click(timeout=30_000)
    expect(page.get_by_text("beans submissions new")).to_be_visible(timeout=20_000)
    expect(page).to_have_url(re.compile("/submit$"))
    page.get_by_role("link", name="About", exact=True).click()
    expect(page.get_by_text("Hainan-gibbons has four.")).to_be_visible(timeout=20_000)
