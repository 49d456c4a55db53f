"""The board's table: one row per submission, one cell per task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import streamlit as st

from leaderboard.ranking import formats
from leaderboard.ranking.boards import Board, Row
from leaderboard.ranking.column import Column
from leaderboard.ranking.columns import MEAN, RANK, RUNS, SUBMISSION, best_value, columns_of
from leaderboard.records.record import Tracking
from leaderboard.records.result import Value
from leaderboard.web import table, text

_TABLE = "board"


@dataclass(frozen=True, slots=True)
class MLflow:
    """Where runs are shown: the tracking address of this home, and the server that shows it (None without one)."""

    tracking_uri: str
    server: str | None

    def link(self, runs: Sequence[Tracking]) -> tuple[str | None, str]:
        """The address of one run, or of the comparison of several, and ""; or None and the reason."""
        return text.compare_link(runs, local_uri=self.tracking_uri, local_server=self.server)


def draw(board: Board, sort: str, mlflow: MLflow) -> None:
    """Draw the table, sorted by ``sort``. A click on a row opens its submission."""

    def order(key: str, *, falling: bool) -> Literal["", "ascending", "descending"]:
        if sort.removeprefix("-") != key:
            return ""
        return "descending" if falling != sort.startswith("-") else "ascending"

    columns = columns_of(board, "page")
    headers = [
        table.header(
            column,
            sort=column.key if column.sort else "",
            order=order(column.key, falling=column.sort == "largest first"),
        )
        for column in columns
    ]
    best = [best_value(column, board) for column in columns]
    rows = []
    for row in board.rows:
        cells = [_cell(column, row, top, mlflow) for column, top in zip(columns, best, strict=True)]
        style = "limited" if row.limit is not None else "incomplete" if row.rank is None else ""
        rows.append(table.row(cells, href=address(row.submission), style=style))
    table.show(_TABLE, headers, rows, label="Leaderboard", on_sort=_sort_by_header)


def _cell(column: Column, row: Row, best: Value, mlflow: MLflow) -> dict[str, Any]:
    """One cell. The column defines its content; this function adds links and highlights, which only this page has."""
    shown = column.shown(row)
    if column is RANK:
        return table.shown(shown, spread=formats.rank_interval(row), style=_rank_style(row))
    if column is SUBMISSION:
        return table.shown(shown, spread="", here=True, href=address(row.submission))
    if column is MEAN and not shown.empty:
        return table.shown(shown, spread="", sub=shown.spread, style="strong")
    if column is RUNS:
        return _runs(row, mlflow)
    if best is not None and row.limit is None and column.value(row) == best:
        return table.shown(shown, style="best")
    return table.shown(shown)


def _rank_style(row: Row) -> str:
    """The style of a rank: the first rank is highlighted, and a bar at the left joins the rows of a group."""
    first = "first" if row.rank == 1 else ""
    if row.standing is None:
        return first
    return f"{first} {'odd' if row.standing.group % 2 else 'even'}"


def _runs(row: Row, mlflow: MLflow) -> dict[str, Any]:
    link, why = mlflow.link(row.runs)
    if link is None:
        return table.cell("–", title=why, style="empty")
    count = len(row.runs)
    sub = "" if count == row.covered else f"of {row.covered} results"
    return table.cell("run" if count == 1 else f"{count} runs", href=link, sub=sub)


def address(submission: str) -> str:
    """The address of a submission's page, relative to the board."""
    return f"submission?name={quote(submission, safe='')}"


def task_address(task: str) -> str:
    """The address of a task's page, relative to the board."""
    return f"task?name={quote(task, safe='')}"


def _sort_by_header() -> None:
    """Sort by the clicked header; a second click reverses the order."""
    clicked = st.session_state[_TABLE].sort
    if clicked:
        st.query_params["sort"] = f"-{clicked}" if st.query_params.get("sort", "mean") == clicked else clicked
