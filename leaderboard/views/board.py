"""The board: one protocol, track and task group, ranked; filters choose its tasks and rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import streamlit as st

from leaderboard import table, text
from leaderboard.export import to_csv, to_latex, to_parquet
from leaderboard.filters import FILTERS, Filters, of_taxa, passing, sort_names
from leaderboard.ranking import Board, Row, sort_rows
from leaderboard.record import Tracking
from leaderboard.standings import catalogue, read_standings, with_certainty
from leaderboard.store import Store

# How few and how many submissions can be compared at once.
MOST = (2, 5)
_TABLE = "board"
_EMPTY = """
The board is empty. One command measures a model and puts it here:

    beans submit submissions/statistics.toml --tasks mini-calls,mini-soundscape

Results that are already in the records directory come back with `beans leaderboard rebuild`.
"""


@dataclass(frozen=True, slots=True)
class MLflow:
    """Where runs are shown: this home's own tracking address, and the server that shows it (None: none does)."""

    tracking_uri: str
    server: str | None

    def link(self, runs: Sequence[Tracking]) -> tuple[str | None, str]:
        """The page of one run or of the comparison of several, or None and why."""
        return text.compare_link(runs, local_uri=self.tracking_uri, local_server=self.server)


def show(store: Store, records: Path, mlflow: MLflow, submission_page: Any, compare_page: Any) -> None:
    """Draw the page. What is chosen is in the address: ``track``, ``group``, ``protocol``, ``sort``, the filters (see
    `Filters`), and ``with`` for the submissions to compare."""
    st.title("Frozen audio encoders on animal sounds", anchor=False)
    st.caption("Test score of a probe on each encoder's best layer; layer and learning rate are chosen on validation.")
    found = read_standings(store)
    if not found:
        st.info(_EMPTY)
        return
    with st.container(key="choices"):
        *areas, sort_area, filter_area = st.columns([1, 1, 1.4, 1.4, 1], vertical_alignment="bottom")
    whole = choose_board(found, areas)
    filters = _filters(whole, filter_area)
    ranked = with_certainty(of_taxa(whole, filters.taxa, catalogue()), store, records)
    with sort_area:
        names = sort_names(ranked)
        asked = st.query_params.get("sort")
        _select("Sort by", "sort", [key for key in names if not key.startswith("-") or key == asked], names)
    sort = asked if asked in names else "mean"
    passed = passing(ranked, filters, whole)
    shown = replace(passed, rows=tuple(sort_rows(passed, sort)))
    scope = text.scope(shown, ranked, whole, filters)
    _chosen(scope)
    _summary(shown, ranked, scope)
    if shown.rows:
        opened = _table(shown, sort, mlflow)
        if opened:
            st.switch_page(submission_page, query_params={"name": opened})
    else:
        st.info("No submission passes all of these filters: clear or change one.")
    _footnotes(shown, ranked)
    _tasks(shown)
    _compare(ranked, mlflow, compare_page)


def choose_board(found: list[Board], areas: list[Any]) -> Board:
    """The board of the address's ``track``, ``group`` and ``protocol``; each is chosen in one of three ``areas``."""
    with areas[0]:
        track = _select("Track", "track", [board.track for board in found], text.TRACKS)
    found = [board for board in found if board.track == track]
    with areas[1]:
        group = _select("Tasks", "group", [board.group for board in found], text.GROUPS)
    found = [board for board in found if board.group == group]
    with areas[2]:
        protocol = _select("Protocol", "protocol", [board.protocol for board in found], {})
    return next(board for board in found if board.protocol == protocol)


def _select(label: str, key: str, options: list[str], names: dict[str, str]) -> str:
    """A choice that follows the address and writes itself there; an address that names no option means the first."""
    options = list(dict.fromkeys(options))
    asked = st.query_params.get(key)
    index = options.index(asked) if asked in options else 0
    # Without a key the widget is a new one when the address changes, so the address always wins.
    chosen = st.selectbox(label, options, index=index, format_func=lambda option: names.get(option, option))
    if chosen != options[index]:
        st.query_params[key] = chosen
        st.rerun()
    return chosen


