"""The search: what is asked, what survives a kill, and what is chosen."""

import math
import warnings
from pathlib import Path

import numpy as np
import optuna
import pytest

from evaluator.probes.search import Tried, alike, best_of_layer, edge_flags, search, select
from leaderboard.records.protocol import Protocol
from leaderboard.records.record import Trial
from tasks.support.errors import UserError


def quality(rate: float) -> float:
    """Best at 0.2, falling off on both sides."""
    return 0.9 - abs(math.log10(rate) + 0.7) / 6


def train(rates: list[float], begin: float, end: float) -> list[Tried]:
    return [Tried([quality(rate), 0.1], [3, 4], [0.5, 0.6], 2) for rate in rates]


def address(path: Path) -> str:
    return f"sqlite:///{path / 'optuna.db'}"


def test_sixteen_trials_cover_the_range_and_the_second_half_looks_where_the_first_was_good(tmp_path: Path) -> None:
    rates = [trial.lr for trial in search(train, Protocol(), storage=address(tmp_path), study_name="s")]
    assert len(rates) == 16
    assert all(0.01 <= rate <= 1 for rate in rates)
    gaps = [math.log10(b / a) for a, b in zip(sorted(rates[:8]), sorted(rates[:8])[1:], strict=False)]
    assert gaps == pytest.approx([0.25] * 7)
    assert max(map(quality, rates[8:])) > max(map(quality, rates[:8])) - 0.05


def test_a_grid_is_trained_as_it_is(tmp_path: Path) -> None:
    rules = Protocol(grid=(1e-5, 5e-5, 1e-4))
    found = search(train, rules, storage=address(tmp_path), study_name="s")
    assert [trial.lr for trial in found] == [1e-5, 5e-5, 1e-4]


def test_a_search_uses_nothing_of_optuna_that_is_experimental(tmp_path: Path) -> None:
    """What is experimental may change its numbers with any release, and the user would read a warning in each batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", optuna.exceptions.ExperimentalWarning)
        assert len(search(train, Protocol(), storage=address(tmp_path), study_name="s")) == 16


class Kill(BaseException):
    """As sudden as SIGKILL: nothing catches it."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Trial]:
    """A search that nothing disturbs."""
    return search(train, Protocol(), storage=address(tmp_path_factory.mktemp("whole")), study_name="s")


@pytest.mark.parametrize("method", ["ask", "tell"])
@pytest.mark.parametrize("when", [7, *(pytest.param(when, marks=pytest.mark.slow) for when in (1, 4, 10, 13, 16))])
def test_killed_at_any_ask_or_tell_the_search_continues_with_the_same_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[Trial], method: str, when: int
) -> None:
    """A resumed study that asks other rates would end with another number."""
    original, calls = getattr(optuna.Study, method), 0

    def dying(self: optuna.Study, *arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == when:
            raise Kill
        return original(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, method, dying)
        with pytest.raises(Kill):
            search(train, Protocol(), storage=address(tmp_path), study_name="s")
    assert search(train, Protocol(), storage=address(tmp_path), study_name="s") == whole


def test_a_finished_search_trains_nothing_again(tmp_path: Path) -> None:
    first = search(train, Protocol(), storage=address(tmp_path), study_name="s")

    def never(rates: list[float], begin: float, end: float) -> list[Tried]:
        raise AssertionError("trained again")

    assert search(never, Protocol(), storage=address(tmp_path), study_name="s") == first


def test_a_storage_that_cannot_be_opened_is_one_sentence_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="OPTUNA_STORAGE") as caught:
        search(train, Protocol(), storage="postgresql+psycopg://me:secret@127.0.0.1:9/none", study_name="s")
    assert "secret" not in str(caught.value)


