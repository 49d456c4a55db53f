"""The layer curves of many records: what is read of them, their median over depth, and what the chart is given."""

import json
import math
import statistics
from datetime import UTC, datetime

import pytest
from factory import make_record

from leaderboard.database.store import Store
from leaderboard.records.record import Record
from leaderboard.web.charts.tasks import DEPTHS, layer_depths
from leaderboard.web.layers import Curve, median_curve, read_curves


def curve(*tests: float, best: int = 0) -> Curve:
    return Curve(best, tuple(range(len(tests))), tuple(f"block {index}" for index in range(len(tests))), tests)


def layer_tests(record: Record) -> tuple[float, ...]:
    return tuple(layer.test for layer in sorted(record.layers, key=lambda layer: layer.index))


def test_curve_is_what_the_record_says(url: str) -> None:
    store = Store(url)
    records = [make_record("deep", n_layers=25, best_layer=18), make_record("flat", n_layers=1, best_layer=0)]
    # In any order, as somebody's record may have them.
    records[0] = records[0].model_copy(update={"layers": records[0].layers[::-1]})
    for record in records:
        store.publish(record)
    found = read_curves(store, [record.id for record in records] + ["0" * 16])
    assert set(found) == {record.id for record in records}, "a record that is not here has a curve"
    deep, flat = (found[record.id] for record in records)
    assert (deep.best_layer, deep.last, deep.depth) == (18, 24, 18 / 24)
    assert deep.tests == layer_tests(records[0])
    assert deep.names[18] == "block 18"
    assert (flat.last, flat.depth, flat.depths) == (0, None, ()), "a single layer has no depth"


def test_curves_are_read_again_when_a_record_changed(url: str) -> None:
    """What the server keeps must not outlive what it was read from."""
    store, record = Store(url), make_record("one")
    store.publish(record)
    assert read_curves(store, [record.id])[record.id].tests == layer_tests(record)
    other_layers = [{**layer.model_dump(), "test": 0.123} for layer in record.layers]
    changed = Record.model_validate({**record.model_dump(), "layers": other_layers})
    Store(url).publish(changed)
    assert read_curves(store, [record.id])[record.id].tests == (0.123,) * len(record.layers)
    other = make_record("two", created=datetime(2026, 2, 1, tzinfo=UTC))
    store.publish(other)
    assert set(read_curves(store, [other.id])) == {other.id}


def test_more_curves_than_one_statement_holds(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leaderboard.web.layers._AT_ONCE", 3)
    store = Store(url)
    records = [make_record("one", split=str(number), test=number / 10) for number in range(7)]
    for record in records:
        store.publish(record)
    found = read_curves(store, [record.id for record in records])
    assert {key: one.tests for key, one in found.items()} == {record.id: layer_tests(record) for record in records}
    assert len({one.tests for one in found.values()}) == 7, "equal curves would hide one that was mixed up"


def plain_score(tests: tuple[float, ...], depth: float) -> float:
    """The straight line between the two layers on either side."""
    place = depth * (len(tests) - 1)
    below = min(math.floor(place), len(tests) - 2)
    return tests[below] + (place - below) * (tests[below + 1] - tests[below])


def test_median_is_taken_at_equal_depth() -> None:
    """A layer in the middle of 4 is compared with the middle of 25, not with its fourth."""
    curves = [
        curve(0.1, 0.9, 0.4, 0.3),
        curve(*(0.2 + 0.02 * index for index in range(25))),
        curve(0.5, 0.6, 0.1),
        curve(0.9, 0.0),
    ]
    expected = [statistics.median(plain_score(one.tests, depth) for one in curves) for depth in DEPTHS]
    assert median_curve(curves, DEPTHS).tolist() == pytest.approx(expected)


def test_chart_has_all_layers_their_median_and_the_chosen_ones() -> None:
    drawn = {"a": curve(0.1, 0.5, 0.3, best=1), "b": curve(0.2, 0.4, best=1)}
    left_out = curve(0.0, 0.1, best=0)
    chart = layer_depths(drawn, [*drawn.values(), left_out], "accuracy").to_dict()
    thin, median, _, chosen = (json.loads(layer["data"]["values"]) for layer in chart["layer"])
    points = {(point["submission"], point["depth"]): point["score"] for point in thin}
    assert points == {("a", 0): 0.1, ("a", 0.5): 0.5, ("a", 1): 0.3, ("b", 0): 0.2, ("b", 1): 0.4}
    assert {(point["submission"], point["score"]) for point in chosen} == {("a", 0.5), ("b", 0.4)}
    ends = [median[place]["score"] for place in (0, -1)]
    assert ends == pytest.approx([0.1, 0.3]), "the median leaves out submissions whose line is not drawn"


def test_median_of_one_is_not_drawn() -> None:
    one = curve(0.1, 0.5)
    assert len(layer_depths({"a": one}, [one], "mAP").to_dict()["layer"]) == 3
