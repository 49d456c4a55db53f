"""The figures show the record's numbers, whatever the classes are called and however many there are."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from record_factory import make_record
from sklearn.metrics import average_precision_score
from sklearn.metrics import confusion_matrix as count

from evaluator.tracking.figures import MOST_CLASSES, class_precision, confusion_matrix, layer_curve
from leaderboard.records.files import read_record
from leaderboard.records.predictions import PredictedScores, read_predictions
from leaderboard.records.record import Record

AWKWARD = ("$x^2", "_hidden", "a {brace} \\frac", "Erithacus rubecula melophilus, juvenile", "whistle")


def read(file: Path) -> tuple[Record, PredictedScores]:
    record = read_record(file)
    return record, read_predictions(file.parent, record)


def test_layer_curve_draws_both_splits_and_marks_the_chosen_layer(tmp_path: Path) -> None:
    record, _ = read(make_record(tmp_path))
    axes = layer_curve(record).axes[0]
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    valid = lines["valid"].get_xydata()
    assert np.asarray(valid).tolist() == [[layer.index, layer.valid] for layer in record.layers]
    test = lines["test (diagnostic)"].get_xydata()
    assert np.asarray(test).tolist() == [[layer.index, layer.test] for layer in record.layers]
    layers = f"{record.best_layer} (0, {record.best_layer})"
    chosen = next(line for label, line in lines.items() if label.startswith(f"chosen: layer {layers}, test"))
    assert np.asarray(chosen.get_xydata()).tolist() == [[record.best_layer, record.test]]
    assert axes.get_xlabel() == "layer"
    assert axes.get_ylabel() == "accuracy"
    assert sorted(span.get_x() for span in axes.patches) == [-0.5, record.best_layer - 0.5], "shaded: 0 and the best"


def test_confusion_rows_are_true_classes(tmp_path: Path) -> None:
    record, test = read(make_record(tmp_path))
    axes = confusion_matrix(record, test).axes[0]
    shares = np.asarray(axes.images[0].get_array())
    expected = np.mean([count(test.targets, seed.argmax(1), normalize="true") for seed in test.scores], axis=0)
    np.testing.assert_allclose(shares, expected)
    assert axes.get_ylabel() == "true class", "a transposed matrix would blame the wrong class"
    assert [label.get_text() for label in axes.get_yticklabels()] == record.task.labels


def test_class_precision_bars_are_average_precisions_best_first(tmp_path: Path) -> None:
    record, test = read(make_record(tmp_path, kind="detection"))
    axes = class_precision(record, test).axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == sorted(widths, reverse=True)
    for label, width in zip(shown, widths, strict=True):
        name, _, positives = label.rstrip(")").partition("  (n=")
        index = record.task.labels.index(name)
        assert int(positives) == test.targets[:, index].sum()
        if int(positives):
            expected = np.mean(
                [average_precision_score(test.targets[:, index], seed[:, index]) for seed in test.scores]
            )
            assert width == pytest.approx(expected, abs=1e-6)
        else:
            assert width == 0
    notes = [text.get_text() for text in axes.texts]
    assert notes == ["no positives in test: counts 0"], "a bar of height 0 would look like a failure of the backbone"


def test_thousands_of_classes_are_drawn_by_their_worst_pairs_in_little_memory(tmp_path: Path) -> None:
    """A matrix of 10,000 classes took 6 GB."""
    record, _ = read(make_record(tmp_path, labels=tuple(f"species {index}" for index in range(300))))
    labels = [f"species {index}" for index in range(5000)]
    record = record.model_copy(update={"task": record.task.model_copy(update={"labels": labels})})
    generator = np.random.default_rng(0)
    targets = np.repeat(generator.integers(0, 5000, 20), 3)
    scores = np.zeros((1, 60, 5000), dtype=np.float32)
    scores[0, np.arange(60), np.where(np.arange(60) % 3, targets, (targets + 1) % 5000)] = 1
    test = PredictedScores([f"{n}" for n in range(60)], [f"{n}" for n in range(60)], scores, targets)
    tracemalloc.start()
    figure = confusion_matrix(record, test)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 2**20, "5000 classes squared take 200 MB"
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    first = targets[0]
    assert f"species {first} as species {(first + 1) % 5000}  (1)" in shown
    assert max(bar.get_width() for bar in figure.axes[0].patches) == pytest.approx(1 / 3)
    assert "5000 classes are too many for a matrix" in figure.axes[0].get_title(loc="left")


def test_of_thousands_of_classes_those_with_most_positives_have_bars(tmp_path: Path) -> None:
    record, test = read(
        make_record(tmp_path, kind="detection", labels=tuple(f"species {index}" for index in range(264)), n_items=300)
    )
    axes = class_precision(record, test).axes[0]
    assert len(axes.patches) == MOST_CLASSES
    positives = np.sort(test.targets.sum(0))[::-1]
    drawn = [int(label.get_text().rpartition("(n=")[2].rstrip(")")) for label in axes.get_yticklabels()]
    assert min(drawn) >= positives[MOST_CLASSES - 1]
    assert "the 200 of 264 classes with the most positives" in axes.get_title(loc="left")


@pytest.mark.parametrize("labels", [AWKWARD, tuple(f"species {index}" for index in range(264))])
@pytest.mark.parametrize("n_layers", [1, 25])
def test_any_task_and_backbone_can_be_drawn(tmp_path: Path, labels: tuple[str, ...], n_layers: int) -> None:
    for kind in ("classification", "detection"):
        record, test = read(make_record(tmp_path, kind=kind, labels=labels, n_layers=n_layers, n_items=300))
        by_class = confusion_matrix if kind == "classification" else class_precision
        for name, figure in (("layers", layer_curve(record)), ("classes", by_class(record, test))):
            figure.savefig(tmp_path / f"{name}.png", dpi=40)
            assert (tmp_path / f"{name}.png").stat().st_size > 1000
            assert max(figure.get_size_inches()) < 20, "264 classes must not make a poster"
