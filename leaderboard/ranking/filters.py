"""Which tasks and rows of a board are shown, and in what order. The pages and the command line choose with the same."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

from leaderboard.ranking.boards import Board, Row, mean, ranked
from leaderboard.records.result import Result
from tasks.task import Task

NOT_STATED = "not stated"

# From so many millions of parameters up to, and without, so many.
_SIZES = {"0-10": (0, 10), "10-100": (10, 100), "100-350": (100, 350), "350-": (350, float("inf"))}

# The groups of animals, and the words by which a task's `taxa` names them; a task may have more than one.
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
    """What is chosen, by the spelling of the address; nothing chosen means everything.

    Values of one filter are alternatives, and a row must pass all filters. A value is always one that the board has:
    anybody can type an address.

    Attributes:
        taxa: groups of animals, see `taxa_of`. They choose tasks; means and ranks are then of those tasks.
        family: as the submission names it. Like all that follow it hides rows, and ranks stay those of the whole board.
        size: millions of parameters, see `size_names`.
        licence: as the submission names it.
        domain: what was heard in pretraining, such as "speech"; "none" where no sound was.
        device: where the row's memory was measured.
    """

    taxa: tuple[str, ...] = ()
    family: tuple[str, ...] = ()
    size: tuple[str, ...] = ()
    licence: tuple[str, ...] = ()
    domain: tuple[str, ...] = ()
    device: tuple[str, ...] = ()

    @classmethod
    def offered(cls, board: Board, catalogue: Sequence[Task]) -> Self:
        """Every value by which the tasks and rows of ``board`` can be chosen."""
        groups = {group for task in _of(board, catalogue) for group in taxa_of(task)}
        found: dict[str, set[str]] = {name: set() for name in _ROW_FILTERS}
        for row in board.rows:
            for name, values in _values(row).items():
                found[name].update(values)
        named = {name: sorted(values, key=_last_unstated) for name, values in found.items()}
        named["size"] = [size for size in _SIZES if size in found["size"]]
        return cls(
            taxa=tuple(group for group in _TAXA if group in groups),
            **{name: tuple(values) for name, values in named.items()},
        )

    @classmethod
    def read(cls, query: Mapping[str, Sequence[str]], offered: "Filters") -> tuple[Self, dict[str, list[str]]]:
        """What an address asks for.

        Args:
            query: the address's parameters; others than filters are passed over.
            offered: what there is, see `offered`.

        Returns:
            The filters, and by filter the values that no task or row of the board has.
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
        """The filters in use."""
        return {name: values for name in FILTERS if (values := getattr(self, name))}


FILTERS = tuple(field.name for field in fields(Filters))
_ROW_FILTERS = FILTERS[1:]


def size_names() -> dict[str, str]:
    """How the sizes are shown, by their spelling in the address."""
    return {
        size: f"≥ {low} M" if high == float("inf") else f"{low}-{high} M" if low else f"< {high} M"
        for size, (low, high) in _SIZES.items()
    }


def taxa_of(task: Task) -> tuple[str, ...]:
    """The groups of animals that a task of the catalogue is about; nothing where its facts name none."""
    words = set(re.findall(r"\w+", task.facts.taxa.casefold()))
    return tuple(group for group, names in _TAXA.items() if words.intersection(names))


def of_taxa(board: Board, taxa: Sequence[str], catalogue: Sequence[Task]) -> Board:
    """``board`` over the tasks of these groups of animals alone, ranked by the mean over them.

    It has no certainty yet, see `leaderboard.ranking.standings.with_certainty`. Without ``taxa`` it is the board as it
    is.
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
    """``board`` without the rows that do not pass; ranks, ranges and counts stay those among all rows.

    Args:
        board: ranked, with or without certainty.
        filters: what is chosen; its ``taxa`` are not looked at.
        facts_of: the board over all tasks, where ``board`` is one over some: what a submission says of itself may stand
            in the result of a task that is not shown.
    """
    chosen = {name: values for name, values in filters.chosen().items() if name in _ROW_FILTERS}
    if not chosen:
        return board
    values = {(row.submission, row.limit): _values(row) for row in (facts_of or board).rows}

    def passes(row: Row) -> bool:
        own = values[row.submission, row.limit]
        return all(set(own[name]).intersection(wanted) for name, wanted in chosen.items())

    return replace(board, rows=tuple(filter(passes, board.rows)))


def newest(row: Row) -> Result | None:
    """The result of the row that was submitted last: what it says of the submission holds for the row."""
    results = [cell.result for cell in row.cells if cell.result is not None]
    return max(results, key=lambda result: (result.confirmed or result.created, result.record_id), default=None)


def sort_names(board: Board) -> dict[str, str]:
    """Every order the board can have, by its spelling in the address, and how it is shown; see `sort_rows`."""
    plain = {
        "mean": "Mean score",
        "submission": "Name",
        **{f"task:{column.task}": column.task for column in board.columns},
        "borda": "Borda count",
        "parameters": "Parameters",
        "vram": "VRAM",
        "runs": "MLflow runs",
    }
    return {**plain, **{f"-{key}": f"{name}, reversed" for key, name in plain.items()}}


def _of(board: Board, catalogue: Sequence[Task]) -> list[Task]:
    """The board's tasks that are of the catalogue: a user's own task may have the name of one and be another."""
    columns = {column.task for column in board.columns}
    return [task for task in catalogue if task.group == board.group and task.name in columns]


def _values(row: Row) -> dict[str, tuple[str, ...]]:
    result = newest(row)
    heard = result.domains if result else ()
    millions = row.parameters / 1e6
    return {
        "family": (result.family if result and result.family else NOT_STATED,),
        "size": tuple(size for size, (low, high) in _SIZES.items() if low <= millions < high),
        "licence": (result.licence if result and result.licence else NOT_STATED,),
        # Pictures are no sound: next to a data set of sounds they say nothing.
        "domain": tuple(domain for domain in heard if domain != "none") or heard or (NOT_STATED,),
        "device": (row.device or NOT_STATED,),
    }


def _last_unstated(value: str) -> tuple[bool, str, str]:
    return value == NOT_STATED, value.casefold(), value
