"""``beans leaderboard``: the board in the terminal and in the browser."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evaluator.cli.console import counted, print_json, print_table, progress, say, warn
from tasks.support.errors import UserError
from tasks.support.home import Home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leaderboard.ranking.boards import Board

app = typer.Typer(
    help="Leaderboard: show, export, serve, rebuild.", no_args_is_help=True, epilog="Example: beans leaderboard show"
)


@app.command(epilog="Example: beans leaderboard show --json")
def show(
    in_words: Annotated[
        bool,
        typer.Option(
            "--in-words", help="End with sentences: who is first, and which pretrained submissions beat the controls."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show every board: one per protocol, track and group of tasks."""
    from leaderboard.database.standings import kept, read_standings, with_certainty
    from leaderboard.database.store import Store
    from leaderboard.ranking.columns import board_values
    from leaderboard.ranking.findings import findings

    home = Home.from_environment()
    store = Store(home.database_url)
    boards = [with_certainty(board, store, home.records) for board in read_standings(store)]
    if as_json:
        print_json([board_values(board) for board in boards])
        return
    if not boards:
        say(_empty(home))
        return
    for board in boards:
        _print_board(board)
    for line in _legends(boards):
        say(line)
    if not in_words:
        return
    for board in boards:
        if sentences := findings(board, lambda result: kept(result, home.records)):
            say("\n- ".join([f"\n{_title(board)}:", *sentences]))


def _empty(home: Home) -> str:
    """Return the message for an empty board. It names the home, because the default home depends on the directory."""
    from sqlalchemy.engine import make_url

    return (
        f"The board is empty: run `beans submit submissions/statistics.toml`, or set BEANS_HOME to the home that has"
        f" results (this is {home.root}, with the database {make_url(home.database_url).render_as_string()})."
    )


def _print_board(board: "Board") -> None:
    from leaderboard.ranking import formats
    from leaderboard.ranking.columns import columns_of

    columns = columns_of(board, "terminal")
    # The header of a task's column also has the metric.
    labels = [f"{column.label} ({column.sub})" if column.style == "score" else column.label for column in columns]
    rows = [[column.shown(row).plain for column in columns] for row in board.rows]
    numeric = [label for label, column in zip(labels, columns, strict=True) if column.style == "number"]
    print_table(_title(board), labels, rows, numeric=numeric)
    for note in formats.certainty_gaps(board):
        say(note)


def _title(board: "Board") -> str:
    return f"{board.protocol} · track {board.track} · {board.group} tasks"


def _legends(boards: "Sequence[Board]") -> list[str]:
    """Return the notes that explain the tables, each note once."""
    from leaderboard.ranking import formats
    from leaderboard.ranking.columns import gap_notes

    rows = [row for board in boards for row in board.rows]
    lines = [legend for board in boards for legend in formats.certainty_legends(board)]
    lines += gap_notes(rows, explained=True)
    cells = [cell for row in rows for cell in row.cells]
    lines += [*formats.layer_legends(cells), *formats.flag_legends(cells)]
    disclosed = dict.fromkeys(
        f"{row.submission}: {reason}" for row in rows for cell in row.cells for reason in cell.overlap
    )
    if disclosed:
        lines.append("\n  ".join([formats.OVERLAP_LEGEND, *disclosed]))
    if any(row.remote_code for row in rows):
        lines.append(formats.REMOTE_CODE_LEGEND)
    return list(dict.fromkeys(lines))


@app.command(epilog="Example: beans leaderboard export board.tex --view 'track=twa&size=0-10&sort=-mean'")
def export(
    file: Annotated[
        Path, typer.Argument(help="The file; its suffix decides the format: .csv, .parquet or .tex (LaTeX).")
    ],
    view: Annotated[str, typer.Option(help="Address of the board's page, or its part after the question mark.")] = "",
) -> None:
    """Write one board to a file. --view selects the board, its filters and its order; by default the first board."""
    from leaderboard.web.export import to_csv, to_latex, to_parquet
    from tasks.support.files import write_atomically

    kind = file.suffix.lower()
    if kind not in (".csv", ".parquet", ".tex"):
        raise UserError(
            f"{file} does not end in .csv, .parquet or .tex: give it the suffix of the format that you want."
        )
    if not file.parent.is_dir():
        raise UserError(
            f"{file} cannot be written: {file.parent} is not a directory; create it first, or name another one."
        )
    board, scope = _view(view)
    content: str | bytes
    if kind == ".csv":
        content = to_csv(board)
    elif kind == ".parquet":
        content = to_parquet(board)
    else:
        content = to_latex(board, scope)
    try:
        write_atomically(file, content)
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error.strerror}): choose another place.") from error
    for sentence in scope:
        say(sentence)
    say(f"{file}: {counted(len(board.rows), 'row')} of {board.protocol}, track {board.track}, {board.group} tasks.")


