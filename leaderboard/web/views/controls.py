"""Controls that read their value from the address and write it back, so that every view has a link."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from leaderboard.ranking import formats
from leaderboard.ranking.boards import Board


def choose_board(found: list[Board], areas: list[Any]) -> Board:
    """Choose the board by the address's ``track``, ``group`` and ``protocol``, with one control per area."""
    with areas[0]:
        track = select("Track", "track", [board.track for board in found], {})
    found = [board for board in found if board.track == track]
    with areas[1]:
        group = select("Tasks", "group", [board.group for board in found], formats.GROUPS)
    found = [board for board in found if board.group == group]
    with areas[2]:
        protocol = select("Protocol", "protocol", [board.protocol for board in found], {})
    return next(board for board in found if board.protocol == protocol)


def select(label: str, key: str, options: list[str], names: dict[str, str]) -> str:
    """A choice of one option that the address holds. Without a valid option in the address, the first is chosen."""
    options = list(dict.fromkeys(options))
    asked = st.query_params.get(key)
    _follow(key, asked if asked in options else options[0])
    return st.selectbox(
        label,
        options,
        key=_widget(key),
        format_func=lambda option: names.get(option, option),
        on_change=_write,
        args=([key],),
    )


def several(
    label: str,
    key: str,
    options: Sequence[str],
    chosen: Sequence[str],
    *,
    beside: Sequence[str] = (),
    **shown: Any,
) -> list[str]:
    """A choice of any number of options that the address holds.

    Args:
        label: label of the control.
        key: name in the address.
        options: all options.
        chosen: the options that the address names.
        beside: names of all such controls that a reader may change in quick succession. They are written together,
            since the browser may send the second change before it knows the first.
        shown: further arguments of `streamlit.multiselect`.
    """
    _follow(key, list(chosen))
    return st.multiselect(
        label, options, key=_widget(key), on_change=_write, args=([key, *beside],), disabled=not options, **shown
    )


def _widget(key: str) -> str:
    """The Streamlit key of the control for a name in the address.

    With a fixed key the control stays the same while its value changes; a new control would lose a choice that is made
    before it is drawn. Streamlit's own binding to the address would write the shown text (``< 10 M``) there.
    """
    return f"choice-{key}"


def _follow(key: str, value: str | list[str]) -> None:
    """Set the control to the value in the address. `_write` has already written a new choice of the reader there."""
    if st.session_state.get(_widget(key)) != value:
        st.session_state[_widget(key)] = value


def _write(keys: Sequence[str]) -> None:
    """Write the reader's choice to the address. Streamlit calls this before it draws the page again."""
    for key in keys:
        # While a page is drawn for the first time, a reader may choose before all controls exist.
        if _widget(key) in st.session_state:
            st.query_params[key] = st.session_state[_widget(key)]
