"""A board of more rows than are drawn at once: nothing of it may be missing, shifted or out of reach."""

import re
from collections.abc import Callable

import pytest
from factory import make_record
from playwright.sync_api import Page, expect
from slow import slow_line

from leaderboard.database.store import Store

pytestmark = pytest.mark.browser

# Two of each rank by name, so that no two orders are the same.
ROWS = 230
NAMES = [f"encoder-{number * 37 % ROWS:03d}" for number in range(ROWS)]
LONG_NAME = "a-name-of-" + "60-characters-" * 4 + "indeed"


@pytest.fixture(scope="session")
def long_board(start: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a board of `NAMES` in this order by mean, one long name among them, and one incomplete row."""
    url = f"sqlite:///{tmp_path_factory.mktemp('long') / 'beans.db'}"
    store = Store(url)
    for place, name in enumerate([*NAMES, LONG_NAME]):
        for task, metric in (("mini-calls", "accuracy"), ("mini-soundscape", "map")):
            if (name, task) != (LONG_NAME, "mini-soundscape"):
                test = 0.9 - place / 1000
                store.publish(make_record(name, task, metric=metric, test=test, n_layers=3, best_layer=1))
    return start(url)


def opened(page: Page, address: str) -> Page:
    page.goto(address)
    expect(page.locator("tbody tr")).to_have_count(ROWS + 1, timeout=60_000)
    return page


def shown(page: Page) -> list[str]:
    return page.locator("tbody tr td:nth-child(2) a").all_text_contents()


def sorted_by(page: Page, order: str, name: str) -> None:
    expect(page.locator(f"th[aria-sort={order}]")).to_contain_text(name, timeout=60_000)


def test_every_row_is_there_in_order_for_eyes_ears_and_keyboard(long_board: str, page: Page) -> None:
    opened(page, long_board)
    assert shown(page) == [*NAMES, LONG_NAME]
    assert page.locator("tbody tr td:nth-child(1) .value").all_text_contents() == [
        *(str(rank) for rank in range(1, ROWS + 1)),
        "–",
    ]
    skipped = page.locator("tbody tr").evaluate_all(
        "rows => rows.filter(row => !row.cells[0].checkVisibility({ contentVisibilityAuto: true })).length"
    )
    assert skipped > ROWS / 2, "all rows are laid out: a board of 1,000 takes ten seconds to draw"
    expect_columns_below_their_headers(page, 1360)

    # Rows that are not on the screen are read out, and reached by keyboard.
    table = page.get_by_role("table", name="Leaderboard")
    expect(table).to_have_attribute("aria-rowcount", str(ROWS + 2))
    expect(table.get_by_role("row")).to_have_count(ROWS + 2)
    expect(table.get_by_role("columnheader")).to_have_count(page.locator("thead th").count())
    assert table.get_by_role("row").nth(ROWS).get_by_role("cell").count() == page.locator("thead th").count()
    page.get_by_role("link", name=NAMES[-2]).focus()
    page.keyboard.press("Tab")
    focused = page.get_by_role("link", name=NAMES[-1])
    expect(focused).to_be_focused()
    expect(focused).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(rf"/submission\?name={NAMES[-1]}$"))


def expect_columns_below_their_headers(page: Page, width: int) -> None:
    """Each row is laid out by itself: one of other widths would put scores below another task."""
    for number in (0, 1, ROWS // 2, ROWS):
        row = page.locator("tbody tr").nth(number)
        row.scroll_into_view_if_needed()
        edges = row.evaluate(
            """row => [row.closest("table").tHead.rows[0], row].map(
                one => [...one.cells].flatMap(cell => {
                    const box = cell.getBoundingClientRect();
                    return [Math.round(box.left), Math.round(box.right)];
                }))"""
        )
        assert edges[0] == edges[1], f"row {number} at a width of {width}"
        spilt = row.evaluate(
            "row => [...row.cells].filter(cell => cell.scrollWidth > cell.clientWidth + 1).map(c => c.textContent)"
        )
        assert spilt == [], f"text of row {number} runs over its cell at a width of {width}"


def test_columns_stand_below_their_headers_on_a_phone_and_a_row_far_down_opens(long_board: str, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    opened(page, long_board)
    expect_columns_below_their_headers(page, 390)
    page.locator("tbody tr").nth(ROWS - 1).locator("td").nth(3).click()
    expect(page).to_have_url(re.compile(rf"/submission\?name={NAMES[ROWS - 1]}$"))


def test_the_table_keeps_its_place_and_the_keyboard_its_header(long_board: str, page: Page) -> None:
    """Drawn again it would take its time; without the focus the keyboard begins at the top of the page again."""
    opened(page, long_board)
    page.locator("tbody tr").first.evaluate("row => { row.title = 'the same row' }")
    page.get_by_role("combobox", name="Compare").click()
    page.keyboard.type(NAMES[0])
    page.get_by_role("option", name=NAMES[0]).click()
    expect(page).to_have_url(re.compile(f"with={NAMES[0]}"), timeout=20_000)
    page.wait_for_timeout(1000)
    expect(page.locator("tbody tr").first, "the table is drawn again").to_have_attribute("title", "the same row")

    page.locator("thead button", has_text="mini-calls").focus()
    page.keyboard.press("Enter")
    sorted_by(page, "descending", "mini-calls")
    expect(page.locator("thead button", has_text="mini-calls")).to_be_focused()
    page.keyboard.press("Enter")
    sorted_by(page, "ascending", "mini-calls")
    expect(page.locator("tbody tr")).to_have_count(ROWS + 1)
    assert shown(page)[0] == LONG_NAME
    page.get_by_role("button", name="Submission").click()
    by_name = page.locator("tbody tr td:nth-child(2) a")
    expect(by_name).to_have_text([LONG_NAME, *sorted(NAMES)], timeout=60_000)

    # A table that stayed still answers to the mouse.
    page.locator("tbody tr").nth(3).locator("td").nth(3).click()
    expect(page).to_have_url(re.compile(rf"/submission\?name={sorted(NAMES)[2]}$"))


def test_a_row_opens_its_page_without_an_answer_of_the_server_in_between(long_board: str, page: Page) -> None:
    """The server changed the page in two steps: whatever came between them led back to the board."""
    with slow_line(long_board) as line:
        opened(page, line.address)
        line.seconds = 3.0
        page.locator("tbody tr").nth(3).locator("td").nth(3).dblclick()
        expect(page).to_have_url(re.compile(rf"/submission\?name={NAMES[3]}$"), timeout=1_000)
        line.seconds = 0.0
        expect(page.get_by_role("heading", name=NAMES[3])).to_be_visible(timeout=30_000)
        expect(page).to_have_url(re.compile(rf"/submission\?name={NAMES[3]}$"))
        # The page leaves the line before it is gone.
        page.goto("about:blank")
