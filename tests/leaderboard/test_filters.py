"""Which tasks and rows are shown; a mistake here hides a model, or ranks it among others than is said."""

import random
import statistics
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consistent import write_consistent
from factory import make_record
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from leaderboard.database.standings import catalogue, compute, read_standings, with_certainty
from leaderboard.database.store import Store
from leaderboard.ranking.boards import OTHER_WEIGHTS, Board, boards
from leaderboard.ranking.filters import FILTERS, NOT_STATED, Filters, of_taxa, passing, size_names, taxa_of
from leaderboard.ranking.resamples import scored
from leaderboard.ranking.significance import Combined, rank_combined
from leaderboard.records.files import read_record, record_path
from leaderboard.records.result import Result
from leaderboard.records.stored import StoredRecord
from leaderboard.web import text
from tasks.support.home import Home
from tasks.support.progress import silent

CORE = [task for task in catalogue() if task.group == "core"]
# By hand, from what the tasks are (BEANS, tables 1 and 2).
TAXA = {
    "bats": {"land mammals"},
    "cbi": {"birds"},
    "dcase": {"birds", "land mammals"},
    "dogs": {"land mammals"},
    "enabirds": {"birds"},
    "esc50": {"none"},
    "hainan-gibbons": {"land mammals"},
    "hiceas": {"marine mammals"},
    "humbugdb": {"insects"},
    "mini-calls": {"none"},
    "mini-soundscape": {"none"},
    "rfcx": {"birds", "amphibians"},
    "speech-commands": {"humans"},
    "watkins": {"marine mammals"},
}
BIRDS = ["cbi", "dcase", "enabirds", "rfcx"]


def about(family: str, licence: str, *domains: str) -> dict[str, object]:
    return {"family": family, "licence": licence, "pretraining": [{"data": "x", "domain": one} for one in domains]}


# Name, about, parameters, bytes of memory (none: measured on no GPU).
MODELS: list[tuple[str, dict[str, object], int, int | None]] = [
    ("hubert", about("HuBERT", "MIT", "speech"), 94_000_000, 2**30),
    ("wavlm", about("WavLM", "CC-BY-SA-3.0", "speech"), 316_000_000, 2**30),
    ("aves", about("AVES", "MIT", "animals", "general audio"), 94_000_000, None),
    ("ast", about("AST", "BSD-3-Clause", "none", "general audio"), 86_000_000, None),
    ("floor", about("statistics", "MIT"), 0, None),
    ("silent", {}, 1_000_000_000, None),
]


def core_board() -> Board:
    """Every model on every core task, in no order; one more has run a single task, and one is limited."""
    draw = random.Random(3)
    records = [
        make_record(
            name, task.name, group="core", metric=task.metric, test=draw.random(), about=told, parameters=size,
            vram_bytes=memory,
        )
        for name, told, size, memory in MODELS
        for task in CORE
    ]  # fmt: skip
    records.append(make_record("started", "cbi", group="core", test=0.99, about=about("HuBERT", "MIT", "speech")))
    records.append(make_record("hubert", "cbi", group="core", test=0.99, limit=9, about=MODELS[0][1]))
    (board,) = boards([Result.of(record) for record in records], catalogue())
    return board


def filters(board: Board, **query: str | list[str]) -> Filters:
    given = {name: [value] if isinstance(value, str) else value for name, value in query.items()}
    found, unknown = Filters.read(given, Filters.offered(board, catalogue()))
    assert unknown == {}
    return found


def names(board: Board) -> set[str]:
    return {row.submission for row in board.rows}


def test_every_task_of_the_suite_is_in_the_groups_of_its_animals() -> None:
    """A new task whose `taxa` names no group could not be found by any."""
    assert {task.name: set(taxa_of(task)) for task in catalogue()} == TAXA


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"family": "HuBERT"}, {"hubert", "started"}),
        ({"family": ["AST", "AVES"]}, {"ast", "aves"}),
        ({"family": NOT_STATED}, {"silent"}),
        ({"licence": "MIT"}, {"hubert", "aves", "floor", "started"}),
        ({"licence": NOT_STATED}, {"silent"}),
        ({"domain": "speech"}, {"hubert", "wavlm", "started"}),
        ({"domain": "general audio"}, {"aves", "ast"}),
        # Pictures beside sounds are no reason to be found among those that heard nothing.
        ({"domain": "none"}, {"floor"}),
        ({"domain": NOT_STATED}, {"silent"}),
        ({"size": "0-10"}, {"floor"}),
        ({"size": "10-100"}, {"hubert", "aves", "ast", "started"}),
        ({"size": ["100-350", "350-"]}, {"wavlm", "silent"}),
        ({"device": "NVIDIA H200"}, {"hubert", "wavlm"}),
        ({"device": "cpu"}, {"hubert", "aves", "ast", "floor", "silent", "started"}),
        ({"family": "HuBERT", "device": "NVIDIA H200"}, {"hubert"}),
        ({"family": "AVES", "domain": "speech"}, set()),
    ],
)
def test_rows_pass_by_what_they_say(query: Mapping[str, Any], expected: set[str]) -> None:
    board = core_board()
    assert names(passing(board, filters(board, **query))) == expected