def _filters(board: Board, area: Any) -> Filters:
    """What the address asks for, and the controls that change it."""
    offered = Filters.offered(board, catalogue())
    query = {name: st.query_params.get_all(name) for name in FILTERS}
    filters, unknown = Filters.read(query, offered)
    count = len(filters.chosen())
    with area.popover(f"Filters ({count})" if count else "Filters", icon=":material/filter_list:", width="stretch"):
        for name in FILTERS:
            _several(text.FILTERS[name], name, getattr(offered, name), getattr(filters, name))
    if unknown:
        listed = text.filters({name: [value[:200] for value in values] for name, values in unknown.items()})
        st.warning(text.markdown(f"Left out, since nothing on this board has it: {listed}."))
    return filters


def _several(label: str, key: str, options: Sequence[str], chosen: Sequence[str]) -> None:
    """A choice of any number that follows the address and writes itself there."""
    # Without a key the widget is a new one when the address changes, so the address always wins.
    picked = st.multiselect(
        label,
        options,
        default=chosen,
        format_func=partial(text.filter_value, key),
        placeholder="all",
        disabled=not options,
    )
    if picked != list(chosen):
        st.query_params[key] = picked
        st.rerun()


def _chosen(scope: list[str]) -> None:
    """Which filters are in use and what they leave, with a way back."""
    if not scope:
        return
    left, right = st.columns([4, 1], vertical_alignment="center")
    left.markdown(text.markdown(" ".join(scope)))
    if right.button("Clear filters", icon=":material/filter_list_off:", width="stretch"):
        for name in FILTERS:
            st.query_params[name] = []
        st.rerun()


def _sort_by_header() -> None:
    """A click on a header sorts by it, and a second click turns the order round."""
    clicked = st.session_state[_TABLE].sort
    if clicked:
        st.query_params["sort"] = f"-{clicked}" if st.query_params.get("sort", "mean") == clicked else clicked


def _summary(board: Board, ranked: Board, scope: list[str]) -> None:
    """What the board holds, and the files with exactly what is shown."""
    among = sum(row.rank is not None for row in ranked.rows)
    everybody = len({row.submission for row in ranked.rows})
    tasks = "1 task" if len(board.columns) == 1 else f"{len(board.columns)} tasks"
    track = f"{text.TRACKS.get(board.track, board.track)}: {text.TRACK_HELP.get(board.track, 'a further head')}"
    facts = [f"{among} ranked of {everybody}", tasks, track, "score ± half of the 95 % interval"]
    left, right = st.columns([3, 2], vertical_alignment="center")
    left.caption(text.markdown(" · ".join(facts)))
    name = f"leaderboard-{board.track}-{board.group}"
    with right.container(horizontal=True, horizontal_alignment="right"):
        # Made when asked for: the files of a large board take longer than the page. A click changes nothing here, and
        # would otherwise take away what the next one asks for.
        st.download_button(
            "CSV",
            partial(to_csv, board),
            file_name=f"{name}.csv",
            mime="text/csv",
            icon=":material/download:",
            help="Download what is shown, every number in full",
            on_click="ignore",
        )
        st.download_button(
            "Parquet",
            partial(to_parquet, board),
            file_name=f"{name}.parquet",
            mime="application/vnd.apache.parquet",
            icon=":material/download:",
            help="The same with types, for pandas, polars, DuckDB or R",
            on_click="ignore",
        )
        if st.button("LaTeX", icon=":material/table:", help="What is shown as a table to paste into a paper"):
            _latex(board, scope)


@st.dialog("LaTeX", width="large")
def _latex(board: Board, scope: list[str]) -> None:
    st.caption("Needs the package booktabs. The button at the top right of the text copies it.")
    st.code(to_latex(board, scope), language=None, height=420)


