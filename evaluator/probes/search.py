"""The learning-rate search: Optuna proposes rates, all layers are trained at all of them, Optuna gets the results."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from leaderboard.records.protocol import Protocol
from leaderboard.records.record import Trial
from tasks.support.databases import damaged_file, sqlite_file
from tasks.support.errors import UserError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as OptunaTrial

# Part of the id of every record: raise it with any change of the rates that are tried or of the choice among them.
VERSION = 2
# Rates trained together. The second batch can learn from the first.
_BATCH = 8
# A best rate in the outer twentieth of the range, on a log scale, says that the range may be too narrow.
_EDGE = 0.05
# Means of equal shares can differ by this much.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Tried:
    """What one learning rate gave on validation.

    Attributes:
        valid: per layer, the metric: the best over epochs, or that of the last epoch, as the protocol says.
        epoch: per layer, the epoch (from 1) of that metric.
        loss: per layer, the loss after the last epoch; None under a protocol in which another epoch may count.
        looks: how many scores on validation these are the best of, all layers together.
    """

    valid: list[float]
    epoch: list[int]
    loss: list[float] | None
    looks: int


Train = Callable[[list[float], float, float], list[Tried]]
"""Takes learning rates and returns what each gave. The two numbers are the start and end of this batch as shares of the
whole search, from 0 to 1, for progress bars."""


@dataclass(frozen=True)
class Choice:
    """A layer, learning rate and epoch, with their validation metric."""

    layer: int
    lr: float
    epoch: int
    valid: float


def search(train: Train, protocol: Protocol, *, storage: str, study_name: str) -> list[Trial]:
    """Run one Optuna study, or the rest of it.

    The rates of the first batch are evenly spaced on the logarithm of the range. Optuna's tree-structured Parzen
    estimator proposes further batches. ``protocol.grid`` replaces both. After a kill, the same call continues. Finished
    batches are kept. An unfinished batch is trained again at the same rates.

    Args:
        train: trains all layers at the given rates.
        protocol: range, number of trials, or grid.
        storage: Optuna's storage address.
        study_name: the study, unique for submission, task, track and protocol.

    Raises:
        UserError: the storage cannot be used.
    """
    with _storage_errors(storage):
        study = _open(storage, study_name)
        try:
            return _search(train, protocol, study)
        except _UnreadableTrialsError:
            # An older version or a damaged database wrote these trials. No record was made from them.
            _delete(study)
            return _search(train, protocol, _open(storage, study_name))


def _search(train: Train, protocol: Protocol, study: "Study") -> list[Trial]:
    from optuna.trial import Trial as OptunaTrial

    rates = list(protocol.grid) or _spread(protocol, min(_BATCH, protocol.trials))
    total = len(protocol.grid) or protocol.trials
    for number, start in enumerate(range(0, total, _BATCH)):
        size = min(_BATCH, total - start)
        trials = _batch(study, number, size, rates[start : start + size], protocol)
        asked = [trial for trial in trials if isinstance(trial, OptunaTrial)]
        if asked:
            # Train all of them, also those finished before a kill: the other probes can change a probe's last bits.
            results = train([trial.params["lr"] for trial in trials], start / total, (start + size) / total)
            for trial, tried in zip(trials, results, strict=True):
                if isinstance(trial, OptunaTrial):
                    for name, value in asdict(tried).items():
                        trial.set_user_attr(name, value)
                    study.tell(trial, max(tried.valid))
    return _finished(study)


def select(trials: Sequence[Trial]) -> Choice:
    """The highest validation metric; ties go to the lower layer, then as in `best_of_layer`."""
    best = [best_of_layer(trials, layer) for layer in range(len(trials[0].valid))]
    return min(best, key=lambda choice: (-choice.valid, choice.layer))


def best_of_layer(trials: Sequence[Trial], layer: int) -> Choice:
    """The best learning rate and epoch of one layer.

    Few validation items give many ties. They go to the lower validation loss, then the lower epoch, then the lower
    rate.
    """
    best = min(
        trials,
        key=lambda trial: (
            -trial.valid[layer],
            trial.loss[layer] if trial.loss is not None else 0.0,
            trial.epoch[layer],
            trial.lr,
        ),
    )
    return Choice(layer, best.lr, best.epoch[layer], best.valid[layer])


def alike(valid: NDArray[np.float64], chosen: int) -> list[int]:
    """The layers that cannot be told apart from the chosen one, which is among them.

    Args:
        valid: (layers, resamples) validation metric on resampled recordings, the same ones for all layers.
        chosen: the layer that was selected.

    Returns:
        The layers whose difference to the chosen one has a 95 % interval that contains 0.
    """
    low, high = np.quantile(valid[chosen] - valid, [0.025, 0.975], axis=1)
    return [int(layer) for layer in np.flatnonzero((low <= _ROUNDING) & (high >= -_ROUNDING))]


def edge_flags(choice: Choice, protocol: Protocol) -> list[str]:
    """Return a flag if the chosen rate is at an edge of the range, so that a better rate may be outside it."""
    low, high = (math.log(rate) for rate in protocol.rate_range)
    position = (math.log(choice.lr) - low) / (high - low) if high > low else 0.5
    if position <= _EDGE:
        return ["lr-at-lower-edge"]
    return ["lr-at-upper-edge"] if position >= 1 - _EDGE else []


def _spread(protocol: Protocol, count: int) -> list[float]:
    """The middles of ``count`` equal parts of the range's logarithm."""
    low, high = math.log(protocol.lr_low), math.log(protocol.lr_high)
    return [math.exp(low + (high - low) * (part + 0.5) / count) for part in range(count)]


