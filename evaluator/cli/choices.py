"""Arguments that several commands share: devices, precisions, submissions, protocols, tracks, manifests."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from evaluator.cli.console import complain, split_list, split_numbers, warn
from leaderboard.records.protocol import Protocol
from tasks.support.errors import UserError
from tasks.support.home import Home
from tasks.support.text import why_no_file
from tasks.train_part import MOST_SHOTS, TrainPart

if TYPE_CHECKING:
    from evaluator.submission import Submission
    from tasks.task import Manifest


Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="Device; auto is CUDA if torch finds a CUDA device.")
]
Precision = Literal["fp32", "bf16"]
Rules = Literal["2", "papers"]
# No point takes a day. An infinite timeout is not possible when waiting for a process.
Timeout = Annotated[float, typer.Option(min=1, max=86_400, help="Seconds for each point.")]


def read_submission(path: Path) -> "Submission":
    """Read the submission that an argument names.

    Raises:
        UserError: the path is not a submission file.
    """
    from evaluator.probes.heads import HEADS
    from evaluator.submission import Submission

    if path.is_dir():
        raise UserError(f"{path} is a directory: name a submission file in it, such as {path / 'my-model.toml'}.")
    # In "--track ta twa" the word after the space is parsed as a submission file.
    if str(path) in HEADS.names() and not path.exists():
        raise UserError(
            f"{path} is a track and no submission file: join tracks by commas, as in --track {','.join(HEADS.names())}."
        )
    return Submission.read(path)


def protocols(
    protocol: str,
    trials: int,
    lr: str | None,
    seeds: int,
    precision: str,
    low: bool,
    shots: str | None,
    shots_seed: int,
) -> list[Protocol]:
    """Return the protocols that the options select: one per part of the train split.

    Raises:
        UserError: an option is not a list of positive numbers.
    """
    from pydantic import Field

    from leaderboard.records.record import Rate

    grid = split_numbers("--lr", lr, "1e-4,1e-3", Rate)
    few = split_numbers("--shots", shots, "1,5,10", Annotated[int, Field(gt=0, le=MOST_SHOTS)])
    parts = [TrainPart(low=True)] if low else []
    parts += [TrainPart(shots=k, seed=shots_seed) for k in dict.fromkeys(few)]
    return [Protocol.from_options(protocol, trials, grid, seeds, precision, part) for part in parts or [TrainPart()]]


def tracks(value: str) -> list[str]:
    """Return the tracks of a comma-separated option.

    Raises:
        UserError: a track is unknown, or its package cannot be imported.
    """
    from evaluator.probes.heads import HEADS

    names = list(dict.fromkeys(split_list(value)))
    unknown = [name for name in names if name not in HEADS.names()]
    if unknown or not names:
        raise UserError(f"--track {value}: choose from {', '.join(HEADS.names())}, separated by commas.")
    for name in names:
        # A head of a broken package is refused before anything is computed.
        HEADS.get(name)
    return names


def manifests(
    values: Sequence[str] | None,
    data_dir: Path | None,
    home: Home,
    limit: int | None,
    failures: list[str],
    unprepared: dict[str, str],
) -> list["Manifest"]:
    """Read the manifests of the tasks, and print what is probably a mistake in them.

    Args:
        values: the values of ``--tasks``, each a list of names or files; all prepared tasks if None.
        data_dir: the start of relative paths in task files.
        home: where prepared tasks are.
        limit: maximum number of items per split.
        failures: receives the error of each task that cannot be read. It is also printed.
        unprepared: receives the name of each task that is not prepared, and what to do.
    """
    from evaluator.api.tasks import NotPreparedError, read_task, require_different_names
    from tasks.prepare import is_prepared
    from tasks.task import catalogue_names, load_task

    chosen = [name for value in values or () for name in split_tasks(value)]
    if values and not chosen:
        raise UserError("--tasks names no task: write names or task files, or leave the option out for all tasks.")
    if not chosen:
        chosen = [name for name in catalogue_names() if is_prepared(load_task(name, data=home.data))]
    if not chosen:
        raise UserError("No task is prepared: run `beans tasks prepare mini-calls`, or name a task file with --tasks.")
    readable = []
    for name in dict.fromkeys(chosen):
        try:
            readable.append(read_task(name, home.data, data_dir, limit))
        except UserError as error:
            if isinstance(error, NotPreparedError):
                unprepared[error.task] = error.reason
            complain(str(error))
            failures.append(str(error))
    require_different_names(readable)
    for manifest in readable:
        for warning in manifest.warnings:
            warn(f"Task {manifest.task.name}: {warning}.")
    return readable


def split_tasks(value: str) -> list[str]:
    """Return the tasks of one value of ``--tasks``. A comma in the path of an existing file does not separate."""
    parts = value.split(",")
    names = []
    while parts:
        # The longest start that is a file, or else the part before the next comma.
        starts = {end: Path(",".join(parts[:end]).strip()) for end in range(len(parts), 1, -1)}
        count = next((end for end, path in starts.items() if why_no_file(path) is None), 1)
        names.append(",".join(parts[:count]).strip())
        del parts[:count]
    return [name for name in names if name]


def variants(
    whole: list["Manifest"], protocols: Sequence[Protocol], failures: list[str]
) -> dict[Protocol, list["Manifest"]]:
    """Return the manifests per protocol, with its part of train. Errors are printed and added to ``failures``."""
    from tasks.subsets import select_train

    selected: dict[Protocol, list[Manifest]] = {}
    for protocol in protocols:
        selected[protocol] = []
        for manifest in whole:
            try:
                selected[protocol].append(select_train(manifest, TrainPart.parse(protocol.train)))
            except UserError as error:
                complain(str(error))
                failures.append(str(error))
    return selected
