"""Memory and speed of submissions over clip length, for one device and one precision at a time."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import streamlit as st

from leaderboard.database.profiles import profiles
from leaderboard.database.store import Store
from leaderboard.ranking import formats
from leaderboard.records.profile import Kind, Point, Profile, current, spell
from leaderboard.web import table, text
from leaderboard.web.charts import efficiency as charts
from leaderboard.web.charts.style import SEVERAL
from leaderboard.web.views.board_table import address
from leaderboard.web.views.controls import select, several

# Profiles with equal kind, device, precision and batch are comparable.
Place = tuple[Kind, str, str, int]

MEMORY: dict[Kind, str] = {"cuda": "VRAM", "cpu": "host memory"}
_EMPTY = """
There is no profile yet. One command measures a model over clip length and puts it here:

    beans profile submissions/random-hubert-small.toml --seconds 1,5,10

Profiles that are already in the home directory come back with `beans leaderboard rebuild`.
"""
_LEGEND = {
    "cuda": (
        "Peak memory that torch's allocator gave out for one pass, weights, input and outputs of all layers included; "
        "reserved is the memory that it took from the GPU."
    ),
    "cpu": (
        "Measured on a CPU: the weights and the growth of the process's resident memory in one pass. "
        "This is host memory, not VRAM; the page never shows both together."
    ),
}


def show(store: Store) -> None:
    """Draw the page. The address holds ``device``, ``precision``, ``batch``, and one ``with`` per submission."""
    st.title("Efficiency", anchor=False)
    st.caption("Memory and speed of one forward pass over clip length, each point in a fresh process.")
    stored = [profile for profile in current(profiles(store)) if profile.points]
    if not stored:
        st.info(_EMPTY)
        return
    place = _choose_place(stored)
    shown = _choose_submissions(_labelled([profile for profile in stored if _place(profile) == place]))
    if not shown:
        st.info("Choose at least one submission.")
        return
    _charts(shown)
    _table(shown, store)
    _notes(shown)


def section(store: Store, submission: str) -> None:
    """Draw the curves of one submission on its own page. The address's ``profile`` chooses one of several profiles."""
    st.subheader("Memory and speed", anchor=False)
    stored = [profile for profile in current(profiles(store, submission)) if profile.points]
    if not stored:
        st.caption("Not measured over clip length yet: beans profile measures it.")
        return
    stored.sort(key=lambda profile: (*_order(_place(profile)), -profile.created.timestamp()))
    options = {profile.id: profile for profile in stored}
    names = {key: _describe(options[key]) for key in options}
    profile = options[select("Measured on", "profile", list(options), names)]
    _charts({profile.submission: profile})
    _notes({profile.submission: profile})


def _place(profile: Profile) -> Place:
    return profile.kind, profile.device, profile.precision, profile.batch


def _order(place: Place) -> tuple[object, ...]:
    # The setting of the board comes first: a GPU, float32, one clip.
    kind, device, precision, batch = place
    return kind != "cuda", device, precision != "fp32", batch


def _choose_place(stored: Sequence[Profile]) -> Place:
    """Choose one device, one precision and one batch by the address."""
    places = sorted({_place(profile) for profile in stored}, key=_order)
    names = {f"{kind}:{device}": f"{device} · {MEMORY[kind]}" for kind, device, _, _ in places}
    with st.container(key="choices"):
        areas = st.columns([2, 1, 1], vertical_alignment="bottom")
    with areas[0]:
        device = select("Device", "device", list(names), names)
    places = [place for place in places if f"{place[0]}:{place[1]}" == device]
    with areas[1]:
        precision = select("Precision", "precision", [place[2] for place in places], {})
    places = [place for place in places if place[2] == precision]
    with areas[2]:
        batch = select("Batch", "batch", [str(place[3]) for place in places], {})
    return next(place for place in places if str(place[3]) == batch)


def _labelled(comparable: Sequence[Profile]) -> dict[str, Profile]:
    """Profiles by a unique label: the submission's name, with attention and weights where several share the name."""
    names = Counter(profile.submission for profile in comparable)
    labels = {}
    for profile in sorted(comparable, key=lambda profile: (profile.submission.casefold(), profile.created, profile.id)):
        more = f" ({profile.attention}, {profile.weights_sha256[:8]})" if names[profile.submission] > 1 else ""
        labels[profile.submission + more] = profile
    return labels


