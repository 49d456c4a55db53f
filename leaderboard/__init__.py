"""The leaderboard: records, the database, the ranking and the Streamlit app; and results as data frames.

Each name of ``__all__`` is imported when it is first used, so that importing this package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leaderboard.api import Results, load_board, load_record

__all__ = ["Results", "load_board", "load_record"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module("leaderboard.api"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
