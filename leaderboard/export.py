"""A board as a file: every number in full, one column a field; and as a LaTeX table to paste."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from importlib.metadata import version

from leaderboard import formats
from leaderboard.filters import newest
from leaderboard.ranking import Board, Cell, Row

# Name, type of the values (None where there is none), and the values, one a row.
_Column = tuple[str, type, list[object]]

_STANDING: dict[str, tuple[str, type]] = {
    "rank_low": ("rank_low", int),
    "rank_high": ("rank_high", int),
    "tie_group": ("group", int),
    "borda": ("borda", float),
    "mean_rank": ("mean_rank", float),
    "mean_ci_low": ("low", float),
    "mean_ci_high": ("high", float),
}
_RESULT: dict[str, type] = {
    "test": float,
    "ci_low": float,
    "ci_high": float,
    "test_std": float,
    "best_layer": int,
    "best_layer_name": str,
    "record_id": str,
}


def to_csv(board: Board) -> str:
    """One line a submission, in the order of the board's rows.

    A task's columns are ``TASK`` (the score) and ``TASK.FIELD``; ``TASK.note`` says why the score is empty,
    ``TASK.overlap`` what the submission heard of the task in pretraining; ``standing_note`` says why the columns of
    `leaderboard.significance.Standing` are empty.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = _columns(board)
    writer.writerow([_spreadsheet(name) for name, _, _ in columns])
    writer.writerows(
        [_spreadsheet(value) for value in row] for row in zip(*(values for _, _, values in columns), strict=True)
    )
    return out.getvalue()


def to_parquet(board: Board) -> bytes:
    """The columns of `to_csv` with their types: whole numbers are 64-bit integers, empty fields are null."""
    import pyarrow as pa
    from pyarrow import parquet

    types = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}
    columns = _columns(board)
    schema = pa.schema([(name, types[kind]) for name, kind, _ in columns])
    arrays = [pa.array(values, types[kind]) for _, kind, values in columns]
    out = io.BytesIO()
    parquet.write_table(pa.Table.from_arrays(arrays, schema=schema), out)
    return out.getvalue()


def to_latex(board: Board, notes: Sequence[str] = ()) -> str:
    """A table for a paper, which needs the package booktabs.

    Rank, mean and scores with half of their 95 % interval, and parameters; the best of each column among the rows that
    are given is bold. Names are escaped; what is not in ASCII loses its accents, or becomes a question mark.

    Args:
        board: in the order of its rows.
        notes: sentences to stand below the table, such as what was filtered.
    """
    full = [row for row in board.rows if row.limit is None]
    best_mean = max((row.mean for row in full if row.mean is not None), default=None)
    best = [
        max((result.test for row in full if (result := row.cells[index].result)), default=None)
        for index in range(len(board.columns))
    ]
    lines = []
    for row in board.rows:
        name = latex(row.submission) + (r"$^\ddagger$" if row.remote_code else "")
        name += rf" {{\scriptsize(limited to {row.limit})}}" if row.limit is not None else ""
        counted = row.limit is None
        scores = [_score(cell, counted and top is not None, top) for cell, top in zip(row.cells, best, strict=True)]
        size = formats.parameters(row.parameters)
        lines.append([_rank(row), name, _mean(row, best_mean), *scores, latex(size)])
    heads = ["", "Submission", "Mean", *(latex(column.task) for column in board.columns), "Parameters"]
    metrics = ["", "", "", *(formats.METRICS[column.metric] for column in board.columns), ""]
    below = [
        f"BEANS probe {version('beans-probe')}, protocol {board.protocol}, track "
        f"{formats.TRACKS.get(board.track, board.track)}, {formats.GROUPS[board.group].lower()} tasks. "
        "Test score ± half of its 95 % interval; the best of each column is bold.",
        *notes,
    ]
    if any(row.standing for row in board.rows):
        below.append("In parentheses the range of the rank in 95 % of the resamples.")
    if any(cell.overlap for row in board.rows for cell in row.cells):
        below.append(formats.OVERLAP_LEGEND)
    if any(row.remote_code for row in board.rows):
        below.append(formats.REMOTE_CODE_LEGEND)
    if any(cell.result is None for row in board.rows for cell in row.cells):
        below.append("–: no result that can be compared.")
    return "\n".join(
        [
            "% \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering\small",
            rf"\begin{{tabular}}{{@{{}}ll{'r' * (len(heads) - 2)}@{{}}}}",
            r"\toprule",
            *(" & ".join(line) + r" \\" for line in (heads, metrics)),
            r"\midrule",
            *(" & ".join(line) + r" \\" for line in lines),
            r"\bottomrule",
            r"\end{tabular}",
            rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {latex(' '.join(below))}}}",
            r"\end{table}",
            "",
        ]
    )


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
}