def _view(address: str) -> tuple["Board", list[str]]:
    """Return the board of a page's address, and its filters in words. Unlike on the page, unknown values are errors."""
    from urllib.parse import parse_qs, urlsplit

    from leaderboard.database.standings import catalogue, read_standings, with_certainty
    from leaderboard.database.store import Store
    from leaderboard.ranking.columns import sort_names, sort_rows
    from leaderboard.ranking.filters import FILTERS, Filters, of_taxa, passing
    from leaderboard.web import text

    query_text = urlsplit(address).query if "://" in address else address
    try:
        query = parse_qs(query_text, strict_parsing=bool(query_text))
    except ValueError as error:
        raise UserError(
            f"--view {address}: write it as in an address after the question mark, such as 'track=twa&taxa=birds'."
        ) from error
    choices = ("track", "group", "protocol")
    # A page's address also holds the submissions that are marked for comparison.
    for key in query:
        _require("parameter", key, [*choices, "sort", *FILTERS, "with"])
    home = Home.from_environment()
    store = Store(home.database_url)
    boards = read_standings(store)
    if not boards:
        raise UserError(_empty(home))
    for key in choices:
        values = list(dict.fromkeys(getattr(board, key) for board in boards))
        value = query.get(key, values)[0]
        _require(key, value, values)
        boards = [board for board in boards if getattr(board, key) == value]
    whole = boards[0]
    offered = Filters.offered(whole, catalogue())
    filters, unknown = Filters.read(query, offered)
    for key, wrong in unknown.items():
        _require(key, wrong[0], getattr(offered, key))
    ranked = with_certainty(of_taxa(whole, filters.taxa, catalogue()), store, home.records)
    sort = query.get("sort", ["mean"])[0]
    _require("sort", sort, list(sort_names(ranked)))
    passed = passing(ranked, filters, whole)
    return replace(passed, rows=tuple(sort_rows(passed, sort))), text.scope(passed, ranked, whole, filters)


def _require(what: str, value: str, known: "Sequence[str]") -> None:
    if value not in known:
        # In quotes, because `none` is also a value.
        there = f"choose one of: {', '.join(map(repr, known))}" if known else "this board has none to choose"
        raise UserError(f"--view: there is no {what} {value!r}; {there}.")


@app.command(epilog="Example: beans leaderboard serve --port 8501 --mlflow")
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of the leaderboard.")] = 8501,
    mlflow: Annotated[bool, typer.Option("--mlflow", help="Also serve MLflow.")] = False,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65_535, help="Port of MLflow.")] = 5000,
) -> None:
    """Serve the leaderboard in the browser until interrupted."""
    from leaderboard.web.serve import serve as serve_pages

    serve_pages(Home.from_environment(), host=host, port=port, mlflow_port=mlflow_port if mlflow else None)


@app.command(epilog="Example: beans leaderboard rebuild")
def rebuild() -> None:
    """Rebuild the board's database from the files of records and profiles, and compute the ranges of ranks."""
    from leaderboard.database import profiles
    from leaderboard.database.standings import compute
    from leaderboard.database.store import Store

    home = Home.from_environment()
    store = Store(home.database_url)
    count = store.rebuild(home.records)
    profiled = profiles.rebuild(store, home.profiles)
    more = f" and {counted(profiled, 'profile')}" if profiled else ""
    say(f"The board holds {counted(count, 'record')}{more}.")
    with progress() as report:
        complaints = compute(home.records, report)
    for complaint in complaints:
        warn(f"no rank interval: {complaint}")
