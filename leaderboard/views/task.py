"""One task: what its data are, every submission's result on it, and at which depth the best layers lie."""

import statistics
from typing import Any

import streamlit as st

from leaderboard import charts, table, text
from leaderboard.ranking import Board, Cell, Row, sort_rows
from leaderboard.record import Record
from leaderboard.standings import catalogue, standings
from leaderboard.store import Store
from leaderboard.views.board import address as submission_address
from leaderboard.views.board import choose_board
from tasks.task import Facts, Task

# How the facts of a task file are called, and in which order they are told; the description and the citation are apart.
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
_COMMERCIAL = {True: "allowed", False: "not allowed", "unknown": "unknown"}


def show(store: Store, submission_page: Any) -> None:
    """Draw the page of the address's ``name``; ``track``, ``group`` and ``protocol`` choose whose results are shown."""
    known = {task.name: task for task in catalogue()}
    boards = standings(store.results())
    names = list(dict.fromkeys([*known, *sorted(column.task for board in boards for column in board.columns)]))
    name = st.query_params.get("name")
    if name not in names:
        _pick(name, names)
        return
    st.title(text.markdown(name), anchor=False)
    found = [board for board in boards if any(_cell(board, row, name).result for row in board.rows)]
    _facts(known.get(name))
    st.subheader("Results", anchor=False)
    if not found:
        st.info(text.markdown(f"Nobody has run this task yet: beans submit SUBMISSION.toml --tasks {name} does."))
        return
    board = choose_board(found, st.columns([1, 1, 1.4], vertical_alignment="bottom"))
    _results(board, name, store, submission_page)


def _pick(asked: str | None, names: list[str]) -> None:
    st.title("Task", anchor=False)
    if asked is not None:
        st.warning(text.markdown(f"There is no task called “{asked[:200]}” on this board."))
    chosen = st.selectbox("Choose one", names, index=None, placeholder="Name of a task")
    if chosen is not None:
        st.query_params["name"] = chosen
        st.rerun()


def _facts(task: Task | None) -> None:
    if task is None:
        st.caption("A submitter's own task: its file is with whoever ran it, and only results are known here.")
        return
    facts = task.facts
    if facts.description:
        st.caption(text.markdown(facts.description))
    labels = task.labels or ()
    shape = [f"{task.kind}, {text.METRICS[task.metric]}", f"{text.GROUPS[task.group]} tasks"]
    if task.window_width is not None and task.window_shift is not None:
        shape.append(f"windows of {task.window_width:g} s every {task.window_shift:g} s")
    if task.max_duration is not None:
        shape.append(f"the first {task.max_duration:g} s of a clip")
    told: dict[str, object] = {"kind": "; ".join(shape)}
    if labels:
        told["classes"] = f"{len(labels)}: {', '.join(labels[:20])}{', …' if len(labels) > 20 else ''}"
    if task.published.items:
        told["items"] = ", ".join(f"{count:,} {split}" for split, count in task.published.items.items())
    if facts.native_rate:
        told["native rate"] = f"{facts.native_rate / 1000:g} kHz"
    st.html(text.facts({**told, **_told(facts)}))
    if facts.citation:
        with st.expander("Citation"):
            st.code(facts.citation.strip(), language="bibtex")


def _told(facts: Facts) -> dict[str, object]:
    told: dict[str, object] = {
        shown: list(value) if isinstance(value := getattr(facts, key), tuple) else " ".join(value.split())
        for key, shown in _FACTS.items()
        if getattr(facts, key)
    }
    if facts.commercial_use is not None:
        told["commercial use"] = _COMMERCIAL[facts.commercial_use]
    return told


def _cell(board: Board, row: Row, task: str) -> Cell:
    index = next((index for index, column in enumerate(board.columns) if column.task == task), None)
    return Cell(None) if index is None else row.cells[index]


def _results(board: Board, name: str, store: Store, submission_page: Any) -> None:
    headers = [
        table.Header("Submission", kind="name"),
        table.Header("Test", kind="score", sub="± half of the 95 % interval"),
        table.Header("Validation", kind="number"),
        table.Header("Best layer", kind="number", sub="chosen on validation"),
        table.Header("Depth", kind="number", title="0 is the input of the first block, 1 the last layer"),
    ]
    drawn, depths = [], []
    for row in sort_rows(board, f"task:{name}"):
        cell = _cell(board, row, name)
        result = cell.result
        notes = "" if row.limit is None else f"limited to {row.limit}"
        head = table.cell(row.submission, key=row.submission, href=submission_address(row.submission), sub=notes)
        record = store.record(result.record_id) if result is not None else None
        if result is None or record is None:
            blank = [table.cell("–", title=cell.reason, style="empty")] * 3
            drawn.append(table.row([head, table.empty_cell(cell.reason), *blank], key=row.submission))
            continue
        last, depth = _depth(record)
        if row.limit is None and depth is not None:
            depths.append(
                {"submission": row.submission, "depth": depth, "score": result.test, "layer": result.best_layer}
            )
        cells = [
            head,
            {**table.score_cell(result, overlap=cell.overlap), "sub": "", "style": "strong"},
            table.cell(text.score(record.valid)),
            table.cell(f"{result.best_layer} of 0 to {last}", sub=result.best_layer_name),
            table.cell("–", title="it has a single layer", style="empty")
            if depth is None
            else table.cell(f"{depth:.2f}"),
        ]
        drawn.append(table.row(cells, key=row.submission, style="limited" if notes else ""))
    opened = table.show("task", headers, drawn, label="Results")
    if opened:
        st.switch_page(submission_page, query_params={"name": opened})
    if any(_cell(board, row, name).overlap for row in board.rows):
        st.caption(text.OVERLAP_LEGEND)
    _depths(depths)


def _depth(record: Record) -> tuple[int, float | None]:
    """The index of the last layer, and where between the first and the last the best one lies."""
    last = max((layer.index for layer in record.layers), default=0)
    return last, record.best_layer / last if last else None


def _depths(depths: list[dict[str, Any]]) -> None:
    if not depths:
        return
    st.subheader("Best layers", anchor=False)
    with st.container(border=True):
        st.altair_chart(charts.depths(depths), width="stretch")
    middle = statistics.median(point["depth"] for point in depths)
    count = "1 submission" if len(depths) == 1 else f"{len(depths)} submissions"
    st.caption(f"Test score over the depth of the layer that validation chose. Median depth of {count}: {middle:.2f}.")
