"""``beans tasks``: what can be measured, and preparing it."""

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
    """What ``--from`` can be for a task; none where the user's own files are read where they are."""
    from tasks.prepare.source import Source
    from tasks.prepare.sources import SOURCES

    return [name for name, one in SOURCES.each() if task.prepare and isinstance(one, Source) and one.has(task)]


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    # Names of Watkins hold commas.
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value).strip()


@app.command(epilog="Example: beans tasks items esc50 > esc50.csv")
def items(
    task: Annotated[str, typer.Argument(help="A prepared task, or a task file.", show_default=False)],
    data_dir: DataDir = None,
) -> None:
    """Print every item as CSV: id, split, path of the audio file, and where in it the item starts and ends, in seconds.

    A clip ends with its file; where the task crops clips, `end` is where they are cropped, and a shorter clip ends
    before. Without cropping it is empty.
    """
    import csv

    from tasks.manifest import read_manifest
    from tasks.task import load_task

    entry = load_task(task, data=Home.from_environment().data, data_dir=data_dir)
    manifest = read_manifest(entry)
    # Only now: a failure must not leave a file that looks like a task without items.
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("id", "split", "path", "start", "end"))
    for split, own in manifest.items.items():
        for item in own:
            start, end = item.window or (0.0, entry.max_duration or "")
            table.writerow((item.id, split, item.path, start, end))


def _sources() -> str:
    """The help of ``--from``: every source with what it is."""
    from tasks.prepare.source import Source
    from tasks.prepare.sources import SOURCES

    known = [(name, one.help if isinstance(one, Source) else str(one)) for name, one in SOURCES.each()]
    return f"{'; '.join(f'{name}: {what}' for name, what in known)}. Without it, as the task file says."


@app.command(
    cls=late_help(copy=_sources), epilog="Example: beans tasks prepare esc50 watkins --from beans --source ~/beans"
)
def prepare(
    task: Annotated[
        list[str], typer.Argument(help="Task names, or task files that name a source.", show_default=False)
    ],
    copy: Annotated[str | None, typer.Option("--from", metavar="SOURCE")] = None,
    source: Annotated[
        Path | None, typer.Option(help="The directory of files you have already, instead of a download.")
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Leave the audio where it lies instead of writing 16-bit FLAC.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Prepare anew what is prepared.")] = False,
) -> None:
    """Prepare tasks: make or fetch their audio. One that is prepared already is left alone.

    Killed or interrupted, the same command goes on where it was.
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
    """Compare prepared tasks with what is published of them, and listen to every file. Exit code 2 on a failure."""
    from tasks.task import load_task
    from tasks.verify import verify as verify_task

    home = Home.from_environment()
    findings = {}
    with progress() as report:
        for name in task:
            entry = load_task(name, data=home.data, data_dir=data_dir)
            findings[entry.name] = verify_task(entry, report)
    if as_json:
        print_json({name: [finding._asdict() for finding in found] for name, found in findings.items()})
    else:
        for name, found in findings.items():
            print_table(name, ["check", "result", "what was found"], found)
    if any(finding.status == "fail" for found in findings.values() for finding in found):
        raise typer.Exit(2)
