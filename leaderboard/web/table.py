"""The table of both pages: intervals in the cells, headers that sort, rows that open."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

from leaderboard.records.result import Result
from leaderboard.web import text


@dataclass(frozen=True, slots=True)
class Header:
    """One column. ``sort`` is what a click on it reports; ``order`` says how the rows are sorted by it now."""

    label: str
    sub: str = ""
    title: str = ""
    kind: Literal["", "rank", "name", "number", "score"] = ""
    sort: str = ""
    order: Literal["", "ascending", "descending"] = ""


def cell(content: str, **more: Any) -> dict[str, Any]:
    """One cell: ``sub`` below the text, ``title`` on hover, ``href`` with ``key`` to open in place, ``style``.

    ``mark`` is a sign after the text, and ``note`` what it means: shown on hover, and read out.
    """
    return {"text": content, **more}


def score_cell(result: Result, *, best: bool = False, overlap: Sequence[str] = ()) -> dict[str, Any]:
    """Score, half interval, the interval drawn on 0..1, the best layer, and whether pretraining overlaps."""
    return cell(
        text.score(result.test),
        spread=text.half_interval(result.ci_low, result.ci_high),
        # As fine as a screen shows it.
        interval={"low": round(result.ci_low, 3), "high": round(result.ci_high, 3), "at": round(result.test, 3)},
        sub=f"layer {result.best_layer}",
        title=text.interval_in_words(result),
        style="best" if best else "",
        **({"mark": text.OVERLAP_MARK, "note": "; ".join(overlap)} if overlap else {}),
    )


def empty_cell(reason: str) -> dict[str, Any]:
    """No value, and why."""
    short = reason.split(":", maxsplit=1)[0]
    return cell("–", sub=short, title=reason, style="empty")


def row(cells: list[dict[str, Any]], *, key: str | None = None, style: str = "") -> dict[str, Any]:
    """One row; a click on it reports ``key``."""
    return {"cells": cells, "style": style, **({} if key is None else {"key": key})}


def show(
    name: str,
    headers: list[Header],
    rows: list[dict[str, Any]],
    *,
    label: str,
    on_sort: Callable[[], None] = lambda: None,
) -> str | None:
    """Draw the table.

    Args:
        name: its key; ``st.session_state[name].sort`` holds the clicked header's ``sort`` while ``on_sort`` runs.
        headers: the columns.
        rows: made by `row`.
        label: what the table is, for screen readers.
        on_sort: called after a click on a header.

    Returns:
        The key of the row that was just clicked.
    """
    columns = [{slot: getattr(header, slot) for slot in Header.__slots__} for header in headers]
    # One text: Streamlit looks into every value of what is not, and a long table has a hundred thousand.
    content = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    state = _component()(
        key=name,
        data={"label": label, "columns": columns, "rows": content},
        on_sort_change=on_sort,
        on_open_change=lambda: None,
    )
    opened: str | None = state.open
    return opened


@cache
def _component() -> ComponentRenderer:
    files = resources.files("leaderboard.web").joinpath("static")
    return st.components.v2.component(
        "beans.table",
        html='<div class="frame"></div>',
        css=files.joinpath("table.css").read_text(encoding="utf-8"),
        js=files.joinpath("table.js").read_text(encoding="utf-8"),
    )
