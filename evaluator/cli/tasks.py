"""``beans tasks``: what can be measured, and preparing it."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from evaluator.cli.console import complain, print_json, print_table, progress
from tasks.errors import UserError
from tasks.home import Home

app = typer.Typer(help="Tasks: list, show, prepare.", no_args_is_help=True, epilog="Example: beans tasks list")

DataDir = Annotated[Path | None, typer.Option(help="Where the paths of a task file start.")]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command("list", epilog="Example: beans tasks list --json")
def list_tasks(as_json: Json = False) -> None:
    """List the catalogue, and which tasks are prepared."""
    from tasks.prepare import why_not_prepared
    from tasks.task import catalogue_names, load_task

    home = Home.from_environment()
    rows = []
    for name in catalogue_names():
        task = load_task(name, data=home.data)
        reason = why_not_prepared(task)
        rows.append(
            {
                "name": name,
                "kind": task.kind,
                "group": task.group,
                "metric": task.metric,
                "description": task.facts.description,
                "prepared": reason is None,
                "reason": reason,
            }
        )
    if as_json:
        print_json(rows)
        return
    table = [
        [str(row[key]) for key in ("name", "kind", "group", "metric")] + [str(row["reason"] or "yes")] for row in rows
    ]
    print_table("Tasks", ["name", "kind", "group", "metric", "prepared"], table)


@app.command(epilog="Example: beans tasks show mini-calls")
def show(
    task: Annotated[str, typer.Argument(help="A task name or a task file.", show_default=False)],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show a task's facts and, when it is prepared, its counts."""
    from tasks.manifest import read_manifest
    from tasks.prepare import why_not_prepared
    from tasks.task import load_task

    entry = load_task(task, data=Home.from_environment().data, data_dir=data_dir)
    facts = entry.model_dump(mode="json", exclude_none=True)
    reason = why_not_prepared(entry)
    if reason is None:
        manifest = read_manifest(entry)
        facts["labels"] = list(manifest.labels)
        facts["items"] = {split: len(items) for split, items in manifest.items.items()}
        facts["split_hash"] = manifest.split_hash
    else:
        facts["not_prepared"] = reason
    if as_json:
        print_json(facts)
        return
    flat = {**{key: value for key, value in facts.items() if key != "facts"}, **facts.get("facts", {})}
    rows = [[key, ", ".join(map(str, value)) if isinstance(value, list) else str(value)] for key, value in flat.items()]
    print_table(entry.name, ["fact", "value"], [row for row in rows if row[1]])


@app.command(epilog="Example: beans tasks prepare mini-calls mini-soundscape")
def prepare(
    task: Annotated[list[str], typer.Argument(help="Task names.", show_default=False)],
) -> None:
    """Prepare tasks: make or fetch their audio. One that is prepared already is left alone."""
    from tasks.prepare import prepare as prepare_task

    home = Home.from_environment()
    failed = False
    with progress() as report:
        for name in task:
            try:
                fresh = prepare_task(name, home.data, partial(report, f"{name}: preparing"))
                print(f"{name}: {'prepared' if fresh else 'was prepared already'}")
            except UserError as error:
                complain(str(error))
                failed = True
    if failed:
        raise typer.Exit(2)
