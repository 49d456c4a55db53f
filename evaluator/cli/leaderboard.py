"""``beans leaderboard``: the board in the terminal and in the browser."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evaluator.cli.console import METRIC_NAMES, counted, print_json, print_table, progress, warn
from tasks.support.errors import UserError
from tasks.support.home import Home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leaderboard.ranking.boards import Board, Cell

app = typer.Typer(
    help="Leaderboard: show, export, serve, rebuild.", no_args_is_help=True, epilog="Example: beans leaderboard show"
)


@app.command(epilog="Example: beans leaderboard show --json")
def show(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Show every board: one for each protocol, track and group of tasks."""
    from leaderboard.database.store import Store
    from leaderboard.ranking.standings import read_standings, with_certainty

    home = Home.from_environment()
    store = Store(home.database_url)
    found = [with_certainty(board, store, home.records) for board in read_standings(store)]
    if as_json:
        print_json([asdict(board) for board in found])
        return
    if not found:
        print(_empty(home))
        return
    for board in found:
        _print_board(board)
    for line in _legends(found):
        print(line)


def _empty(home: Home) -> str:
    """That there is no result, and where: in another directory it is another home."""
    from sqlalchemy.engine import make_url

    return (
        f"The board is empty: run `beans submit submissions/statistics.toml`, or set BEANS_HOME to the home that has"
        f" results (this is {home.root}, with the database {make_url(home.database_url).render_as_string()})."
    )


def _print_board(board: "Board") -> None:
    from leaderboard.web import text

    tasks = [f"{column.task} ({METRIC_NAMES[column.metric]})" for column in board.columns]
    rows = [
        [
            "" if row.rank is None else f"{row.rank} {text.rank_interval(row)}",
            "" if row.standing is None else text.tie_group(row.standing.group),
            row.submission
            + (f" {text.REMOTE_CODE_MARK}" if row.remote_code else "")
            + (f" (limited to {row.limit})" if row.limit else ""),
            row.coverage if row.mean is None else f"{row.mean:.3f}",
            *(_spell(cell) for cell in row.cells),
            *(("–", "–") if row.standing is None else (f"{row.standing.borda:g}", f"{row.standing.mean_rank:.2f}")),
            f"{row.parameters / 1e6:.1f} M" if row.parameters else "0",
            "–" if row.vram_bytes is None else f"{row.vram_bytes / 2**20:.0f} MiB",
        ]
        for row in board.rows
    ]
    columns = ["rank", "group", "submission", "mean", *tasks, "Borda", "mean rank", "parameters", "VRAM"]
    title = f"{board.protocol} · track {board.track} · {board.group} tasks"
    print_table(title, columns, rows, numeric=("mean", "Borda", "mean rank", "parameters", "VRAM"))
    for note in text.certainty_gaps(board):
        print(note)


def _legends(boards: "Sequence[Board]") -> list[str]:
    """What the tables need to be read, once for all of them."""
    from leaderboard.web import text

    rows = [row for board in boards for row in board.rows]
    lines = [legend for board in boards for legend in text.certainty_legends(board)]
    lines += [f"VRAM (peak for one 10-s clip) is empty: {row.vram_reason}." for row in rows if row.vram_bytes is None]
    disclosed = dict.fromkeys(
        f"{row.submission}: {reason}" for row in rows for cell in row.cells for reason in cell.overlap
    )
    if disclosed:
        lines.append("\n  ".join([text.OVERLAP_LEGEND, *disclosed]))
    if any(row.remote_code for row in rows):
        lines.append(text.REMOTE_CODE_LEGEND)
    return list(dict.fromkeys(lines))


def _spell(cell: "Cell") -> str:
    from leaderboard.web import text

    result = cell.result
    if result is None:
        return cell.reason
    mark = f" {text.OVERLAP_MARK}" if cell.overlap else ""
    return f"{result.test:.3f}{mark} [{result.ci_low:.3f}, {result.ci_high:.3f}] layer {result.best_layer}"


