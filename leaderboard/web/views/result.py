"""One result of a submission: its curves, its scores per class, the command that reproduces it, and its provenance."""

from datetime import datetime
from pathlib import Path

import numpy as np
import streamlit as st

from leaderboard.database.standings import NO_PREDICTIONS
from leaderboard.ranking import formats
from leaderboard.records import reproduce
from leaderboard.records.flags import EDGES, FLAGS, sentence
from leaderboard.records.plausibility import prediction_problems
from leaderboard.records.predictions import PredictedScores, read_predictions
from leaderboard.records.record import Record
from leaderboard.records.result import Result
from leaderboard.web import charts, diagnostics, table, text
from tasks.support.errors import UserError

# With more classes than this, a matrix is unreadable, and the page lists the most confused pairs instead.
MOST_DRAWN = 40
PAIRS = 30
# A chart with more bars than this is slow in the browser.
MOST_BARS = 300
# Height in pixels of the frames in which the tables and bars of many classes scroll.
_HEIGHT = 520


def show(result: Result, record: Record, records: Path, link: str | None) -> None:
    """Draw the details of one result.

    Args:
        result: the record as the board reads it.
        record: the full record.
        records: the home's records directory, which may contain the predictions.
        link: address of the result's MLflow run; None without one.
    """
    st.subheader(text.markdown(f"{result.task} · {result.track}"), anchor=False)
    for flag in record.flags:
        # Only the suite's own sentences are safe as Markdown: an example in a sentence is text of others.
        own = FLAGS.get(flag)
        words = sentence(flag, record) or flag
        st.warning(words if words == own else text.markdown(words), icon=":material/warning:")
    layers, rates = st.columns([3, 2], gap="medium")
    with layers, st.container(border=True):
        st.markdown("**Layers**")
        st.altair_chart(charts.layer_curve(record), width="stretch")
        st.caption(
            "The test curve is a diagnostic; the best layer is chosen on validation. The diamond is the score of the "
            "result: the mean over seeds, with its 95 % interval."
            f"{charts.SHADED if len(record.alike or ()) > 1 else ''}"
        )
    with rates, st.container(border=True):
        _rates(record)
    _choice(record)
    _classes(record, records)
    _reproduce(record)
    _provenance(record, link)


def _rates(record: Record) -> None:
    st.markdown("**Learning rate**")
    searched = diagnostics.searched_rates(record.protocol)
    st.altair_chart(
        charts.rate_curve(record, searched, flagged=bool(EDGES.keys() & set(record.flags))), width="stretch"
    )
    edge = (
        "the protocol's name states no range of rates, so no edge is shaded"
        if searched is None
        else f"the outer twentieth of the range {formats.rate(searched[0])} to {formats.rate(searched[1])} is shaded"
    )
    rates = "1 rate" if len(record.trials) == 1 else f"{len(record.trials)} rates"
    st.caption(f"{rates}, each trained on all layers at once; {edge}.")


def _choice(record: Record) -> None:
    """Say how far the choice on validation can be trusted. Records of older versions do not state it."""
    sentences = choice_in_words(record)
    if sentences:
        st.subheader("How sure the choice is", anchor=False)
        st.markdown("\n".join(f"- {text.markdown(sentence)}" for sentence in sentences))


def choice_in_words(record: Record) -> list[str]:
    """Sentences on looks, optimism, the layers alike, and logistic regression beside the probe."""
    sentences = []
    if record.selection is not None:
        selection = record.selection
        recordings = "1 recording" if selection.recordings == 1 else f"{selection.recordings:,} recordings"
        sentences += [
            f"The choice is the best of {selection.looks:,} looks at validation, which has {recordings}.",
            f"Optimism: the chosen probe scores {formats.score(record.valid)} on validation and "
            f"{formats.score(record.test)} on test, a difference of {formats.signed(selection.optimism)}.",
            f"The best layer is {formats.layers(record.best_layer, selection.alike)}: validation cannot distinguish "
            "the layers in brackets from it."
            if len(selection.alike) > 1
            else f"Validation distinguishes layer {record.best_layer} from all other layers.",
        ]
    if record.reference is not None:
        sentences.append(
            f"Logistic regression on the mean over frames of layer {record.best_layer}, trained to convergence, scores "
            f"{formats.score(record.reference.test)} on test, and the probe {formats.score(record.test)}."
        )
    return sentences


