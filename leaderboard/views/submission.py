"""One submission: what it is, all its scores, and behind each score the curves, the provenance and the command."""

from datetime import datetime

import streamlit as st

from leaderboard import charts, reproduce, table, text
from leaderboard.ranking import Board, Result, current, disclosures
from leaderboard.record import Record
from leaderboard.standings import catalogue, standings
from leaderboard.store import Store

# By record id, what its submission heard of its task.
Overlaps = dict[str, tuple[str, ...]]

_EDGES = {
    "lr-at-lower-edge": "The best learning rate lies at the lower edge of the range; a lower one may be better.",
    "lr-at-upper-edge": "The best learning rate lies at the upper edge of the range; a higher one may be better.",
}


def show(store: Store, *, tracking_uri: str, mlflow: str | None) -> None:
    """Draw the page of the address's ``name``; ``record`` chooses whose curves are shown."""
    everything = store.results()
    names = sorted({result.submission for result in everything}, key=str.casefold)
    name = st.query_params.get("name")
    if name not in names:
        _pick(name, names)
        return
    results = sorted(
        current(result for result in everything if result.submission == name),
        key=lambda result: (result.limit is not None, result.protocol, result.track, result.group, result.task),
    )
    records = {result.record_id: found for result in results if (found := store.record(result.record_id))}
    results = [result for result in results if result.record_id in records]
    newest = max(results, key=lambda result: (result.confirmed or result.created, result.record_id))
    overlaps = disclosures(everything, catalogue())
    _head(name, records[newest.record_id], standings(everything), results, overlaps)
    chosen = _scores(results, records, overlaps, tracking_uri, mlflow)
    _details(chosen, records[chosen.record_id], text.run_link(chosen.run, local_uri=tracking_uri, local_server=mlflow))


def _pick(asked: str | None, names: list[str]) -> None:
    st.title("Submission", anchor=False)
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
    standing = [
        (board, row) for board in boards for row in board.rows if row.submission == name and row.rank is not None
    ]
    cards = st.columns(4)
    if standing:
        board, row = standing[0]
        of = sum(other.rank is not None for other in board.rows)
        where = f"{text.GROUPS[board.group]} tasks, {text.TRACKS.get(board.track, board.track)}"
        cards[0].metric("Rank", f"{row.rank} of {of}", border=True, help=text.markdown(f"{where}, {board.protocol}"))
        cards[1].metric(text.markdown(f"Mean, {where}"), text.score(row.mean or 0), border=True)
    else:
        cards[0].metric("Rank", "–", border=True, help="No board has results of this submission on all its tasks.")
        cards[1].metric("Mean", "–", border=True)
    parameters, stated = record.submission.parameters, about.get("parameters")
    by_hand = "stated by the submitter, not counted" if stated is not None and stated == parameters else None
    cards[2].metric("Parameters", text.parameters(parameters), border=True, help=by_hand)
    cost = record.efficiency
    memory = "–" if cost.vram_bytes is None else text.memory(cost.vram_bytes)
    cards[3].metric(
        "VRAM, one 10-s clip",
        memory,
        border=True,
        help=text.markdown(cost.reason or f"peak allocated on {cost.device}"),
    )
    apart = ("description", "pretraining", "parameters")
    told = {key: value for key, value in about.items() if key not in apart and value not in (None, "", [])}
    reasons = dict.fromkeys(reason for result in results for reason in overlaps.get(result.record_id, ()))
    facts: dict[str, object] = {
        **{key.replace("_", " "): value for key, value in told.items()},
        "pretraining": "; ".join(text.pretraining(about)),
        **({"overlap with tasks": "; ".join(reasons)} if reasons else {}),
        "loader": record.submission.loader,
        **({"remote code": text.REMOTE_CODE} if any(result.remote_code for result in results) else {}),
        "sample rate": f"{record.submission.sample_rate / 1000:g} kHz",
        "weights sha256": record.submission.weights_sha256,
    }
    if cost.vram_bytes is None:
        facts["VRAM"] = f"not measured: {cost.reason or 'no reason recorded'}"
    st.html(text.facts(facts))