def test_a_storage_that_fails_midway_is_one_sentence_and_goes_on_later(tmp_path: Path) -> None:
    """The database is replaced by something else while the probes train, as a bad disk would."""
    storage, database = address(tmp_path), tmp_path / "optuna.db"

    def spoil(rates: list[float], begin: float, end: float) -> list[Tried]:
        (tmp_path / "kept.db").write_bytes(database.read_bytes())
        database.write_bytes(b"no database at all" * 100)
        return train(rates, begin, end)

    with pytest.raises(UserError, match=rf"{database} is damaged .*: delete it"):
        search(spoil, Protocol(), storage=storage, study_name="s")
    database.write_bytes((tmp_path / "kept.db").read_bytes())
    assert len(search(train, Protocol(), storage=storage, study_name="s")) == 16


def trial(lr: float, valid: list[float], epoch: list[int], loss: list[float] | None = None) -> Trial:
    return Trial(number=0, lr=lr, valid=valid, epoch=epoch, loss=loss)


def test_ties_go_to_the_lower_layer_then_the_lower_loss_then_the_lower_rate() -> None:
    """With few validation items many rates tie, and the loss still tells them apart."""
    trials = [
        trial(1e-1, [0.5, 0.8, 0.8], [9, 9, 9], [1.0, 0.7, 0.1]),
        trial(1e-2, [0.5, 0.8, 0.8], [9, 9, 9], [1.0, 0.6, 0.2]),
        trial(1e-3, [0.5, 0.8, 0.7], [9, 9, 9], [1.0, 0.9, 0.0]),
    ]
    assert (select(trials).layer, select(trials).lr) == (1, 1e-2)
    assert best_of_layer(trials, 0).lr == 1e-3
    assert best_of_layer(trials, 2).lr == 1e-1


def test_what_each_trial_gave_comes_back_from_the_storage(tmp_path: Path) -> None:
    found = search(train, Protocol(trials=2), storage=address(tmp_path), study_name="s")
    assert [(one.loss, one.looks) for one in found] == [([0.5, 0.6], 2)] * 2


def test_layers_that_validation_cannot_tell_apart_are_those_of_a_plain_bootstrap() -> None:
    """The same recordings are drawn for both layers: a hard recording is hard for both."""
    generator = np.random.default_rng(0)
    hits = generator.random((4, 60)) < np.array([0.8, 0.78, 0.5, 0.8])[:, None]
    hits[3] = hits[0]
    draws = [generator.integers(60, size=60) for _ in range(1000)]
    valid = np.array([[layer[drawn].mean() for drawn in draws] for layer in hits])
    expected = []
    for layer in range(4):
        differences = np.sort([hits[0][drawn].mean() - hits[layer][drawn].mean() for drawn in draws])
        if differences[24] <= 0 <= differences[975]:
            expected.append(layer)
    assert alike(valid, 0) == expected == [0, 1, 3]


def test_without_losses_ties_go_to_the_lower_layer_then_the_lower_epoch() -> None:
    trials = [trial(1e-2, [0.5, 0.8, 0.8], [1, 9, 1]), trial(1e-3, [0.5, 0.8, 0.8], [1, 4, 1])]
    choice = select(trials)
    assert (choice.layer, choice.epoch, choice.lr) == (1, 4, 1e-3)
    assert best_of_layer(trials, 2).lr == 1e-3


@pytest.mark.parametrize(("lr", "flags"), [(0.011, ["lr-at-lower-edge"]), (0.2, []), (0.95, ["lr-at-upper-edge"])])
def test_a_best_rate_at_the_edge_is_flagged(lr: float, flags: list[str]) -> None:
    """Published tables with a rate at the edge of their grid cannot be compared; the reader must be told."""
    assert edge_flags(select([trial(lr, [0.5], [1])]), Protocol()) == flags


def test_the_ends_of_a_grid_are_edges() -> None:
    rules = Protocol(grid=(1e-5, 5e-5, 1e-4))
    assert edge_flags(select([trial(1e-4, [0.5], [1])]), rules) == ["lr-at-upper-edge"]
    assert edge_flags(select([trial(5e-5, [0.5], [1])]), rules) == []
