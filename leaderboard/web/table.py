"""The table of the pages, with intervals in cells, headers that sort, and rows that open a page."""

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
class ColumnHeader:
    """The header of one column. A click on it reports ``sort``; ``order`` is the present order of the rows by it."""

    label: str
    sub: str = ""
    title: str = ""
    kind: Style = ""
    sort: str = ""
    order: Literal["", "ascending", "descending"] = ""


def cell(content: str, **more: Any) -> dict[str, Any]:
    """Make one cell: ``sub`` below the text, ``title`` on hover, ``href`` of a link, ``style``.

    A link opens in a new tab, with ``here=True`` in place. ``mark`` is a sign after the text. ``note`` explains it, on
    hover and for screen readers.
    """
    return {"text": content, **more}


def header(entry: Column | TaskColumn, **changes: Any) -> ColumnHeader:
    """Make the header of a board column; ``changes`` replace its fields."""
    return replace(ColumnHeader(entry.label, sub=entry.sub, title=entry.help, kind=entry.style), **changes)


def shown(value: Shown, **changes: Any) -> dict[str, Any]:
    """Make one cell with the value of a board column; ``changes`` replace or add slots."""
    slots: dict[str, Any] = {"text": value.text, "title": value.title}
    if value.spread:
        slots["spread"] = value.spread
    if value.sub:
        slots["sub"] = value.sub
    if value.empty:
        slots["style"] = "empty"
    if value.mark:
        slots |= {"mark": value.mark, "note": value.note}
    if value.interval is not None:
        # A screen shows no finer steps.
        low, high, at = value.interval
        slots["interval"] = {"low": round(low, 3), "high": round(high, 3), "at": round(at, 3)}
    return slots | changes


def row(
    cells: list[dict[str, Any]], *, key: str | None = None, href: str | None = None, style: str = ""
) -> dict[str, Any]:
    """Make one row. A click on it reports ``key``, or opens the page of the board at ``href`` in place."""
    more = {"key": key, "href": href}
    return {"cells": cells, "style": style, **{slot: value for slot, value in more.items() if value is not None}}


def show(
    name: str,
    headers: list[ColumnHeader],
    rows: list[dict[str, Any]],
    *,
    label: str,
    on_sort: Callable[[], None] = lambda: None,
) -> str | None:
    """Draw the table.

    Args:
        name: key of the table; ``st.session_state[name].sort`` holds the clicked header's ``sort`` while ``on_sort``
            runs.
        headers: one per column.
        rows: from `row`.
        label: name of the table for screen readers.
        on_sort: called after a click on a header.

    Returns:
        The ``key`` of the row that was just clicked; None without a click.
    """
    columns = [{slot: getattr(header, slot) for slot in ColumnHeader.__slots__} for header in headers]
    # One text for all rows: Streamlit inspects every value of nested data, and a long table has a hundred thousand.
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
