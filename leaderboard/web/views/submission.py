"""One submission: its facts, all its scores, and for each score the curves, the provenance and the command."""

from pathlib import Path

import streamlit as st

from leaderboard.database.standings import catalogue, read_standings
from leaderboard.database.store import Store
from leaderboard.ranking import formats
from leaderboard.ranking.boards import NOT_RUN, Board, Cell, current, disclosures
from leaderboard.ranking.columns import BEST_LAYER, MEAN, PARAMETERS, RANK, RUNS, SCORE, VALID, VRAM
from leaderboard.records.flags import EDGES
from leaderboard.records.record import Record
from leaderboard.records.result import Result
from leaderboard.web import charts, table, text
from leaderboard.web.views import efficiency
from leaderboard.web.views import result as result_page

# By record id, how the submission's pretraining overlaps with the task.
Overlaps = dict[str, tuple[str, ...]]

# Small charts side by side; a phone shows them below each other.
_ABREAST = 3


def show(store: Store, records_directory: Path, *, tracking_uri: str, mlflow: str | None) -> None:
    """Draw the page of the address's ``name``; ``record`` chooses the result whose details are shown."""
    everything = store.results()
    names = sorted({result.submission for result in everything}, key=str.casefold)
    name = st.query_params.get("name")
    if name not in names:
        _pick(name, names)
        return
    own = [result for result in everything if result.submission == name]
    results = sorted(
        current(own),
        key=lambda result: (result.limit is not None, result.protocol, result.track, result.group, result.task),
    )
    records = {result.record_id: record for result in results if (record := store.record(result.record_id))}
    results = [result for result in results if result.record_id in records]
    newest = max(results, key=lambda result: (result.confirmed or result.created, result.record_id))
    overlaps = disclosures(own, catalogue())
    boards = read_standings(store)
    _head(name, records[newest.record_id], boards, results, overlaps)
    chosen = _scores(results, records, overlaps, tracking_uri, mlflow)
    _without(name, boards)
    _outlines(chosen, results, records)
    efficiency.section(store, name)
    link = text.run_link(chosen.run, local_uri=tracking_uri, local_server=mlflow)
    result_page.show(chosen, records[chosen.record_id], records_directory, link)


def _pick(asked: str | None, names: list[str]) -> None:
    st.title("Backbone", anchor=False)
    if asked is not None:
        st.warning(text.markdown(f"There is no submission called “{asked[:200]}” on this board."))
    if not names:
        st.info("The board is empty. `beans submit submissions/statistics.toml` puts the first submission here.")
        return
    chosen = st.selectbox("Choose one", names, index=None, placeholder="Name of a submission")
    if chosen is not None:
        st.query_params["name"] = chosen
        st.rerun()


def _head(name: str, record: Record, boards: list[Board], results: list[Result], overlaps: Overlaps) -> None:
    about = record.submission.about
    st.title(text.markdown(name), anchor=False)
    if isinstance(about.get("description"), str):
        st.caption(text.markdown(str(about["description"])))
    rows = [(board, row) for board in boards for row in board.rows if row.submission == name]
    # Rank and mean are those of the first board that ranks it; parameters and memory are those of its newest weights.
    board, row = next(((board, row) for board, row in rows if row.rank is not None), rows[0])
    newest = next((row for _, row in rows if row.newest is not None and row.newest.record_id == record.id), row)
    with st.container(key="cards"):
        cards = st.columns(4)
    if row.rank is not None:
        of = sum(other.rank is not None for other in board.rows)
        where = f"{formats.GROUPS[board.group]} tasks, {board.track}"
        rank = f"{RANK.shown(row).text} of {of}"
        cards[0].metric(RANK.label, rank, border=True, help=text.markdown(f"{where}, {board.protocol}"))
        cards[1].metric(text.markdown(f"{MEAN.label}, {where}"), MEAN.shown(row).text, border=True)
    else:
        unranked = "No board has results of this submission on all tasks of the board."
        cards[0].metric(RANK.label, "–", border=True, help=unranked)
        cards[1].metric(MEAN.label, "–", border=True)
    parameters, stated = record.submission.parameters, about.get("parameters")
    by_hand = "stated by the submitter, not counted" if stated is not None and stated == parameters else None
    cards[2].metric(PARAMETERS.label, PARAMETERS.shown(newest).text, border=True, help=by_hand)
    memory = VRAM.shown(newest)
    about_memory = memory.title if memory.empty else f"{VRAM.help}; {memory.title}"
    cards[3].metric(f"{VRAM.label}, one 10-s clip", memory.text, border=True, help=text.markdown(about_memory))
    apart = ("description", "pretraining", "parameters")
    listed = {key: value for key, value in about.items() if key not in apart and value not in (None, "", [])}
    reasons = dict.fromkeys(reason for result in results for reason in overlaps.get(result.record_id, ()))
    facts: dict[str, object] = {
        **{key.replace("_", " "): value for key, value in listed.items()},
        "pretraining": "; ".join(text.pretraining(about)),
        **({"overlap with tasks": "; ".join(reasons)} if reasons else {}),
        "loader": record.submission.loader,
        **({"remote code": formats.REMOTE_CODE} if any(result.remote_code for result in results) else {}),
        "sample rate": f"{record.submission.sample_rate / 1000:g} kHz",
        "weights sha256": record.submission.weights_sha256,
    }
    if memory.empty:
        facts[VRAM.label] = f"not measured: {memory.title}"
    st.html(text.facts(facts))


