"""The protocol's name is the identity of a result: it must give back the rules, and the command that asks for them."""

import inspect
import re
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main
from factory import make_record
from hypothesis import given
from hypothesis import strategies as st

from evaluator.cli import app, choices
from leaderboard.records.protocol import (
    HIGHEST_RATE,
    LONGEST_NAME,
    LOWEST_RATE,
    MOST,
    PRECISIONS,
    SCALES,
    SCHEDULES,
    SHARES,
    VERSIONS,
    Protocol,
)
from tasks.support.errors import UserError
from tasks.train_part import TrainPart

SUBMIT = typer.main.get_command(app).commands["submit"]  # type: ignore[attr-defined]
# The options of `beans submit` that set something in the protocol; the others must leave it alone.
ASKING = set(inspect.signature(choices.protocols).parameters)
SILENT = {
    *("submission", "tasks", "data_dir", "track", "limit", "device", "frames_budget", "fail_fast", "dry_run"),
    "as_json",
}

counts = st.integers(1, 10**9)
rates = st.floats(min_value=LOWEST_RATE, max_value=HIGHEST_RATE)
grids = st.lists(rates, max_size=8)
parts = st.one_of(
    st.just(TrainPart()),
    st.just(TrainPart(low=True)),
    st.builds(TrainPart, shots=st.integers(1, 10**9), seed=st.integers(0, 10**9)),
)
protocols = st.builds(
    lambda version, grid, **settings: replace(
        Protocol.standard(version), grid=grid or Protocol.standard(version).grid, **settings
    ),
    version=st.sampled_from(VERSIONS),
    scale=st.sampled_from(SCALES),
    schedule=st.sampled_from(SCHEDULES),
    shares=st.sampled_from(SHARES),
    decay_power=st.sampled_from((0, 2)),
    batch_size=counts,
    weight_decay=st.one_of(st.just(0.0), rates),
    epochs=counts,
    patience=st.integers(0, 10**9),
    lr_low=rates,
    lr_high=rates,
    trials=st.integers(1, MOST["trials"]),
    grid=grids.map(tuple),
    seeds=st.integers(1, MOST["seeds"]),
    bootstrap=st.integers(1, MOST["bootstrap"]),
    precision=st.sampled_from(PRECISIONS),
    train=parts.map(lambda part: part.name),
)
# Options as a user writes them.
options = st.fixed_dictionaries(
    {},
    optional={
        "--protocol": st.sampled_from([version.removeprefix("beans-probe/") for version in VERSIONS]),
        "--trials": st.integers(1, MOST["trials"]).map(str),
        "--lr": st.lists(rates, min_size=1, max_size=8).map(lambda found: ",".join(map(repr, found))),
        "--seeds": st.integers(1, MOST["seeds"]).map(str),
        "--precision": st.sampled_from(PRECISIONS),
        "--low": st.just(None),
        "--shots": st.lists(st.integers(1, 10**9), min_size=1, max_size=4).map(lambda k: ",".join(map(str, k))),
        "--shots-seed": st.integers(0, 10**9).map(str),
    },
)


def parsed(arguments: Sequence[str]) -> dict[str, Any]:
    """What the real command line makes of arguments."""
    with SUBMIT.make_context("submit", ["submission.toml", *arguments]) as context:
        return dict(context.params)


def asked(arguments: Sequence[str]) -> list[Protocol]:
    """The protocols that `beans submit` evaluates under."""
    found = parsed(arguments)
    return choices.protocols(**{name: found[name] for name in ASKING})


@given(protocols)
def test_name_gives_back_every_setting(protocol: Protocol) -> None:
    """Otherwise a probe is exported, verified or shown under other rules than it was trained under."""
    assert Protocol.parse(protocol.name) == protocol
    assert Protocol.split(protocol.name) == (protocol.version, protocol.departures)
    assert Protocol.is_name(protocol.name)


@given(protocols, protocols)
def test_different_rules_have_different_names(one: Protocol, other: Protocol) -> None:
    """Results of one name are ranked together, and one of them is taken for the other's rerun."""
    assert (one.name == other.name) == (one == other)


@given(protocols)
def test_command_gives_back_every_setting_that_an_option_sets(protocol: Protocol) -> None:
    """And the page names every other one as a setting that no option sets."""
    (again,) = asked(protocol.options)
    standard = {name: getattr(Protocol.standard(protocol.version), name) for name in protocol.unreachable}
    assert again == replace(protocol, **standard)
    settable = {"trials", "grid", "seeds", "precision", "train"}
    assert protocol.departures.keys() - settable <= protocol.unreachable.keys()