def _scores(
    results: list[Result], records: dict[str, Record], overlaps: Overlaps, tracking_uri: str, mlflow: str | None
) -> Result:
    """The table of all results; the chosen one is in the address."""

    def link_of(result: Result) -> str | None:
        return text.run_link(result.run, local_uri=tracking_uri, local_server=mlflow)

    st.subheader("Scores", anchor=False)
    asked = st.query_params.get("record")
    chosen = next((result for result in results if result.record_id == asked), results[0])
    protocols = len({result.protocol for result in results}) > 1
    headers = [
        table.Header("Task", kind="name"),
        table.Header("Track"),
        table.Header("Group"),
        *([table.Header("Protocol")] if protocols else []),
        table.Header("Test", kind="score", sub="± half of the 95 % interval"),
        table.Header("Validation", kind="number"),
        table.Header("Best layer", kind="number"),
        table.Header("Learning rate", kind="number"),
        table.Header("MLflow"),
    ]
    rows = []
    for result in results:
        record = records[result.record_id]
        link = link_of(result)
        note = "" if result.limit is None else f"limited to {result.limit}"
        cells = [
            table.cell(result.task, sub=note or text.METRICS[result.metric]),
            table.cell(text.TRACKS.get(result.track, result.track)),
            table.cell(text.GROUPS[result.group]),
            *([table.cell(result.protocol)] if protocols else []),
            {**table.score_cell(result, overlap=overlaps.get(result.record_id, ())), "sub": "", "style": "strong"},
            table.cell(text.score(record.valid)),
            table.cell(f"{result.best_layer}", sub=result.best_layer_name),
            table.cell(text.rate(record.lr), sub="at the edge" if set(record.flags) & set(_EDGES) else ""),
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
    legend = [text.OVERLAP_LEGEND] if any(result.record_id in overlaps for result in results) else []
    st.caption(text.markdown(" ".join(["A click on a row shows its curves below.", *legend, *unsent])))
    return chosen


def _why_no_link(result: Result) -> str:
    if result.run is None:
        return "Results without a run were not sent to MLflow yet; beans records push does so."
    return "Runs in a local MLflow are linked when the board is started with beans leaderboard serve --mlflow."


def _details(result: Result, record: Record, link: str | None) -> None:
    track = text.TRACKS.get(result.track, result.track)
    st.subheader(text.markdown(f"{result.task} · {track}"), anchor=False)
    for flag in record.flags:
        st.warning(_EDGES.get(flag) or text.markdown(flag), icon=":material/warning:")
    layers, rates = st.columns([3, 2], gap="medium")
    with layers, st.container(border=True):
        st.markdown("**Layer curve**")
        st.altair_chart(charts.layer_curve(record), width="stretch")
        st.caption("Chosen on validation; the test curve is a diagnostic and never used to choose.")
    with rates, st.container(border=True):
        st.markdown("**Learning rate**")
        st.altair_chart(charts.rate_curve(record), width="stretch")
        st.caption(f"{len(record.trials)} rates, every one trained on all layers at once.")
    _reproduce(record)
    _provenance(record, link)


def _reproduce(record: Record) -> None:
    st.subheader("Reproduce", anchor=False)
    commit = record.environment.git_commit
    st.code((f"git checkout {commit}\n" if commit else "") + reproduce.command(record), language="bash")
    missing = reproduce.unreachable(record)
    if missing:
        st.caption(
            text.markdown(f"No option of the command sets {', '.join(missing)}; change the protocol in the code.")
        )
    if record.task.group == "own":
        st.caption(text.markdown(f"{record.task.name}.toml is the submitter's own task file."))
    with st.expander(text.markdown(reproduce.file_name(record))):
        st.code(reproduce.submission_file(record), language="toml")


def _provenance(record: Record, link: str | None) -> None:
    st.subheader("Provenance", anchor=False)
    where, task = record.environment, record.task
    dirty = {True: " with uncommitted changes", False: "", None: " (state unknown)"}[where.git_dirty]
    left, right = st.columns(2, gap="large")
    left.html(
        text.facts(
            {
                "record": record.id,
                "measured": _moment(record.created),
                "protocol": record.protocol,
                "code": f"{where.git_commit}{dirty}" if where.git_commit else "not in a git checkout",
                "device": f"{where.device}, {where.precision}, {where.threads} threads",
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
                **{key.replace("_", " "): text.score(value) for key, value in record.secondary.items()},
                **{f"audio: {key}": value for key, value in record.audio.items()},
                "seconds": ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in record.seconds.items()),
            }
        )
    )


def _moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M %Z").strip()
