"""One task: its data, every submission's result on it, and the relative depth of the best layers."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from leaderboard.database.standings import catalogue, read_standings
from leaderboard.database.store import Store
from leaderboard.ranking import formats
from leaderboard.ranking.boards import Board, Cell, Row
from leaderboard.ranking.columns import BEST_LAYER, RUNS, SCORE, SUBMISSION, VALID, sort_rows
from leaderboard.web import table, text
from leaderboard.web.charts import tasks as charts
from leaderboard.web.layers import Curve, read_curves
from leaderboard.web.views import examples
from leaderboard.web.views.board_table import MLflow
from leaderboard.web.views.board_table import address as submission_address
from leaderboard.web.views.controls import choose_board
from tasks.task import Facts, Task, load_task

# Names of a task file's facts on the page, in their order there. Description and citation are shown separately.
_FACTS = {
    "taxa": "taxa",
    "source": "source",
    "collections": "collections",
    "licence": "licence",
    "size": "size",
    "durations": "durations",
    "split_rule": "splits",
    "grouping": "grouping",
    "leakage": "leakage",
}
_JUMP = "[Class balance](#classes) · [Examples](#examples) · [Results](#results) · [Score by layer depth](#depth)"
# More lines than this hide one another. The median is over all submissions.
MOST_CURVES = 50
_COMMERCIAL = {True: "allowed", False: "not allowed", "unknown": "unknown"}


def show(store: Store, data: Path, mlflow: MLflow) -> None:
    """Draw the page of the address's ``name``; ``track``, ``group`` and ``protocol`` choose the results.

    Args:
        store: holds the results.
        data: the home's data directory; prepared tasks are shown with their classes and examples.
        mlflow: where runs are shown.
    """
    known = {task.name: task for task in catalogue()}
    boards = read_standings(store)
    names = list(dict.fromkeys([*known, *sorted(column.task for board in boards for column in board.columns)]))
    name = st.query_params.get("name")
    if name not in names:
        _pick(name, names)
        return
    st.title(text.markdown(name), anchor=False)
    with_results = [board for board in boards if any(_cell(board, row, name).result for row in board.rows)]
    if name in known:
        _facts(known[name])
        st.caption(_JUMP if with_results else _JUMP.partition(" · [Score")[0])
        examples.show(load_task(name, data=data))
    else:
        _own_facts(with_results[0], name, store)
    st.subheader("Results", anchor="results")
    if not with_results:
        st.info(text.markdown(f"There are no results yet: beans submit SUBMISSION.toml --tasks {name} makes one."))
        return
    board = choose_board(with_results, st.columns([1, 1, 1.4], vertical_alignment="bottom"))
    _results(board, name, store, mlflow)


def _pick(asked: str | None, names: list[str]) -> None:
    st.title("Task", anchor=False)
    if asked is not None:
        st.warning(text.markdown(f"There is no task called “{asked[:200]}” on this board."))
    chosen = st.selectbox("Choose one", names, index=None, placeholder="Name of a task")
    if chosen is not None:
        st.query_params["name"] = chosen
        st.rerun()


def _own_facts(board: Board, name: str, store: Store) -> None:
    """Draw the facts of an own task. They come from a record, since the task file is not here."""
    st.caption(
        "A submitter's own task. Only the submitter has its file and its sounds; this page shows the results and the "
        "facts that they contain."
    )
    results = [result for row in board.rows if (result := _cell(board, row, name).result)]
    record = store.record(results[0].record_id)
    if record is not None:
        task = record.task
        counts = {"train": task.n_train, "valid": task.n_valid, "test": task.n_test}
        facts: dict[str, object] = {
            "kind": f"{task.kind}, {formats.METRICS[task.metric]}",
            "classes": _classes(task.labels),
            "items": ", ".join(f"{count:,} {split}" for split, count in counts.items()),
            "native rates": ", ".join(f"{rate / 1000:g} kHz" for rate in task.native_rates),
        }
        st.html(text.facts(facts))


def _classes(labels: Sequence[str]) -> str:
    return f"{len(labels)}: {', '.join(labels[:20])}{', …' if len(labels) > 20 else ''}"


def _facts(task: Task) -> None:
    facts = task.facts
    if facts.description:
        st.caption(text.markdown(facts.description))
    shape = [f"{task.kind}, {formats.METRICS[task.metric]}", f"{formats.GROUPS[task.group]} tasks"]
    if task.window_width is not None and task.window_shift is not None:
        shape.append(f"windows of {task.window_width:g} s every {task.window_shift:g} s")
    if task.max_duration is not None:
        shape.append(f"the first {task.max_duration:g} s of a clip")
    shown: dict[str, object] = {"kind": "; ".join(shape)}
    if task.labels:
        shown["classes"] = _classes(task.labels)
    if task.published.items:
        shown["items"] = ", ".join(f"{count:,} {split}" for split, count in task.published.items.items())
    if facts.native_rate:
        shown["native rate"] = f"{facts.native_rate / 1000:g} kHz"
    st.html(text.facts({**shown, **_stated(facts)}))
    if facts.citation:
        with st.expander("Citation"):
            st.code(facts.citation.strip(), language="bibtex")


def _stated(facts: Facts) -> dict[str, object]:
    stated: dict[str, object] = {
        shown: list(value) if isinstance(value := getattr(facts, key), tuple) else " ".join(value.split())
        for key, shown in _FACTS.items()
        if getattr(facts, key)
    }
    if facts.commercial_use is not None:
        stated["commercial use"] = _COMMERCIAL[facts.commercial_use]
    return stated


def _cell(board: Board, row: Row, task: str) -> Cell:
    index = next((index for index, column in enumerate(board.columns) if column.task == task), None)
    return Cell(None) if index is None else row.cells[index]


def _results(board: Board, name: str, store: Store, mlflow: MLflow) -> None:
    headers = [
        table.header(SUBMISSION),
        table.header(SCORE),
        table.header(VALID),
        table.header(BEST_LAYER),
        table.ColumnHeader("Depth", kind="number", title="0 is the input of the first block, 1 the last layer"),
        table.header(RUNS, title=""),
    ]
    rows = [(row, _cell(board, row, name)) for row in sort_rows(board, f"task:{name}")]
    curves = read_curves(store, [cell.result.record_id for _, cell in rows if cell.result is not None])
    drawn, full = [], {}
    for row, cell in rows:
        result = cell.result
        notes = "" if row.limit is None else f"limited to {row.limit}"
        where = submission_address(row.submission)
        head = table.cell(row.submission, here=True, href=where, sub=notes)
        curve = curves.get(result.record_id) if result is not None else None
        if result is None or curve is None:
            blank = [table.cell("–", title=cell.reason, style="empty")] * 4
            drawn.append(table.row([head, table.shown(SCORE.shown(cell)), *blank], href=where))
            continue
        if row.limit is None and curve.depth is not None:
            full[row.submission] = curve
        link, why = mlflow.link([result.run] if result.run else [])
        cells = [
            head,
            table.shown(SCORE.shown(cell), sub="", style="strong"),
            table.shown(VALID.shown(cell)),
            table.shown(BEST_LAYER.shown(cell)),
            table.cell("–", title="it has a single layer", style="empty")
            if curve.depth is None
            else table.cell(f"{curve.depth:.2f}"),
            table.cell("run", href=link) if link else table.cell("–", title=why, style="empty"),
        ]
        drawn.append(table.row(cells, href=where, style="limited" if notes else ""))
    table.show("task", headers, drawn, label="Results")
    if any(cell.overlap for _, cell in rows):
        st.caption(formats.OVERLAP_LEGEND)
    results = [cell for _, cell in rows]
    legends = [*formats.layer_legends(results), *formats.flag_legends(results)]
    if legends:
        st.caption(text.markdown(" ".join(legends)))
    metric = next(column.metric for column in board.columns if column.task == name)
    _depths(full, formats.METRICS[metric])


def _depths(curves: dict[str, Curve], metric: str) -> None:
    """Draw test scores over relative depth for all submissions; ``curves`` are sorted by test score, best first."""
    if not curves:
        return
    st.subheader("Score by layer depth", anchor="depth")
    best = dict(list(curves.items())[:MOST_CURVES])
    with st.container(border=True):
        st.altair_chart(charts.layer_depths(best, list(curves.values()), metric), width="stretch")
    middle = statistics.median(curve.depth for curve in curves.values() if curve.depth is not None)
    count = "1 submission" if len(curves) == 1 else f"{len(curves)} submissions"
    lines = "Each thin line is one submission" if len(best) == len(curves) else f"Thin lines are the {len(best)} best"
    thick = f"; the thick line is the median of all {len(curves)}" if len(curves) > 1 else ""
    st.caption(
        f"{lines}: test scores of all layers, a diagnostic{thick}. A diamond is the layer chosen on validation. "
        f"Median depth of {count}: {middle:.2f}."
    )