def _table(board: Board, sort: str, mlflow: MLflow) -> str | None:
    def order(key: str, *, falling: bool) -> Literal["", "ascending", "descending"]:
        if sort.removeprefix("-") != key:
            return ""
        return "descending" if falling != sort.startswith("-") else "ascending"

    headers = [
        table.Header("#", kind="rank", title=f"equal means share a rank; {text.RANK_LEGEND} {text.TIE_LEGEND}"),
        table.Header("Submission", kind="name", sort="submission", order=order("submission", falling=False)),
        table.Header("Mean", kind="number", sort="mean", order=order("mean", falling=True)),
        *(
            table.Header(
                column.task,
                sub=text.METRICS[column.metric],
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
            title=f"{text.BORDA_LEGEND} Mean rank: mean over tasks of its rank there.",
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
            **({"mark": text.REMOTE_CODE_MARK, "note": text.REMOTE_CODE} if row.remote_code else {}),
        ),
        table.cell("–", title="a mean needs every task of the board", style="empty")
        if row.mean is None
        else _mean(row, row.mean),
        *scores,
        _borda(row, why),
        table.cell(text.parameters(row.parameters), title=f"{row.parameters:,} parameters"),
        table.cell("–", title=row.vram_reason, style="empty")
        if row.vram_bytes is None
        else table.cell(text.memory(row.vram_bytes), sub=row.device, title=f"{row.vram_bytes:,} bytes on {row.device}"),
        _runs(row, mlflow),
    ]
    style = "limited" if row.limit is not None else "incomplete" if row.rank is None else ""
    return table.row(cells, key=row.submission, style=style)


def _rank(row: Row, why: str) -> dict[str, Any]:
    if row.rank is None:
        return table.cell("–", title=why)
    first = "first" if row.rank == 1 else ""
    if row.standing is None:
        return table.cell(str(row.rank), spread=text.rank_interval(row), title=row.standing_reason, style=first)
    # The bar at the left joins the rows of a group.
    bar = "odd" if row.standing.group % 2 else "even"
    group = f"group {text.tie_group(row.standing.group)}"
    low, high = row.standing.rank_low, row.standing.rank_high
    return table.cell(
        str(row.rank),
        spread=text.rank_interval(row),
        sub=group,
        title=f"rank {row.rank}, {low} to {high} in 95 % of the resamples; {group}: not told apart from its first",
        style=f"{first} {bar}",
    )


def _mean(row: Row, mean: float) -> dict[str, Any]:
    found = row.standing
    if found is None:
        return table.cell(text.score(mean), title=f"{mean:.4f}", style="strong")
    return table.cell(
        text.score(mean),
        sub=text.half_interval(found.low, found.high),
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


def _tasks(board: Board) -> None:
    """Links to what the tasks are."""
    links = [f"[{text.markdown(column.task)}]({task_address(column.task)})" for column in board.columns]
    st.caption(f"About the tasks: {', '.join(links)}.")


def _compare(board: Board, mlflow: MLflow, compare_page: Any) -> None:
    """Choose some submissions, and open the page that compares them, here or in MLflow."""
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
        st.caption(text.markdown(f"Without a run in MLflow, and left out there: {absent}. {text.NO_RUN}"))
    if sent and link is None:
        st.caption(text.markdown(f"Not in MLflow: {why}"))


def _footnotes(board: Board, ranked: Board) -> None:
    if any(cell.overlap for row in board.rows for cell in row.cells):
        st.caption(f"{text.OVERLAP_LEGEND} The mark, and the page of the submission, say what is shared.")
    if any(row.remote_code for row in board.rows):
        st.caption(text.markdown(text.REMOTE_CODE_LEGEND))
    notes = text.certainty_notes(ranked)
    if notes:
        st.caption(text.markdown(" ".join(notes)))
    notes = []
    reasons = sorted({row.vram_reason for row in board.rows if row.vram_bytes is None})
    if reasons:
        notes.append(f"VRAM is empty where it could not be measured: {'; '.join(reasons)}.")
    if any(row.limit is not None for row in board.rows):
        notes.append("Limited rows saw only part of the data; they are never ranked.")
    if any(row.rank is None and row.limit is None for row in board.rows):
        notes.append("Incomplete rows miss a task of this board, so they have no mean and no rank.")
    if notes:
        st.caption(text.markdown(" ".join(notes)))
