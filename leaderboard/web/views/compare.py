"""Several submissions side by side: differences with their certainty, layer curves, and costs."""

from pathlib import Path
from typing import Any

import streamlit as st

from leaderboard.database.standings import kept, read_standings
from leaderboard.database.store import Store
from leaderboard.ranking import formats
from leaderboard.ranking.boards import Board, Row
from leaderboard.ranking.column import missing
from leaderboard.ranking.columns import MEAN, SCORE
from leaderboard.ranking.significance import Comparison, Difference, Scored, TaskDifference, compare
from leaderboard.records.record import Record
from leaderboard.web import charts, table, text
from leaderboard.web.views import costs
from leaderboard.web.views.board import MOST
from leaderboard.web.views.controls import choose_board

# A p-value below this is highlighted as a difference.
LEVEL = 0.05

_HELP = "Choose two to five submissions; the others are compared with the first."


def show(store: Store, records: Path, *, tracking_uri: str, mlflow: str | None) -> None:
    """Draw the page. The address holds the board, as on the first page, and one ``with`` per submission."""
    st.title("Compare", anchor=False)
    boards = read_standings(store)
    if not boards:
        st.info("The board is empty. `beans submit submissions/statistics.toml` puts the first submission here.")
        return
    board = choose_board(boards, st.columns([1, 1, 1.4], vertical_alignment="bottom"))
    rows = {row.submission: row for row in board.rows if row.limit is None}
    chosen = _choose(list(rows))
    if len(chosen) < MOST[0]:
        st.info(_HELP)
        return
    compared = [rows[name] for name in chosen]
    stored = {row.submission: _records(row, store) for row in compared}
    _differences(board, compared, records)
    costs.show(compared, stored)
    _curves(board, chosen, stored)
    _mlflow(board, compared, tracking_uri, mlflow)


def _choose(names: list[str]) -> list[str]:
    asked = list(dict.fromkeys(st.query_params.get_all("with")))
    gone = [name for name in asked if name not in names]
    if gone:
        listed = ", ".join(f"“{name[:200]}”" for name in gone)
        st.warning(text.markdown(f"Left out, since they are not on this board: {listed}."))
    return st.multiselect("Submissions", names, key="with", bind="query-params", max_selections=MOST[1], help=_HELP)


def _differences(board: Board, rows: list[Row], records: Path) -> None:
    first, *others = rows
    st.subheader("Differences", anchor=False)
    known = {row.submission: _scores(row, records) for row in rows}
    against = known[first.submission]
    comparisons = {row.submission: _compared(known[row.submission], against) for row in others}
    headers = [
        table.ColumnHeader("Task", kind="name"),
        table.header(SCORE, label=first.submission, sub="score"),
        *(table.ColumnHeader(row.submission, kind="score", sub="minus the first") for row in others),
    ]
    drawn = []
    for index, column in enumerate(board.columns):
        cell = first.cells[index]
        cells = [
            table.cell(column.task, sub=formats.METRICS[column.metric]),
            table.shown(SCORE.shown(cell)),
        ]
        for row in others:
            found = next((task for task in comparisons[row.submission].tasks if task.task == column.task), None)
            reason = _why_not(row, first, index, known)
            cells.append(table.shown(missing(reason)) if found is None else _difference(found, found.p_corrected))
        drawn.append(table.row(cells))
    means = [comparisons[row.submission] for row in others]
    drawn.append(
        table.row(
            [
                table.cell(MEAN.label, sub="of the compared tasks"),
                table.cell(""),
                *(_mean(comparison) for comparison in means),
            ]
        )
    )
    table.show("differences", headers, drawn, label="Differences")
    if any(cell.overlap for cell in first.cells):
        st.caption(formats.OVERLAP_LEGEND)
    legends = [*formats.layer_legends(first.cells), *formats.flag_legends(first.cells)]
    if legends:
        st.caption(text.markdown(" ".join(legends)))
    st.caption(
        text.markdown(
            "Difference of the test scores, its 95 % interval over resamples of the test recordings (both submissions "
            "share the resamples), and p. The p of a task is corrected over the tasks of a column (Holm). The p of the "
            f"mean is not corrected. No p is corrected for the number of columns. Coloured: p below {LEVEL:g}."
        )
    )


