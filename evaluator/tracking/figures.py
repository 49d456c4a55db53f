"""The three figures of a record. They use matplotlib's object interface and not pyplot, which may need a display."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from leaderboard.ranking import formats
from leaderboard.records.predictions import PredictedScores
from leaderboard.records.record import Record
from leaderboard.web import diagnostics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours can be distinguished with every common kind of colour blindness; the markers differ too.
VALID_COLOUR = "#0072B2"
TEST_COLOUR = "#D55E00"
GREY = "#666666"

METRIC_LABELS = {"accuracy": "accuracy", "map": "mean average precision"}
LABEL_LENGTH = 24
MAX_NAMED_CLASSES = 60
MAX_WRITTEN_CELLS = 15
MOST_CLASSES = 200
"""A confusion matrix of 10,000 classes takes 6 GB of memory."""
PAIRS = 30


def layer_curve(record: Record) -> Figure:
    """Validation and test metric of each layer's best probe. The chosen layer is marked, with its test interval.

    The layers that validation cannot tell apart from it are shaded.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = _canvas(7.5, 4.5)
    layers = [layer.index for layer in record.layers]
    alike = record.alike or []
    for layer in alike if len(alike) > 1 else []:
        axes.axvspan(layer - 0.5, layer + 0.5, color=GREY, alpha=0.15, linewidth=0, zorder=0)
    axes.axvline(record.best_layer, color=GREY, linestyle=":", linewidth=1.2, zorder=1)
    axes.plot(layers, [layer.valid for layer in record.layers], "-o", color=VALID_COLOUR, markersize=5, label="valid")
    tests = [layer.test for layer in record.layers]
    axes.plot(layers, tests, "--s", color=TEST_COLOUR, markersize=5, label="test (diagnostic)")
    axes.vlines(record.best_layer, record.ci_low, record.ci_high, color="black", linewidth=1.6, zorder=3)
    axes.plot(
        [record.best_layer],
        [record.test],
        "D",
        color="black",
        markersize=7,
        zorder=4,
        label=f"chosen: layer {formats.layers(record.best_layer, alike)}, "
        f"test {record.test:.3f} [{record.ci_low:.3f}, {record.ci_high:.3f}]",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(min(layers) - 0.5, max(layers) + 0.5)
    axes.set_xlabel("layer")
    axes.set_ylabel(METRIC_LABELS[record.metric])
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    _title(axes, record, f"{METRIC_LABELS[record.metric]} by layer")
    return figure


def confusion_matrix(record: Record, test: PredictedScores) -> Figure:
    """Confusion matrix over all seeds. Rows are the true classes, columns the predicted ones; each row sums to 1.

    Above `MOST_CLASSES` classes it would be too large to draw and to read. Then the pairs that are confused most often
    are drawn.
    """
    counts = diagnostics.confusion_counts(test)
    if len(record.task.labels) > MOST_CLASSES:
        return _confused_pairs(record, test, diagnostics.most_confused(counts, PAIRS))
    names = _short(record.task.labels)
    # A class without items in the test split is an empty row.
    shares = np.nan_to_num(diagnostics.row_shares(counts.toarray()))

    side = min(3.5 + 0.3 * len(names), 18.0)
    figure, axes = _canvas(side + 1.2, side)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= MAX_WRITTEN_CELLS:
        for row, column in np.argwhere(shares >= 0.005):
            share = shares[row, column]
            colour = "white" if share > 0.5 else "black"
            axes.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=8, color=colour)
    shown = _shown(len(names))
    ticks = [names[index] for index in shown]
    axes.set_xticks(shown, ticks, fontsize=8, parse_math=False, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(shown, ticks, fontsize=8, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    _title(axes, record, f"confusion, {record.task.n_test} test items, {_seeds(test)}")
    return figure


def _confused_pairs(record: Record, test: PredictedScores, pairs: list[diagnostics.Confusion]) -> Figure:
    figure, axes = _canvas(9.0, min(2.4 + 0.28 * len(pairs), 18.0))
    names = _short(record.task.labels)
    rows = list(range(len(pairs)))
    axes.barh(rows, [pair.share for pair in pairs], color=VALID_COLOUR, height=0.75)
    ticks = [f"{names[pair.true]} as {names[pair.predicted]}  ({pair.count})" for pair in pairs]
    axes.set_yticks(rows, ticks, fontsize=8, parse_math=False)
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the true class")
    axes.set_ylabel("true class as predicted class (times, all seeds)")
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    classes = f"{len(names)} classes are too many for a matrix"
    _title(axes, record, f"the pairs confused most often, {_seeds(test)}; {classes}")
    return figure


def class_precision(record: Record, test: PredictedScores) -> Figure:
    """Average precision per class, the mean over seeds, best class first. A class without positives is marked.

    Above `MOST_CLASSES` classes, only those with the most positives in the test split are drawn.
    """
    positives = test.targets.sum(axis=0, dtype=np.int64)
    drawn = np.sort(np.argsort(-positives, kind="stable")[:MOST_CLASSES])
    part = replace(test, scores=test.scores[..., drawn], targets=test.targets[:, drawn])
    means = diagnostics.average_precisions(part)
    positives = positives[drawn]
    order = np.argsort(-means, kind="stable")
    names = [_short(record.task.labels)[at] for at in drawn]

    figure, axes = _canvas(7.5, min(2.4 + 0.28 * len(names), 18.0))
    rows = np.arange(len(names))
    axes.barh(rows, means[order], color=VALID_COLOUR, height=0.75)
    axes.axvline(record.test, color=TEST_COLOUR, linestyle="--", linewidth=1.4, label=f"mean of all: {record.test:.3f}")
    shown = _shown(len(names))
    labels = [f"{names[order[row]]}  (n={positives[order[row]]})" for row in shown]
    axes.set_yticks(shown, labels, fontsize=8, parse_math=False)
    for row in rows[positives[order] == 0]:
        axes.text(0.01, row, "no positives in test: counts 0", va="center", fontsize=7, color=GREY)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel("average precision")
    axes.set_ylabel("class (n positives)")
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    figure.legend(loc="outside lower center", frameon=False)
    every = len(record.task.labels)
    some = f", the {len(names)} of {every} classes with the most positives" if len(names) < every else ""
    _title(axes, record, f"average precision by class{some}, {_seeds(test)}")
    return figure


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _title(axes: Axes, record: Record, subtitle: str) -> None:
    # `parse_math=False`: a "$" in a name does not start a formula.
    title = f"{record.submission.name} on {record.task.name} ({record.track})\n{subtitle}"
    axes.set_title(title, loc="left", fontsize=11, parse_math=False)


def _short(labels: list[str]) -> list[str]:
    return [label if len(label) <= LABEL_LENGTH else f"{label[: LABEL_LENGTH - 1]}…" for label in labels]


def _shown(classes: int) -> list[int]:
    """Indices of the classes whose name is shown: all, or every n-th."""
    return list(range(0, classes, math.ceil(classes / MAX_NAMED_CLASSES)))


def _seeds(test: PredictedScores) -> str:
    return "1 seed" if len(test.scores) == 1 else f"{len(test.scores)} seeds"