@given(options)
def test_whatever_is_asked_for_can_be_asked_for_again(chosen: dict[str, str | None]) -> None:
    for protocol in asked([word for pair in chosen.items() for word in pair if word is not None]):
        assert protocol.unreachable == {}
        assert asked(protocol.options) == [protocol]
        assert Protocol.parse(protocol.name) == protocol


def test_every_option_of_the_command_is_one_of_the_protocol_or_none() -> None:
    """A new option that changes a result must become part of the name, or different results are ranked together."""
    assert set(parsed([])) == ASKING | SILENT
    assert asked([]) == [Protocol()]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("beans-probe/2", {}),
        ("beans-probe/2+trials=4+seeds=2", {"trials": 4, "seeds": 2}),
        ("beans-probe/2+grid=1e-05,5e-05,0.0001", {"grid": (1e-5, 5e-5, 1e-4)}),
        ("beans-probe/2+grid=1e-05,1e+06", {"grid": (1e-5, 1e6)}),
        ("beans-probe/2+grid=100000,1e+06+seeds=2", {"grid": (1e5, 1e6), "seeds": 2}),
        ("beans-probe/2+grid=1,2.5,100000", {"grid": (1.0, 2.5, 1e5)}),
        # Of 1.23456789e-05, which had no other name than this.
        ("beans-probe/2+grid=1.23457e-05", {"grid": (1.23457e-05,)}),
        ("beans-probe/2+seeds=2+precision=bf16+train=low", {"seeds": 2, "precision": "bf16", "train": "low"}),
        ("beans-probe/2+train=16-shot-seed3", {"train": "16-shot-seed3"}),
        ("beans-probe/2+train=5-shot", {"train": "5-shot"}),
        ("beans-probe/2+trials=4+grid=0.01", {"trials": 4, "grid": (1e-2,)}),
        ("beans-probe/2+weight_decay=0.0+lr_low=1e-06+lr_high=2.0",
         {"weight_decay": 0.0, "lr_low": 1e-6, "lr_high": 2.0}),
        ("beans-probe/2+weight_decay=1e+16", {"weight_decay": 1e16}),
        ("beans-probe/2+batch_size=8+epochs=3+patience=2+bootstrap=200",
         {"batch_size": 8, "epochs": 3, "patience": 2, "bootstrap": 200}),
    ],
)  # fmt: skip
def test_names_of_existing_records_keep_their_meaning(name: str, settings: dict[str, Any]) -> None:
    """Records have always been written so; another meaning would split or mix existing boards."""
    assert Protocol.parse(name) == Protocol(**settings)
    assert Protocol(**settings).name == name


def test_the_papers_rules_are_those_of_the_papers() -> None:
    """Their tables can be repeated only with their rules, and are never ranked with those of the standard."""
    papers = Protocol.standard("beans-probe/papers")
    assert papers.name == "beans-probe/papers"
    assert (papers.grid, papers.epochs, papers.patience, papers.batch_size) == ((1e-5, 5e-5, 1e-4), 100, 50, 32)
    assert [papers.penalty(rate) for rate in papers.grid] == [1e-3] * 3
    assert (papers.scale, papers.schedule, papers.shares) == ("unscaled", "constant", "equal")
    assert asked(["--protocol", "papers"]) == [papers]
    assert asked(["--protocol", "papers", "--lr", "1e-3"])[0].name == "beans-probe/papers+grid=0.001"


def test_the_penalty_falls_with_the_square_of_the_rate() -> None:
    rules = Protocol()
    assert rules.penalty(1.0) == rules.weight_decay == 1e-6
    assert rules.penalty(0.1) == pytest.approx(1e-4) and rules.penalty(0.01) == pytest.approx(1e-2)
    # Otherwise a rate below the range, such as those of the papers, would train nothing.
    assert rules.penalty(1e-5) == rules.penalty(rules.lr_low)


def test_the_command_offers_every_version() -> None:
    """A version that no option chooses could not be measured."""
    assert [f"beans-probe/{name}" for name in get_args(choices.Rules)] == list(VERSIONS)


