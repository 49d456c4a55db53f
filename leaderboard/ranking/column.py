"""The definition of a board column: its name, value, display, order and type in files. `columns` lists all columns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from leaderboard.ranking import formats
from leaderboard.ranking.boards import BoardTask, Cell, Row
from leaderboard.records.record import Record
from leaderboard.records.result import Value

Table = Literal["page", "terminal", "latex"]
Style = Literal["", "rank", "name", "number", "score"]
Source = TypeVar("Source", Row, Cell)

ALL_TABLES: tuple[Table, ...] = ("page", "terminal", "latex")


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as readers see it.

    Attributes:
        text: the value.
        spread: half of its 95 % interval, or the range of a rank.
        sub: a second fact, which the page shows below the first.
        title: text on hover on the page: the value in full, or the reason for an empty value.
        mark: a sign after the value.
        note: the meaning of ``mark``.
        interval: lower end, upper end and value, in 0..1; the page draws it.
        line: text in the terminal; None means text, mark and spread.
        empty: whether there is no value.
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
    """An empty value: below the dash the reason up to its colon, on hover the full reason."""
    return Shown("–", sub=reason.split(":", maxsplit=1)[0], title=reason, line=reason, empty=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry(Generic[Source]):
    """The definition of a column.

    Attributes:
        key: name of the column: ``sort=KEY`` in the page's address, and in files and JSON unless ``file`` is set.
        value: reads the value for sorting and for files; None means no value.
        file_type: int, float, str or bool, the type in Parquet. With None the column is not in files and JSON.
        data: reads the value for JSON, if it is a list; files have it as one text.
        stored: reads from a record what the database stores under ``key``; None for a record that does not have it.
            Every `Result` has it in ``stored``. Its type is ``file_type``. A migration adds the column of the table.
        file: name in files and JSON, if it differs from ``key``.
        label: header in tables, and name in the list of orders.
        help: one sentence that the page shows on hover over the header.
        sub: second line of the header.
        text: formats a value for readers; without it, the type of the value decides.
        sort: whether the smallest or the largest values come first; with "" the board cannot be sorted by the column.
        tables: tables that have the column.
        style: drawing style on the page, and alignment in the terminal and in LaTeX.
        best: whether the best value among the rows without a limit is bold.
    """

    key: str
    value: Callable[[Source], Value]
    file_type: type[int] | type[float] | type[str] | type[bool] | None
    data: Callable[[Source], object] | None = None
    stored: Callable[[Record], Value] | None = None
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
        """The column's name in files and JSON."""
        return self.file or self.key

    def for_json(self, source: Source) -> object:
        """The value of a row or cell for programs."""
        return self.value(source) if self.data is None else self.data(source)

    def shown(self, source: Source) -> Shown:
        """Format the value of a row or cell for readers."""
        return _by_type(self.value(source)) if self.text is None else self.text(source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(_Entry[Row]):
    """A column that the board has once.

    Attributes:
        gaps: whether a note below the table lists the reasons for empty cells, from the ``title`` of `Shown`.
    """

    gaps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskColumn(_Entry[Cell]):
    """A column that the board has once per task.

    Attributes:
        main: whether the column has the name of the task. Other columns are named ``TASK.KEY`` in files, and have task
            and label in the header.
    """

    main: bool = False

    def of(self, task: BoardTask, place: int) -> Column:
        """The column of one task; ``place`` is the task's index on the board."""
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
