"""The board: one protocol, track and task group, ranked."""

from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import streamlit as st

from leaderboard import table, text
from leaderboard.export import to_csv
from leaderboard.ranking import Board, Row, sort_rows
from leaderboard.standings import standings, with_certainty
from leaderboard.store import Store

# How few and how many submissions can be compared at once.
MOST = (2, 5)
_TABLE = "board"
_EMPTY = """
The board is empty. One command measures a model and puts it here:

    beans submit submissions/statistics.toml --tasks mini-calls,mini-soundscape

Results that are already in the records directory come back with `beans leaderboard rebuild`.
"""


def show(store: Store, records: Path, submission_page: Any, compare_page: Any) -> None:
    """Draw the page. What is chosen is in the address: ``track``, ``group``, ``protocol`` and ``sort``."""
    st.title("Frozen audio encoders on animal sounds", anchor=False)
    st.caption("Test score of a probe on each encoder's best layer; layer and learning rate are chosen on validation.")
    found = standings(store.results())
    if not found:
        st.info(_EMPTY)
        return
    board = with_certainty(_choose(found), store, records)
    _summary(board)
    opened = _table(board)
    if opened:
        st.switch_page(submission_page, query_params={"name": opened})
    _footnotes(board)
    _tasks(board)
    _compare(board, compare_page)


def _choose(found: list[Board]) -> Board:
    """Track, then the groups of that track, then the protocols of both: only what exists can be chosen."""
    *areas, sort_area = st.columns([1, 1, 1.4, 1.4], vertical_alignment="bottom")
    board = choose_board(found, areas)
    with sort_area:
        names = _sort_keys(board)
        asked = st.query_params.get("sort")
        _select("Sort by", "sort", [key for key in names if not key.startswith("-") or key == asked], names)
    return board


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


def _sort_keys(board: Board) -> dict[str, str]:
    """Every order the board can have, by its spelling in the address."""
    plain = {
        "mean": "Mean score",
        "submission": "Name",
        **{f"task:{column.task}": column.task for column in board.columns},
        "borda": "Borda count",
        "parameters": "Parameters",
        "vram": "VRAM",
    }
    return {**plain, **{f"-{key}": f"{name}, reversed" for key, name in plain.items()}}


def _sort_by_header() -> None:
    """A click on a header sorts by it, and a second click turns the order round."""
    clicked = st.session_state[_TABLE].sort
    if clicked:
        st.query_params["sort"] = f"-{clicked}" if st.query_params.get("sort", "mean") == clicked else clicked


def _summary(board: Board) -> None:
    ranked = sum(row.rank is not None for row in board.rows)
    everybody = len({row.submission for row in board.rows})
    tasks = "1 task" if len(board.columns) == 1 else f"{len(board.columns)} tasks"
    track = f"{text.TRACKS.get(board.track, board.track)}: {text.TRACK_HELP.get(board.track, 'a further head')}"
    facts = [f"{ranked} ranked of {everybody}", tasks, track, "score ± half of the 95 % interval"]
    left, right = st.columns([4, 1], vertical_alignment="center")
    left.caption(text.markdown(" · ".join(facts)))
    right.download_button(
        "Download CSV",
        to_csv(board),
        file_name=f"leaderboard-{board.track}-{board.group}.csv",
        mime="text/csv",
        icon=":material/download:",
        width="stretch",
    )


def _table(board: Board) -> str | None:
    sort = st.query_params.get("sort", "mean")
    sort = sort if sort in _sort_keys(board) else "mean"

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
    ]
    full = [row for row in board.rows if row.limit is None]
    best = [
        max((result.test for row in full if (result := row.cells[index].result)), default=None)
        for index in range(len(board.columns))
    ]
    rows = [_row(row, best) for row in sort_rows(board, sort)]
    return table.show(_TABLE, headers, rows, label="Leaderboard", on_sort=_sort_by_header)


def _row(row: Row, best: list[float | None]) -> dict[str, Any]:
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


def _compare(board: Board, compare_page: Any) -> None:
    """Choose some submissions and open the page that compares them."""
    names = [row.submission for row in board.rows if row.limit is None]
    if len(names) < MOST[0]:
        return
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    chosen = left.multiselect("Compare", names, max_selections=MOST[1], placeholder="two to five submissions")
    if right.button("Compare", icon=":material/compare_arrows:", width="stretch", disabled=len(chosen) < MOST[0]):
        where = {"track": board.track, "group": board.group, "protocol": board.protocol}
        st.switch_page(compare_page, query_params={**where, "with": chosen})


def _footnotes(board: Board) -> None:
    if any(cell.overlap for row in board.rows for cell in row.cells):
        st.caption(f"{text.OVERLAP_LEGEND} The mark, and the page of the submission, say what is shared.")
    if any(row.remote_code for row in board.rows):
        st.caption(text.markdown(text.REMOTE_CODE_LEGEND))
    notes = text.certainty_notes(board)
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