def _scores(
    results: list[Result], records: dict[str, Record], overlaps: Overlaps, tracking_uri: str, mlflow: str | None
) -> Result:
    """Draw the table of all results. Return the result that the address chooses."""

    def link_of(result: Result) -> str | None:
        return text.run_link(result.run, local_uri=tracking_uri, local_server=mlflow)

    st.subheader("Scores", anchor=False)
    asked = st.query_params.get("record")
    chosen = next((result for result in results if result.record_id == asked), results[0])
    protocols = len({result.protocol for result in results}) > 1
    headers = [
        table.ColumnHeader("Task", kind="name"),
        table.ColumnHeader("Track"),
        table.ColumnHeader("Group"),
        *([table.ColumnHeader("Protocol")] if protocols else []),
        table.header(SCORE),
        table.header(VALID),
        table.header(BEST_LAYER),
        table.ColumnHeader("Learning rate", kind="number"),
        table.header(RUNS, title=""),
    ]
    rows, drawn = [], []
    for result in results:
        record = records[result.record_id]
        cell = Cell(result, overlap=overlaps.get(result.record_id, ()))
        drawn.append(cell)
        link = link_of(result)
        note = "" if result.limit is None else f"limited to {result.limit}"
        cells = [
            table.cell(result.task, sub=note or formats.METRICS[result.metric]),
            table.cell(result.track),
            table.cell(formats.GROUPS[result.group]),
            *([table.cell(result.protocol)] if protocols else []),
            table.shown(SCORE.shown(cell), sub="", style="strong"),
            table.shown(VALID.shown(cell)),
            table.shown(BEST_LAYER.shown(cell)),
            table.cell(formats.rate(record.lr), sub="at the edge" if EDGES.keys() & set(record.flags) else ""),
            table.cell("run", href=link) if link else table.cell("–", title=_why_no_link(result), style="empty"),
        ]
        rows.append(
            table.row(cells, key=result.record_id, style="chosen" if result is chosen else "limited" if note else "")
        )
    opened = table.show("scores", headers, rows, label="Scores")
    if opened:
        st.query_params["record"] = opened
        st.rerun()
    unsent = sorted({_why_no_link(result) for result in results if not link_of(result)})
    legend = [formats.OVERLAP_LEGEND] if any(result.record_id in overlaps for result in results) else []
    legend += [*formats.layer_legends(drawn), *formats.flag_legends(drawn)]
    st.caption(text.markdown(" ".join(["A click on a row shows its curves and classes below.", *legend, *unsent])))
    return chosen


def _without(name: str, boards: list[Board]) -> None:
    """List the missing results, with reasons. Tasks that were not run are left out."""
    missing = [
        f"{column.task}, {board.track} ({cell.reason})"
        for board in boards
        for row in board.rows
        if row.submission == name
        for column, cell in zip(board.columns, row.cells, strict=True)
        if cell.result is None and cell.reason != NOT_RUN
    ]
    if missing:
        st.caption(text.markdown(f"No result on the board: {'; '.join(missing)}."))


def _why_no_link(result: Result) -> str:
    if result.run is None:
        return text.NO_RUN
    return text.NO_SERVER


def _outlines(chosen: Result, results: list[Result], records: dict[str, Record]) -> None:
    """Draw the layer curves of all tasks under the rules of the chosen result. A single curve is drawn below anyway."""

    def rules(result: Result) -> tuple[object, ...]:
        return result.protocol, result.track, result.limit

    same = [result for result in results if rules(result) == rules(chosen)]
    if len(same) < 2:
        return
    st.subheader(text.markdown(f"Layer curves, {chosen.track}"), anchor=False)
    last = max((layer.index for result in same for layer in records[result.record_id].layers), default=0)
    for start in range(0, len(same), _ABREAST):
        areas = st.columns(_ABREAST, gap="medium")
        for area, result in zip(areas, same[start : start + _ABREAST], strict=False):
            with area, st.container(border=True):
                best = f"best layer {formats.best_layer(result)} of 0 to {len(records[result.record_id].layers) - 1}"
                st.markdown(f"**{text.markdown(result.task)}** · {best}")
                st.altair_chart(charts.layer_outline(records[result.record_id], last), width="stretch")
    st.caption(
        text.markdown(
            f"{chosen.protocol}. The diamond is the test score of the best layer, chosen on validation."
            f"{charts.SHADED if any(len(result.alike or ()) > 1 for result in same) else ''}"
        )
    )