def test_hidden_rows_leave_the_ranks_as_they_are() -> None:
    """The best of the small models is not the first of the board."""
    board = core_board()
    ranks = {row.submission: row.rank for row in board.rows if row.limit is None}
    chosen = filters(board, family=["AVES", "statistics"])
    shown = passing(board, chosen)
    assert {row.submission: row.rank for row in shown.rows} == {name: ranks[name] for name in ("aves", "floor")}
    assert text.scope(shown, board, board, chosen) == [
        "Filtered by family AVES or statistics.",
        "2 of 8 rows; ranks are among all 6 ranked rows.",
    ]


@pytest.mark.parametrize("taxa", [["birds"], ["birds", "marine mammals"], ["insects"], ["land mammals"]])
def test_mean_and_rank_are_of_the_chosen_tasks(taxa: list[str]) -> None:
    board = core_board()
    tasks = {name for name, groups in TAXA.items() if groups & set(taxa)}
    found = of_taxa(board, taxa, catalogue())
    assert {column.task for column in found.columns} == tasks & {task.name for task in CORE}
    full = [row for row in board.rows if row.limit is None]
    scores = {row.submission: [c.result.test for c in row.cells if c.result and c.result.task in tasks] for row in full}
    means = {name: statistics.mean(all_of) for name, all_of in scores.items() if len(all_of) == len(found.columns)}
    ranks = dict(zip(means, rankdata([-mean for mean in means.values()], method="min"), strict=True))
    ranked = [row for row in found.rows if row.rank is not None]
    assert {row.submission: row.rank for row in ranked} == ranks
    assert {row.submission: row.mean for row in ranked} == pytest.approx(means)
    assert [row.rank for row in ranked] == sorted(ranks.values())
    assert len(found.rows) == len(board.rows), "a row that misses the tasks is shown with the reason"
    assert all(row.rank is None for row in found.rows if row.limit is not None)
    kept, *_ = text.scope(found, found, board, filters(board, taxa=taxa))[1:]
    assert kept == f"Mean over {len(found.columns)} of 10 tasks; ranks use this mean."


def test_groups_that_cover_all_tasks_give_the_whole_board() -> None:
    board = core_board()
    assert of_taxa(board, list(Filters.offered(board, catalogue()).taxa), catalogue()) == board
    assert of_taxa(board, (), catalogue()) is board


def test_a_restricted_board_has_the_cells_of_the_whole_one() -> None:
    """Results of older weights stay out, also where the chosen tasks hold none of the newer ones."""
    old = make_record("a", "cbi", group="core", weights="old", created=datetime(2026, 1, 1, tzinfo=UTC))
    new = make_record("a", "bats", group="core", weights="new", created=datetime(2026, 2, 1, tzinfo=UTC))
    (board,) = boards([Result.of(old), Result.of(new)], catalogue())
    (row,) = of_taxa(board, ["birds"], catalogue()).rows
    assert {cell.reason for cell in row.cells if cell.reason != "not run"} == {OTHER_WEIGHTS}
    assert row.covered == 0 and row.rank is None


def test_a_restricted_board_is_filtered_by_what_the_submission_says_on_any_task() -> None:
    board = core_board()
    birdless = of_taxa(board, ["marine mammals"], catalogue())
    assert "started" in names(passing(birdless, filters(board, family="HuBERT"), board))


def test_own_task_with_the_name_of_another_is_in_no_group() -> None:
    (board,) = boards([Result.of(make_record("a", "cbi", group="own"))], catalogue())
    assert board.group == "own"
    assert Filters.offered(board, catalogue()).taxa == ()


