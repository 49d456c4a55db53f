"""Filters, files and links of the board, as a reader uses them."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pyarrow.parquet as pq
import pytest
from factory import make_record
from playwright.sync_api import Locator, Page, expect
from reading import expect_names, saved
from sample import BACKGROUNDS
from slow import slow_line

from leaderboard.database.standings import catalogue
from leaderboard.database.store import Store
from leaderboard.records.record import Record, Tracking
from leaderboard.web.export import latex

pytestmark = pytest.mark.browser

CORE = [task for task in catalogue() if task.group == "core"]
BIRDS = ["cbi", "dcase", "enabirds", "rfcx"]
HOSTILE = "<img src=x onerror=alert(1)>"
# Name, family, licence, domains (None: not stated), parameters, memory, score on tasks of birds and on others.
MODELS: list[tuple[str, str, str, list[str] | None, int, int | None, float, float]] = [
    ("hubert", "HuBERT", "MIT", ["speech"], 94_000_000, 2**30, 0.5, 0.8),
    ("wavlm", "WavLM", "CC-BY-SA-3.0", ["speech"], 316_000_000, 2**31, 0.6, 0.7),
    ("birdaves", "AVES", "MIT", ["animals"], 94_000_000, None, 0.9, 0.2),
    ("floor", "statistics", "MIT", [], 0, None, 0.1, 0.1),
    ("silent", HOSTILE, "", None, 577_000_000, None, 0.3, 0.3),
]
BY_MEAN = ["hubert", "wavlm", "birdaves", "silent", "floor"]


def described() -> list[tuple[Record, Tracking | None]]:
    """Every model on every core task; runs of two on one server, of one on another, of one partly sent."""
    found = []
    for number, (name, family, licence, domains, size, memory, birds, others) in enumerate(MODELS):
        about: dict[str, object] = {"family": family, "licence": licence}
        if domains is not None:
            about["pretraining"] = [{"data": "x", "domain": domain} for domain in domains]
        for index, task in enumerate(CORE):
            record = make_record(
                name, task.name, group="core", metric=task.metric, test=birds if task.name in BIRDS else others,
                about=about, parameters=size, vram_bytes=memory,
            )  # fmt: skip
            server = "https://other.example.org" if name == "floor" else "https://user:secret@mlflow.example.org"
            run = Tracking(uri=server, experiment_id="7", run_id=f"{number}{index}")
            found.append((record, None if name == "silent" or (name == "birdaves" and index > 0) else run))
    return found


@pytest.fixture(scope="module")
def models(start: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a board of `described`."""
    url = f"sqlite:///{tmp_path_factory.mktemp('models') / 'beans.db'}"
    store = Store(url)
    for record, run in described():
        store.publish(record, run)
    return start(url)


def pick(page: Page, label: str, option: str) -> None:
    """Choose in the open popover, and close the list: it stays open for more, over the filters below it."""
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()
    page.keyboard.press("Escape")


def at_once(page: Page, label: str, options: list[str]) -> None:
    """Choose by the keyboard, without waiting for anything in between."""
    page.get_by_role("combobox", name=label).click()
    for option in options:
        page.keyboard.insert_text(option)
        page.keyboard.press("Enter")
    page.keyboard.press("Escape")


def header(page: Page, name: str) -> Locator:
    return page.locator("th").get_by_role("button", name=re.compile(f"^{name}"))


