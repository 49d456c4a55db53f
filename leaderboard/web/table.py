"""The table of the pages: intervals in the cells, headers that sort, rows that open."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, Literal

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

from leaderboard.ranking.column import Column, Shown, Style, TaskColumn


@dataclass(frozen=True, slots=True)
class Header:
    """One column. ``sort`` is what a click on it reports; ``order`` says how the rows are sorted by it now."""

    label: str
    sub: str = ""
    title: str = ""
    kind: Style = ""
    sort: str = ""
    order: Literal["", "ascending", "descending"] = ""


def cell(content: str, **more: Any) -> dict[str, Any]:
    """One cell: ``sub`` below the text, ``title`` on hover, ``href`` with ``key`` to open in place, ``style``.

    ``mark`` is a sign after the text, and ``note`` what it means: shown on hover, and read out.
    """
    return {"text": content, **more}


def header(entry: Column | TaskColumn, **changes: Any) -> Header:
    """The header of a column of the board; ``changes`` replace fields of it."""
    return replace(Header(entry.label, sub=entry.sub, title=entry.help, kind=entry.style), **changes)


def shown(value: Shown, **changes: Any) -> dict[str, Any]:
    """One cell with a value of a column of the board; ``changes`` replace or add slots of it."""
    found: dict[str, Any] = {"text": value.text, "title": value.title}
    if value.spread:
        found["spread"] = value.spread
    if value.sub:
        found["sub"] = value.sub
    if value.empty:
        found["style"] = "empty"
    if value.mark:
        found |= {"mark": value.mark, "note": value.note}
    if value.interval is not None:
        # As fine as a screen shows it.
        low, high, at = value.interval
        found["interval"] = {"low": round(low, 3), "high": round(high, 3), "at": round(at, 3)}
    return found | changes


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