def test_the_result_submitted_last_says_what_the_submission_is() -> None:
    told = {"cbi": "Hubert", "dcase": "HuBERT"}
    results = [
        Result.of(
            make_record("a", task, group="core", about={"family": name}, created=datetime(2026, 1, day, tzinfo=UTC))
        )
        for day, (task, name) in enumerate(told.items(), start=1)
    ]
    (board,) = boards(results, catalogue())
    assert Filters.offered(board, catalogue()).family == ("HuBERT",)


@pytest.mark.parametrize(
    ("parameters", "size"),
    [
        *((0, "0-10"), (9_999_999, "0-10"), (10_000_000, "10-100"), (99_999_999, "10-100"), (100_000_000, "100-350")),
        *((349_999_999, "100-350"), (350_000_000, "350-"), (10**12, "350-")),
    ],
)
def test_every_size_is_in_one_group(parameters: int, size: str) -> None:
    (board,) = boards([Result.of(make_record(parameters=parameters))])
    assert Filters.offered(board, ()).size == (size,)


def test_sizes_are_shown_as_what_they_are() -> None:
    assert list(size_names().values()) == ["< 10 M", "10-100 M", "100-350 M", "≥ 350 M"]


def test_values_are_offered_in_an_order_for_readers() -> None:
    offered = Filters.offered(core_board(), catalogue())
    assert offered.taxa == ("birds", "marine mammals", "land mammals", "amphibians", "insects")
    assert offered.family == ("AST", "AVES", "HuBERT", "statistics", "WavLM", NOT_STATED)
    assert offered.size == ("0-10", "10-100", "100-350", "350-")
    assert offered.domain == ("animals", "general audio", "none", "speech", NOT_STATED)


def test_unknown_values_are_left_out_and_told() -> None:
    board = core_board()
    query = {"family": ["gone", "AVES", "AVES", "<b>"], "size": ["huge"], "sort": ["mean"], "other": ["x"]}
    found, unknown = Filters.read(query, Filters.offered(board, catalogue()))
    assert found == Filters(family=("AVES",))
    assert unknown == {"family": ["gone", "<b>"], "size": ["huge"]}


BOARD = core_board()
OFFERED = Filters.offered(BOARD, catalogue())
_VALUES = st.lists(st.text(max_size=8) | st.sampled_from([*OFFERED.family, *OFFERED.taxa, *OFFERED.size]), max_size=4)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=4) | st.sampled_from(FILTERS), _VALUES, max_size=6))
def test_any_address_gives_a_board(query: dict[str, list[str]]) -> None:
    """Anybody can type an address; each row that is shown passes every filter, and no other row does."""
    found, unknown = Filters.read(query, OFFERED)
    for name in FILTERS:
        assert set(getattr(found, name)) == set(query.get(name, ())) & set(getattr(OFFERED, name))
        assert set(getattr(found, name)).isdisjoint(unknown.get(name, ()))
    ranked = of_taxa(BOARD, found.taxa, catalogue())
    shown = passing(ranked, found, BOARD)
    whole = {(row.submission, row.limit): row for row in ranked.rows}
    assert all(whole[row.submission, row.limit] == row for row in shown.rows)
    if not any(getattr(found, name) for name in FILTERS if name != "taxa"):
        assert shown == ranked


def test_ranges_of_a_restricted_board_are_of_its_tasks(tmp_path: Path) -> None:
    """Ranges and groups of the whole board beside means of some tasks would not fit each other."""
    home = Home.at(tmp_path)
    home.records.mkdir(parents=True)
    store = Store(home.database_url)
    for number, name in enumerate(("one", "two", "three")):
        for task in ("humbugdb", "bats"):
            path = write_consistent(
                home.records, name, task=task, group="core", targets=np.arange(24) % 3, seed=number + 5
            )
            store.publish_stored(StoredRecord.read(path))
    assert compute(home.records, silent) == []
    (whole,) = read_standings(store)
    assert all(row.rank is None for row in with_certainty(whole, store, home.records).rows)
    board = with_certainty(of_taxa(whole, ["insects"], catalogue()), store, home.records)
    known = {
        record.submission.name: Combined.of(
            {"humbugdb": scored(StoredRecord(record, record_path(home.records, record)))}, ["humbugdb"]
        )
        for record in map(read_record, sorted(home.records.glob("*.json")))
        if record.task.name == "humbugdb"
    }
    expected = {one.submission: one for one in rank_combined(known)}
    assert len(expected) == 3
    assert {row.submission: row.standing for row in board.rows} == expected