def query(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def expect_query(page: Page, expected: dict[str, list[str]]) -> None:
    """The browser writes the address down a moment before or after the table."""
    page.wait_for_url(lambda url: parse_qs(urlsplit(url).query) == expected)


def test_filters_narrow_and_stay_in_the_address(models: str, page: Page) -> None:
    """One after the other without opening the popover again; a reload and another browser show the same."""
    page.goto(models)
    expect_names(page, BY_MEAN)
    page.get_by_role("button", name="Filters").click()
    pick(page, "Licence", "MIT")
    expect_names(page, ["hubert", "birdaves", "floor"])
    pick(page, "Parameters", "10-100 M")
    expect_names(page, ["hubert", "birdaves"])
    pick(page, "Pretraining domain", "animals")
    expect_names(page, ["birdaves"])
    expect_query(page, {"licence": ["MIT"], "size": ["10-100"], "domain": ["animals"]})
    told = "1 of 5 rows; ranks are among all 5 ranked rows."
    expect(page.get_by_text(told)).to_be_visible()
    expect(page.locator("tbody tr td").first.locator(".value")).to_have_text("3")
    page.reload()
    expect_names(page, ["birdaves"])
    expect(page.get_by_role("button", name="Filters (3)")).to_be_visible()
    page.get_by_role("button", name="Filters (3)").click()
    expect(page.get_by_test_id("stMultiSelect").filter(has_text="Licence")).to_contain_text("MIT")


def test_a_second_pick_while_the_page_reruns_is_kept(models: str, page: Page) -> None:
    """A reader who knows what to choose is quicker than the server, and would lose a value without a word."""
    page.goto(models)
    expect_names(page, BY_MEAN)
    page.get_by_role("button", name="Filters").click()
    at_once(page, "Family", ["AVES", "HuBERT", "statistics"])
    expect_names(page, ["hubert", "birdaves", "floor"])
    expect_query(page, {"family": ["AVES", "HuBERT", "statistics"]})


def test_picks_in_two_filters_on_a_poor_connection_are_both_kept(models: str, page: Page) -> None:
    """The browser sends the second with the address from before the first, of which it has not heard yet."""
    with slow_line(models) as line:
        page.goto(line.address)
        expect_names(page, BY_MEAN)
        page.get_by_role("button", name="Filters").click()
        expect(page.get_by_role("combobox", name="Device")).to_be_visible()
        line.seconds = 1.0
        at_once(page, "Licence", ["MIT"])
        at_once(page, "Parameters", ["10-100 M"])
        line.seconds = 0.0
        expect_names(page, ["hubert", "birdaves"])
        expect_query(page, {"licence": ["MIT"], "size": ["10-100"]})
        # The page leaves the line before it is gone.
        page.goto("about:blank")


def test_a_second_thought_while_the_page_reruns_is_followed(models: str, page: Page) -> None:
    """Whoever corrects a choice at once would see the board in the order of the first."""
    page.goto(models)
    expect_names(page, BY_MEAN)
    for order in ("Parameters", "Borda", "VRAM", "Submission"):
        page.get_by_role("combobox", name="Sort by").click()
        page.keyboard.insert_text(order)
        page.keyboard.press("Enter")
    expect_names(page, ["birdaves", "floor", "hubert", "silent", "wavlm"])
    expect_query(page, {"sort": ["submission"]})


def test_a_link_gives_the_view(models: str, page: Page) -> None:
    for address, expected in (
        ("family=HuBERT&family=WavLM", ["hubert", "wavlm"]),
        (f"size=350-&licence=not+stated&family={quote(HOSTILE)}", ["silent"]),
        ("domain=none&domain=not+stated", ["silent", "floor"]),
        ("device=NVIDIA+H200&sort=vram", ["hubert", "wavlm"]),
        ("device=cpu&sort=-mean", ["floor", "silent", "birdaves"]),
    ):
        page.goto(f"{models}/?{address}")
        expect_names(page, expected)
        assert query(page) == parse_qs(address), "the controls say something else than the address"


def test_taxa_choose_tasks_and_rank_by_them(models: str, page: Page) -> None:
    page.goto(models)
    expect_names(page, BY_MEAN)
    page.get_by_role("button", name="Filters").click()
    pick(page, "Taxa", "birds")
    expect_names(page, ["birdaves", "wavlm", "hubert", "silent", "floor"])
    expect(page.get_by_text("Filtered by taxa birds. Mean over 4 of 10 tasks; ranks use this mean.")).to_be_visible()
    heads = page.locator("th").all_text_contents()
    assert [head.removesuffix("mAP").removesuffix("accuracy") for head in heads[3:-4]] == BIRDS
    first = page.locator("tbody tr").first.locator("td")
    expect(first.nth(0).locator(".value")).to_have_text("1")
    expect(first.nth(2).locator(".value")).to_have_text("0.900")
    page.reload()
    expect_names(page, ["birdaves", "wavlm", "hubert", "silent", "floor"])
    expect(page.get_by_text("About the tasks: cbi, dcase, enabirds, rfcx.")).to_be_visible()


def test_clearing_shows_everything_and_keeps_the_rest_of_the_address(models: str, page: Page) -> None:
    page.goto(f"{models}/?taxa=birds&family=AVES&size=10-100&sort=parameters&with=hubert")
    expect_names(page, ["birdaves"])
    page.get_by_role("button", name="Clear filters").click()
    expect_names(page, ["floor", "birdaves", "hubert", "wavlm", "silent"])
    assert query(page) == {"sort": ["parameters"], "with": ["hubert"]}
    expect(page.get_by_role("button", name="Clear filters")).to_have_count(0)


def test_filters_that_nothing_passes_and_values_that_nothing_has_are_told(models: str, page: Page) -> None:
    page.goto(f"{models}/?family=AVES&domain=speech")
    expect(page.get_by_text("No submission passes all of these filters: clear or change one.")).to_be_visible(
        timeout=30_000
    )
    page.get_by_role("button", name="Clear filters").click()
    expect_names(page, BY_MEAN)
    page.goto(f"{models}/?family=gone&family=AVES&taxa={quote(HOSTILE)}&size=huge")
    expect_names(page, ["birdaves"])
    told = f"Ignored, since no row or task of this board has it: taxa {HOSTILE}; family gone; parameters huge."
    expect(page.get_by_text(told)).to_be_visible()


def test_every_header_sorts_and_a_second_click_turns_round(models: str, page: Page) -> None:
    """By another order than that of the page: the values in the column itself."""
    page.goto(f"{models}/?licence=MIT&licence=CC-BY-SA-3.0")
    expect_names(page, ["hubert", "wavlm", "birdaves", "floor"])
    orders = {
        "Submission": (["birdaves", "floor", "hubert", "wavlm"], "ascending"),
        "cbi": (["birdaves", "wavlm", "hubert", "floor"], "descending"),
        "Parameters": (["floor", "birdaves", "hubert", "wavlm"], "ascending"),
        "VRAM": (["hubert", "wavlm", "birdaves", "floor"], "ascending"),
        "MLflow": (["floor", "hubert", "wavlm", "birdaves"], "descending"),
        "Mean": (["hubert", "wavlm", "birdaves", "floor"], "descending"),
    }
    for name, (expected, order) in orders.items():
        header(page, name).click()
        expect(page.locator(f"th[aria-sort={order}]")).to_contain_text(name, timeout=20_000)
        expect_names(page, expected)
    header(page, "Parameters").click()
    expect_names(page, ["floor", "birdaves", "hubert", "wavlm"])
    header(page, "Parameters").click()
    expect_names(page, ["wavlm", "birdaves", "hubert", "floor"])


def test_files_hold_what_is_shown_and_nothing_else(models: str, page: Page, tmp_path: Path) -> None:
    page.goto(f"{models}/?taxa=birds&licence=MIT&sort=parameters")
    expect_names(page, ["floor", "birdaves", "hubert"])
    lines = list(csv.DictReader(io.StringIO(saved(page, "CSV", tmp_path).read_text(encoding="utf-8"))))
    rows = pq.read_table(saved(page, "Parquet", tmp_path)).to_pylist()
    again = csv.DictReader(io.StringIO(saved(page, "CSV", tmp_path).read_text(encoding="utf-8")))
    assert list(again) == lines, "a second click gives another file, or none"
    assert [(row["submission"], row["rank"], row["tasks"]) for row in rows] == [
        ("floor", 5, "4/4 tasks"),
        ("birdaves", 1, "4/4 tasks"),
        ("hubert", 3, "4/4 tasks"),
    ]
    expected = {record.id: record for record, _ in described()}
    for line, row in zip(lines, rows, strict=True):
        assert line == {name: "" if value is None else str(value) for name, value in row.items()}
        assert "watkins" not in row
        for task in BIRDS:
            record = expected[row[f"{task}.record_id"]]
            assert (row["submission"], row[task], row[f"{task}.ci_low"]) == (
                record.submission.name,
                record.test,
                record.ci_low,
            )


def test_latex_of_what_is_shown_can_be_copied(models: str, page: Page) -> None:
    page.goto(f"{models}/?taxa=birds&size=350-&size=100-350")
    expect_names(page, ["wavlm", "silent"])
    page.get_by_role("button", name="LaTeX").click()
    code = page.get_by_role("dialog").locator("code")
    expect(code).to_contain_text(r"\toprule", timeout=20_000)
    source = code.inner_text()
    body = source.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert [line.split(" & ")[:2] for line in body] == [["2", "wavlm"], ["4", "silent"]]
    assert r"\textbf{0.600} {\scriptsize $\pm$ 0.030}" in body[0]
    assert latex("2 of 5 rows; ranks are among all 5 ranked rows.") in source
    assert "Mean over 4 of 10 tasks" in source


def test_rows_lead_to_their_runs_and_those_chosen_are_compared_in_mlflow(models: str, page: Page) -> None:
    page.goto(f"{models}/?with=hubert&with=gone")
    expect_names(page, BY_MEAN)
    cells = {name: page.locator("tbody tr").nth(index).locator("td").last for index, name in enumerate(BY_MEAN)}
    row_link = cells["hubert"].get_by_role("link", name="10 runs")
    address, _, asked = (row_link.get_attribute("href") or "").partition("/#/compare-runs?")
    assert address == "https://mlflow.example.org"
    asked_for = {key: json.loads(value) for key, (value,) in parse_qs(asked).items()}
    own = {run.run_id for record, run in described() if run and record.submission.name == "hubert"}
    assert set(asked_for["runs"]) == own and len(own) == 10
    assert asked_for["experiments"] == ["7"]
    expect(cells["birdaves"]).to_have_text("runof 10 results")
    expect(cells["birdaves"].get_by_role("link")).to_have_attribute(
        "href", re.compile(r"^https://mlflow\.example\.org/#/experiments/7/runs/2\d$")
    )
    expect(cells["silent"]).to_have_attribute("title", re.compile("beans records push"))
    assert "secret" not in page.content()

    # The choice stays in the address.
    link = page.get_by_test_id("stLinkButton").locator("a")
    page.get_by_role("combobox", name="Compare").click()
    page.get_by_role("option", name="wavlm", exact=True).click()
    expect(page).to_have_url(re.compile(r"with=hubert&with=wavlm"))
    expect(link).to_have_attribute("href", re.compile(r"^https://mlflow\.example\.org/#/compare-runs\?runs="))
    href = link.get_attribute("href") or ""
    (runs,) = parse_qs(href.partition("?")[2])["runs"]
    both = {run.run_id for record, run in described() if run and record.submission.name in ("hubert", "wavlm")}
    assert set(json.loads(runs)) == both and len(both) == 20

    page.goto(f"{models}/?with=hubert&with=silent")
    expect(page.get_by_text("Left out in MLflow, since they have no run: silent.")).to_be_visible(timeout=30_000)
    expect(page.get_by_test_id("stLinkButton").locator("a")).not_to_have_attribute("href", re.compile("."))

    page.goto(f"{models}/?with=hubert&with=floor")
    expect(page.get_by_text("Not in MLflow: The runs are on different MLflow servers")).to_be_visible(timeout=30_000)


def test_nothing_leaves_the_screen_of_a_phone(models: str, page: Page) -> None:
    """The table scrolls in its frame; a page that moves sideways cannot be read."""
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{models}/?taxa=birds&size=10-100&size=350-&with=hubert&with=floor")
    expect_names(page, ["birdaves", "hubert", "silent"])
    wide = """() => [...document.querySelectorAll('[data-testid="stMain"] *')].filter((node) => {
        const box = node.getBoundingClientRect();
        return box.width && box.right > window.innerWidth + 1 && !node.closest('.frame');
    }).map((node) => node.outerHTML.slice(0, 200))"""
    for scheme, background in BACKGROUNDS.items():
        page.emulate_media(color_scheme=scheme)
        expect(page.get_by_test_id("stApp")).to_have_css("background-color", background)
        assert page.evaluate(wide) == [], scheme
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, scheme
        frame = page.locator(".frame").first
        assert frame.evaluate("(node) => node.scrollWidth > node.clientWidth"), "the columns would be cut off"
    page.get_by_role("button", name="Filters (2)").click()
    expect(page.get_by_role("combobox", name="Device")).to_be_visible()
    assert page.evaluate(wide) == []
