"""``beans submit``: evaluate submissions on tasks."""

import dataclasses
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evaluator.cli import choices
from evaluator.cli.console import (
    complain,
    print_json,
    print_table,
    progress,
    warn,
)
from leaderboard.records.protocol import MOST, Protocol
from tasks.support.errors import UserError
from tasks.support.home import Home
from tasks.train_part import MOST_SHOTS

if TYPE_CHECKING:
    import torch

    from evaluator.results.outcome import Outcome
    from evaluator.submission import Submission
    from tasks.task import Manifest

EXAMPLE = "Example: beans submit submissions/statistics.toml --tasks mini-calls,my-task.toml --track ta,twa"


def tracks_help() -> str:
    """Return the help of ``--track``, with a line for each head."""
    from rich.markup import escape

    from evaluator.probes.heads import HEADS

    lines = ["Tracks, separated by commas."]
    for name, head in HEADS.each():
        if isinstance(head, UserError):
            lines.append(f"{name}: {escape(str(head))}")
        else:
            lines.append(f"{name}: {escape(head.help)}" + (" (reads frames)" if head.reads_frames else ""))
    return "\n\n".join(lines)


def submit(
    submission: Annotated[list[Path], typer.Argument(help="Submission files (TOML).", show_default=False)],
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            help="Task names or task files, separated by commas; may be repeated. [default: all prepared tasks]"
        ),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="The start of relative paths in task files.")] = None,
    track: Annotated[str, typer.Option()] = "ta",
    protocol: Annotated[
        choices.Rules,
        typer.Option(help="The rules: 2 is the standard; papers trains as the papers did (ranked apart)."),
    ] = "2",
    trials: Annotated[
        int, typer.Option(min=1, max=MOST["trials"], help="Number of learning rates in the search.")
    ] = Protocol.trials,
    lr: Annotated[
        str | None, typer.Option(help="These learning rates instead of a search, separated by commas.")
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            min=1, max=MOST["seeds"], help="Number of seeds with which the chosen probe is retrained for the test."
        ),
    ] = Protocol.seeds,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of items per split, for a quick look: marked and never ranked."),
    ] = None,
    low: Annotated[bool, typer.Option("--low", help="Train on BEANS' few-label split (ranked apart).")] = False,
    shots: Annotated[
        str | None, typer.Option(help="Train on this number of items per class, such as 1,5,10 (each ranked apart).")
    ] = None,
    shots_seed: Annotated[int, typer.Option(min=0, max=MOST_SHOTS, help="Seed of the draw of --shots.")] = 0,
    device: choices.Device = "auto",
    precision: Annotated[
        choices.Precision, typer.Option(help="Precision of the backbone; bf16 is ranked apart.")
    ] = "fp32",
    frames_budget: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1e6,
            metavar="GIB",
            help="Disk for the frames of a task (tracks that read frames); if they need more, the backbone runs again"
            " in every epoch. [default: half of the free disk]",
        ),
    ] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first task that fails.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run, which features exist, and the disk that is needed.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per line for each submission, task and track.")
    ] = False,
) -> None:
    """Evaluate submissions: every layer, a search of learning rates, one row per submission on the leaderboard.

    After an interruption the same command continues where it stopped and gives the same numbers.
    """

    from evaluator.evaluate import evaluate
    from evaluator.results.environment import pick_device

    home = Home.from_environment()
    place = pick_device(device)
    protocols = choices.protocols(protocol, trials, lr, seeds, precision, low, shots, shots_seed)
    tracks = choices.tracks(track)
    budget = None if frames_budget is None else int(frames_budget * 2**30)
    submissions = [choices.read_submission(path) for path in submission]
    failures: list[str] = []
    unprepared: dict[str, str] = {}
    manifests = choices.manifests(tasks, data_dir, home, limit, failures, unprepared)
    variants = choices.variants(manifests, protocols, failures)
    if failures and (fail_fast or not any(variants.values())):
        raise typer.Exit(2)
    outcomes: list[Outcome] = []
    with progress() as report:
        for entry, (rules, subset) in itertools.product(submissions, variants.items()):
            if dry_run:
                _dry_run(entry, subset, tracks, home, place, precision, budget, as_json)
                continue
            try:
                for outcome in evaluate(
                    entry,
                    subset,
                    tracks,
                    rules,
                    home,
                    device=place,
                    limit=limit,
                    frames_budget=budget,
                    unprepared=unprepared,
                    report=report,
                ):
                    outcomes.append(outcome)
                    _print_outcome(outcome, as_json)
                    if outcome.error is not None:
                        failures.append(outcome.error)
                        if fail_fast:
                            raise typer.Exit(2)
            except UserError as error:
                # This submission cannot run. The others still can.
                complain(str(error))
                failures.append(str(error))
                if fail_fast:
                    raise typer.Exit(2) from error
    if not as_json and not dry_run:
        _summarise(outcomes)
    if failures:
        raise typer.Exit(2)


def _print_outcome(outcome: "Outcome", as_json: bool) -> None:
    where = f"{outcome.submission} · {outcome.task} · {outcome.track}"
    if outcome.error is not None:
        complain(f"{where}: {outcome.error}")
    for warning in outcome.warnings:
        warn(f"{where}: {warning}")
    if as_json and outcome.record is not None:
        print_json(summary(outcome), indent=None)


