"""The board in a real browser, as a reader uses it."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from reading import expect_names, names, table
from sample import HOSTILE, records
from written import TASKS, by_mean, rank_ranges, scores

from leaderboard.records.flags import DOUBTS
from tasks.support.home import Home

pytestmark = pytest.mark.browser

BY_MEAN = ["hubert", "aves", "floor", HOSTILE, "aves"]


def opened(page: Page, address: str) -> Page:
    page.goto(address)
    expect(page.locator("tbody tr").first).to_be_visible(timeout=30_000)
    return page


def test_board_ranks_says_what_is_missing_and_gives_every_number(board: str, page: Page, tmp_path: Path) -> None:
    opened(page, board)
    assert names(page).all_text_contents() == BY_MEAN
    ranked = page.locator("tbody tr td:nth-child(1)")
    assert ranked.locator(".value").all_text_contents() == ["1", "2", "3", "–", "–"]
    assert ranked.locator(".spread").all_text_contents() == ["(–)"] * 3
    rows = page.locator("tbody tr")
    expect(rows.nth(0)).to_contain_text("0.750")
    expect(rows.nth(0)).to_contain_text("0.600± 0.030")
    expect(rows.nth(0)).to_contain_text("layer 7 (5-9)")
    expect(rows.nth(1)).not_to_contain_text("layer 7 (")
    sentence = DOUBTS["few-validation-recordings"]
    expect(rows.nth(0).locator(".mark")).to_have_text("§")
    expect(rows.nth(0).locator(".mark")).to_have_attribute("title", sentence)
    expect(page.get_by_text(f"§ {sentence}")).to_be_visible()
    expect(page.get_by_text("Layer 6 (5-11), for example, is layer 6, chosen on validation")).to_be_visible()
    expect(rows.nth(3)).to_contain_text("1/2 tasks")
    expect(rows.nth(3)).to_contain_text("not run")
    expect(rows.nth(4)).to_contain_text("limited to 20")

    # A dash alone would look like an error of the board.
    expect(rows.first.locator("td").nth(-2)).to_have_attribute("title", re.compile("no CUDA device"))
    expect(page.get_by_text("VRAM is empty where it could not be measured: no CUDA device")).to_be_visible()
    expect(rows.first.locator("td").first).to_have_attribute("title", re.compile("no predictions beside the record"))
    expect(page.get_by_text("Ranks without a range: no predictions beside the record")).to_be_visible()

    lines = table(page, tmp_path)
    assert [line["submission"] for line in lines] == BY_MEAN
    expected = {record.id: record for record in records()}
    checked = 0
    for line in lines:
        for task in ("mini-calls", "mini-soundscape"):
            if line[task]:
                record = expected[line[f"{task}.record_id"]]
                found = (float(line[task]), float(line[f"{task}.ci_low"]), float(line[f"{task}.ci_high"]))
                assert found == (record.test, record.ci_low, record.ci_high), "the file's numbers are not in full"
                checked += 1
    assert checked == 8
    assert float(lines[0]["mean"]) == pytest.approx(0.75, abs=1e-15)

    page.get_by_role("combobox", name="Track").click()
    page.get_by_role("option", name="twa", exact=True).click()
    expect(page, "the address does not keep the track").to_have_url(re.compile("track=twa"))
    expect_names(page, ["hubert", "aves", "floor"])


def test_ranks_have_ranges_and_groups(settled: str, settled_home: Home, page: Page, tmp_path: Path) -> None:
    """Page and file hold what the records say, and the legend says what a group means."""
    opened(page, settled)
    rows = table(page, tmp_path)
    written, ranges = scores(settled_home), rank_ranges(settled_home)
    assert [row["submission"] for row in rows] == by_mean(settled_home)
    for index, row in enumerate(rows):
        assert {task: float(row[task]) for task in TASKS} == written[row["submission"]]
        assert (int(row["rank_low"]), int(row["rank_high"])) == ranges[row["submission"]]
        cells = page.locator("tbody tr").nth(index).locator("td")
        group = "ABC"[int(row["tie_group"]) - 1]
        expect(cells.nth(0)).to_have_text(f"{row['rank']}({row['rank_low']}-{row['rank_high']})group {group}")
        expect(cells.nth(5)).to_have_text(f"{float(row['borda']):g}{float(row['mean_rank']):.2f}")
        half = (float(row["mean_ci_high"]) - float(row["mean_ci_low"])) / 2
        expect(cells.nth(2)).to_have_text(f"{float(row['mean']):.3f}± {half:.3f}")
    expect(page.get_by_text("Ranks that share a group (A, B, ...) cannot be distinguished")).to_be_visible()
    expect(
        page.get_by_text("few test recordings make these intervals too narrow: clicks (8), songs (8)")
    ).to_be_visible()
    expect(page.get_by_role("link", name="songs", exact=True)).to_have_attribute("href", "task?name=songs")
    page.get_by_role("button", name="Borda").click()
    expect(page).to_have_url(re.compile("sort=borda"))


def test_header_and_control_sort_and_the_address_keeps_it(board: str, page: Page) -> None:
    """A sorted view can be sent to a colleague."""
    opened(page, board)
    page.get_by_role("button", name="mini-calls").click()
    expect_names(page, ["aves", "hubert", HOSTILE, "floor", "aves"])
    expect(page).to_have_url(re.compile(r"sort=task(%3A|:)mini-calls"))
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("mini-calls")
    page.get_by_role("button", name="mini-calls").click()
    expect_names(page, ["floor", HOSTILE, "hubert", "aves", "aves"])
    expect(page.locator("th[aria-sort=ascending]")).to_contain_text("mini-calls")
    page.get_by_role("combobox", name="Sort by").click()
    page.get_by_role("option", name="Submission", exact=True).click()
    expect(page).to_have_url(re.compile("sort=submission"))
    expect_names(page, [HOSTILE, "aves", "floor", "hubert", "aves"])
    page.reload()
    expect_names(page, [HOSTILE, "aves", "floor", "hubert", "aves"])


def test_address_chooses_track_and_order_and_one_that_names_nothing_shows_the_default(board: str, page: Page) -> None:
    opened(page, f"{board}/?track=twa&sort=task:mini-calls")
    expect_names(page, ["aves", "hubert", "floor"])
    expect(page.get_by_text("twa: learned weights over frames")).to_be_visible()
    expect(page.locator("tbody tr").first).to_contain_text("0.850")
    opened(page, f"{board}/?track=none&group=x&protocol=<b>&sort=task:gone")
    assert names(page).all_text_contents() == BY_MEAN


def test_submission_page_tells_everything_and_a_row_chooses_its_curves(board: str, page: Page) -> None:
    opened(page, f"{board}/submission?name=aves")
    expect(page.get_by_role("heading", name="aves", exact=True)).to_be_visible()
    expect(page.get_by_text("2 of 3")).to_be_visible()
    expect(page.get_by_text("Chen et al.", exact=True)).to_be_visible()
    expect(page.locator('[data-testid="stVegaLiteChart"]')).to_have_count(4)
    for chart in page.locator('[data-testid="stVegaLiteChart"]').all():
        expect(chart.locator("canvas, svg").first).to_be_visible(timeout=20_000)
    expect(page.get_by_text("beans submit aves.toml --tasks mini-calls --track ta")).to_be_visible()
    expect(page.get_by_text("torch 2.11.0, transformers 5.17.0")).to_be_visible()
    link = page.locator("tbody tr").first.get_by_role("link", name="run")
    expect(link).to_have_attribute("href", "https://mlflow.example.org/#/experiments/3/runs/abc123")
    assert "secret" not in page.content(), "the password of MLflow's address is on the page"
    page.locator("tbody tr").filter(has_text="mini-soundscape").filter(has_text="twa").click()
    expect(page.get_by_role("heading", name="mini-soundscape · twa")).to_be_visible(timeout=20_000)
    expect(page).to_have_url(re.compile("record=[0-9a-f]{16}"))
    page.reload()
    expect(page.get_by_role("heading", name="mini-soundscape · twa")).to_be_visible(timeout=30_000)


def test_unknown_submission_offers_the_known_ones(board: str, page: Page) -> None:
    page.goto(f"{board}/submission?name=nobody%20**x**")
    expect(page.get_by_text("There is no submission called “nobody **x**”")).to_be_visible(timeout=30_000)
    page.get_by_role("combobox", name="Choose one").click()
    page.get_by_role("option", name="floor").click()
    expect(page.get_by_role("heading", name="floor", exact=True)).to_be_visible(timeout=20_000)


def test_markup_in_a_record_is_shown_and_never_run(board: str, page: Page) -> None:
    """Records come from strangers. The page fixture fails on any dialog they open."""
    opened(page, board)
    expect(page.get_by_role("link", name=HOSTILE)).to_be_visible()
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.get_by_role("heading", name=HOSTILE, exact=True)).to_be_visible(timeout=20_000)
    expect(
        page.locator('[data-testid="stVegaLiteChart"] canvas, [data-testid="stVegaLiteChart"] svg')
    ).not_to_have_count(0)
    expect(page.get_by_text(HOSTILE).first).to_be_visible()
    chart = page.locator('[data-testid="stVegaLiteChart"]').first
    expect(chart.locator("canvas, svg").first).to_be_visible(timeout=20_000)
    tooltip = page.locator("#vg-tooltip-element.visible")
    # Down through the third of four points; the page may still move, hence up to three times.
    for down in [*range(0, 340, 6)] * 3:
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] * 0.692, box["y"] + down)
        page.wait_for_timeout(30)
        if tooltip.count():
            break
    expect(tooltip).to_contain_text(HOSTILE)
    assert page.locator('img[src="x"]').count() == 0
    assert page.locator('a[href^="javascript"]').count() == 0


def test_overlap_and_remote_code_are_marked_and_explained(varied: str, page: Page) -> None:
    """A reader who sees 0.900 first must also see that the model had heard the sounds before."""
    opened(page, f"{varied}/?group=auxiliary")
    assert names(page).all_text_contents() == ["heard-it", "clean", "silent"]
    assert page.locator("tbody tr td:nth-child(1) .value").all_text_contents() == ["1", "2", "3"]
    marks = page.locator("tbody .mark")
    expect(marks).to_have_text(["‡", "†"])
    row = page.locator("tbody tr").first
    code = row.get_by_role("img", name="trust_remote_code = true")
    expect(code).to_have_attribute("title", re.compile("runs code that came with the checkpoint"))
    expect(row.locator("td").nth(1).locator(".mark")).to_have_text("‡")
    overlap = row.get_by_role("img", name="pretrained on FSD50K, which like esc50 is drawn from Freesound")
    expect(overlap).to_have_attribute("title", re.compile("Freesound"))
    column = page.locator("th").all_text_contents().index("esc50accuracy")
    expect(row.locator("td").nth(column).locator(".mark")).to_have_text("†")
    expect(page.get_by_text("† The pretraining overlaps with the task")).to_be_visible()
    expect(page.get_by_text("‡ The submission runs code that came with the checkpoint")).to_be_visible()

    page.get_by_role("link", name="heard-it").click()
    expect(page).to_have_url(re.compile(r"/submission\?name=heard-it$"), timeout=20_000)
    expect(page.get_by_text("FSD50K (general audio, 108.3 h);")).to_be_visible(timeout=20_000)
    told = page.get_by_text("pretrained on FSD50K, which like esc50 is drawn from Freesound; pretrained on <script>")
    expect(told).to_be_visible()
    expect(page.get_by_text("runs code that came with the checkpoint (trust_remote_code = true)")).to_be_visible()
    expect(page.locator("tbody .mark")).to_have_text(["†"])

    opened(page, f"{varied}/submission?name=silent")
    expect(page.get_by_text("not stated, so overlaps with tasks are unknown")).to_be_visible()
