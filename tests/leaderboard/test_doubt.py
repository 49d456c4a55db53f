"""How far the choice on validation can be trusted: the layers alike and the flags, wherever a result is shown."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from factory import make_record
from streamlit.testing.v1 import AppTest

from leaderboard import Results
from leaderboard.database import migrate
from leaderboard.database.engine import make_engine
from leaderboard.database.store import Store
from leaderboard.ranking import formats
from leaderboard.ranking.boards import Cell, boards
from leaderboard.ranking.columns import BEST_LAYER, SCORE, board_values, stored_values
from leaderboard.records.flags import DOUBTS, EDGES, FLAGS, doubts
from leaderboard.records.record import Record
from leaderboard.records.result import Result
from leaderboard.records.stored import StoredRecord
from leaderboard.web import charts
from leaderboard.web.charts.tasks import layer_depths
from leaderboard.web.export import to_csv, to_latex
from leaderboard.web.layers import read_curves
from leaderboard.web.views.result import choice_in_words
from tasks.support.home import Home

Beans = Callable[..., tuple[int, str, str]]

ALIKE = [5, 6, 7, 8, 9]
DOUBTED = {"alike": ALIKE, "recordings": 12, "reference": 0.75}
PAGE = """
from leaderboard.database.store import Store
from leaderboard.web.views import VIEW
from tasks.support.home import Home