def summary(outcome: "Outcome") -> dict[str, Any]:
    """Return the main fields of a record as a flat dictionary, for scripts."""
    record = outcome.record
    assert record is not None
    return {
        "submission": record.submission.name,
        "task": record.task.name,
        "track": record.track,
        "protocol": record.protocol,
        "limit": record.limit,
        "metric": record.metric,
        "valid": record.valid,
        "test": record.test,
        "test_std": record.test_std,
        "ci_low": record.ci_low,
        "ci_high": record.ci_high,
        "secondary": record.secondary,
        "best_layer": record.best_layer,
        "best_layer_name": record.best_layer_name,
        "lr": record.lr,
        "epoch": record.epoch,
        "layers_alike": record.alike,
        "flags": record.flags,
        "looks": record.selection and record.selection.looks,
        "valid_recordings": record.selection and record.selection.recordings,
        "optimism": record.selection and record.selection.optimism,
        "reference": record.reference and record.reference.model_dump(),
        "data_warnings": record.data_warnings and [warning.model_dump() for warning in record.data_warnings],
        "n_layers": len(record.layers),
        "layers": [layer.model_dump(include={"index", "name", "valid", "test"}) for layer in record.layers],
        "n_train": record.task.n_train,
        "n_valid": record.task.n_valid,
        "n_test": record.task.n_test,
        "vram_bytes": record.efficiency.vram_bytes,
        "seconds": record.seconds,
        "reused": outcome.reused,
        "record": str(outcome.path),
        "mlflow_run_id": outcome.tracking.run_id if outcome.tracking else None,
    }


def _departures(protocol: str) -> str:
    """Return the settings that differ from the standard protocol, to distinguish rows of one submission and task."""
    _, settings = Protocol.split(protocol)
    return f" ({', '.join(f'{key}={text}' for key, text in settings.items())})" if settings else ""


def _summarise(outcomes: list["Outcome"]) -> None:
    from leaderboard.ranking.formats import METRICS, layers
    from leaderboard.records.flags import EDGES

    rows = []
    for outcome in outcomes:
        record = outcome.record
        if record is None:
            rows.append([outcome.submission, outcome.task, outcome.track, "", "failed", "", "", "", ""])
            continue
        rows.append(
            [
                outcome.submission,
                outcome.task,
                outcome.track + _departures(record.protocol),
                METRICS[record.metric],
                f"{record.test:.3f} [{record.ci_low:.3f}, {record.ci_high:.3f}]",
                f"{record.valid:.3f}",
                f"{layers(record.best_layer, record.alike)} of 0 to {len(record.layers) - 1}",
                f"{record.lr:.1e}" + (" (edge)" if EDGES.keys() & set(record.flags) else ""),
                "kept" if outcome.reused else f"{sum(record.seconds.values()):.0f}",
            ]
        )
    columns = ["submission", "task", "track", "metric", "test [95 %]", "valid", "best layer", "rate", "seconds"]
    if rows:
        print_table("Results", columns, rows, numeric=("valid", "seconds"))


def _dry_run(
    submission: "Submission",
    manifests: list["Manifest"],
    tracks: list[str],
    home: Home,
    device: "torch.device",
    precision: str,
    frames_budget: int | None,
    as_json: bool,
) -> None:
    """Show what would run. The backbone is loaded, because its weights are part of the key of features."""
    import shutil

    from evaluator.backbone import ready
    from evaluator.features.extraction import Extractor
    from evaluator.features.store import FeatureStore
    from evaluator.probes.heads import needs_frames

    extractor = Extractor.of(ready(submission.load(), device), device, precision)
    rows = []
    for manifest in manifests:
        estimate = FeatureStore(home.features, frames_budget).estimate(extractor, manifest, frames=needs_frames(tracks))
        rows.append(
            {
                "submission": submission.name,
                "task": manifest.task.name,
                "tracks": tracks,
                "items": {split: len(items) for split, items in manifest.items.items()},
                "layers": len(extractor.model.backbone.layers),
                **dataclasses.asdict(estimate),
            }
        )
    parent = next(folder for folder in (home.root, *home.root.parents) if folder.exists())
    free = shutil.disk_usage(parent).free
    if as_json:
        for row in rows:
            print_json({**row, "free_bytes": free}, indent=None)
        return
    table = [
        [
            str(row["task"]),
            ",".join(tracks),
            " / ".join(str(count) for count in row["items"].values()),
            f"{row['total_seconds'] / 60:.1f} min",
            f"{1 - row['seconds'] / row['total_seconds']:.0%}",
            f"{row['bytes'] / 2**30:.2f} GiB" + (", frames streamed" if row["streamed"] else ""),
        ]
        for row in rows
    ]
    columns = ["task", "tracks", "train / valid / test", "audio", "features there", "disk needed"]
    print_table(
        f"{submission.name}: layers: {rows[0]['layers'] if rows else 0}; {free / 2**30:.1f} GiB free", columns, table
    )
