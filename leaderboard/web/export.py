"""A board as a file: CSV and Parquet with every number in full and one column per field, and a LaTeX table."""

import io
import re
import unicodedata
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from leaderboard.ranking import formats
from leaderboard.ranking.boards import Board
from leaderboard.ranking.column import Column, Shown
from leaderboard.ranking.columns import best_value, columns_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# The pandas type of each column type. All of these types allow empty values.
_DTYPES = {int: "Int64", float: "float64", str: "object", bool: "boolean"}


def to_frame(board: Board) -> "pd.DataFrame":
    """The board as a frame: one line per submission, in the order of the board's rows, with every column of files.

    A task's columns are ``TASK`` (the score) and ``TASK.FIELD``. ``TASK.note`` gives the reason for an empty score.
    ``TASK.overlap`` lists what the pretraining shares with the task, ``TASK.layers_alike`` the layers that validation
    cannot tell apart from the best one, and ``TASK.flags`` the flags of the result. ``standing_note`` gives the reason
    why the columns of `leaderboard.ranking.significance.Standing` are empty.
    """
    import pandas as pd

    return pd.DataFrame(
        {
            name: pd.Series([column.value(row) for row in board.rows], dtype=_DTYPES[file_type])
            for name, file_type, column in _named(board)
        }
    )


def to_csv(board: Board) -> str:
    """`to_frame` as CSV. Text that a spreadsheet would run as a formula starts with an apostrophe."""
    frame = to_frame(board)
    words = frame.select_dtypes("object")
    frame[words.columns] = words.map(_spreadsheet, na_action="ignore")
    return frame.to_csv(index=False, header=[_spreadsheet(name) for name in frame.columns], lineterminator="\n")


def to_parquet(board: Board) -> bytes:
    """`to_frame` as Parquet: whole numbers are 64-bit integers, empty fields are null."""
    out = io.BytesIO()
    to_frame(board).to_parquet(out, index=False, engine="pyarrow", schema=_schema(board))
    return out.getvalue()


def to_latex(board: Board, notes: Sequence[str] = ()) -> str:
    """The board as a LaTeX table for a paper. The table needs the package booktabs.

    It has the columns for LaTeX, and scores with half of their 95 % interval. The best value per column among the rows
    of ``board`` is bold. Names are escaped. A letter outside ASCII loses its accent or becomes a question mark.

    Args:
        board: its rows keep their order.
        notes: sentences below the table, such as the filters in use.
    """
    import pandas as pd

    columns = columns_of(board, "latex")
    cells = {}
    for place, column in enumerate(columns):
        best = best_value(column, board)
        cells[place] = [
            _cell(column, column.shown(row), bold=row.limit is None and best is not None and column.value(row) == best)
            for row in board.rows
        ]
    frame = pd.DataFrame(cells, dtype="object")
    frame.columns = pd.MultiIndex.from_tuples([(latex(column.label), latex(column.sub)) for column in columns])
    aligned = "".join("r" if column.style in ("number", "score") else "l" for column in columns)
    tabular = frame.style.hide(axis="index").to_latex(
        column_format=f"@{{}}{aligned}@{{}}", hrules=True, sparse_columns=False, multicol_align="r"
    )
    below = [
        f"BEANS probe {version('beans-probe')}, protocol {board.protocol}, track "
        f"{board.track}, {formats.GROUPS[board.group].lower()} tasks. "
        "Test score ± half of its 95 % interval; the best of each column is bold.",
        *notes,
    ]
    if any(row.standing for row in board.rows):
        below.append("In parentheses: the range of the rank in 95 % of the resamples.")
    if any(cell.overlap for row in board.rows for cell in row.cells):
        below.append(formats.OVERLAP_LEGEND)
    below += formats.flag_legends(cell for row in board.rows for cell in row.cells)
    if any(row.remote_code for row in board.rows):
        below.append(formats.REMOTE_CODE_LEGEND)
    if any(cell.result is None for row in board.rows for cell in row.cells):
        below.append("–: no comparable result.")
    return "\n".join(
        [
            "% \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering\small",
            tabular.strip(),
            rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {latex(' '.join(below))}}}",
            r"\end{table}",
            "",
        ]
    )


# pandas' escape="latex" is not enough: it keeps ligatures, and letters that the fonts of a paper may not have.
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': "''",
    "–": "--",
    "±": r"$\pm$",
    "≥": r"$\ge$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "§": r"$^\S$",
    "¶": r"$^\P$",
    "‖": r"$^\|$",
}


# LaTeX would join two of these signs into another sign.
_LIGATURE = re.compile(r"-(?=[-–])|,(?=,)|'(?=['\"])")


def latex(words: str) -> str:
    """``words`` on one line, escaped so that LaTeX prints them literally and runs no command in them."""
    plain = "".join(map(_ascii, " ".join(words.split())))
    apart = {match.start() for match in _LIGATURE.finditer(plain)}
    return "".join(
        _LATEX.get(character, character) + ("{}" if place in apart else "") for place, character in enumerate(plain)
    )


def _ascii(character: str) -> str:
    """The character without its accent, or a question mark: it depends on the font which others LaTeX can print."""
    if character in _LATEX:
        return character
    base = unicodedata.normalize("NFKD", character)[:1]
    return base if " " <= base <= "~" else "?"


def _cell(column: Column, shown: Shown, *, bold: bool) -> str:
    if shown.empty:
        return "--"
    value = rf"\textbf{{{latex(shown.text)}}}" if bold else latex(shown.text)
    if column.style == "rank":
        return f"{value} {latex(shown.spread.replace('-', '–'))}".rstrip()
    return value + latex(shown.mark) + (rf" {{\scriptsize {latex(shown.spread)}}}" if shown.spread else "")


def _named(board: Board) -> list[tuple[str, type, Column]]:
    """Every column of the files with its name and type. Names are unique."""
    named: dict[str, tuple[str, type, Column]] = {}
    for column in columns_of(board):
        if column.file_type is None:
            continue
        # An own task can have any name: "rank", or "a.note" beside a task "a".
        name = column.name
        while name in named:
            name += "_"
        named[name] = name, column.file_type, column
    return list(named.values())


def _schema(board: Board) -> "pa.Schema":
    """The Parquet types of all columns, so that an empty column has the same type as a filled one."""
    import pyarrow as pa

    types = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}
    return pa.schema([(name, types[file_type]) for name, file_type, _ in _named(board)])


def _spreadsheet(words: str) -> str:
    # A spreadsheet runs text that starts like a formula, and anybody can choose the name of a submission.
    return f"'{words}" if words.startswith(("=", "+", "-", "@", "\t", "\r")) else words