def _classes(record: Record, records: Path) -> None:
    detection = record.task.kind == "detection"
    st.subheader("Average precision of each class" if detection else "Confusion matrix", anchor=False)
    test = _predictions(record, records)
    if isinstance(test, str):
        st.info(test)
    elif detection:
        _precisions(record, test)
    else:
        _confusions(record, test)


def _predictions(record: Record, records: Path) -> PredictedScores | str:
    """The predictions beside the record, or the reason why they cannot be shown, as markdown without a path."""
    if not (records / record.predictions.file).is_file():
        return f"Scores per class are not shown, since there are {NO_PREDICTIONS}."
    try:
        test = read_predictions(records, record)
    except UserError as error:
        return text.markdown(str(error).replace(f"{records}/", ""))
    except OSError as error:
        return text.markdown(f"{record.predictions.file} cannot be read ({error.strerror}): repair or replace it.")
    problems = prediction_problems(record, test)
    if problems:
        return text.markdown(f"The predictions are not those of this record: {'; '.join(problems)}.")
    return test


def _confusions(record: Record, test: PredictedScores) -> None:
    labels = record.task.labels
    counts = diagnostics.confusion_counts(test)
    items = counts.sum(1) // len(test.scores)
    absent = [label for label, count in zip(labels, items, strict=True) if not count]
    counted = f"Counts are summed over {_seeds(test)}; shares are of the true class."
    if len(labels) <= MOST_DRAWN:
        with st.container(border=True):
            matrix = counts.toarray()
            st.altair_chart(charts.confusions(matrix, labels, dark=st.context.theme.type == "dark"), width="stretch")
        notes = ["Each row is a true class; stronger fields have a larger share. Correct fields are framed.", counted]
        worst = diagnostics.most_confused(counts, 3)
        if worst:
            pairs = (f"{labels[pair.true]} taken for {labels[pair.predicted]} ({pair.share:.0%})" for pair in worst)
            notes.append(f"Confused most often: {', '.join(pairs)}.")
    else:
        left, right = st.columns(2, gap="medium")
        with left:
            st.markdown(f"**The {PAIRS} pairs confused most often**")
            with st.container(height=_HEIGHT):
                _pairs(diagnostics.most_confused(counts, PAIRS), labels)
        with right:
            st.markdown("**Recall of each class (with its test items), lowest first**")
            with st.container(height=_HEIGHT):
                shares = diagnostics.recalls(counts)
                recalls = [
                    (f"{labels[at]} ({items[at]})", float(shares[at]), f"{shares[at]:.2f}")
                    for at in np.argsort(shares, kind="stable")
                    if items[at]
                ]
                st.altair_chart(charts.class_bars(recalls[:MOST_BARS], "recall"), width="stretch")
        notes = [f"{len(labels)} classes are too many for a matrix.", counted]
        if len(recalls) > MOST_BARS:
            notes.append(f"The {MOST_BARS} classes with the lowest recall of {len(recalls)} are shown.")
    if absent:
        more = f" and {len(absent) - MOST_DRAWN} more" if len(absent) > MOST_DRAWN else ""
        notes.append(f"Without test items: {', '.join(absent[:MOST_DRAWN])}{more}.")
    st.caption(text.markdown(" ".join(notes)))


def _pairs(pairs: list[diagnostics.Confusion], labels: list[str]) -> None:
    headers = [
        table.ColumnHeader("True class", kind="name"),
        table.ColumnHeader("Taken for"),
        table.ColumnHeader("Times", kind="number", sub="all seeds"),
        table.ColumnHeader("Share", kind="number", sub="of the true class"),
    ]
    rows = [
        table.row(
            [
                table.cell(labels[pair.true]),
                table.cell(labels[pair.predicted]),
                table.cell(f"{pair.count}"),
                table.cell(f"{pair.share:.2f}"),
            ]
        )
        for pair in pairs
    ]
    table.show("pairs", headers, rows, label="Pairs of classes that are confused most often")