def _choose_submissions(labelled: dict[str, Profile]) -> dict[str, Profile]:
    names = list(labelled)
    asked = list(dict.fromkeys(st.query_params.get_all("with")))
    gone = [name for name in asked if name not in names]
    if gone:
        listed = ", ".join(f"“{name[:200]}”" for name in gone)
        st.warning(text.markdown(f"Left out, since not measured on this device at this precision: {listed}."))
    most = len(SEVERAL)
    preset = ([name for name in asked if name in names] or names)[:most]
    chosen = several("Submissions", "with", names, preset, max_selections=most, help=f"At most {most} at once.")
    return {name: labelled[name] for name in chosen}


def _charts(shown: dict[str, Profile]) -> None:
    if not any(charts.drawable(profile.points) for profile in shown.values()):
        return
    kind = next(iter(shown.values())).kind
    memory, speed = st.columns(2, gap="medium")
    with memory, st.container(border=True):
        st.markdown(f"**{'VRAM' if kind == 'cuda' else 'Host memory'} over clip length**")
        st.altair_chart(charts.memory_curve(shown), width="stretch")
    with speed, st.container(border=True):
        st.markdown("**Throughput over clip length**")
        st.altair_chart(charts.speed_curve(shown), width="stretch")


def _table(shown: dict[str, Profile], store: Store) -> None:
    kind = next(iter(shown.values())).kind
    headers = [
        table.ColumnHeader("Submission", kind="name"),
        table.ColumnHeader("Clip", kind="number"),
        table.ColumnHeader(f"Peak {MEMORY[kind]}", kind="number"),
        table.ColumnHeader("Without weights", kind="number"),
        *([table.ColumnHeader("Reserved", kind="number")] if kind == "cuda" else []),
        table.ColumnHeader("Median", kind="number", sub="90th percentile"),
        table.ColumnHeader("Audio per second", kind="number"),
        table.ColumnHeader("Multiply-adds", kind="number"),
        table.ColumnHeader("Attention"),
    ]
    rows = []
    for label, profile in shown.items():
        listed = bool(store.results(profile.submission))
        where = address(profile.submission) if listed else None
        link = {"here": True, "href": where} if listed else {}
        for point in profile.points:
            head = [table.cell(label, **link), table.cell(f"{point.seconds:g} s")]
            cells = [*head, *_cells(profile, point)]
            rows.append(table.row(cells, href=where))
    table.show("efficiency", headers, rows, label="Points")


def _cells(profile: Profile, point: Point) -> list[dict[str, Any]]:
    gpu = profile.kind == "cuda"
    if point.latency_seconds is None or point.latency_p90_seconds is None:
        words = spell(profile, point)
        short = f"> {formats.memory(profile.available_bytes)}" if profile.available_bytes else "–"
        first = table.cell(
            short if point.outcome == "out of memory" else "–",
            sub=f"{point.outcome}{', not tried' if point.inferred else ''}",
            title=f"{words}. {point.detail}",
            style="empty",
        )
        return [first, *[table.cell("–", title=words, style="empty")] * (6 if gpu else 5)]
    return [
        _size(point.peak_bytes),
        _size(point.activation_bytes),
        *([_size(point.reserved_bytes)] if gpu else []),
        table.cell(
            f"{1000 * point.latency_seconds:,.1f} ms",
            sub=f"{1000 * point.latency_p90_seconds:,.1f} ms",
            title=f"of {point.runs} passes",
        ),
        table.cell(f"{profile.throughput(point) or 0:,.0f} s"),
        table.cell("–" if point.multiply_adds is None else f"{point.multiply_adds / 1e9:,.1f} G", title=point.counted),
        table.cell(point.attention or "–"),
    ]


def _size(count: int | None) -> dict[str, Any]:
    if count is None:
        return table.cell("–", title="not measured", style="empty")
    return table.cell(formats.memory(count))


def _notes(shown: dict[str, Profile]) -> None:
    drawn = list(shown.values())
    notes = [_LEGEND[drawn[0].kind]]
    if any(point.outcome == "out of memory" for profile in drawn for point in profile.points):
        notes.append("✕ did not fit; longer clips were not tried.")
    failed = sorted(
        {
            f"{profile.submission} {spell(profile, point)}"
            for profile in drawn
            for point in profile.points
            if _has_failed(point)
        }
    )
    notes += [f"{words}." for words in failed]
    counted = sorted({point.counted for profile in drawn for point in profile.points if point.counted})
    notes += [f"Multiply-adds by {words}." for words in counted]
    st.caption(text.markdown(" ".join(notes)))


def _has_failed(point: Point) -> bool:
    return point.outcome in ("timeout", "failed") and not point.inferred


def _describe(profile: Profile) -> str:
    when = f"{profile.created:%Y-%m-%d}"
    return (
        f"{profile.device} · {MEMORY[profile.kind]} · {profile.precision} · batch {profile.batch} · "
        f"{profile.attention} · {when}"
    )
