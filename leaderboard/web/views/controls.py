"""Controls that follow the address and write themselves there, so that every view can be linked."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from leaderboard.ranking import formats
from leaderboard.ranking.boards import Board


def choose_board(found: list[Board], areas: list[Any]) -> Board:
    """The board of the address's ``track``, ``group`` and ``protocol``; each is chosen in one of three ``areas``."""
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
    """A choice that follows the address and writes itself there; an address that names no option means the first."""
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
    """A choice of any number that follows the address and writes itself there.

    Args:
        label: what is chosen.
        key: its name in the address.
        options: what there is.
        chosen: what the address says, as far as it is of ``options``.
        beside: names of all such choices of the page that are made one straight after the other. They are written
            together: the browser may not know of the first yet when it sends the second.
        shown: how it is drawn, see `streamlit.multiselect`.
    """
    _follow(key, list(chosen))
    return st.multiselect(
        label, options, key=_widget(key), on_change=_write, args=([key, *beside],), disabled=not options, **shown
    )


def _widget(key: str) -> str:
    """The control of a name in the address.

    With a key it stays the same one while what is chosen changes: a new one would lose what is chosen before it is
    drawn. It is not bound to the address by Streamlit, which would write there what is shown (``< 10 M``).
    """
    return f"choice-{key}"


def _follow(key: str, value: str | list[str]) -> None:
    """Let the control show what the address says; what the reader has just chosen is there already, see `_write`."""
    if st.session_state.get(_widget(key)) != value:
        st.session_state[_widget(key)] = value


def _write(keys: Sequence[str]) -> None:
    """Write what the reader chose to the address. Streamlit does this before it draws the page anew."""
    for key in keys:
        # The first time a page is drawn a reader may choose before all of it is there.
        if _widget(key) in st.session_state:
            st.query_params[key] = st.session_state[_widget(key)]
