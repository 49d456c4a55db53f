"""The pages of prose, as a reader uses them."""

import re

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


def test_prose_is_one_click_away(board: str, page: Page) -> None:
    page.goto(board)
    page.get_by_role("link", name="Submit", exact=True).click(timeout=30_000)
    expect(page.get_by_text("beans submissions new")).to_be_visible(timeout=20_000)
    expect(page).to_have_url(re.compile("/submit$"))
    page.get_by_role("link", name="About", exact=True).click()
    expect(page.get_by_text("Hainan-gibbons has four.")).to_be_visible(timeout=20_000)
