"""``beans submissions``: lists, shows and writes submission files."""

from pathlib import Path
from typing import Annotated

import typer

from evaluator.backbones import LOADERS
from evaluator.cli import new_submission
from evaluator.cli.console import print_json, print_table, warn
from evaluator.cli.late_help import late_help
from tasks.support.errors import UserError

app = typer.Typer(
    help="Submissions: list, show, loaders, new.",
    no_args_is_help=True,
    epilog="Example: beans submissions show statistics",
)
app.command("new", cls=late_help(loader=lambda: ", ".join(LOADERS.names())), epilog=new_submission.EXAMPLE)(
    new_submission.new
)

Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
Directory = Annotated[Path, typer.Option(help="The directory of the submission files.")]
_DIRECTORY = Path("submissions")


@app.command("list", epilog="Example: beans submissions list --json")
def list_submissions(directory: Directory = _DIRECTORY, as_json: Json = False) -> None:
    """List submission files and their loaders. A broken file is listed with its error."""
    from evaluator.submission import Submission

    if not directory.is_dir():
        raise UserError(f"There is no directory {directory}: run this in the project, or give --directory.")
    rows: list[dict[str, str]] = []
    for path in sorted(directory.glob("*.toml")):
        row = {"name": path.stem, "loader": "", "family": "", "description": "", "path": str(path), "error": ""}
        try:
            entry = Submission.read(path)
            row |= {"name": entry.name, "loader": entry.loader}
            row |= {key: getattr(entry.about, key, "") for key in ("family", "description")}
        except UserError as error:
            # An unfinished file must not hide the others.
            warn(str(error))
            row["error"] = str(error)
        rows.append(row)
    if as_json:
        print_json(rows)
    else:
        columns = ["name", "loader", "family", "path"]
        shown = [{**row, "loader": "broken"} if row["error"] else row for row in rows]
        print_table("Submissions", columns, [[row[column] for column in columns] for row in shown])


@app.command(epilog="Example: beans submissions show submissions/statistics.toml")
def show(
    submission: Annotated[str, typer.Argument(help="A submission file or its name.", show_default=False)],
    directory: Directory = _DIRECTORY,
    as_json: Json = False,
) -> None:
    """Show the keys of a submission file, and the overlaps with tasks that the board shows for it."""
    from evaluator.submission import Submission
    from leaderboard.database.standings import catalogue
    from leaderboard.records.overlap import overlaps
    from leaderboard.web import text

    path = Path(submission) if submission.endswith(".toml") else directory / f"{submission}.toml"
    entry = Submission.read(path)
    about = entry.about.model_dump(mode="json", exclude_none=True) if entry.about else {}
    overlap = overlaps(about, catalogue())
    facts = {"name": entry.name, "loader": entry.loader, **entry.arguments, **about}
    if as_json:
        print_json({**facts, "overlap": overlap})
        return
    facts |= {"pretraining": "\n".join(text.pretraining(about)), "overlap with tasks": "\n".join(overlap)}
    print_table(
        entry.name, ["key", "value"], [[key, str(value)] for key, value in facts.items() if value not in ("", [])]
    )


@app.command("loaders", epilog="Example: beans submissions loaders")
def list_loaders(as_json: Json = False) -> None:
    """List the loaders that a submission file can name, including those of installed packages."""
    rows: list[dict[str, str]] = []
    for name, loader in LOADERS.each():
        added = LOADERS.distribution(name)
        row = {"name": name, "for": "", "package": f"{added.name} {added.version}" if added else "", "error": ""}
        if isinstance(loader, UserError):
            warn(str(loader))
            row["error"] = str(loader)
        else:
            row["for"] = loader.help
        rows.append(row)
    if as_json:
        print_json(rows)
    else:
        cells = [[row["name"], row["for"], "broken" if row["error"] else row["package"] or "the suite"] for row in rows]
        print_table("Loaders", ["loader", "for", "from"], cells)