home = Home.from_environment()
VIEW.show(Store(home.database_url), home.records, tracking_uri=home.tracking_uri, mlflow=None)
"""


def result_of(record: Record) -> Result:
    """As the database gives it."""
    return Result.of(record, stored=stored_values(record))


@pytest.mark.parametrize(
    ("chosen", "alike", "expected"),
    [
        (6, [5, 6, 7, 8, 9, 10, 11], "6 (5-11)"),
        (6, [0, 5, 6, 7], "6 (0, 5-7)"),
        (6, [5, 6], "6 (5-6)"),
        (0, [0, 2, 4], "0 (0, 2, 4)"),
        (6, [6], "6"),
        (6, None, "6"),
        (6, list(range(0, 26, 2)), "6 (0, 2, 4, 6, 8, 10, ..., 24)"),
    ],
)
def test_layers_alike_are_written_as_ranges(chosen: int, alike: list[int] | None, expected: str) -> None:
    assert formats.layers(chosen, alike) == expected


def test_cell_shows_the_layers_alike_and_marks_the_doubts() -> None:
    record = make_record("a", "x", test=0.7, **DOUBTED)
    cell = Cell(result_of(record), overlap=("pretrained on x",))
    score, layer = SCORE.shown(cell), BEST_LAYER.shown(cell)
    assert score.sub == "layer 7 (5-9)"
    assert score.line == "0.700 †§¶ [0.669, 0.729] layer 7 (5-9)"
    assert score.mark == "†§¶"
    assert score.note == "; ".join(["pretrained on x", FLAGS["few-validation-recordings"], FLAGS["undertrained"]])
    assert "which cannot distinguish layers 5-9" in score.title
    assert layer.text == "7 (5-9) of 0 to 12"
    (legend,) = formats.layer_legends([cell])
    assert "6 (5-11)" in legend
    assert [line[0] for line in formats.flag_legends([cell])] == ["§", "¶"]


def test_result_of_an_older_version_shows_its_layer_alone() -> None:
    cell = Cell(result_of(make_record("a", "x")))
    assert (SCORE.shown(cell).sub, SCORE.shown(cell).mark) == ("layer 7", "")
    assert BEST_LAYER.shown(cell).text == "7 of 0 to 12"
    assert [*formats.layer_legends([cell]), *formats.flag_legends([cell])] == []


def test_a_rate_at_the_edge_is_no_mark_of_the_board() -> None:
    cell = Cell(result_of(make_record("a", "x", flags=["lr-at-upper-edge"])))
    assert SCORE.shown(cell).mark == ""
    assert formats.flag_legends([cell]) == []


def test_files_and_json_have_layers_and_flags() -> None:
    """Programs read the layers as a list, and the flags by their names."""
    records = [make_record("a", "x", test=0.7, **DOUBTED), make_record("b", "x", test=0.6), make_record("c", "y")]
    (board,) = boards(map(result_of, records))
    rows = {row["submission"]: row["cells"] for row in board_values(board)["rows"]}
    assert [(rows[name][0]["layers_alike"], rows[name][0]["flags"]) for name in "abc"] == [
        (ALIKE, ["undertrained", "few-validation-recordings"]),
        (None, []),
        (None, None),
    ]
    json.dumps(rows, default=str)
    lines = {line["submission"]: line for line in csv.DictReader(io.StringIO(to_csv(board)))}
    assert [(lines[name]["x.layers_alike"], lines[name]["x.flags"]) for name in "abc"] == [
        ("5; 6; 7; 8; 9", "undertrained; few-validation-recordings"),
        ("", ""),
        ("", ""),
    ]
    table = to_latex(board)
    assert r"\textbf{0.700}$^\S$$^\P$" in table
    assert r"$^\S$ Validation has fewer than 30 recordings" in table


def test_flags_of_others_are_not_stored() -> None:
    """A record of others may have any text as a flag, and the board could not explain it."""
    flags = ["undertrained", "<b>", "; ", "lr-at-lower-edge", "undertrained"]
    assert result_of(make_record(flags=flags)).flags == ["lr-at-lower-edge", "undertrained"]


def test_stored_records_get_their_layers_and_flags_by_the_migration(url: str) -> None:
    """A board that was written before the columns existed shows the doubt of its records too."""
    store, engine = Store(url), make_engine(url)
    for record in (make_record("new", **DOUBTED), make_record("old", flags=["lr-at-upper-edge", "<b>"])):
        store.publish(record)
    before = {result.submission: (result.alike, result.flags) for result in store.results()}
    assert before == {
        "new": (ALIKE, ["undertrained", "few-validation-recordings"]),
        "old": (None, ["lr-at-upper-edge"]),
    }
    migrate.downgrade(engine, "0005")
    with engine.connect() as connection:
        assert "flags" not in {column["name"] for column in sa.inspect(connection).get_columns("results")}
    migrate.upgrade(engine)
    assert {result.submission: (result.alike, result.flags) for result in Store(url).results()} == before


def test_terminal_shows_and_explains_them(own_home: Path, beans: Beans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluator.cli.console._LOG_WIDTH", 300)
    Store(Home.from_environment().database_url).publish(make_record("a", **DOUBTED))
    code, out, err = beans("leaderboard", "show")
    assert code == 0, err
    assert "0.700 §¶ [0.669, 0.729] layer 7 (5-9)" in out
    assert formats.LAYERS_LEGEND in " ".join(out.split())
    for mark, flag in (("§", "few-validation-recordings"), ("¶", "undertrained")):
        assert f"{mark} {DOUBTS[flag]}" in " ".join(out.split())


@pytest.mark.parametrize(
    ("test", "reference", "recordings", "expected"),
    [
        (0.70, 0.72, 30, []),
        (0.70, 0.74, 30, ["undertrained"]),
        (0.70, 0.60, 29, ["few-validation-recordings"]),
        (0.70, 0.74, 1, ["undertrained", "few-validation-recordings"]),
    ],
)
def test_doubts_follow_from_the_numbers(test: float, reference: float, recordings: int, expected: list[str]) -> None:
    record = make_record(alike=[7], recordings=recordings, reference=reference)
    assert doubts(test, record.reference, record.selection) == expected
    assert doubts(test, None, None) == []
    assert set(expected) <= FLAGS.keys() and not set(expected) & EDGES.keys()


def test_page_of_a_result_says_how_sure_the_choice_is() -> None:
    looks, optimism, layers, reference = choice_in_words(make_record(test=0.7, **DOUBTED))
    assert "10,400 looks at validation, which has 12 recordings" in looks
    assert "0.721 on validation and 0.700 on test, a difference of +0.021" in optimism
    assert "The best layer is 7 (5-9): validation cannot" in layers
    assert "0.750 on test, and the probe 0.700" in reference
    assert "layer 7 from all other layers" in choice_in_words(make_record(alike=[7]))[2]
    assert choice_in_words(make_record()) == [], "a record of an older version does not state it"


def test_layer_curve_shades_the_layers_alike() -> None:
    record = make_record(n_layers=8, best_layer=6, alike=[0, 5, 6, 7])
    for chart in (charts.layer_curve(record), charts.layer_outline(record, 8)):
        drawn = chart.to_dict()
        shaded, *others = drawn["layer"]
        assert shaded["mark"]["type"] == "rect"
        spans = [(part["from"], part["to"]) for part in drawn["datasets"][shaded["data"]["name"]]]
        assert spans == [(0, 0.5), (4.5, 5.5), (5.5, 6.5), (6.5, 7)], "half a layer to each side, inside the axis"
        assert all(layer["mark"]["type"] != "rect" for layer in others)
    texts = [layer["mark"].get("text") for layer in charts.layer_curve(record).to_dict()["layer"]]
    assert "best layer 6 (0, 5-7)" in texts
    for plain in (make_record(), make_record(alike=[7])):
        assert all(layer["mark"]["type"] != "rect" for layer in charts.layer_curve(plain).to_dict()["layer"])


def test_diamonds_of_the_other_curves_tell_the_layers_alike(url: str) -> None:
    records = {"a": make_record("a", alike=ALIKE), "b": make_record("b")}
    drawn = charts.layer_curves(records, list(records)).to_dict()
    diamonds = drawn["layer"][-1]
    assert [point["layers"] for point in drawn["datasets"][diamonds["data"]["name"]]] == ["7 (5-9)", "7"]
    assert "layers" in [entry["field"] for entry in diamonds["encoding"]["tooltip"]]

    store = Store(url)
    for record in records.values():
        store.publish(record)
    found = read_curves(store, [record.id for record in records.values()])
    curves = {name: found[record.id] for name, record in records.items()}
    assert (curves["a"].alike, curves["b"].alike) == (tuple(ALIKE), None)
    *_, chosen = layer_depths(curves, [curves["a"]], "accuracy").to_dict()["layer"]
    assert [point["layers"] for point in json.loads(chosen["data"]["values"])] == ["7 (5-9)", "7"]


def opened(view: str, **query: Any) -> AppTest:
    page = AppTest.from_string(PAGE.replace("VIEW", view), default_timeout=60)
    for name, value in query.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    return page


def test_pages_show_and_explain_layers_and_marks(own_home: Path) -> None:
    store = Store(Home.from_environment().database_url)
    for name, more in (("a", DOUBTED), ("b", {})):
        for task, metric in (("mini-calls", "accuracy"), ("mini-soundscape", "map")):
            store.publish(make_record(name, task, metric=metric, **more))  # type: ignore[arg-type]
    for page in (opened("submission", name="a"), opened("compare", **{"with": ["a", "b"]})):
        table, *_ = page.get("bidi_component")
        cells = [cell for row in json.loads(json.loads(table.proto.json)["rows"]) for cell in row["cells"]]
        assert {cell["mark"] for cell in cells if "mark" in cell} == {"§¶"}
        assert any("7 (5-9)" in f"{cell['text']} {cell.get('sub')}" for cell in cells)
        captions = " ".join(caption.value.replace("\\", "") for caption in page.caption)
        assert formats.LAYERS_LEGEND in captions
        assert f"¶ {DOUBTS['undertrained']}" in captions
    page = opened("submission", name="a")
    assert [warning.value for warning in page.warning] == list(DOUBTS.values())
    assert sum(charts.SHADED.strip() in caption.value.replace("\\", "") for caption in page.caption) == 2
    assert any("10,400 looks" in entry.value.replace("\\", "") for entry in page.markdown)


def test_frames_lack_what_an_older_record_does_not_state() -> None:
    """No layer of it may look as if validation had told it apart."""
    both = Results([StoredRecord(make_record(**more), Path("x.json")) for more in (DOUBTED, {"weights": "old"})])  # type: ignore[arg-type]
    layers = both.layers()
    alike = [layers.loc[layers["record_id"] == stored.record.id, "alike"] for stored in both]
    assert alike[0].tolist() == [layer in ALIKE for layer in range(13)]
    assert alike[1].isna().all()
    scores, trials = both.scores(), both.trials()
    assert scores["looks"].tolist()[0] == 10_400 and scores["valid_recordings"].tolist()[0] == 12
    assert scores["reference_test"].tolist()[0] == 0.75
    missing = ["looks", "valid_recordings", "optimism", "reference_test"]
    assert scores[missing].isna().to_numpy().tolist() == [[False] * 4, [True] * 4]
    assert trials["loss"].isna().tolist() == [False] * (len(trials) // 2) + [True] * (len(trials) // 2)
