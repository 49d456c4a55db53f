"""The page of one submission, as a reader uses it: every number on it is compared with the files beside the record."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from consistent import write_consistent
from playwright.sync_api import Locator, Page, expect
from sklearn.metrics import confusion_matrix

from leaderboard.database.store import Store
from leaderboard.ranking.formats import layers, rate
from leaderboard.records.failure import Failure
from leaderboard.records.files import read_record, write_record
from leaderboard.records.flags import FLAGS
from leaderboard.records.predictions import PredictedScores, read_predictions
from leaderboard.records.protocol import Protocol
from leaderboard.records.record import Record
from leaderboard.records.stored import StoredRecord
from tasks.support.home import Home

pytestmark = pytest.mark.browser

CHART = '[data-testid="stVegaLiteChart"]'
BIRDS = tuple(f"bird {number}" for number in range(45))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One submission on six tasks; the predictions of one are gone, of one damaged, and of one of another task."""
    home = Home.at(tmp_path_factory.mktemp("submission"))
    home.records.mkdir()
    store = Store(home.database_url)
    numbers = [f"clip-{number}" for number in range(300)]
    for more in (
        {"task": "barks", "seed": 1, "labels": ("yap", "woof", "<b>howl</b>")},
        {"task": "songs", "seed": 2, "kind": "detection", "flags": ["lr-at-upper-edge"], "stated": True},
        {"task": "birds", "seed": 3, "labels": BIRDS, "ids": numbers},
        {"task": "lost", "seed": 4},
        {"task": "damaged", "seed": 5, "protocol": "beans-probe/2+trials=3+seeds=2+bootstrap=200"},
        {"task": "barks", "seed": 6, "track": "twa", "protocol": "beans-probe/2+grid=0.0001,0.01+seeds=2"},
    ):
        store.publish_stored(StoredRecord.read(write_consistent(home.records, "model", **more)))  # type: ignore[arg-type]
    path = write_consistent(home.records, "model", task="mixed", seed=8)
    record = read_record(path)
    labels = {"labels": [*record.task.labels, "one more"]}
    write_record(home.records, record.model_copy(update={"task": record.task.model_copy(update=labels)}))
    store.publish_stored(StoredRecord.read(path))
    store.publish_stored(StoredRecord.read(write_consistent(home.records, "second", task="purrs", seed=7)))
    barks, _ = measured(home, "barks")
    store.publish_failure(
        Failure(
            submission="model",
            weights_sha256=barks.submission.weights_sha256,
            task="purrs",
            track="ta",
            protocol=barks.protocol,
            limit=None,
            at=datetime(2026, 5, 4, tzinfo=UTC),
            kind="failed",
            reason="The backbone ran out of memory.",
        )
    )
    predictions(home, "lost").unlink()
    predictions(home, "damaged").write_bytes(b"no safetensors")
    return home


@pytest.fixture(scope="module")
def address(start: Callable[..., str], home: Home) -> str:
    return start(home.database_url, home.root)


def predictions(home: Home, task: str) -> Path:
    return next(home.records.glob(f"model.{task}.ta.*.predictions.safetensors"))


def measured(home: Home, task: str, track: str = "ta") -> tuple[Record, PredictedScores]:
    record = read_record(next(home.records.glob(f"model.{task}.{track}.????????????????.json")))
    return record, read_predictions(home.records, record)


def opened(page: Page, address: str, home: Home, task: str, track: str = "ta") -> None:
    """The deep link to one result of the submission."""
    path = next(home.records.glob(f"model.{task}.{track}.????????????????.json"))
    page.goto(f"{address}/submission?name=model&record={path.name.split('.')[-2]}")
    expect(page.get_by_role("heading", name=f"{task} · {track}", exact=True)).to_be_visible(timeout=30_000)


def told(page: Page, chart: Locator, columns: int, rows: int) -> list[dict[str, str]]:
    """What the tooltips of a chart say, wherever the mouse finds one."""
    chart.scroll_into_view_if_needed()
    expect(chart.locator("canvas, svg").first).to_be_visible(timeout=20_000)
    page.wait_for_timeout(500)
    box = chart.bounding_box()
    assert box is not None
    tooltip = page.locator("#vg-tooltip-element.visible")
    found: list[dict[str, str]] = []
    for down in range(1, rows):
        for across in range(1, columns):
            page.mouse.move(box["x"] + box["width"] * across / columns, box["y"] + box["height"] * down / rows)
            page.wait_for_timeout(15)
            if tooltip.count():
                one = dict(
                    map(str.strip, re.split(r":?\t", row, maxsplit=1))
                    for row in tooltip.locator("tr").all_inner_texts()
                )
                if one not in found:
                    found.append(one)
    return found


