"""What a column of the board is: how it is named, read, shown, sorted and written to files. `columns` lists them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from leaderboard.ranking import formats
from leaderboard.ranking.boards import BoardTask, Cell, Row

Value = int | float | str | bool | None
Table = Literal["page", "terminal", "latex"]
Style = Literal["", "rank", "name", "number", "score"]
Source = TypeVar("Source", Row, Cell)

ALL_TABLES: tuple[Table, ...] = ("page", "terminal", "latex")


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as a reader sees it.

    Attributes:
        text: the value.
        spread: half of its 95 % interval, or the range of a rank.
        sub: a second fact, which the page shows below the first.
        title: the page shows it on hover: the value in full or, where there is none, the reason.
        mark: a sign after the value, and ``note`` its meaning.
        interval: lower end, upper end and value, in 0..1; the page draws it.
        line: what the terminal prints, where it is not text, mark and spread.
        empty: there is no value.
    """

    text: str
    spread: str = ""
    sub: str = ""
    title: str = ""
    mark: str = ""
    note: str = ""
    interval: tuple[float, float, float] | None = None
    line: str | None = None
    empty: bool = False

    @property
    def plain(self) -> str:
        """The value on one line."""
        return " ".join(filter(None, (self.text, self.mark, self.spread))) if self.line is None else self.line


def missing(reason: str) -> Shown:
    """No value, and why: the reason up to its colon below the dash, the whole of it on hover."""
    return Shown("–", sub=reason.split(":", maxsplit=1)[0], title=reason, line=reason, empty=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry(Generic[Source]):
    """What a column is.

    Attributes:
        key: its name: ``sort=KEY`` in the page's address, and in files and JSON unless ``file`` is another.
        value: what is sorted and written to files; None where there is no value.
        file_type: int, float, str or bool, the type in Parquet; None: the column is in no file and not in JSON.
        label: the header of tables, and the name among the orders to choose from.
        help: one sentence; the page shows it on hover over the header.
        sub: a second line of the header.
        text: how a value is shown; without it, by the value's type.
        sort: whether the first rows are those with the smallest values or the largest; "": the board cannot be sorted
            by it.
        tables: which tables have the column.
        style: how the page draws it; the terminal and LaTeX align by it.
        best: the best value among the rows that are not limited is set in bold.
    """

    key: str
    value: Callable[[Source], Value]
    file_type: type[int] | type[float] | type[str] | type[bool] | None
    file: str = ""
    label: str = ""
    help: str = ""
    sub: str = ""
    text: Callable[[Source], Shown] | None = None
    sort: Literal["", "smallest first", "largest first"] = ""
    tables: tuple[Table, ...] = ALL_TABLES
    style: Style = "number"
    best: bool = False

    @property
    def name(self) -> str:
        """Its name in files and JSON."""
        return self.file or self.key

    def shown(self, source: Source) -> Shown:
        """The value of a row or cell, as readers see it."""
        return _by_type(self.value(source)) if self.text is None else self.text(source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(_Entry[Row]):
    """A column that the board has once.

    Attributes:
        gaps: a note below the table gives the reasons of empty cells, which are the ``title`` of `Shown`.
    """

    gaps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskColumn(_Entry[Cell]):
    """A column that the board has once for each of its tasks.

    Attributes:
        main: the column is called like the task; the others are called ``TASK.KEY`` in files, and by task and label.
    """

    main: bool = False

    def of(self, task: BoardTask, place: int) -> Column:
        """The column of one task, which stands at ``place`` among the board's tasks."""
        return Column(
            key=f"task:{task.task}" if self.main else f"task:{task.task}.{self.key}",
            value=lambda row: self.value(row.cells[place]),
            file_type=self.file_type,
            file=task.task if self.main else f"{task.task}.{self.name}",
            label=task.task if self.main else f"{task.task} {self.label}",
            help=self.help,
            sub=formats.METRICS[task.metric] if self.main else self.sub,
            text=lambda row: self.shown(row.cells[place]),
            sort=self.sort,
            tables=self.tables,
            style=self.style,
            best=self.best,
        )


def _by_type(value: Value) -> Shown:
    if value is None or value == "":
        return Shown("–", empty=True)
    if isinstance(value, bool):
        return Shown("yes" if value else "no")
    if isinstance(value, float):
        return Shown(formats.score(value), title=f"{value}")
    return Shown(f"{value:,}" if isinstance(value, int) else value)