def _batch(
    study: "Study", number: int, size: int, rates: Sequence[float], protocol: Protocol
) -> list["OptunaTrial | FrozenTrial"]:
    """The trials of one batch: the finished ones unchanged, and new ones for the rest.

    A killed run leaves unfinished trials. They are marked as failed, which hides them from the sampler, and replaced.
    The new trials have the same rates if the whole batch was asked, or else come from the same random state.
    """
    import optuna
    from optuna.trial import TrialState

    # A kill can leave a queued rate. Asking makes its trial run, because only a running trial can be marked as failed.
    while study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.ask()
    # Trials of other batches are not touched here.
    left = [trial for trial in study.get_trials() if trial.user_attrs.get("batch", number) == number]
    mine = [trial for trial in left if trial.state != TrialState.FAIL and "batch" in trial.user_attrs]
    finished = [trial for trial in mine if trial.state == TrialState.COMPLETE]
    for trial in left:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
    if len(mine) == size:
        rates = [trial.params["lr"] for trial in mine]
    study.sampler = optuna.samplers.TPESampler(seed=number, n_startup_trials=0, constant_liar=True)
    batch: list[OptunaTrial | FrozenTrial] = list(finished)
    for place in range(len(finished), size):
        if place < len(rates):
            study.enqueue_trial({"lr": rates[place]})
        asked = study.ask()
        asked.suggest_float("lr", *protocol.rate_range, log=True)
        asked.set_user_attr("batch", number)
        batch.append(asked)
    return batch


def _finished(study: "Study") -> list[Trial]:
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    try:
        return [
            Trial(
                number=number,
                lr=trial.params["lr"],
                **{field.name: trial.user_attrs[field.name] for field in fields(Tried)},
            )
            for number, trial in enumerate(complete)
        ]
    except (KeyError, ValidationError) as error:
        raise _UnreadableTrialsError from error


def _open(storage: str, study_name: str) -> "Study":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        opened = optuna.storages.get_storage(storage)
    # Optuna's answer to tables of another version.
    except RuntimeError as error:
        raise _UnusableStorageError(" ".join(str(error).split()).partition(". ")[0]) from error
    return optuna.create_study(storage=opened, study_name=study_name, direction="maximize", load_if_exists=True)


def _delete(study: "Study") -> None:
    import optuna

    optuna.delete_study(study_name=study.study_name, storage=study._storage)


class _UnusableStorageError(Exception):
    """The tables of the storage are of another version or another program."""


class _UnreadableTrialsError(Exception):
    """The trials of a study do not hold what a search stores."""


@contextmanager
def _storage_errors(storage: str) -> Iterator[None]:
    """Raise one sentence for a storage that cannot be used. Omit its address, which may contain a password."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except _UnusableStorageError as error:
        file = sqlite_file(storage)
        advice = f"delete {file}" if file else "give another OPTUNA_STORAGE"
        raise UserError(
            f"Optuna's storage holds tables of another program or version ({error}): {advice} and run the same command;"
            " all results are kept, and only an unfinished search begins again."
        ) from error
    except (SQLAlchemyError, StorageInternalError, ImportError) as error:
        cause = error.__cause__ or error
        original = getattr(error, "orig", None) or getattr(cause, "orig", None)
        reason = str(original or type(cause).__name__).partition("\n")[0]
        if file := damaged_file(storage, reason):
            raise UserError(
                f"Optuna's database {file} is damaged ({reason}): delete it and run the same command; all results are"
                " kept, and only an unfinished search begins again."
            ) from error
        raise UserError(
            f"Optuna's storage cannot be used ({reason}): check OPTUNA_STORAGE, that it is running and has room;"
            " finished trials are kept."
        ) from error