def test_a_rate_with_more_than_six_digits_has_a_name_of_its_own() -> None:
    fine = Protocol(grid=(1.23456789e-5,))
    assert fine.name == "beans-probe/2+grid=1.23456789e-05"
    assert fine.name != Protocol(grid=(1.23457e-5,)).name
    assert Protocol(weight_decay=1, lr_high=1).name == Protocol(weight_decay=1.0, lr_high=1.0).name


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        ("beans-probe/1", {}),
        ("beans-probe/1+trials=4", {"trials": "4"}),
        ("beans-probe/3", {}),
        ("beans-probe/3+grid=1e+06+colour=red", {"grid": "1e+06", "colour": "red"}),
        ("beans-probe/2+colour=red", {"colour": "red"}),
        ("beans-probe/2+train=most", {"train": "most"}),
        ("beans-probe/2+precision=fp8", {"precision": "fp8"}),
    ],
)
def test_a_name_of_other_rules_can_be_read_and_shown(name: str, stated: dict[str, str]) -> None:
    """The board of an older version shows and ranks the records of a newer one; only their rules are unknown."""
    assert Protocol.is_name(name)
    assert Protocol.split(name)[1] == stated
    with pytest.raises(UserError, match="protocol beans-probe/"):
        Protocol.parse(name)


@pytest.mark.parametrize(
    "name",
    ["", "beans-probe/2+", "beans-probe/2+seeds", "beans-probe/2+seeds=x", "beans-probe/2+seeds=-1",
     "beans-probe/2+seeds=2.5", "beans-probe/2+seeds=5", "beans-probe/2+weight_decay=nan", "beans-probe/2+grid=inf",
     "beans-probe/2+version=2", "beans-probe/2+train=0-shot", "beans-probe/2+seeds= 2", "beans-probe/2+grid=",
     "beans-probe/2+seeds=" + "9" * 5000, "beans-probe/2+train=" + "9" * 5000 + "-shot", "beans-probe/2+seeds=2_0",
     "beans-probe/2+train=5-shot-seed0", "beans-probe/2+train=05-shot", "beans-probe/2+seeds=2+seeds=2",
     "beans-probe/2+seeds=2+trials=3", "beans-probe/2+grid=1e6", "beans-probe/papers+grid=",
     "beans-probe/papers+weight_decay=0.001", "beans-probe/2+decay_power=1", "beans-probe/draft"],
)  # fmt: skip
def test_what_is_no_name_of_rules_is_refused(name: str) -> None:
    """One protocol has one name; a second spelling would open a second board."""
    with pytest.raises(UserError):
        Protocol.parse(name)


@pytest.mark.parametrize(
    "settings",
    [{"seeds": 0}, {"weight_decay": -1.0}, {"lr_low": float("nan")}, {"grid": (1e-3, float("inf"))}, {"grid": (0.0,)},
     {"precision": "fp16"}, {"scale": "some"}, {"schedule": "linear"}, {"decay_power": 1}, {"shares": "own"},
     {"patience": -1}, {"version": "beans-probe/1"}, {"train": "some"}, {"version": "beans-probe/3"}],
)  # fmt: skip
def test_rules_that_the_suite_cannot_follow_are_refused_at_once(settings: dict[str, Any]) -> None:
    """Otherwise the fault shows only when the record is read, after hours of work."""
    with pytest.raises(UserError, match=r"cannot be|not known here"):
        Protocol(**settings)


def test_more_rates_than_a_record_can_name_are_refused_before_the_work() -> None:
    (fine,) = asked(["--lr", ",".join(repr(1e-5 * 1.1**step) for step in range(20))])
    assert len(fine.name) > 400 and make_record(protocol=fine.name).protocol == fine.name
    many = ",".join(f"{rate}e-05" for rate in range(1, 200))
    with pytest.raises(UserError, match=rf"{LONGEST_NAME} are the maximum: choose fewer rates"):
        asked(["--lr", many])


def test_order_of_rates_and_trials_beside_a_grid_make_no_other_protocol() -> None:
    """The same rates are trained, and two names would keep equal results apart."""
    expected = [Protocol(grid=(1e-3, 1e-2))]
    assert asked(["--lr", "1e-3,1e-2"]) == expected
    assert asked(["--lr", "1e-2,1e-3,0.01", "--trials", "4"]) == expected


def test_documentation_names_every_setting_and_its_option() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for field in fields(Protocol)[1:]:
        (row,) = (line for line in rows if f"`{field.name}=" in line or f"`{field.name}`" in line)
        example = re.findall(rf"`({field.name}=[^`]+)`", row)
        option = re.findall(r"`(--[a-z]+[^`]*)`", row)
        made = [" ".join(Protocol.parse(f"{Protocol.version}+{setting}").options) for setting in example]
        assert (made, bool(example)) == (option, "no option" not in row)


@given(parts)
def test_part_of_the_train_split_is_named_and_asked_for_in_one_way(part: TrainPart) -> None:
    assert TrainPart.parse(part.name) == part and TrainPart.is_name(part.name)
    assert [protocol.train for protocol in asked(part.options)] == [part.name]
    with pytest.raises(UserError, match="No part of the train split"):
        TrainPart.parse(f" {part.name}")