def _precisions(record: Record, test: PredictedScores) -> None:
    labels = record.task.labels
    precisions = diagnostics.average_precisions(test)
    positives = test.targets.sum(0, dtype=np.int64)
    order = sorted(range(len(labels)), key=lambda at: (not positives[at], precisions[at], at))
    bars = [
        (
            f"{labels[at]} ({positives[at]})",
            float(precisions[at]),
            f"{precisions[at]:.2f}" if positives[at] else "no positives, counts 0",
        )
        for at in order
    ]
    with st.container(border=True, height=_HEIGHT if len(labels) > MOST_DRAWN else "content"):
        mean = float(precisions.mean())
        chart = charts.class_bars(bars[:MOST_BARS], "average precision", mean)
        st.altair_chart(chart, width="stretch")
    seeds = _seeds(test)
    notes = [
        f"Lowest first, mean over {seeds}. In brackets: number of positive test windows. The dashed line is the mean "
        f"over classes, {formats.score(mean)}."
    ]
    if len(bars) > MOST_BARS:
        notes.append(f"The first {MOST_BARS} of {len(bars)} classes are shown.")
    absent = len(labels) - int(np.count_nonzero(positives))
    if absent:
        classes = "1 class has" if absent == 1 else f"{absent} classes have"
        notes.append(f"{classes} no positives in the test split and counts 0 in the mean, as in BEANS.")
    st.caption(text.markdown(" ".join(notes)))


def _seeds(test: PredictedScores) -> str:
    return "1 seed" if len(test.scores) == 1 else f"{len(test.scores)} seeds"


def _reproduce(record: Record) -> None:
    st.subheader("Reproduce", anchor=False)
    commit = record.environment.git_commit
    st.code((f"git checkout {commit}\n" if commit else "") + reproduce.command(record), language="bash")
    caveat = reproduce.caveat(record)
    if caveat:
        st.caption(text.markdown(caveat))
    if record.task.group == "own":
        st.caption(text.markdown(f"{record.task.name}.toml is the submitter's own task file."))
    with st.expander(text.markdown(reproduce.file_name(record))):
        st.code(reproduce.submission_file(record), language="toml")


def _provenance(record: Record, link: str | None) -> None:
    st.subheader("Provenance", anchor=False)
    where, task = record.environment, record.task
    threads = "1 thread" if where.threads == 1 else f"{where.threads} threads"
    dirty = {True: " with uncommitted changes", False: "", None: " (state unknown)"}[where.git_dirty]
    left, right = st.columns(2, gap="large")
    left.html(
        text.facts(
            {
                "record": record.id,
                "measured": _moment(record.created),
                "protocol": record.protocol,
                **({"head": f"{record.head.help}, version {record.head.version}"} if record.head else {}),
                "code": f"{where.git_commit}{dirty}" if where.git_commit else "not in a git checkout",
                "device": f"{where.device}, {where.precision}, {threads}",
                "driver": where.driver or "none",
                "platform": f"{where.platform}, Python {where.python}",
                "packages": ", ".join(f"{name} {version}" for name, version in sorted(where.packages.items())),
                **({"MLflow run": link} if link else {}),
            }
        )
    )
    right.html(
        text.facts(
            {
                "items": f"{task.n_train} train, {task.n_valid} validation, {task.n_test} test",
                "classes": len(task.labels),
                "native rates": ", ".join(f"{rate / 1000:g} kHz" for rate in task.native_rates),
                "split hash": task.split_hash,
                "predictions sha256": record.predictions.sha256,
                **{key.replace("_", " "): formats.score(value) for key, value in record.secondary.items()},
                **{f"audio: {key}": value for key, value in record.audio.items()},
                "seconds": ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in record.seconds.items()),
            }
        )
    )


def _moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M %Z").strip()
