"""The arguments of ``beans submit`` and its kin: devices, precisions, submissions, rules, tracks, manifests."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from evaluator.cli.console import complain, split_list, split_numbers
from leaderboard.records.protocol import Protocol
from tasks.support.errors import UserError
from tasks.support.home import Home
from tasks.train_part import TrainPart

if TYPE_CHECKING:
    from evaluator.submission import Submission
    from leaderboard.records.protocol import Protocol
    from tasks.task import Manifest


Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="Where to run; auto is CUDA where torch sees a CUDA device.")
]
Precision = Literal["fp32", "bf16"]
# A day is longer than any point takes; an infinite number of seconds is none that a process can be waited for.
Timeout = Annotated[float, typer.Option(min=1, max=86_400, help="Seconds for each point.")]


def read_submission(path: Path) -> "Submission":
    """The submission of an argument.

    Raises:
        UserError: it is no submission file.
    """
    from evaluator.probes.heads import HEADS
    from evaluator.submission import Submission

    if path.is_dir():
        raise UserError(f"{path} is a directory: name a submission file in it, such as {path / 'my-model.toml'}.")
    # What follows a space is the next submission file.
    if str(path) in HEADS.names() and not path.exists():
        raise UserError(
            f"{path} is a track and no submission file: join tracks by commas, as in --track {','.join(HEADS.names())}."
        )
    return Submission.read(path)


def protocols(
    trials: int, lr: str | None, seeds: int, precision: str, low: bool, shots: str | None, shots_seed: int
) -> list[Protocol]:
    """The protocols that the options ask for: one for each part of the train split.

    Raises:
        UserError: an option is not a list of positive numbers.
    """
    from pydantic import PositiveInt

    from leaderboard.records.record import Rate

    grid = split_numbers("--lr", lr, "1e-4,1e-3", Rate)
    few = split_numbers("--shots", shots, "1,5,10", PositiveInt)
    parts = [TrainPart(low=True)] if low else []
    parts += [TrainPart(shots=k, seed=shots_seed) for k in dict.fromkeys(few)]
    return [Protocol.from_options(trials, grid, seeds, precision, part) for part in parts or [TrainPart()]]


def tracks(value: str) -> list[str]:
    """The tracks of a comma-separated option.

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
    names: str | None,
    data_dir: Path | None,
    home: Home,
    limit: int | None,
    failures: list[str],
    unprepared: dict[str, str],
) -> list["Manifest"]:
    """The manifests that can be read; what is wrong with the others is said and added to ``failures``.

    ``unprepared`` gets those among them that are not prepared: the task's name and what to do.
    """
    from evaluator.api.tasks import NotPreparedError, read_task, require_different_names
    from tasks.prepare import is_prepared
    from tasks.task import catalogue_names, load_task

    chosen = split_list(names) or [name for name in catalogue_names() if is_prepared(load_task(name, data=home.data))]
    if not chosen:
        raise UserError("No task is prepared: run `beans tasks prepare mini-calls`, or name a task file with --tasks.")
    found = []
    for name in dict.fromkeys(chosen):
        try:
            found.append(read_task(name, home.data, data_dir, limit))
        except UserError as error:
            if isinstance(error, NotPreparedError):
                unprepared[error.task] = error.reason
            complain(str(error))
            failures.append(str(error))
    require_different_names(found)
    return found


def variants(
    whole: list["Manifest"], protocols: Sequence[Protocol], failures: list[str]
) -> dict[Protocol, list["Manifest"]]:
    """The manifests with the train split of each protocol; a task without it is reported and added to ``failures``."""
    from tasks.subsets import select_train

    found: dict[Protocol, list[Manifest]] = {}
    for protocol in protocols:
        found[protocol] = []
        for manifest in whole:
            try:
                found[protocol].append(select_train(manifest, TrainPart.parse(protocol.train)))
            except UserError as error:
                complain(str(error))
                failures.append(str(error))
    return found
