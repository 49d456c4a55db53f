"""What several tests read of the board."""

import csv
from pathlib import Path

from playwright.sync_api import Locator, Page, expect


def names(page: Page) -> Locator:
    """The submissions of the table, in its order."""
    return page.locator("tbody tr td:nth-child(2) a")


def expect_names(page: Page, expected: list[str]) -> None:
    expect(names(page)).to_have_text(expected, timeout=30_000)


def saved(page: Page, button: str, place: Path) -> Path:
    """The file that a button downloads, below ``place``."""
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button, exact=True).click()
    path = place / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def table(page: Page, place: Path) -> list[dict[str, str]]:
    """The rows of the board's CSV."""
    with saved(page, "CSV", place).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
