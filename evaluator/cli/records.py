"""``beans records``: the results as files, and sending them to MLflow."""

from typing import Annotated

import typer

from evaluator.cli.console import complain, print_json, print_table
from tasks.home import Home

app = typer.Typer(help="Records: list, push.", no_args_is_help=True, epilog="Example: beans records list")

Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command("list", epilog="Example: beans records list --json")
def list_records(as_json: Json = False) -> None:
    """List the record files, and whether MLflow has them."""
    from leaderboard.record import read_record, read_tracking, record_paths

    rows = []
    for path in record_paths(Home.from_environment().records):
        record, tracking = read_record(path), read_tracking(path)
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
        ]
        for row in rows
    ]
    print_table(
        "Records", ["id", "submission", "task", "track", "test", "created", "MLflow run"], table, numeric=("test",)
    )


@app.command(epilog="Example: MLFLOW_TRACKING_URI=http://localhost:5000 beans records push")
def push(as_json: Json = False) -> None:
    """Send every record that MLflow does not have yet."""
    from evaluator.mlflow_connection import TrackingError
    from evaluator.tracking import push as push_records

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
