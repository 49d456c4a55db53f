"""The page of a task, as a reader uses it."""

import io
import json
import re
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
from factory import make_record
from playwright.sync_api import Locator, Page, expect
from prepared import prepare_tasks, small_copy
from sample import BACKGROUNDS, HOSTILE, records

from leaderboard.database.store import Store
from tasks.support.home import Home

pytestmark = pytest.mark.browser


@pytest.fixture(scope="session")
def prepared_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with `prepare_tasks` and no result but three of ``mini-soundscape``."""
    home = Home.at(tmp_path_factory.mktemp("prepared-home"))
    prepare_tasks(home)
    store = Store(home.database_url)
    for number, layers in enumerate((5, 13, 25)):
        name = f"model-{number}"
        store.publish(make_record(name, "mini-soundscape", metric="map", n_layers=layers, best_layer=layers // 2))
    return home


@pytest.fixture(scope="session")
def prepared(start: Callable[..., str], prepared_home: Home) -> str:
    """Address of the board of `prepared_home`."""
    return start(prepared_home.database_url, prepared_home.root)


# Where the part that reaches farthest to the right ends.
FARTHEST = """Math.max(...[...document.querySelectorAll('audio, [data-testid="stVegaLiteChart"], h1, h2, h3, .facts')]
    .map(element => element.getBoundingClientRect().right))"""


def drawn(page: Page) -> Locator:
    """The charts that were drawn, and not only made room for."""
    return page.locator('[data-testid="stVegaLiteChart"]').locator("canvas, svg")


def heard(page: Page, number: int) -> tuple[np.ndarray, int]:
    """What the player plays: fetched from its address and decoded."""
    source = page.locator("audio").nth(number).get_attribute("src") or ""
    assert re.search(r"/media/[0-9a-f]+\.flac$", source), "the address of a sound says where it lies on the server"
    samples, rate = soundfile.read(io.BytesIO(page.request.get(source).body()))
    return samples, rate


# --- facts and results ---


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
    expect(rows.nth(1)).to_contain_text("7 (5-9) of 0 to 12")
    expect(rows.nth(1).locator("td").nth(4)).to_have_text("0.58")
    # A result leads to its run, or says why it does not.
    run = rows.nth(0).get_by_role("link", name="run", exact=True)
    expect(run).to_have_attribute("href", "https://mlflow.example.org/#/experiments/3/runs/abc123")
    expect(rows.nth(1).locator("td").last).to_have_attribute("title", re.compile("MLflow"))
    expect(rows.nth(4)).to_contain_text("limited to 20")
    # Three of 7/12 and one of 0; the limited result is not counted.
    expect(page.get_by_text("Median depth of 4 submissions: 0.58.")).to_be_visible()
    expect(drawn(page)).to_have_count(1, timeout=20_000)
    rows.nth(1).click()
    expect(page).to_have_url(re.compile(r"/submission\?name=hubert$"), timeout=20_000)


def test_unknown_task_offers_the_known_ones_and_one_that_nobody_ran_has_facts_and_the_command(
    board: str, page: Page
) -> None:
    page.goto(f"{board}/task?name={HOSTILE}")
    expect(page.get_by_text(f"There is no task called “{HOSTILE}”")).to_be_visible(timeout=30_000)
    page.get_by_role("combobox", name="Choose one").click()
    page.keyboard.type("hainan")
    page.get_by_role("option", name="hainan-gibbons", exact=True).click()
    expect(page.get_by_role("heading", name="hainan-gibbons", exact=True)).to_be_visible(timeout=20_000)
    expect(page.get_by_text("Nomascus hainanus")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("27,840 train, 13,920 valid, 18,560 test")).to_be_visible()
    expect(page.get_by_role("link", name="https://zenodo.org/records/3991714", exact=True)).to_be_visible()
    expect(page.get_by_text("beans submit SUBMISSION.toml --tasks hainan-gibbons")).to_be_visible()


def test_own_task_shows_what_its_results_tell(settled: str, page: Page) -> None:
    """Only the submitter has its file and its sounds."""
    page.goto(f"{settled}/task?name=songs")
    expect(page.get_by_text("A submitter's own task")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("detection, mAP", exact=True)).to_be_visible()
    expect(page.get_by_text("3: a, b, c", exact=True)).to_be_visible()
    expect(page.get_by_text("30 train, 10 valid, 24 test", exact=True)).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.locator("audio")).to_have_count(0)


# --- data that are not here ---


def test_task_that_is_not_prepared_says_how_to(board: str, page: Page) -> None:
    page.goto(f"{board}/task?name=speech-commands")
    advice = page.get_by_text("The data are not here: run beans tasks prepare speech-commands")
    expect(advice).to_be_visible(timeout=30_000)
    expect(page.get_by_text("Examples need the data, which are not here.")).to_be_visible()
    expect(page.locator("audio")).to_have_count(0)


def test_licence_is_named_where_it_forbids_to_play(prepared: str, page: Page) -> None:
    """Prepared or not: the sounds lie on the server, and a public page would publish them."""
    for name, licence in (("bats", "unknown: BEANS names none; see the source"), ("esc50", "CC BY-NC")):
        page.goto(f"{prepared}/task?name={name}")
        told = f"The licence ({licence}) does not let every public page play the sounds."
        expect(page.get_by_text(told)).to_be_visible(timeout=30_000)
        expect(page.get_by_text("There are no results yet")).to_be_visible()
        expect(page.locator("audio")).to_have_count(0)


def test_data_that_cannot_be_read_are_a_sentence_without_directories(
    prepared: str, prepared_home: Home, page: Page
) -> None:
    place = small_copy("watkins", prepared_home.data, {"Atlantic_Spotted_Dolphin": 1})
    (place / "clips.csv").write_text("id,path,label,split\n1,a.flac,wren,train\n", encoding="utf-8")
    page.goto(f"{prepared}/task?name=watkins")
    expect(page.get_by_text("The data cannot be read: clips.csv has no clip in the valid split")).to_be_visible(
        timeout=30_000
    )
    assert str(prepared_home.root) not in page.content()


# --- classes ---


def plain_windows(entry: dict) -> list[bool]:
    """Of each window of 2 s every second, whether an annotation fills a fifth of the window, or of itself."""
    found = []
    for start in range(int(entry["length"]) - 1):
        inside = [
            (min(one["ed"], start + 2) - max(one["st"], start)) / min(2, one["ed"] - one["st"])
            for one in entry["annotations"]
        ]
        found.append(any(share > 0.2 for share in inside))
    return found


def test_many_classes_are_told_by_their_extremes_and_changed_data_counted_anew(
    prepared: str, prepared_home: Home, page: Page
) -> None:
    """The counts are kept between pages and not beyond a new preparation."""
    page.goto(f"{prepared}/task?name=cbi")
    expect(page.get_by_text("fewest 2, median 2, most 2", exact=True)).to_be_visible(timeout=30_000)
    expect(page.get_by_text("264", exact=True)).to_be_visible()
    expect(drawn(page)).to_have_count(0)
    manifest = prepared_home.data / "cbi" / "clips.csv"
    before = manifest.read_text(encoding="utf-8")
    manifest.write_text(before + "new,audio/new.flac,aldfly,train,new,0\n", encoding="utf-8")
    page.goto(f"{prepared}/task?name=cbi")
    expect(page.get_by_text("fewest 2, median 2, most 3", exact=True)).to_be_visible(timeout=30_000)
    manifest.write_text(before, encoding="utf-8")


# --- sounds ---


def test_prepared_task_counts_its_windows_draws_its_depths_and_plays_its_examples(
    prepared: str, prepared_home: Home, page: Page
) -> None:
    page.goto(f"{prepared}/task?name=mini-soundscape")
    expect(page.locator("audio")).to_have_count(6, timeout=60_000)
    # The classes, six sounds, the depths.
    expect(drawn(page)).to_have_count(8, timeout=30_000)
    expect(page.get_by_text("Median depth of 3 submissions: 0.50.")).to_be_visible()
    expect(page.get_by_text("the thick line is the median of all 3")).to_be_visible()
    expect(page.get_by_role("heading", name="Class balance")).to_be_visible()
    told = []
    for split in ("train", "valid", "test"):
        lines = (prepared_home.data / "mini-soundscape" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        windows = [window for line in lines for window in plain_windows(json.loads(line))]
        told.append(f"{windows.count(False):,} of {len(windows):,} {split}")
    expect(page.get_by_text(f"Windows without any label: {', '.join(told)}.")).to_be_visible()

    for number in range(6):
        samples, rate = heard(page, number)
        assert (len(samples), rate) == (64_000, 32_000), "the player has no window of 2 s"
        assert np.abs(samples).max() > 0.01, "the player is silent"
    player = page.locator("audio").first
    player.evaluate("player => { player.muted = true; return player.play(); }")
    page.wait_for_function("document.querySelector('audio').currentTime > 0.2", timeout=20_000)
    assert player.evaluate("player => player.duration") == pytest.approx(2.0, abs=0.05)
    assert str(prepared_home.root) not in page.content(), "the page says where the data lie on the server"

    page.set_viewport_size({"width": 390, "height": 844})
    # Charts are drawn anew for another width.
    page.wait_for_timeout(500)
    for scheme, background in BACKGROUNDS.items():
        page.emulate_media(color_scheme=scheme)
        expect(page.get_by_test_id("stApp")).to_have_css("background-color", background)
        expect(drawn(page)).to_have_count(8)
        assert page.evaluate(FARTHEST) <= 390, f"something is cut off at the right ({scheme})"


def test_class_can_be_chosen_and_sent_and_says_what_is_done_to_its_sounds(
    prepared: str, prepared_home: Home, page: Page
) -> None:
    # A class that there is not shows the common ones; of the three one file is damaged.
    page.goto(f"{prepared}/task?name=humbugdb&class={HOSTILE}")
    expect(page.locator("audio")).to_have_count(2, timeout=60_000)
    expect(drawn(page)).to_have_count(3, timeout=30_000)
    choose_class(page, "an arabiensis")
    expect(page).to_have_url(re.compile(r"name=humbugdb&class=an(\+|%20)arabiensis$"), timeout=20_000)
    expect(page.get_by_text("an arabiensis-train-1.flac is missing")).to_be_visible(timeout=20_000)
    page.reload()
    expect(page.locator("audio")).to_have_count(1, timeout=30_000)
    samples, rate = heard(page, 0)
    assert (len(samples), rate) == (66_150, 22_050)
    assert np.abs(np.fft.rfft(samples)).argmax() / 3 == pytest.approx(440, abs=1)
    expect(page.get_by_text("Licence: CC BY 4.0; source and citation are above.")).to_be_visible()

    choose_class(page, "others")
    expect(page.get_by_text("played 10 times slower"), "ultrasound is silent").to_be_visible(timeout=60_000)
    expect(page.get_by_text("the first 1 s of 2 s")).to_be_visible()
    samples, rate = heard(page, 0)
    assert (len(samples), rate) == (250_000, 25_000)
    page.wait_for_function("document.querySelector('audio').duration > 9", timeout=20_000)
    assert page.locator("audio").first.evaluate("player => player.duration") == pytest.approx(10.0, abs=0.05)

    choose_class(page, "ma uniformis")
    told = "This example cannot be played: ma uniformis-train-0.flac is not audio that libsndfile can read."
    expect(page.get_by_text(told)).to_be_visible(timeout=60_000)
    assert str(prepared_home.root) not in page.content(), "the page says where the data lie on the server"


def choose_class(page: Page, name: str) -> None:
    choice = page.get_by_role("combobox", name="Class")
    # A list closes when the page below it moves: first comes the scrolling, which the next frame notices.
    choice.scroll_into_view_if_needed()
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    choice.click()
    page.get_by_role("option", name=name, exact=True).click()
