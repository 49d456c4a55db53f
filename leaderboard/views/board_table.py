"""The board's table: a row a submission, a cell a task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import streamlit as st

from leaderboard import formats, table, text
from leaderboard.ranking import Board, Row
from leaderboard.record import Tracking

_TABLE = "board"


@dataclass(frozen=True, slots=True)
class MLflow:
    """Where runs are shown: this home's own tracking address, and the server that shows it (None: none does)."""

    tracking_uri: str
    server: str | None

    def link(self, runs: Sequence[Tracking]) -> tuple[str | None, str]:
        """The page of one run or of the comparison of several, or None and why."""
        return text.compare_link(runs, local_uri=self.tracking_uri, local_server=self.server)


def draw(board: Board, sort: str, mlflow: MLflow) -> str | None:
    """Draw the table, sorted by ``sort``; the submission whose row was just clicked."""

    def order(key: str, *, falling: bool) -> Literal["", "ascending", "descending"]:
        if sort.removeprefix("-") != key:
            return ""
        return "descending" if falling != sort.startswith("-") else "ascending"

    headers = [
        table.Header("#", kind="rank", title=f"equal means share a rank; {formats.RANK_LEGEND} {formats.TIE_LEGEND}"),
        table.Header("Submission", kind="name", sort="submission", order=order("submission", falling=False)),
        table.Header("Mean", kind="number", sort="mean", order=order("mean", falling=True)),
        *(
            table.Header(
                column.task,
                sub=formats.METRICS[column.metric],
                kind="score",
                sort=f"task:{column.task}",
                order=order(f"task:{column.task}", falling=True),
            )
            for column in board.columns
        ),
        table.Header(
            "Borda",
            sub="mean rank",
            kind="number",
            sort="borda",
            order=order("borda", falling=True),
            title=f"{formats.BORDA_LEGEND} Mean rank: mean over tasks of its rank there.",
        ),
        table.Header("Parameters", kind="number", sort="parameters", order=order("parameters", falling=False)),
        table.Header(
            "VRAM",
            kind="number",
            sort="vram",
            order=order("vram", falling=False),
            title="peak allocated memory for one 10-s clip, weights included",
        ),
        table.Header(
            "MLflow",
            sort="runs",
            order=order("runs", falling=True),
            title="its run, or MLflow's own comparison of its runs on this board",
        ),
    ]
    full = [row for row in board.rows if row.limit is None]
    best = [
        max((result.test for row in full if (result := row.cells[index].result)), default=None)
        for index in range(len(board.columns))
    ]
    rows = [_row(row, best, mlflow) for row in board.rows]
    return table.show(_TABLE, headers, rows, label="Leaderboard", on_sort=_sort_by_header)


def _row(row: Row, best: list[float | None], mlflow: MLflow) -> dict[str, Any]:
    notes = []
    if row.limit is not None:
        notes.append(f"limited to {row.limit}")
    if row.covered < len(row.cells):
        notes.append(row.coverage)
    why = f"not ranked: {', '.join(notes)}" if notes else ""
    scores = [
        table.empty_cell(cell.reason)
        if cell.result is None
        else table.score_cell(cell.result, best=row.limit is None and cell.result.test == top, overlap=cell.overlap)
        for cell, top in zip(row.cells, best, strict=True)
    ]
    cells = [
        _rank(row, why),
        table.cell(
            row.submission,
            key=row.submission,
            href=address(row.submission),
            sub=", ".join(notes),
            title=why,
            **({"mark": formats.REMOTE_CODE_MARK, "note": formats.REMOTE_CODE} if row.remote_code else {}),
        ),
        table.cell("–", title="a mean needs every task of the board", style="empty")
        if row.mean is None
        else _mean(row, row.mean),
        *scores,
        _borda(row, why),
        table.cell(formats.parameters(row.parameters), title=f"{row.parameters:,} parameters"),
        table.cell("–", title=row.vram_reason, style="empty")
        if row.vram_bytes is None
        else table.cell(
            formats.memory(row.vram_bytes), sub=row.device, title=f"{row.vram_bytes:,} bytes on {row.device}"
        ),
        _runs(row, mlflow),
    ]
    style = "limited" if row.limit is not None else "incomplete" if row.rank is None else ""
    return table.row(cells, key=row.submission, style=style)


def _rank(row: Row, why: str) -> dict[str, Any]:
    if row.rank is None:
        return table.cell("–", title=why)
    first = "first" if row.rank == 1 else ""
    if row.standing is None:
        return table.cell(str(row.rank), spread=formats.rank_interval(row), title=row.standing_reason, style=first)
    # The bar at the left joins the rows of a group.
    bar = "odd" if row.standing.group % 2 else "even"
    group = f"group {formats.tie_group(row.standing.group)}"
    low, high = row.standing.rank_low, row.standing.rank_high
    return table.cell(
        str(row.rank),
        spread=formats.rank_interval(row),
        sub=group,
        title=f"rank {row.rank}, {low} to {high} in 95 % of the resamples; {group}: not told apart from its first",
        style=f"{first} {bar}",
    )


def _mean(row: Row, mean: float) -> dict[str, Any]:
    found = row.standing
    if found is None:
        return table.cell(formats.score(mean), title=f"{mean:.4f}", style="strong")
    return table.cell(
        formats.score(mean),
        sub=formats.half_interval(found.low, found.high),
        title=f"{mean:.4f}, 95 % interval [{found.low:.4f}, {found.high:.4f}]",
        style="strong",
    )


def _borda(row: Row, why: str) -> dict[str, Any]:
    if row.standing is None:
        return table.cell("–", title=row.standing_reason or why, style="empty")
    return table.cell(f"{row.standing.borda:g}", sub=f"{row.standing.mean_rank:.2f}")


def _runs(row: Row, mlflow: MLflow) -> dict[str, Any]:
    link, why = mlflow.link(row.runs)
    if link is None:
        return table.cell("–", title=why, style="empty")
    count = len(row.runs)
    sub = "" if count == row.covered else f"of {row.covered} results"
    return table.cell("run" if count == 1 else f"{count} runs", href=link, sub=sub)


def address(submission: str) -> str:
    """The page of a submission, relative to the board."""
    return f"submission?name={quote(submission, safe='')}"


def task_address(task: str) -> str:
    """The page of a task, relative to the board."""
    return f"task?name={quote(task, safe='')}"


def _sort_by_header() -> None:
    """A click on a header sorts by it, and a second click turns the order round."""
    clicked = st.session_state[_TABLE].sort
    if clicked:
        st.query_params["sort"] = f"-{clicked}" if st.query_params.get("sort", "mean") == clicked else clicked