@app.command(epilog="Example: beans leaderboard export board.tex --view 'track=twa&size=0-10&sort=-mean'")
def export(
    file: Annotated[
        Path, typer.Argument(help="Written as CSV, Parquet or LaTeX, as its name ends: .csv, .parquet, .tex.")
    ],
    view: Annotated[
        str, typer.Option(help="Address of the board's page, or what it has after the question mark.")
    ] = "",
) -> None:
    """Write one board to a file, with the filters and in the order of a page's address; without, the first board."""
    from leaderboard.web.export import to_csv, to_latex, to_parquet
    from tasks.support.files import write_atomically

    kind = file.suffix.lower()
    if kind not in (".csv", ".parquet", ".tex"):
        raise UserError(f"{file} ends in none of .csv, .parquet and .tex: name the file by what it should hold.")
    if not file.parent.is_dir():
        raise UserError(f"{file} cannot be written: {file.parent} is no directory; make it first, or name another.")
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
        print(sentence)
    print(f"{file}: {counted(len(board.rows), 'row')} of {board.protocol}, track {board.track}, {board.group} tasks.")


def _view(address: str) -> tuple["Board", list[str]]:
    """The board that a page's address shows, and its filters in words; unlike there, nothing unknown is left out."""
    from urllib.parse import parse_qs, urlsplit

    from leaderboard.database.store import Store
    from leaderboard.ranking.boards import sort_rows
    from leaderboard.ranking.filters import FILTERS, Filters, of_taxa, passing, sort_names
    from leaderboard.ranking.standings import catalogue, read_standings, with_certainty
    from leaderboard.web import text

    asked = urlsplit(address).query if "://" in address else address
    try:
        query = parse_qs(asked, strict_parsing=bool(asked))
    except ValueError as error:
        raise UserError(
            f"--view {address}: write it as an address has it after the question mark, such as 'track=twa&taxa=birds'."
        ) from error
    choices = ("track", "group", "protocol")
    # A page's address also holds what was marked for comparison.
    for key in query:
        _require("parameter", key, [*choices, "sort", *FILTERS, "with"])
    home = Home.from_environment()
    store = Store(home.database_url)
    found = read_standings(store)
    if not found:
        raise UserError(_empty(home))
    for key in choices:
        there = list(dict.fromkeys(getattr(board, key) for board in found))
        value = query.get(key, there)[0]
        _require(key, value, there)
        found = [board for board in found if getattr(board, key) == value]
    whole = found[0]
    offered = Filters.offered(whole, catalogue())
    filters, unknown = Filters.read(query, offered)
    for key, values in unknown.items():
        _require(key, values[0], getattr(offered, key))
    ranked = with_certainty(of_taxa(whole, filters.taxa, catalogue()), store, home.records)
    sort = query.get("sort", ["mean"])[0]
    _require("sort", sort, list(sort_names(ranked)))
    passed = passing(ranked, filters, whole)
    return replace(passed, rows=tuple(sort_rows(passed, sort))), text.scope(passed, ranked, whole, filters)


def _require(what: str, value: str, known: "Sequence[str]") -> None:
    if value not in known:
        # In quotes, since `none` is a value too.
        there = f"choose one of: {', '.join(map(repr, known))}" if known else "this board has none to choose"
        raise UserError(f"--view: there is no {what} {value!r}; {there}.")


@app.command(epilog="Example: beans leaderboard serve --port 8501 --mlflow")
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the leaderboard.")] = 8501,
    mlflow: Annotated[bool, typer.Option("--mlflow", help="Serve MLflow too.")] = False,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow.")] = 5000,
) -> None:
    """Serve the leaderboard in the browser until interrupted."""
    from leaderboard.web.serve import serve as serve_pages

    serve_pages(Home.from_environment(), host=host, port=port, mlflow_port=mlflow_port if mlflow else None)


@app.command(epilog="Example: beans leaderboard rebuild")
def rebuild() -> None:
    """Rebuild the board's database from the files of records and profiles, and work out how far ranks go."""
    from leaderboard.database import profiles
    from leaderboard.database.store import Store
    from leaderboard.ranking.standings import compute

    home = Home.from_environment()
    store = Store(home.database_url)
    count = store.rebuild(home.records)
    profiled = profiles.rebuild(store, home.profiles)
    more = f" and {counted(profiled, 'profile')}" if profiled else ""
    print(f"The board holds {counted(count, 'record')}{more}.", flush=True)
    with progress() as report:
        complaints = compute(home.records, report)
    for complaint in complaints:
        warn(f"no rank interval: {complaint}")