def choose(page: Page, task: str, track: str) -> None:
    """Click the row of a result."""
    row = (
        page.locator("tbody tr")
        .filter(has=page.get_by_text(task, exact=True))
        .filter(has=page.get_by_text(track, exact=True))
    )
    row.locator("td").nth(3).click()
    expect(page.get_by_role("heading", name=f"{task} · {track}", exact=True)).to_be_visible(timeout=20_000)


def expect_to_fit_a_phone(page: Page) -> None:
    """Wide tables scroll in their frames; the page itself never scrolls sideways."""
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.get_by_role("heading", name="Provenance")).to_be_visible()
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    main = page.locator('[data-testid="stMain"]')
    assert main.evaluate("element => element.scrollWidth - element.clientWidth") <= 0


def test_curves_of_all_tasks_with_the_best_layer_of_each(address: str, home: Home, page: Page) -> None:
    """Only results of the same protocol and track share the axes."""
    opened(page, address, home, "barks")
    expect(page.get_by_role("heading", name="Layer curves, ta", exact=True)).to_be_visible()
    for task in ("barks", "songs", "birds", "lost", "damaged", "mixed"):
        record = read_record(next(home.records.glob(f"model.{task}.ta.????????????????.json")))
        best = layers(record.best_layer, record.alike)
        assert ("(" in best) == (task == "songs")
        expect(page.get_by_text(f"{task} · best layer {best} of 0 to 3")).to_be_visible()
    expect(page.get_by_text("Validation cannot distinguish the shaded layers from the best one.")).to_be_visible()
    # Six outlines, the curves over layers and rates, and the matrix.
    expect(page.locator(CHART)).to_have_count(9)
    for chart in page.locator(CHART).all():
        chart.scroll_into_view_if_needed()
        expect(chart.locator("canvas, svg").first).to_be_visible(timeout=20_000)
    expect(
        page.get_by_text("beans submit model.toml --tasks barks.toml --track ta --trials 3 --seeds 2")
    ).to_be_visible()
    # Its row is not there, and a reader would take it for a task that nobody tried.
    expect(
        page.get_by_text("purrs, ta (failed on 2026-05-04: The backbone ran out of memory.)", exact=False)
    ).to_be_visible()

    choose(page, "barks", "twa")
    expect(page.get_by_role("heading", name="Layer curves")).to_have_count(0)
    expect(page.locator(CHART)).to_have_count(3)
    expect(page.get_by_text("the outer twentieth of the range 1.0e-4 to 1.0e-2 is shaded")).to_be_visible()

    page.goto(f"{address}/submission?name=second")
    expect(page.get_by_role("heading", name="purrs · ta")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("No result on the board"), "another submission failed").to_have_count(0)


def test_matrix_is_that_of_scikit_learn(address: str, home: Home, page: Page) -> None:
    opened(page, address, home, "barks")
    record, test = measured(home, "barks")
    labels = record.task.labels
    expected = sum(confusion_matrix(test.targets, scores.argmax(1), labels=range(3)) for scores in test.scores)
    seen: set[tuple[int, int]] = set()
    # Charts that are drawn late move those below them away from the mouse: then once more.
    for _ in range(4):
        for field in told(page, page.locator(CHART).last, 9, 9):
            true, predicted = labels.index(field["true class"]), labels.index(field["predicted class"])
            count = int(field["times, all seeds"])
            assert count == expected[true, predicted]
            assert float(field["share of the true class"]) == pytest.approx(count / expected[true].sum(), abs=6e-4)
            seen.add((true, predicted))
        if len(seen) >= 5:
            break
    assert len(seen) >= 5, "the fields of the matrix should tell their numbers to the mouse"
    pairs = [(true, guess) for true in range(3) for guess in range(3) if true != guess]
    worst = max(pairs, key=lambda pair: (expected[pair], expected[pair] / expected[pair[0]].sum()))
    expect(page.get_by_text(f"{labels[worst[0]]} taken for {labels[worst[1]]}")).to_be_visible()
    expect(page.get_by_text("Counts are summed over 2 seeds")).to_be_visible()


