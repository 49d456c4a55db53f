"""The page Efficiency, as a reader uses it."""

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect
from profile_factory import H200
from sample import HOSTILE

pytestmark = pytest.mark.browser

CHART = '[data-testid="stVegaLiteChart"]'
CPU = quote("cpu:cpu (Example)")


def open_page(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator("tbody tr").first).to_be_visible(timeout=60_000)


def cells(page: Page, row: int) -> list[str]:
    return [text.strip() for text in page.locator("tbody tr").nth(row).locator("td").all_inner_texts()]


def test_gpu_comes_first_and_a_clip_that_does_not_fit_has_its_limit(varied: str, page: Page) -> None:
    open_page(page, f"{varied}/efficiency?device={quote(f'cuda:{H200}')}")
    expect(page.locator("tbody tr")).to_have_count(18)
    expect(page.locator("th").nth(2)).to_contain_text("Peak VRAM")
    first = cells(page, 0)
    # 0.4 GiB and 1.2 MB, of which 256 MiB are weights; 4.1 ms for one second of sound.
    assert first[:4] == ["aves", "1 s", "411 MiB", "155 MiB"]
    assert first[6] == "244 s"
    gone = cells(page, 7)
    assert gone[:2] == ["aves", "600 s"]
    assert "> 140.00 GiB" in gone[2] and "out of memory" in gone[2]
    assert "not tried" in cells(page, 8)[2]
    expect(page.get_by_text("✕ did not fit; longer clips were not tried.")).to_be_visible()
    expect(page.locator(CHART)).to_have_count(2)

    # A row opens the submission where it is on the board.
    assert page.locator("tbody a").count() == 9, "random-biomamba was never submitted"
    page.locator("tbody a").first.click()
    expect(page).to_have_url(re.compile(r"/submission\?.*name=aves"), timeout=20_000)


def test_devices_and_precisions_are_never_mixed_and_what_is_chosen_is_in_the_address(varied: str, page: Page) -> None:
    """Host memory beside VRAM, or bf16 beside fp32, would compare what cannot be compared."""
    open_page(page, f"{varied}/efficiency?device={CPU}")
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.locator("th").nth(2)).to_contain_text("Peak host memory")
    expect(page.get_by_text("This is host memory, not VRAM")).to_be_visible()
    expect(page.locator("tbody")).not_to_contain_text("aves")

    open_page(page, f"{varied}/efficiency?device={quote(f'cuda:{H200}')}&with=random-biomamba&with=nobody")
    expect(page.locator("tbody tr")).to_have_count(9)
    expect(page.get_by_text("at this precision: “nobody”")).to_be_visible()
    page.get_by_role("combobox", name="Precision").click()
    page.get_by_role("option", name="bf16", exact=True).click()
    expect(page).to_have_url(re.compile("precision=bf16"), timeout=20_000)
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(5, timeout=30_000)
    expect(page.locator("tbody")).not_to_contain_text("random-biomamba")


def test_names_of_profiles_are_shown_as_they_are_and_fit_a_phone(varied: str, page: Page) -> None:
    """The page fixture fails the test if markup was run."""
    page.set_viewport_size({"width": 390, "height": 900})
    open_page(page, f"{varied}/efficiency?device={quote(f'cuda:{HOSTILE}')}")
    expect(page.locator("tbody td").first).to_have_text(HOSTILE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for chart in page.locator(CHART).all():
        box = chart.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390
