"""Score against cost: parameters, memory and speed of several submissions, and their Pareto front."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import streamlit as st

from leaderboard.ranking.boards import Row
from leaderboard.ranking.columns import PARAMETERS, VRAM
from leaderboard.records.record import Efficiency, Record
from leaderboard.web import charts, text
from leaderboard.web.diagnostics import pareto_front

# Length of the clip that `Efficiency.seconds` measures.
CLIP_SECONDS = 10.0


def show(rows: list[Row], records: Mapping[str, Mapping[str, Record]]) -> None:
    """Draw the mean score over each cost, on the tasks that all submissions have.

    Args:
        rows: rows of one board, in the order of the page's submissions.
        records: records of the rows, by submission and task.
    """
    st.subheader("Score and cost", anchor=False)
    shared = [index for index in range(len(rows[0].cells)) if all(row.cells[index].result for row in rows)]
    if not shared:
        st.caption("The submissions have no task in common.")
        return
    names = [row.submission for row in rows]
    means = {row.submission: _mean_over(row, shared) for row in rows}
    measured = {name: cost for name in names if (cost := _measured(records[name].values()))}
    device = _device(names, measured)
    on_device = {name: cost for name, cost in measured.items() if cost.device == device}
    absent = {name: "not measured on a GPU" for name in names if name not in measured}
    absent |= {name: f"measured on {cost.device}" for name, cost in measured.items() if cost.device != device}

    tasks = "1 task" if len(shared) == 1 else f"{len(shared)} tasks"
    st.caption(
        f"Mean score of the {tasks} that all of them have. The dashed line is the Pareto front: no other submission "
        "here costs as little and scores as high."
    )
    left, right = st.columns(2, gap="medium")
    with left, st.container(border=True):
        st.markdown(f"**{VRAM.label}, one 10-s clip**")
        memory = {name: cost.vram_bytes / 2**20 for name, cost in on_device.items() if cost.vram_bytes}
        _chart(memory, means, names, "MiB, peak allocated", absent, device)
    with right, st.container(border=True):
        st.markdown("**Speed, one 10-s clip at a time**")
        speed = {name: CLIP_SECONDS / cost.seconds for name, cost in on_device.items() if cost.seconds}
        _chart(speed, means, names, "seconds of audio per second", absent, device, better="more")
    with st.columns(2, gap="medium")[0], st.container(border=True):
        st.markdown(f"**{PARAMETERS.label}**")
        sizes = {row.submission: row.parameters / 1e6 for row in rows if row.parameters}
        none = {name: "no parameters" for name in names if name not in sizes}
        _chart(sizes, means, names, "parameters in millions", none)


def _mean_over(row: Row, indices: Sequence[int]) -> float:
    results = [row.cells[index].result for index in indices]
    return math.fsum(result.test for result in results if result is not None) / len(results)


def _measured(records: Iterable[Record]) -> Efficiency | None:
    """The newest cost that was measured on a GPU. All records of a submission are of one model."""
    measured = [record for record in records if record.efficiency.vram_bytes is not None]
    newest = max(measured, key=lambda record: (record.created, record.id), default=None)
    return None if newest is None else newest.efficiency


def _device(names: Sequence[str], measured: Mapping[str, Efficiency]) -> str | None:
    """The device of the figures, since figures of two devices cannot be compared: the address's ``device``, or the
    one on which most submissions were measured."""
    counts = Counter(measured[name].device for name in names if name in measured)
    options = [device for device, _ in counts.most_common()]
    if len(options) < 2:
        return options[0] if options else None
    asked = st.query_params.get("device")
    index = options.index(asked) if asked in options else 0
    # Without a key Streamlit makes a new widget when the address changes, so the address always wins.
    chosen = st.selectbox("Device", options, index=index, help="Costs of different devices cannot be compared.")
    if chosen != options[index]:
        st.query_params["device"] = chosen
        st.rerun()
    return chosen


def _chart(
    costs: Mapping[str, float],
    means: Mapping[str, float],
    names: Sequence[str],
    title: str,
    absent: Mapping[str, str],
    device: str | None = None,
    better: Literal["less", "more"] = "less",
) -> None:
    """Draw one chart, name its Pareto front, and give the reason for each of ``names`` that is not on the chart."""
    notes = []
    if costs:
        points = [(name, cost, means[name]) for name, cost in costs.items()]
        sign = 1 if better == "less" else -1
        front = pareto_front({name: (sign * cost, mean) for name, cost, mean in points})
        st.altair_chart(charts.cost_chart(points, names, title, front, better), width="stretch")
        if len(costs) > 1:
            notes.append(f"On the front: {', '.join(sorted(front, key=names.index))}.")
    reasons: dict[str, list[str]] = {}
    for name in names:
        if name not in costs:
            reasons.setdefault(absent.get(name, "not measured"), []).append(name)
    notes += [f"Left out ({reason}): {', '.join(left_out)}." for reason, left_out in reasons.items()]
    if costs and device is not None:
        notes.append(f"Measured on {device}.")
    st.caption(text.markdown(" ".join(notes)))
