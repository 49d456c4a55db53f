"""The board's page: the ranking of one protocol, track and task group. Filters choose its tasks and rows."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from leaderboard.database.standings import catalogue, read_standings, with_certainty
from leaderboard.database.store import Store
from leaderboard.ranking import formats
from leaderboard.ranking.boards import Board
from leaderboard.ranking.columns import gap_notes, sort_names, sort_rows
from leaderboard.ranking.filters import FILTERS, Filters, of_taxa, passing
from leaderboard.web import text
from leaderboard.web.export import to_csv, to_latex, to_parquet
from leaderboard.web.views import board_table
from leaderboard.web.views.board_table import MLflow, task_address
from leaderboard.web.views.controls import choose_board, select, several

# Fewest and most submissions of one comparison.
MOST = (2, 5)
_EMPTY = """
The board is empty. One command measures a model and puts it here:

    beans submit submissions/statistics.toml --tasks mini-calls,mini-soundscape

Results that are already in the records directory come back with `beans leaderboard rebuild`.
"""


def show(store: Store, records: Path, mlflow: MLflow, compare_page: Any) -> None:
    """Draw the page. The address holds all choices: ``track``, ``group``, ``protocol``, ``sort``, the filters (see
    `Filters`), and ``with`` for the submissions to compare."""
    st.title("Frozen audio encoders on animal sounds", anchor=False)
    st.caption("Test score of a probe on each encoder's best layer; layer and learning rate are chosen on validation.")
    boards = read_standings(store)
    if not boards:
        st.info(_EMPTY)
        return
    with st.container(key="choices"):
        *areas, sort_area, filter_area = st.columns([1, 1, 1.4, 1.4, 1], vertical_alignment="bottom")
    whole = choose_board(boards, areas)
    filters = _filters(whole, filter_area)
    ranked = with_certainty(of_taxa(whole, filters.taxa, catalogue()), store, records)
    with sort_area:
        names = sort_names(ranked)
        asked = st.query_params.get("sort")
        select("Sort by", "sort", [key for key in names if not key.startswith("-") or key == asked], names)
    sort = asked if asked in names else "mean"
    passed = passing(ranked, filters, whole)
    shown = replace(passed, rows=tuple(sort_rows(passed, sort)))
    scope = text.scope(shown, ranked, whole, filters)
    _chosen(scope)
    _summary(shown, ranked, scope, store)
    if shown.rows:
        board_table.draw(shown, sort, mlflow)
    else:
        st.info("No submission passes all of these filters: clear or change one.")
    _footnotes(shown, ranked)
    _tasks(shown)
    _compare(ranked, mlflow, compare_page)


def _filters(board: Board, area: Any) -> Filters:
    """Read the filters from the address, and draw the controls that change them."""
    offered = Filters.offered(board, catalogue())
    query = {name: st.query_params.get_all(name) for name in FILTERS}
    filters, unknown = Filters.read(query, offered)
    count = len(filters.chosen())
    with area.popover(f"Filters ({count})" if count else "Filters", icon=":material/filter_list:", width="stretch"):
        for name in FILTERS:
            several(
                text.FILTERS[name],
                name,
                getattr(offered, name),
                getattr(filters, name),
                beside=FILTERS,
                format_func=partial(text.filter_value, name),
                placeholder="all",
            )
    if unknown:
        listed = text.filters({name: [value[:200] for value in values] for name, values in unknown.items()})
        st.warning(text.markdown(f"Ignored, since no row or task of this board has it: {listed}."))
    return filters


def _chosen(scope: list[str]) -> None:
    """Show the filters in use and the number of rows that pass, with a button that clears the filters."""
    if not scope:
        return
    left, right = st.columns([4, 1], vertical_alignment="center")
    left.markdown(text.markdown(" ".join(scope)))
    if right.button("Clear filters", icon=":material/filter_list_off:", width="stretch"):
        for name in FILTERS:
            st.query_params[name] = []
        st.rerun()


def _summary(board: Board, ranked: Board, scope: list[str], store: Store) -> None:
    """Show what the board holds, and buttons for files of the table as shown."""
    among = sum(row.rank is not None for row in ranked.rows)
    everybody = len({row.submission for row in ranked.rows})
    tasks = "1 task" if len(board.columns) == 1 else f"{len(board.columns)} tasks"
    facts = [f"{among} ranked of {everybody}", tasks, _track(ranked, store), "score ± half of the 95 % interval"]
    left, right = st.columns([3, 2], vertical_alignment="center")
    left.caption(text.markdown(" · ".join(facts)))
    name = f"leaderboard-{board.track}-{board.group}"
    with right.container(horizontal=True, horizontal_alignment="right"):
        # Files are made on a click, since those of a large board take longer than the page. on_click="ignore" keeps the
        # page as it is: a new run of the page would discard the file that the next click asks for.
        st.download_button(
            "CSV",
            partial(to_csv, board),
            file_name=f"{name}.csv",
            mime="text/csv",
            icon=":material/download:",
            help="Download the table as shown, every number in full",
            on_click="ignore",
        )
        st.download_button(
            "Parquet",
            partial(to_parquet, board),
            file_name=f"{name}.parquet",
            mime="application/vnd.apache.parquet",
            icon=":material/download:",
            help="The same table with types, for pandas, polars, DuckDB or R",
            on_click="ignore",
        )
        if st.button("LaTeX", icon=":material/table:", help="The table as shown, to paste into a paper"):
            _latex(board, scope)


def _track(board: Board, store: Store) -> str:
    """The track, and what its head does according to the oldest record of the board."""
    results = (cell.result for row in board.rows for cell in row.cells if cell.result)
    oldest = min(results, key=lambda result: (result.created, result.record_id), default=None)
    record = store.record(oldest.record_id) if oldest else None
    return f"{board.track}: {record.head.help}" if record and record.head else board.track


@st.dialog("LaTeX", width="large")
def _latex(board: Board, scope: list[str]) -> None:
    st.caption("The table needs the package booktabs. The button at the top right of the text copies it.")
    st.code(to_latex(board, scope), language=None, height=420)


def _tasks(board: Board) -> None:
    """Link to the pages of the tasks."""
    links = [f"[{text.markdown(column.task)}]({task_address(column.task)})" for column in board.columns]
    st.caption(f"About the tasks: {', '.join(links)}.")


def _compare(board: Board, mlflow: MLflow, compare_page: Any) -> None:
    """Choose submissions, and link to the pages that compare them, here and in MLflow."""
    rows = {row.submission: row for row in board.rows if row.limit is None}
    if len(rows) < MOST[0]:
        return
    left, middle, right = st.columns([4, 1, 1.4], vertical_alignment="bottom")
    chosen = left.multiselect(
        "Compare",
        list(rows),
        key="with",
        bind="query-params",
        max_selections=MOST[1],
        placeholder="two to five submissions",
    )
    few = len(chosen) < MOST[0]
    if not few:
        where: dict[str, str | list[str]] = {"track": board.track, "group": board.group, "protocol": board.protocol}
        middle.page_link(
            compare_page,
            label="Compare side by side",
            icon=":material/compare_arrows:",
            query_params={**where, "with": chosen},
        )
    sent = [name for name in chosen if rows[name].runs]
    link, why = mlflow.link([run for name in sent for run in rows[name].runs])
    there = link if link and len(sent) >= MOST[0] else ""
    right.link_button("Compare in MLflow", there, icon=":material/science:", width="stretch", disabled=not there)
    if few:
        return
    if len(sent) < len(chosen):
        absent = ", ".join(name for name in chosen if name not in sent)
        st.caption(text.markdown(f"Left out in MLflow, since they have no run: {absent}. {text.NO_RUN}"))
    if sent and link is None:
        st.caption(text.markdown(f"Not in MLflow: {why}"))


def _footnotes(board: Board, ranked: Board) -> None:
    if any(cell.overlap for row in board.rows for cell in row.cells):
        st.caption(f"{formats.OVERLAP_LEGEND} Hover over the mark or open the submission to see what is shared.")
    cells = [cell for row in board.rows for cell in row.cells]
    legends = [*formats.layer_legends(cells), *formats.flag_legends(cells)]
    if legends:
        st.caption(text.markdown(" ".join(legends)))
    if any(row.remote_code for row in board.rows):
        st.caption(text.markdown(formats.REMOTE_CODE_LEGEND))
    notes = formats.certainty_notes(ranked)
    if notes:
        st.caption(text.markdown(" ".join(notes)))
    notes = gap_notes(board.rows)
    if any(row.limit is not None for row in board.rows):
        notes.append("Limited rows used only a part of the data; they are never ranked.")
    if any(row.rank is None and row.limit is None for row in board.rows):
        notes.append("Incomplete rows lack a task of this board, so they have no mean and no rank.")
    if notes:
        st.caption(text.markdown(" ".join(notes)))
