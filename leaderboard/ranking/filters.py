"""Filters of a board, for the pages and the command line."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

from leaderboard.ranking.boards import Board, Row, mean, ranked
from tasks.task import Task

NOT_STATED = "not stated"

# Millions of parameters: the lower limit is included, the upper one is not.
_SIZES = {"0-10": (0, 10), "10-100": (10, 100), "100-350": (100, 350), "350-": (350, float("inf"))}

# The groups of animals, and their words in a task's `taxa`. A task may belong to several groups.
_TAXA = {
    "birds": ("bird", "birds"),
    "marine mammals": ("whale", "whales", "dolphins", "seals"),
    "land mammals": ("bat", "dog", "gibbon", "mammals"),
    "amphibians": ("frogs",),
    "insects": ("mosquitoes",),
    "humans": ("human",),
    "none": ("none",),
}


@dataclass(frozen=True, slots=True)
class Filters:
    """The chosen values per filter, as they are written in a page's address. A filter without values does nothing.

    Values of one filter are alternatives, and a row must pass all filters. `read` accepts only values that the board
    has, because a user can type any address.

    Attributes:
        taxa: groups of animals, see `taxa_of`. They select tasks; means and ranks are computed over these tasks.
        family: family of the model as the submission states it. This and the following filters hide rows; the other
            rows keep their ranks on the whole board.
        size: millions of parameters, see `size_names`.
        licence: licence as the submission states it.
        domain: domain of the pretraining data, such as "speech"; "none" if there was no sound in it.
        device: device on which the row's memory was measured.
    """

    taxa: tuple[str, ...] = ()
    family: tuple[str, ...] = ()
    size: tuple[str, ...] = ()
    licence: tuple[str, ...] = ()
    domain: tuple[str, ...] = ()
    device: tuple[str, ...] = ()

    @classmethod
    def offered(cls, board: Board, catalogue: Sequence[Task]) -> Self:
        """Every value of the tasks and rows of ``board``, per filter."""
        groups = {group for task in _of(board, catalogue) for group in taxa_of(task)}
        present: dict[str, set[str]] = {name: set() for name in _ROW_FILTERS}
        for row in board.rows:
            for name, values in _values(row).items():
                present[name].update(values)
        named = {name: sorted(values, key=_last_unstated) for name, values in present.items()}
        named["size"] = [size for size in _SIZES if size in present["size"]]
        return cls(
            taxa=tuple(group for group in _TAXA if group in groups),
            **{name: tuple(values) for name, values in named.items()},
        )

    @classmethod
    def read(cls, query: Mapping[str, Sequence[str]], offered: "Filters") -> tuple[Self, dict[str, list[str]]]:
        """Read the filters of an address.

        Args:
            query: the parameters of the address; those that are no filters are ignored.
            offered: the values that the board has, see `offered`.

        Returns:
            The filters; and by filter, the requested values that no task or row of the board has.
        """
        asked = {name: tuple(dict.fromkeys(query.get(name, ()))) for name in FILTERS}
        known = {
            name: tuple(value for value in values if value in getattr(offered, name)) for name, values in asked.items()
        }
        unknown = {
            name: [value for value in values if value not in known[name]] for name, values in asked.items() if values
        }
        return cls(**known), {name: values for name, values in unknown.items() if values}

    def chosen(self) -> dict[str, tuple[str, ...]]:
        """The filters that have values."""
        return {name: values for name in FILTERS if (values := getattr(self, name))}


FILTERS = tuple(field.name for field in fields(Filters))
_ROW_FILTERS = FILTERS[1:]


def size_names() -> dict[str, str]:
    """The display names of the sizes, by their value in the address."""
    return {
        size: f"≥ {low} M" if high == float("inf") else f"{low}-{high} M" if low else f"< {high} M"
        for size, (low, high) in _SIZES.items()
    }


def taxa_of(task: Task) -> tuple[str, ...]:
    """The groups of animals of a task in the catalogue; empty if its facts name none."""
    words = set(re.findall(r"\w+", task.facts.taxa.casefold()))
    return tuple(group for group, names in _TAXA.items() if words.intersection(names))


def of_taxa(board: Board, taxa: Sequence[str], catalogue: Sequence[Task]) -> Board:
    """``board`` with only the tasks of these groups of animals, ranked by the mean over these tasks.

    The new board has no standings, see `leaderboard.database.standings.with_certainty`. If ``taxa`` is empty, the board
    is returned unchanged.
    """
    if not taxa:
        return board
    tasks = {task.name for task in _of(board, catalogue) if set(taxa_of(task)).intersection(taxa)}
    kept = [index for index, column in enumerate(board.columns) if column.task in tasks]
    rows = []
    for row in board.rows:
        cells = tuple(row.cells[index] for index in kept)
        rows.append(replace(row, rank=None, cells=cells, mean=mean(cells), standing=None, standing_reason=""))
    return replace(board, columns=tuple(board.columns[index] for index in kept), rows=ranked(rows))


def passing(board: Board, filters: Filters, facts_of: Board | None = None) -> Board:
    """``board`` without the rows that do not pass. Ranks, intervals and counts remain those among all rows.

    Args:
        board: a ranked board, with or without standings.
        filters: the filters; ``taxa`` is ignored.
        facts_of: the board over all tasks, if ``board`` has only some of them: the newest facts about a submission may
            be in the result of a task that is not shown.
    """
    chosen = {name: values for name, values in filters.chosen().items() if name in _ROW_FILTERS}
    if not chosen:
        return board
    values = {(row.submission, row.limit): _values(row) for row in (facts_of or board).rows}

    def passes(row: Row) -> bool:
        own = values[row.submission, row.limit]
        return all(set(own[name]).intersection(wanted) for name, wanted in chosen.items())

    return replace(board, rows=tuple(filter(passes, board.rows)))


def _of(board: Board, catalogue: Sequence[Task]) -> list[Task]:
    """The board's tasks that are in the catalogue. A user's own task of the same name is in another group."""
    columns = {column.task for column in board.columns}
    return [task for task in catalogue if task.group == board.group and task.name in columns]


def _values(row: Row) -> dict[str, tuple[str, ...]]:
    result = row.newest
    domains = result.domains if result else ()
    millions = row.parameters / 1e6
    return {
        "family": (result.family if result and result.family else NOT_STATED,),
        "size": tuple(size for size, (low, high) in _SIZES.items() if low <= millions < high),
        "licence": (result.licence if result and result.licence else NOT_STATED,),
        # "none", as of a data set of pictures, is only shown if there is no domain of sound.
        "domain": tuple(domain for domain in domains if domain != "none") or domains or (NOT_STATED,),
        "device": (row.device or NOT_STATED,),
    }


def _last_unstated(value: str) -> tuple[bool, str, str]:
    return value == NOT_STATED, value.casefold(), value