# Two of these would be set as one other sign.
_LIGATURE = re.compile(r"-(?=[-–])|,(?=,)|'(?=['\"])")


def latex(words: str) -> str:
    """``words`` on one line, such that LaTeX prints them as they are and runs nothing in them."""
    plain = "".join(map(_ascii, " ".join(words.split())))
    apart = {match.start() for match in _LIGATURE.finditer(plain)}
    return "".join(
        _LATEX.get(character, character) + ("{}" if place in apart else "") for place, character in enumerate(plain)
    )


def _ascii(character: str) -> str:
    """Without accents, since what LaTeX knows of the others depends on its fonts."""
    if character in _LATEX:
        return character
    base = unicodedata.normalize("NFKD", character)[:1]
    return base if " " <= base <= "~" else "?"


def _rank(row: Row) -> str:
    interval = formats.rank_interval(row) if row.standing else ""
    return "--" if row.rank is None else f"{row.rank} {interval.replace('-', '--')}".rstrip()


def _mean(row: Row, best: float | None) -> str:
    if row.mean is None:
        return "--"
    spread = formats.half_interval(row.standing.low, row.standing.high) if row.standing else ""
    return _number(row.mean, spread, bold=row.limit is None and row.mean == best)


def _score(cell: Cell, counted: bool, best: float | None) -> str:
    if cell.result is None:
        return "--"
    spread = formats.half_interval(cell.result.ci_low, cell.result.ci_high)
    mark = r"$^\dagger$" if cell.overlap else ""
    return _number(cell.result.test, spread, bold=counted and cell.result.test == best, mark=mark)


def _number(value: float, spread: str, *, bold: bool, mark: str = "") -> str:
    shown = formats.score(value)
    shown = rf"\textbf{{{shown}}}" if bold else shown
    return shown + mark + (rf" {{\scriptsize {latex(spread)}}}" if spread else "")


def _columns(board: Board) -> list[_Column]:
    """Every column of the files."""
    rows = board.rows
    of = [newest(row) for row in rows]
    found: list[_Column] = []

    def add(name: str, kind: type, values: Iterable[object]) -> None:
        # Own tasks may be called as they like, "rank" or "a.note" beside "a".
        taken = {name for name, _, _ in found}
        while name in taken:
            name += "_"
        found.append((name, kind, list(values)))

    add("rank", int, (row.rank for row in rows))
    add("submission", str, (row.submission for row in rows))
    add("mean", float, (row.mean for row in rows))
    add("tasks", str, (row.coverage for row in rows))
    for field in ("protocol", "track", "group"):
        add(field, str, [getattr(board, field)] * len(rows))
    add("limit", int, (row.limit for row in rows))
    for index, column in enumerate(board.columns):
        cells = [row.cells[index] for row in rows]
        for field, kind in _RESULT.items():
            name = column.task if field == "test" else f"{column.task}.{field}"
            add(name, kind, (getattr(cell.result, field, None) for cell in cells))
        add(f"{column.task}.note", str, (cell.reason for cell in cells))
        add(f"{column.task}.overlap", str, ("; ".join(cell.overlap) for cell in cells))
    add("parameters", int, (row.parameters for row in rows))
    add("vram_bytes", int, (row.vram_bytes for row in rows))
    add("vram_note", str, ("" if row.vram_bytes is not None else row.vram_reason for row in rows))
    add("device", str, (row.device for row in rows))
    add("remote_code", bool, (row.remote_code for row in rows))
    for name, (field, kind) in _STANDING.items():
        add(name, kind, (getattr(row.standing, field, None) for row in rows))
    add("standing_note", str, (row.standing_reason for row in rows))
    add("family", str, (result.family if result else "" for result in of))
    add("licence", str, (result.licence if result else "" for result in of))
    add("pretraining_domains", str, ("; ".join(result.domains) if result else "" for result in of))
    return found


def _spreadsheet(value: object) -> object:
    # A spreadsheet runs what begins like a formula, and names are anybody's.
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
