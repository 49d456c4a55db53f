"""``beans check``: finds mistakes of a submission in less than a minute."""

import time
from pathlib import Path
from typing import Annotated

import typer

from evaluator.cli.choices import Device, read_submission
from evaluator.cli.console import print_json, print_table, progress
from tasks.support.home import Home

EXAMPLE = "Example: beans check submissions/statistics.toml"


def check(
    submission: Annotated[Path, typer.Argument(help="A submission file (TOML).", show_default=False)],
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check a submission before the long run: layers, padding, determinism, lengths, values, and what is frozen.

    The exit code is 2 if a check fails. A note is information and not a failure.
    """
    from evaluator.checks import run
    from evaluator.results.environment import pick_device
    from tasks.task import catalogue_names, load_task

    place = pick_device(device)
    entry = read_submission(submission)
    tasks = [load_task(name, data=Home.from_environment().data) for name in catalogue_names()]
    start = time.perf_counter()
    with progress() as report:
        findings = run(entry, short=False, tasks=tasks, device=place, report=report)
    seconds = time.perf_counter() - start
    failed = sum(finding.status == "fail" for finding in findings)
    if as_json:
        print_json(
            {
                "submission": entry.name,
                "passed": not failed,
                "device": place.type,
                "seconds": round(seconds, 1),
                "findings": [finding.as_json() for finding in findings],
            }
        )
    else:
        rows = [finding.cells for finding in findings]
        print_table(f"{entry.name} on {place.type}, {seconds:.0f} s", ["check", "result", "finding"], rows)
        print(f"{failed} of {len(findings)} checks failed." if failed else "No check failed.")
    if failed:
        raise typer.Exit(2)
