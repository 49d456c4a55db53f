"""``beans records``: lists and checks the record files, imports records of others, sends records to MLflow."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evaluator.cli import export_probe
from evaluator.cli.console import complain, print_json, print_table, progress, warn
from tasks.support.errors import UserError
from tasks.support.home import Home

if TYPE_CHECKING:
    from leaderboard.records.incoming import Arrival

app = typer.Typer(
    help="Records: list, verify, import, push, export-probe.",
    no_args_is_help=True,
    epilog="Example: beans records list",
)
app.command("export-probe", epilog=export_probe.EXAMPLE)(export_probe.export_probe)

Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command("list", epilog="Example: beans records list --json")
def list_records(as_json: Json = False) -> None:
    """List the record files, their origin, and whether MLflow has them."""
    from leaderboard.records.files import read_imported, read_record, read_tracking, record_paths

    home = Home.from_environment()
    rows: list[dict[str, Any]] = []
    for path in record_paths(home.records):
        record, tracking, imported = read_record(path), read_tracking(path), read_imported(path)
        rows.append(
            {
                "id": record.id,
                "submission": record.submission.name,
                "task": record.task.name,
                "track": record.track,
                "protocol": record.protocol,
                "limit": record.limit,
                "test": record.test,
                "created": record.created.isoformat(timespec="seconds"),
                "mlflow_run_id": tracking.run_id if tracking else None,
                "imported": imported.model_dump(mode="json") if imported else None,
                "path": str(path),
            }
        )
    if as_json:
        print_json(rows)
        return
    table = [
        [
            str(row["id"]),
            str(row["submission"]),
            str(row["task"]),
            str(row["track"]),
            f"{row['test']:.3f}" + (f" (limited to {row['limit']})" if row["limit"] else ""),
            str(row["created"]),
            str(row["mlflow_run_id"] or "not sent"),
            f"imported {row['imported']['at'][:10]} by {row['imported']['by']}" if row["imported"] else "made here",
        ]
        for row in rows
    ]
    columns = ["id", "submission", "task", "track", "test", "created", "MLflow run", "origin"]
    print_table(f"Records in {home.records}", columns, table, numeric=("test",))


@app.command(epilog="Example: MLFLOW_TRACKING_URI=http://localhost:5000 beans records push")
def push(as_json: Json = False) -> None:
    """Send every record that MLflow does not have yet."""
    from evaluator.results.publish import push as push_records
    from evaluator.tracking.connection import TrackingError

    home = Home.from_environment()
    sent, failed = [], []
    for path, result in push_records(home.records, home.tracking_uri, home.artifacts):
        if isinstance(result, TrackingError):
            complain(f"{path.name}: {result}")
            failed.append(str(path))
        else:
            sent.append({"record": str(path), "mlflow_run_id": result.run_id})
    if as_json:
        print_json({"sent": sent, "failed": failed})
    else:
        print(f"{len(sent)} sent" + (f", {len(failed)} not sent" if failed else ""))
    if failed:
        raise typer.Exit(2)


@app.command(epilog="Example: beans records verify --all")
def verify(
    record: Annotated[
        list[str] | None, typer.Argument(help="Ids or files of records.", show_default=False, metavar="[RECORD]...")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every record of this home.")] = False,
    as_json: Json = False,
) -> None:
    """Compute every test score again from the stored predictions, and check the other facts of the record.

    The command checks the predictions' sha256, their seeds, items and classes; the protocol; the layer and rate that
    validation chooses; and, if the task is prepared here, that the data are the same. The exit code is 2 if a check
    fails.
    """
    from evaluator.results.verification import Verifier
    from leaderboard.records.files import record_paths
    from leaderboard.records.plausibility import shown
    from leaderboard.records.stored import find_record

    home = Home.from_environment()
    if bool(record) == every:
        raise UserError("No records are named: give their ids or files, or --all for every record.")
    paths = list(record_paths(home.records)) if every else [find_record(name, home.records) for name in record or ()]
    verifier = Verifier(home.data)
    rows: list[dict[str, Any]] = []
    with progress() as report:
        for number, path in enumerate(paths):
            report("records: verifying", number, len(paths))
            rows.append({"record": str(path), "problems": [shown(text) for text in verifier.problems(path)]})
    wrong = [row for row in rows if row["problems"]]
    if as_json:
        print_json({"verified": [row["record"] for row in rows if not row["problems"]], "wrong": wrong})
    else:
        if wrong:
            table = [[Path(row["record"]).name, "\n".join(row["problems"])] for row in wrong]
            print_table("Records that do not check out", ["record", "what is wrong"], table)
        print(f"{len(rows) - len(wrong)} check out" + (f", {len(wrong)} do not" if wrong else ""))
    if wrong:
        raise typer.Exit(2)


@app.command("import", epilog="Example: beans records import from-a-colleague/ --dry-run")
def import_records(
    directory: Annotated[Path, typer.Argument(help="Record files with their predictions.", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and import nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Import records from another home. Records that pass all checks are marked as imported; others are refused.

    The checks are those of `beans records verify` and further ones, because a file may be hostile. No existing record
    is overwritten. The exit code is 2 if a record was refused.
    """
    from evaluator.results.publish import publish_all
    from evaluator.results.verification import Verifier
    from leaderboard.database.standings import compute
    from leaderboard.records.incoming import receive

    home = Home.from_environment()
    arrivals = []
    with progress() as report:
        for arrival in receive(directory, home, Verifier(home.data).problems, dry_run=dry_run):
            arrivals.append(arrival)
            report(f"records: {arrival.file}", len(arrivals), 0)
    if not dry_run:
        # Also records that existed before: the database may have been down when they were written.
        paths = [arrival.path for arrival in arrivals if arrival.path is not None]
        for sentence in publish_all(paths, home):
            warn(sentence)
        with progress() as report:
            complaints = compute(home.records, report, paths)
        for complaint in complaints:
            warn(f"no rank interval: {complaint}")
    if as_json:
        print_json([_described(arrival) for arrival in arrivals])
    else:
        count = Counter(arrival.state for arrival in arrivals)
        print_table(
            f"{count['accepted']} {'would be ' if dry_run else ''}imported, {count['present']} here already,"
            f" {count['refused']} refused",
            ["file", "record", "", "reason"],
            [
                [arrival.file, arrival.record.id if arrival.record else "", arrival.state, arrival.reason]
                for arrival in arrivals
            ],
        )
    if any(arrival.state == "refused" for arrival in arrivals):
        raise typer.Exit(2)


def _described(arrival: "Arrival") -> dict[str, Any]:
    record = arrival.record
    return {
        "file": arrival.file,
        "state": arrival.state,
        "reason": arrival.reason,
        "id": record.id if record else None,
        "submission": record.submission.name if record else None,
        "task": record.task.name if record else None,
        "record": str(arrival.path) if arrival.path else None,
    }
