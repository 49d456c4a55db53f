"""What the arguments of ``beans submit`` mean: submissions, rules, tracks, and the manifests to run on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluator.cli.console import complain, split_list, split_numbers
from leaderboard.records.protocol import Protocol
from tasks.support.errors import UserError
from tasks.support.home import Home
from tasks.train_part import TrainPart

if TYPE_CHECKING:
    from evaluator.submission import Submission
    from leaderboard.records.protocol import Protocol
    from tasks.task import Manifest


def read_submission(path: Path) -> "Submission":
    """The submission of an argument.

    Raises:
        UserError: it is no submission file.
    """
    from evaluator.probes.heads import heads
    from evaluator.submission import Submission

    if path.is_dir():
        raise UserError(f"{path} is a directory: name a submission file in it, such as {path / 'my-model.toml'}.")
    # What follows a space is the next submission file.
    if str(path) in heads() and not path.exists():
        raise UserError(
            f"{path} is a track and no submission file: join tracks by commas, as in --track {','.join(heads())}."
        )
    return Submission.read(path)


def protocols(
    trials: int, lr: str | None, seeds: int, precision: str, low: bool, shots: str | None, shots_seed: int
) -> list[Protocol]:
    """The protocols that the options ask for: one for each part of the train split.

    Raises:
        UserError: an option is not a list of positive numbers.
    """
    grid = split_numbers("--lr", lr, "1e-4,1e-3")
    few = split_numbers("--shots", shots, "1,5,10")
    wrong = [f"{k:g}" for k in few if not k.is_integer()]
    if wrong:
        raise UserError(f"--shots {','.join(wrong)}: write whole numbers, for example --shots 1,5,10.")
    parts = [TrainPart(low=True)] if low else []
    parts += [TrainPart(shots=int(k), seed=shots_seed) for k in dict.fromkeys(few)]
    return [Protocol.from_options(trials, grid, seeds, precision, part) for part in parts or [TrainPart()]]


def tracks(value: str) -> list[str]:
    """The tracks of a comma-separated option."""
    from evaluator.probes.heads import heads

    names = list(dict.fromkeys(split_list(value)))
    unknown = [name for name in names if name not in heads()]
    if unknown or not names:
        raise UserError(f"--track {value}: choose from {', '.join(heads())}, separated by commas.")
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
    from tasks.manifest import read_manifest
    from tasks.prepare import is_prepared, why_not_prepared
    from tasks.subsets import limit as limit_items
    from tasks.task import catalogue_names, load_task

    chosen = split_list(names) or [name for name in catalogue_names() if is_prepared(load_task(name, data=home.data))]
    if not chosen:
        raise UserError("No task is prepared: run `beans tasks prepare mini-calls`, or name a task file with --tasks.")
    found = []
    for name in dict.fromkeys(chosen):
        try:
            task = load_task(name, data=home.data, data_dir=data_dir)
            reason = why_not_prepared(task)
            if reason is not None:
                unprepared[task.name] = reason
                raise UserError(f"Task {task.name}: {reason}")
            manifest = read_manifest(task)
            found.append(manifest if limit is None else limit_items(manifest, limit))
        except UserError as error:
            complain(str(error))
            failures.append(str(error))
    twice = [name for name in {m.task.name for m in found} if sum(m.task.name == name for m in found) > 1]
    if twice:
        raise UserError(f"Two tasks are called {twice[0]!r}: give them different names, results are known by theirs.")
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
