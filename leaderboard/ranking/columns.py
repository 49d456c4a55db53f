"""The columns of the board, in one list for the page, the terminal, JSON, CSV, Parquet and LaTeX.

To add a column, add an entry to `COLUMNS`. A `Column` reads a row; a `TaskColumn` reads the cell of each task. An entry
with ``stored`` also adds a column to the database, which needs a migration.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from leaderboard.ranking import formats
from leaderboard.ranking.boards import Board, Cell, Row
from leaderboard.ranking.column import Column, Shown, Table, TaskColumn, missing
from leaderboard.records.flags import FLAGS
from leaderboard.records.record import Record
from leaderboard.records.result import Value, joined


def _of_standing(field: str) -> Callable[[Row], Value]:
    return lambda row: None if row.standing is None else getattr(row.standing, field)


def _of_newest(field: str) -> Callable[[Row], Value]:
    return lambda row: "" if row.newest is None else getattr(row.newest, field)


def _of_result(field: str) -> Callable[[Cell], Value]:
    return lambda cell: None if cell.result is None else getattr(cell.result, field)


def _of_stored(key: str) -> Callable[[Cell], Value]:
    return lambda cell: None if cell.result is None else cell.result.stored.get(key)


def _unranked(row: Row) -> list[str]:
    """The reasons why a row has no rank; empty for a row with all tasks and without a limit."""
    limited = [] if row.limit is None else [f"limited to {row.limit}"]
    return limited if row.covered == len(row.cells) else [*limited, row.coverage]


def _why_unranked(row: Row) -> str:
    return f"not ranked: {', '.join(reasons)}" if (reasons := _unranked(row)) else ""


def _rank(row: Row) -> Shown:
    if row.rank is None:
        return Shown("–", title=_why_unranked(row), line="", empty=True)
    line = f"{row.rank} {formats.rank_interval(row)}"
    if row.standing is None:
        return Shown(str(row.rank), title=row.standing_reason, line=line)
    group = f"group {formats.tie_group(row.standing.group)}"
    low, high = row.standing.rank_low, row.standing.rank_high
    title = f"rank {row.rank}, {low} to {high} in 95 % of the resamples; {group}: not distinguished from its first"
    return Shown(str(row.rank), spread=formats.rank_interval(row), sub=group, title=title, line=line)


def _tie_group(row: Row) -> Shown:
    return Shown("", empty=True) if row.standing is None else Shown(formats.tie_group(row.standing.group))


def _submission(row: Row) -> Shown:
    return Shown(
        row.submission,
        spread="" if row.limit is None else f"(limited to {row.limit})",
        sub=", ".join(_unranked(row)),
        title=_why_unranked(row),
        mark=formats.REMOTE_CODE_MARK if row.remote_code else "",
        note=formats.REMOTE_CODE if row.remote_code else "",
    )


def _mean(row: Row) -> Shown:
    if row.mean is None:
        return Shown("–", title="a mean needs every task of the board", line=row.coverage, empty=True)
    shown, standing = formats.score(row.mean), row.standing
    if standing is None:
        return Shown(shown, title=f"{row.mean:.4f}")
    title = f"{row.mean:.4f}, 95 % interval [{standing.low:.4f}, {standing.high:.4f}]"
    return Shown(shown, spread=formats.half_interval(standing.low, standing.high), title=title, line=shown)


def _score(cell: Cell) -> Shown:
    result = cell.result
    if result is None:
        return missing(cell.reason)
    shown, low, high = formats.score(result.test), result.ci_low, result.ci_high
    marked = [flag for flag in formats.FLAG_MARKS if flag in result.flags]
    mark = (formats.OVERLAP_MARK if cell.overlap else "") + "".join(
        dict.fromkeys(formats.FLAG_MARKS[flag] for flag in marked)
    )
    layer = f"layer {formats.best_layer(result)}"
    return Shown(
        shown,
        spread=formats.half_interval(low, high),
        sub=layer,
        title=formats.interval_in_words(result),
        mark=mark,
        note="; ".join([*cell.overlap, *(FLAGS[flag] for flag in marked)]),
        interval=(low, high, result.test),
        line=f"{shown}{mark and f' {mark}'} [{low:.3f}, {high:.3f}] {layer}",
    )


def _best_layer(cell: Cell) -> Shown:
    result = cell.result
    if result is None:
        return Shown("–", title=cell.reason, empty=True)
    return Shown(f"{formats.best_layer(result)} of 0 to {result.last_layer}", sub=result.best_layer_name)


def _borda(row: Row) -> Shown:
    if row.standing is None:
        return Shown("–", title=row.standing_reason or _why_unranked(row), empty=True)
    return Shown(f"{row.standing.borda:g}", sub=f"{row.standing.mean_rank:.2f}")


def _mean_rank(row: Row) -> Shown:
    return Shown("–", empty=True) if row.standing is None else Shown(f"{row.standing.mean_rank:.2f}")


def _vram(row: Row) -> Shown:
    if row.vram_bytes is None:
        return Shown("–", title=row.vram_reason, empty=True)
    title = f"{row.vram_bytes:,} bytes on {row.device}"
    return Shown(formats.memory(row.vram_bytes), sub=row.device, title=title)


def _in_files(key: str, file_type: type, value: Callable[[Row], Value]) -> Column:
    """A column that only files and JSON have."""
    return Column(key=key, value=value, file_type=file_type, tables=())


def _in_files_per_task(key: str, file_type: type, value: Callable[[Cell], Value]) -> TaskColumn:
    """As `_in_files`, per task."""
    return TaskColumn(key=key, value=value, file_type=file_type, tables=())


RANK = Column(
    key="rank",
    label="Rank",
    help=f"equal means share a rank; {formats.RANK_LEGEND} {formats.TIE_LEGEND}",
    value=lambda row: row.rank,
    text=_rank,
    file_type=int,
    style="rank",
)
SUBMISSION = Column(
    key="submission",
    label="Submission",
    value=lambda row: row.submission,
    text=_submission,
    file_type=str,
    sort="smallest first",
    style="name",
)
MEAN = Column(
    key="mean",
    label="Mean",
    value=lambda row: row.mean,
    text=_mean,
    file_type=float,
    sort="largest first",
    best=True,
)
SCORE = TaskColumn(
    key="test",
    label="Test",
    sub="± half of the 95 % interval",
    value=_of_result("test"),
    text=_score,
    file_type=float,
    sort="largest first",
    style="score",
    best=True,
    main=True,
)
VALID = TaskColumn(key="valid", label="Validation", value=_of_result("valid"), file_type=float, tables=())
BEST_LAYER = TaskColumn(
    key="best_layer",
    label="Best layer",
    sub="chosen on validation",
    help="in brackets all layers that validation cannot distinguish from it",
    value=_of_result("best_layer"),
    text=_best_layer,
    file_type=int,
    tables=(),
)
PARAMETERS = Column(
    key="parameters",
    label="Parameters",
    value=lambda row: row.parameters,
    text=lambda row: Shown(formats.parameters(row.parameters), title=f"{row.parameters:,} parameters"),
    file_type=int,
    sort="smallest first",
)
VRAM = Column(
    key="vram",
    label="VRAM",
    help="peak allocated memory for one 10-s clip, weights included",
    value=lambda row: row.vram_bytes,
    text=_vram,
    file_type=int,
    file="vram_bytes",
    sort="smallest first",
    tables=("page", "terminal"),
    gaps=True,
)
RUNS = Column(
    key="runs",
    label="MLflow",
    help="its run, or MLflow's own comparison of its runs on this board",
    value=lambda row: len(row.runs) or None,
    file_type=None,
    sort="largest first",
    tables=("page",),
    style="",
)

COLUMNS: tuple[Column | TaskColumn, ...] = (
    RANK,
    _in_files("rank_low", int, _of_standing("rank_low")),
    _in_files("rank_high", int, _of_standing("rank_high")),
    Column(
        key="tie_group",
        label="Group",
        value=_of_standing("group"),
        text=_tie_group,
        file_type=int,
        tables=("terminal",),
        style="",
    ),
    SUBMISSION,
    MEAN,
    _in_files("mean_ci_low", float, _of_standing("low")),
    _in_files("mean_ci_high", float, _of_standing("high")),
    _in_files("tasks", str, lambda row: row.coverage),
    _in_files("limit", int, lambda row: row.limit),
    SCORE,
    _in_files_per_task("ci_low", float, _of_result("ci_low")),
    _in_files_per_task("ci_high", float, _of_result("ci_high")),
    _in_files_per_task("test_std", float, _of_result("test_std")),
    VALID,
    BEST_LAYER,
    _in_files_per_task("best_layer_name", str, _of_result("best_layer_name")),
    TaskColumn(
        key="layers_alike",
        stored=lambda record: None if record.alike is None else joined(record.alike),
        value=_of_stored("layers_alike"),
        data=lambda cell: cell.result and cell.result.alike,
        file_type=str,
        tables=(),
    ),
    TaskColumn(
        key="flags",
        # Records of others have any text as a flag. The board has those that it can explain.
        stored=lambda record: joined(flag for flag in FLAGS if flag in record.flags),
        value=_of_stored("flags"),
        data=lambda cell: cell.result and cell.result.flags,
        file_type=str,
        tables=(),
    ),
    _in_files_per_task("record_id", str, _of_result("record_id")),
    _in_files_per_task("note", str, lambda cell: cell.reason),
    _in_files_per_task("overlap", str, lambda cell: "; ".join(cell.overlap)),
    Column(
        key="borda",
        label="Borda",
        sub="mean rank",
        help=f"{formats.BORDA_LEGEND} Mean rank: mean of its ranks on the tasks.",
        value=_of_standing("borda"),
        text=_borda,
        file_type=float,
        sort="largest first",
        tables=("page", "terminal"),
    ),
    Column(
        key="mean_rank",
        label="Mean rank",
        value=_of_standing("mean_rank"),
        text=_mean_rank,
        file_type=float,
        tables=("terminal",),
    ),
    _in_files("standing_note", str, lambda row: row.standing_reason),
    PARAMETERS,
    VRAM,
    _in_files("vram_note", str, lambda row: row.vram_reason if row.vram_bytes is None else ""),
    _in_files("device", str, lambda row: row.device),
    _in_files("remote_code", bool, lambda row: row.remote_code),
    _in_files("family", str, _of_newest("family")),
    _in_files("licence", str, _of_newest("licence")),
    _in_files("pretraining_domains", str, lambda row: "; ".join(row.newest.domains) if row.newest else ""),
    RUNS,
)
"""Every column, in the order of tables and files. The columns of one task are together, once per task."""


def stored_values(record: Record) -> dict[str, Value]:
    """What the columns store of a record in the database, by key."""
    return {entry.key: entry.stored(record) for entry in COLUMNS if entry.stored}


def columns_of(board: Board, table: Table | None = None) -> list[Column]:
    """The columns of a board, including those of each task. With ``table``, only the columns of that table."""
    of_tasks = [entry for entry in COLUMNS if isinstance(entry, TaskColumn)]
    columns: list[Column] = []
    for entry in COLUMNS:
        if isinstance(entry, Column):
            columns.append(entry)
        elif entry is of_tasks[0]:
            columns += _of_board(board)
            columns += [each.of(task, place) for place, task in enumerate(board.columns) for each in of_tasks]
    return [column for column in columns if table is None or table in column.tables]


def _of_board(board: Board) -> list[Column]:
    """Columns that identify the board. Every row repeats them, so that files of several boards can be joined."""

    def fixed(value: str) -> Callable[[Row], Value]:
        return lambda row: value

    facts = {"protocol": board.protocol, "track": board.track, "group": board.group}
    return [_in_files(key, str, fixed(value)) for key, value in facts.items()]


def best_value(column: Column, board: Board) -> Value:
    """The value that is bold in a column: the best one among rows without a limit; None if there is none."""
    values = [column.value(row) for row in board.rows if row.limit is None] if column.best else []
    known: list[Any] = [value for value in values if value is not None]
    return (min if column.sort == "smallest first" else max)(known, default=None)


def sort_names(board: Board) -> dict[str, str]:
    """The labels of all orders of the board, by their names in the address; see `sort_rows`."""
    columns = [column for column in columns_of(board) if column.sort]
    # The board's own order comes first.
    columns.sort(key=lambda column: column.key != MEAN.key)
    plain = {column.key: column.label for column in columns}
    return {**plain, **{f"-{key}": f"{label}, reversed" for key, label in plain.items()}}


def sort_rows(board: Board, key: str) -> list[Row]:
    """Sort the board's rows by a column. Rows without a value come last, and limited rows after them.

    Args:
        board: any board.
        key: one of `sort_names`; a leading ``-`` reverses the order. Any other text means ``mean``, since the key
            comes from an address that anybody can type.
    """
    sortable = {column.key: column for column in columns_of(board) if column.sort}
    column = sortable.get(key.removeprefix("-"), MEAN)
    backwards = key.startswith("-")
    if column.key == MEAN.key and not backwards:
        return list(board.rows)

    def comparable(value: Value) -> Any:
        return value.casefold() if isinstance(value, str) else value

    rows = sorted(board.rows, key=lambda row: row.submission)
    known = [(row, comparable(value)) for row in rows if (value := column.value(row)) is not None]
    known.sort(key=lambda entry: entry[1], reverse=(column.sort == "largest first") != backwards)
    ordered = [*(row for row, _ in known), *(row for row in rows if column.value(row) is None)]
    return sorted(ordered, key=lambda row: row.limit is not None)


def board_values(board: Board) -> dict[str, Any]:
    """The board for programs: all its fields, and in each row and cell the values of the columns by name."""
    of_row = [entry for entry in COLUMNS if isinstance(entry, Column) and entry.file_type]
    of_cell = [entry for entry in COLUMNS if isinstance(entry, TaskColumn) and entry.file_type]
    values = asdict(board)
    for row, plain in zip(board.rows, values["rows"], strict=True):
        cells = zip(row.cells, plain["cells"], strict=True)
        plain["cells"] = [{**{entry.name: entry.for_json(cell) for entry in of_cell}, **more} for cell, more in cells]
    values["rows"] = [
        {**{entry.name: entry.for_json(row) for entry in of_row}, **plain}
        for row, plain in zip(board.rows, values["rows"], strict=True)
    ]
    return values


def gap_notes(rows: Iterable[Row], *, explained: bool = False) -> list[str]:
    """One sentence per measured column that is empty in some rows, with the reasons.

    Args:
        rows: of one or more boards.
        explained: whether to explain the column, for readers who cannot hover over its header.
    """
    notes = []
    rows = list(rows)
    for entry in COLUMNS:
        if isinstance(entry, Column) and entry.gaps:
            reasons = sorted({shown.title for row in rows if (shown := entry.shown(row)).empty})
            label = f"{entry.label} ({entry.help})" if explained else entry.label
            if reasons:
                notes.append(f"{label} is empty where it could not be measured: {'; '.join(reasons)}.")
    return notes