def test_detection_task_tells_the_precision_of_each_class_and_a_rate_at_the_edge(
    address: str, home: Home, page: Page
) -> None:
    """A class without positives must not look like a class that is never found."""
    opened(page, address, home, "songs")
    record, test = measured(home, "songs")
    expect(page.get_by_role("heading", name="Average precision of each class")).to_be_visible()
    expect(page.get_by_text(f"the mean over classes, {record.test:.3f}")).to_be_visible()
    expect(page.get_by_text("1 class has no positives in the test split and counts 0")).to_be_visible()
    expected = {}
    for column, label in enumerate(record.task.labels):
        of_seeds = []
        for scores in test.scores:
            ranked = sorted(range(len(test.ids)), key=lambda item: -scores[item, column])
            hits = [int(test.targets[item, column]) for item in ranked]
            precisions = [sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]
            of_seeds.append(sum(precisions) / max(len(precisions), 1))
        expected[f"{label} ({int(test.targets[:, column].sum())})"] = f"{np.mean(of_seeds):.4f}"
    bars = [one for one in told(page, page.locator(CHART).last, 8, 16) if "class" in one]
    assert {bar["class"] for bar in bars} >= {name for name in expected if not name.endswith("(0)")}
    for bar in bars:
        assert bar["average precision"] == expected[bar["class"]]
    for flag in record.flags:
        expect(page.get_by_role("alert").filter(has_text=FLAGS[flag])).to_be_visible()
    assert len(record.flags) == 3
    expect(page.get_by_role("heading", name="How sure the choice is")).to_be_visible()
    expect(page.get_by_text("363 looks at validation, which has 7 recordings")).to_be_visible()
    expect(page.get_by_text(f"{record.valid:.3f} on validation and {record.test:.3f} on test")).to_be_visible()
    expect(page.get_by_text(f"and the probe {record.test:.3f}")).to_be_visible()
    low, high = map(rate, Protocol.parse(record.protocol).rate_range)
    expect(page.get_by_text(f"the outer twentieth of the range {low} to {high} is shaded")).to_be_visible()
    expect_to_fit_a_phone(page)


def test_many_classes_are_pairs_and_recalls_and_predictions_that_cannot_be_read_one_sentence(
    address: str, home: Home, page: Page
) -> None:
    """A matrix of hundreds of classes shows nothing; without predictions the rest of the page is there all the same."""
    opened(page, address, home, "birds")
    _, test = measured(home, "birds")
    matrix = sum(confusion_matrix(test.targets, scores.argmax(1), labels=range(45)) for scores in test.scores)
    counts = sorted((int(matrix[t, p]) for t in range(45) for p in range(45) if t != p), reverse=True)[:30]
    rows = page.get_by_role("table", name="Pairs of classes").locator("tbody tr")
    expect(rows).to_have_count(30)
    for row, count in zip(rows.all(), counts, strict=True):
        true, predicted, times, share = row.locator("td").all_inner_texts()
        found = matrix[BIRDS.index(true), BIRDS.index(predicted)]
        assert int(times) == found == count
        assert share == f"{found / matrix[BIRDS.index(true)].sum():.2f}"
    expect(page.get_by_text("45 classes are too many for a matrix.")).to_be_visible()
    expect(page.get_by_text("Recall of each class")).to_be_visible()
    expect_to_fit_a_phone(page)

    page.set_viewport_size({"width": 1360, "height": 1000})
    choose(page, "lost", "ta")
    expect(
        page.get_by_text("Scores per class are not shown, since there are no predictions beside the record")
    ).to_be_visible()
    expect(page.get_by_role("heading", name="Provenance")).to_be_visible()
    choose(page, "damaged", "ta")
    file = predictions(home, "damaged").name
    expect(page.get_by_text(f"{file} is not the file its record was made with")).to_be_visible()
    expect(page.get_by_role("heading", name="Provenance")).to_be_visible()
    assert str(home.root) not in page.content(), "the page says where the server keeps its files"
    choose(page, "mixed", "ta")
    expect(
        page.get_by_text("not those of this record: the predictions have 3 classes and the record 4")
    ).to_be_visible()
