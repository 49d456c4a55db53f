"""``beans leaderboard``: the board in the terminal and in the browser."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from evaluator.cli.console import METRIC_NAMES, print_json, print_table, progress, warn
from tasks.home import Home

if TYPE_CHECKING:
    from leaderboard.ranking import Board, Cell

app = typer.Typer(
    help="Leaderboard: show, serve, rebuild.", no_args_is_help=True, epilog="Example: beans leaderboard show"
)


@app.command(epilog="Example: beans leaderboard show --json")
def show(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Show every board: one for each protocol, track and group of tasks."""
    from leaderboard.standings import standings, with_certainty
    from leaderboard.store import Store

    home = Home.from_environment()
    store = Store(home.database_url)
    found = [with_certainty(board, store, home.records) for board in standings(store.results())]
    if as_json:
        print_json([asdict(board) for board in found])
        return
    if not found:
        print("The board is empty: run `beans submit submissions/statistics.toml`.")
    for board in found:
        _print_board(board)


def _print_board(board: "Board") -> None:
    from leaderboard import text

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
    for note in text.certainty_notes(board):
        print(note)
    reasons = dict.fromkeys(row.vram_reason for row in board.rows if row.vram_bytes is None)
    for reason in reasons:
        print(f"VRAM (peak for one 10-s clip) is empty: {reason}.")
    disclosed = dict.fromkeys(
        f"{row.submission}: {reason}" for row in board.rows for cell in row.cells for reason in cell.overlap
    )
    if disclosed:
        print("\n  ".join([text.OVERLAP_LEGEND, *disclosed]))
    if any(row.remote_code for row in board.rows):
        print(text.REMOTE_CODE_LEGEND)


def _spell(cell: "Cell") -> str:
    from leaderboard import text

    result = cell.result
    if result is None:
        return cell.reason
    mark = f" {text.OVERLAP_MARK}" if cell.overlap else ""
    return f"{result.test:.3f}{mark} [{result.ci_low:.3f}, {result.ci_high:.3f}] layer {result.best_layer}"


@app.command(epilog="Example: beans leaderboard serve --port 8501 --mlflow")
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the leaderboard.")] = 8501,
    mlflow: Annotated[bool, typer.Option("--mlflow", help="Serve MLflow too.")] = False,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow.")] = 5000,
) -> None:
    """Serve the leaderboard in the browser until interrupted."""
    from leaderboard.serve import serve as serve_pages

    serve_pages(Home.from_environment(), host=host, port=port, mlflow_port=mlflow_port if mlflow else None)


@app.command(epilog="Example: beans leaderboard rebuild")
def rebuild() -> None:
    """Rebuild the board's database from the record files alone, and compute what says how far ranks can be trusted."""
    from leaderboard.standings import compute
    from leaderboard.store import Store

    home = Home.from_environment()
    count = Store(home.database_url).rebuild(home.records)
    print(f"The board holds {count} records.", flush=True)
    with progress() as report:
        complaints = compute(home.records, report)
    for complaint in complaints:
        warn(f"no rank interval: {complaint}")
