"""Controls that follow the address and write themselves there, so that every view can be linked."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import streamlit as st

from leaderboard import text
from leaderboard.ranking import Board


def choose_board(found: list[Board], areas: list[Any]) -> Board:
    """The board of the address's ``track``, ``group`` and ``protocol``; each is chosen in one of three ``areas``."""
    with areas[0]:
        track = select("Track", "track", [board.track for board in found], text.TRACKS)
    found = [board for board in found if board.track == track]
    with areas[1]:
        group = select("Tasks", "group", [board.group for board in found], text.GROUPS)
    found = [board for board in found if board.group == group]
    with areas[2]:
        protocol = select("Protocol", "protocol", [board.protocol for board in found], {})
    return next(board for board in found if board.protocol == protocol)


def select(label: str, key: str, options: list[str], names: dict[str, str]) -> str:
    """A choice that follows the address and writes itself there; an address that names no option means the first."""
    options = list(dict.fromkeys(options))
    asked = st.query_params.get(key)
    index = options.index(asked) if asked in options else 0
    # Without a key the widget is a new one when the address changes, so the address always wins.
    chosen = st.selectbox(label, options, index=index, format_func=lambda option: names.get(option, option))
    if chosen != options[index]:
        st.query_params[key] = chosen
        st.rerun()
    return chosen


def several(label: str, key: str, options: Sequence[str], chosen: Sequence[str]) -> None:
    """A choice of any number that follows the address and writes itself there."""
    # Without a key the widget is a new one when the address changes, so the address always wins.
    picked = st.multiselect(
        label,
        options,
        default=chosen,
        format_func=partial(text.filter_value, key),
        placeholder="all",
        disabled=not options,
    )
    if picked != list(chosen):
        st.query_params[key] = picked
        st.rerun()