def _scores(row: Row, records: Path) -> dict[str, Scored | str]:
    return {cell.result.task: kept(cell.result, records) for cell in row.cells if cell.result is not None}


def _compared(scores: dict[str, Scored | str], against: dict[str, Scored | str]) -> Comparison:
    known, others = (
        {task: scored for task, scored in side.items() if not isinstance(scored, str)} for side in (scores, against)
    )
    return compare(known, others)


def _why_not(row: Row, first: Row, index: int, known: dict[str, dict[str, Scored | str]]) -> str:
    """The reason why two submissions are not compared on a task."""
    for side in (row, first):
        cell = side.cells[index]
        if cell.result is None:
            return f"{cell.reason} ({side.submission})"
        reason = known[side.submission][cell.result.task]
        if isinstance(reason, str):
            return f"{reason} ({side.submission})"
    return "not comparable: the two were measured on different recordings"


def _difference(found: Difference, p: float) -> dict[str, Any]:
    corrected = " after Holm's correction" if isinstance(found, TaskDifference) else ""
    return table.cell(
        formats.signed(found.difference),
        spread=formats.p_value(p),
        sub=f"[{formats.signed(found.low)}, {formats.signed(found.high)}]",
        title=f"{found.difference:+.4f}, 95 % interval [{found.low:+.4f}, {found.high:+.4f}], p {p:.4f}{corrected}",
        style="best" if p < LEVEL else "",
    )


def _mean(comparison: Comparison) -> dict[str, Any]:
    if comparison.mean is None:
        return table.shown(missing("no task to compare"))
    cell = _difference(comparison.mean, comparison.mean.p)
    tasks = len(comparison.tasks)
    return {**cell, "sub": f"{cell['sub']}, {tasks} {'task' if tasks == 1 else 'tasks'}"}


def _mlflow(board: Board, rows: list[Row], tracking_uri: str, mlflow: str | None) -> None:
    """Link to every run, and to MLflow's own comparison of the runs."""
    runs = [cell.result.run for row in rows for cell in row.cells if cell.result is not None and cell.result.run]
    if not runs:
        return
    st.subheader("Runs in MLflow", anchor=False)
    both, why = text.compare_link(runs, local_uri=tracking_uri, local_server=mlflow)
    if both:
        st.link_button("Compare in MLflow", both, icon=":material/science:")
    else:
        st.caption(text.markdown(f"Not in MLflow: {why}"))
    headers = [table.ColumnHeader("Task", kind="name"), *(table.ColumnHeader(row.submission) for row in rows)]
    drawn = []
    for index, column in enumerate(board.columns):
        cells = [table.cell(column.task)]
        for row in rows:
            result = row.cells[index].result
            link = result and text.run_link(result.run, local_uri=tracking_uri, local_server=mlflow)
            cells.append(table.cell("run", href=link) if link else table.cell("–", style="empty"))
        drawn.append(table.row(cells))
    table.show("runs", headers, drawn, label="Runs in MLflow")


def _curves(board: Board, names: list[str], records: dict[str, dict[str, Record]]) -> None:
    st.subheader("Layer curves", anchor=False)
    st.caption(
        "Test scores of all layers, a diagnostic. The diamond is the layer chosen on validation, with its interval."
    )
    areas: list[Any] = []
    for column in board.columns:
        of_task = {name: records[name][column.task] for name in names if column.task in records[name]}
        if not of_task:
            continue
        areas = areas or list(st.columns(2, gap="medium"))
        with areas.pop(0), st.container(border=True):
            st.markdown(f"**{text.markdown(column.task)}**")
            st.altair_chart(charts.layer_curves(of_task, names), width="stretch")


def _records(row: Row, store: Store) -> dict[str, Record]:
    """The full record of each result, by task."""
    results = [cell.result for cell in row.cells if cell.result is not None]
    return {result.task: record for result in results if (record := store.record(result.record_id))}
