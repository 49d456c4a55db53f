"""``beans tasks``: lists, shows, prepares and verifies tasks."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evaluator.cli.console import complain, print_json, print_table, progress
from evaluator.cli.late_help import late_help
from tasks.support.errors import UserError
from tasks.support.home import Home

if TYPE_CHECKING:
    from tasks.task import Task

app = typer.Typer(help="Tasks: list, show, prepare, verify.", no_args_is_help=True, epilog="Example: beans tasks list")

DataDir = Annotated[Path | None, typer.Option(help="The start of relative paths in a task file.")]
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
    """Show a task's facts and, if it is prepared, its counts."""
    from tasks.manifest import read_manifest
    from tasks.prepare import preparation, why_not_prepared
    from tasks.task import load_task

    entry = load_task(task, data=Home.from_environment().data, data_dir=data_dir)
    facts = entry.model_dump(mode="json", exclude_none=True, exclude={"ids"})
    facts["sources"] = _names_of_sources(entry)
    facts.pop("prepare", None)
    reason = why_not_prepared(entry)
    if reason is None:
        manifest = read_manifest(entry)
        facts["labels"] = list(manifest.labels)
        facts["items"] = {split: len(items) for split, items in manifest.items.items()}
        facts["split_hash"] = manifest.split_hash
        done = preparation(entry)
        if done is not None:
            facts["prepared"] = done.words
    else:
        facts["not_prepared"] = reason
    if as_json:
        print_json(facts)
        return
    published = {f"published {key}": value for key, value in facts.pop("published").items()}
    flat = {**{key: value for key, value in facts.items() if key != "facts"}, **facts["facts"], **published}
    rows = [[key.replace("_", " "), _words(value)] for key, value in flat.items()]
    print_table(entry.name, ["fact", "value"], [row for row in rows if row[1]])


def _names_of_sources(task: "Task") -> list[str]:
    """Return the possible values of ``--from`` for a task; none for a task that reads the user's own files."""
    from tasks.prepare.source import Source
    from tasks.prepare.sources import SOURCES

    return [name for name, source in SOURCES.each() if task.prepare and isinstance(source, Source) and source.has(task)]


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    # Labels of Watkins contain commas.
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value).strip()


@app.command(epilog="Example: beans tasks items esc50 > esc50.csv")
def items(
    task: Annotated[str, typer.Argument(help="A prepared task, or a task file.", show_default=False)],
    data_dir: DataDir = None,
) -> None:
    """Print every item as CSV: id, split, path of the audio file, and start and end of the item in it, in seconds.

    If the task crops clips, `end` is the time of the crop, also for a shorter clip. If it does not, `end` is empty.
    """
    import csv

    from tasks.manifest import read_manifest
    from tasks.task import load_task

    entry = load_task(task, data=Home.from_environment().data, data_dir=data_dir)
    manifest = read_manifest(entry)
    # After reading: a failure must not leave a file that looks like a task without items.
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("id", "split", "path", "start", "end"))
    for split, own in manifest.items.items():
        for item in own:
            start, end = item.window or (0.0, entry.max_duration or "")
            table.writerow((item.id, split, item.path, start, end))


def _sources() -> str:
    """Return the help of ``--from``: every source and its description."""
    from tasks.prepare.source import Source
    from tasks.prepare.sources import SOURCES

    known = [(name, source.help if isinstance(source, Source) else str(source)) for name, source in SOURCES.each()]
    return (
        f"{'; '.join(f'{name}: {what}' for name, what in known)}. The default is the source that the task file names."
    )


@app.command(
    cls=late_help(copy=_sources), epilog="Example: beans tasks prepare esc50 watkins --from beans --source ~/beans"
)
def prepare(
    task: Annotated[
        list[str], typer.Argument(help="Task names, or task files that name a source.", show_default=False)
    ],
    copy: Annotated[str | None, typer.Option("--from", metavar="SOURCE")] = None,
    source: Annotated[
        Path | None, typer.Option(help="A directory with files that you already have, instead of a download.")
    ] = None,
    in_place: Annotated[
        bool,
        typer.Option("--in-place", help="Read the audio from its current place instead of writing 16-bit FLAC files."),
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Prepare the tasks again if they are prepared already.")
    ] = False,
) -> None:
    """Prepare tasks: generate or download their audio. A task that is prepared already is not changed.

    After an interruption the same command continues where it stopped.
    """
    from tasks.prepare import preparation
    from tasks.prepare import prepare as prepare_task
    from tasks.task import load_task

    home = Home.from_environment()
    failed = False
    with progress() as report:
        for name in task:
            try:
                fresh = prepare_task(
                    name,
                    home.data,
                    report,
                    copy=copy,
                    source=source,
                    in_place=in_place,
                    again=again,
                    say=lambda sentence: print(sentence, file=sys.stderr),
                )
                entry = load_task(name, data=home.data)
                done = preparation(entry)
                how = f" ({done.words})" if done else ""
                print(f"{entry.name}: {'prepared' if fresh else 'was prepared already'}{how}")
            except UserError as error:
                complain(str(error))
                failed = True
    if failed:
        raise typer.Exit(2)


@app.command(epilog="Example: beans tasks verify esc50 --json")
def verify(
    task: Annotated[list[str], typer.Argument(help="Names of prepared tasks, or task files.", show_default=False)],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Compare prepared tasks with their published numbers, and decode every file. The exit code is 2 on a failure.

    The table names the first few files that fail. --json names all of them, each with its line in the manifest.
    """
    from tasks.support.findings import Finding
    from tasks.task import load_task
    from tasks.verify import verify as verify_task

    home = Home.from_environment()
    findings: dict[str, list[Finding]] = {}
    with progress() as report:
        for name in task:
            title = name
            # A task that cannot be read must not cost the findings of the others, which take hours.
            try:
                entry = load_task(name, data=home.data, data_dir=data_dir)
                title = name if entry.name in findings else entry.name
                findings[title] = verify_task(entry, report)
            except UserError as error:
                complain(str(error))
                findings[title] = [Finding("manifest", "fail", str(error))]
    if as_json:
        print_json({name: [finding.as_json() for finding in results] for name, results in findings.items()})
    else:
        for name, results in findings.items():
            print_table(name, ["check", "result", "finding"], [finding.cells for finding in results])
    if any(finding.status == "fail" for results in findings.values() for finding in results):
        raise typer.Exit(2)
