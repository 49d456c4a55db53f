"""What a model heard of a task before is told on the board; silence here makes a contaminated score look clean."""

import csv
import io
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from factory import make_record
from hypothesis import given
from hypothesis import strategies as st

from evaluator.submission import Submission
from leaderboard.database.standings import catalogue
from leaderboard.database.store import Store
from leaderboard.ranking.boards import Board, boards, disclosures
from leaderboard.records.overlap import (
    PretrainingData,
    known_collections,
    overlap,
    pretraining_data,
)
from leaderboard.records.record import Record
from leaderboard.records.result import Result
from leaderboard.web.export import to_csv
from tasks.collections import drawn_from
from tasks.task import Task

ROOT = Path(__file__).parents[2]
DAY = datetime(2026, 1, 1, tzinfo=UTC)
ESC50 = ("ESC-50", "Freesound")
CBI = ("Cornell Birdcall Identification", "Xeno-canto")
FSD50K = {"pretraining": [{"data": "FSD50K", "domain": "general audio", "hours": 108}]}


def reasons(data: str, *collections: str) -> dict[str, tuple[str, ...]]:
    """The tasks of the suite that overlap."""
    entry = PretrainingData(data, collections)
    found = {task.name: overlap([entry], task.name, task.facts.collections) for task in catalogue()}
    return {name: why for name, why in found.items() if why}


def test_a_well_known_data_set_is_disclosed_by_its_name_alone() -> None:
    assert reasons("FSD50K") == {"esc50": ("pretrained on FSD50K, which like esc50 is drawn from Freesound",)}


def test_the_data_of_a_task_themselves_are_disclosed() -> None:
    assert reasons("ESC50") == {"esc50": ("pretrained on ESC50, from which esc50 is drawn",)}


def test_a_stated_collection_of_an_unknown_data_set_is_disclosed() -> None:
    """The submitter of a private crawl is the only one who knows."""
    assert reasons("Our crawl", "xeno canto") == {
        "cbi": ("pretrained on Our crawl, which like cbi is drawn from Xeno-canto",)
    }
    assert reasons("Our crawl") == {}


def test_collections_of_collections_count() -> None:
    """NatureLM-audio's data hold UrbanSound, which is drawn from Freesound."""
    assert set(reasons("NatureLM-audio-training")) == {"cbi", "esc50", "watkins"}
    assert set(reasons("ESC-10")) == {"esc50"}


def test_pretraining_on_the_benchmark_itself_is_disclosed_on_every_task_of_it() -> None:
    everything = {task.name for task in catalogue() if task.group in ("core", "auxiliary")}
    assert len(everything) == 12
    assert set(reasons("BEANS")) == everything


@given(
    st.sampled_from(["Xeno-canto", "xenocanto", "XENO canto", "Xeno_Canto"]),
    st.sampled_from(["{}", "{} (2,500 h)", "all of {}, 2024", "birds from {}"]),
    st.sampled_from([str.upper, str.lower, str.title]),
)
def test_spelling_hides_nothing(name: str, sentence: str, case: Any) -> None:
    assert overlap([PretrainingData(case(sentence.format(name)))], "cbi", CBI)


@pytest.mark.parametrize(
    "data", ["LibriSpeech", "AudioSetting", "FSD50Kish", "beanstalks", "synthetic speech", "sounds", "Xeno", "50"]
)
def test_what_is_only_spelt_alike_is_not_accused(data: str) -> None:
    assert reasons(data) == {}


def test_the_table_names_collections_that_tasks_have_or_that_lead_nowhere_near() -> None:
    """A slip in the table, such as Xenocanto Archive, would silently disclose nothing."""
    used = {name for task in catalogue() for name in task.facts.collections}
    elsewhere = {"YouTube", "Flickr", "iNaturalist", "BBC Sound Effects", "Epidemic Sound", "Audiostock", "SoundBible"}
    assert {name for drawn in drawn_from().values() for name in drawn} <= used | elsewhere | set(drawn_from())
    assert known_collections("audio-set and esc 50") == ("YouTube", "Freesound")


def test_each_reason_is_told_once_and_each_data_set_has_its_own() -> None:
    found = overlap([PretrainingData("FSD50K"), PretrainingData("Clotho"), PretrainingData("FSD50K")], "esc50", ESC50)
    assert found == (
        "pretrained on FSD50K, which like esc50 is drawn from Freesound",
        "pretrained on Clotho, which like esc50 is drawn from Freesound",
    )


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"pretraining": None},
        {"pretraining": "FSD50K"},
        {"pretraining": {"data": "FSD50K"}},
        {"pretraining": [None, 3, "FSD50K", [], {"data": 3}, {"domain": "speech"}]},
    ],
)
def test_records_that_no_submission_file_makes_are_passed_over(about: dict[str, object]) -> None:
    """Anybody may write a record; it must not take the board down."""
    assert pretraining_data(about) == ()


def test_a_name_as_long_as_a_book_does_not_keep_the_board_busy() -> None:
    start = time.perf_counter()
    assert overlap([PretrainingData("a b " * 500_000, ("c " * 500_000,))], "esc50", ESC50) == ()
    assert time.perf_counter() - start < 2


def test_the_submissions_that_come_along_disclose_what_their_papers_say() -> None:
    expected = {
        **{name: {"esc50"} for name in ("aves-all", "aves-bio", "aves-core", "aves-nonbio", "clap")},
        **{name: {"cbi", "esc50"} for name in ("birdaves-base", "birdaves-large")},
        "birdnet": {"cbi"},
    }
    found = {}
    for path in sorted((ROOT / "submissions").glob("*.toml")):
        about = Submission.read(path).about
        assert about is not None and about.pretraining is not None, f"{path.name} does not say what it has heard"
        told = pretraining_data(about.model_dump(mode="json"))
        tasks = {task.name for task in catalogue() if overlap(told, task.name, task.facts.collections)}
        if tasks:
            found[path.stem] = tasks
    assert found == expected


def auxiliary(name: str, test: float = 0.5, task: str = "esc50", **more: Any) -> Record:
    return make_record(name, task, test=test, group=more.pop("group", "auxiliary"), **more)


def board_of(*records: Record, tasks: tuple[str, ...] = ("esc50",)) -> Board:
    known: list[Task] = [task for task in catalogue() if task.name in tasks]
    (board,) = boards(map(Result.of, records), known)
    return board


def test_disclosure_never_costs_the_rank() -> None:
    board = board_of(auxiliary("heard-it", 0.9, about=FSD50K), auxiliary("clean", 0.8))
    assert [(row.submission, row.rank, row.mean, bool(row.cells[0].overlap)) for row in board.rows] == [
        ("heard-it", 1, 0.9, True),
        ("clean", 2, 0.8, False),
    ]


def test_only_the_cell_that_overlaps_is_marked() -> None:
    records = (auxiliary("a", about=FSD50K), auxiliary("a", task="speech-commands", about=FSD50K))
    board = board_of(*records, tasks=("esc50", "speech-commands"))
    marked = {column.task: bool(cell.overlap) for column, cell in zip(board.columns, board.rows[0].cells, strict=True)}
    assert marked == {"esc50": True, "speech-commands": False}


def test_an_own_task_of_the_same_name_is_another_task() -> None:
    """Somebody's own esc50.toml may hold anything."""
    board = board_of(auxiliary("a", about=FSD50K, group="own"))
    assert board.group == "own" and board.rows[0].cells[0].overlap == ()


def test_what_is_learned_later_holds_for_older_results_of_the_same_weights() -> None:
    early = auxiliary("a", about={})
    late = auxiliary("a", task="speech-commands", about=FSD50K, created=DAY + timedelta(days=1))
    cells = board_of(early, late, tasks=("esc50", "speech-commands")).rows[0].cells
    assert [bool(cell.overlap) for cell in cells] == [True, False]


def test_what_other_weights_heard_is_not_held_against_these() -> None:
    other = auxiliary("a", task="speech-commands", about=FSD50K, weights="others", created=DAY - timedelta(days=1))
    cells = board_of(auxiliary("a", about={}), other, tasks=("esc50", "speech-commands")).rows[0].cells
    assert cells[0].overlap == ()


def test_a_submissions_own_results_are_enough_to_say_what_it_heard() -> None:
    """Its page reads no others, and may say nothing else than the board; results that were replaced count for both."""
    records = [
        auxiliary("a", about={}),
        auxiliary("a", task="speech-commands", about=FSD50K, created=DAY + timedelta(days=1)),
        # Replaces the record that said it: the older weights heard it all the same.
        auxiliary("a", task="speech-commands", about={}, created=DAY + timedelta(days=2), weights="new"),
        auxiliary("b", about={}, weights="a", created=DAY + timedelta(days=3)),
    ]
    results = [Result.of(record) for record in records]
    own = [result for result in results if result.submission == "a"]
    assert disclosures(own, catalogue()) == disclosures(results, catalogue())
    assert list(disclosures(own, catalogue())) == [records[0].id]


def remote(record: Record, value: object = True) -> Record:
    arguments = {**record.submission.arguments, "trust_remote_code": value}
    return record.model_copy(update={"submission": record.submission.model_copy(update={"arguments": arguments})})


def test_the_database_gives_back_what_the_submission_said(url: str) -> None:
    """Both kinds of database take it out of the stored record; a board without it would hide the overlap."""
    about = {
        "family": "AVES",
        "licence": "CC-BY-4.0",
        "pretraining": [
            {"data": "Ours \x01 “é”", "domain": "animals", "collections": ["Freesound"], "hours": None},
            {"data": "FSD50K", "domain": "general audio"},
            {"data": "More of ours", "domain": "animals"},
        ],
    }
    store = Store(url)
    for record in (remote(auxiliary("a", about=about)), auxiliary("b", about={}), remote(auxiliary("c"), "true")):
        store.publish(record)
    found = {result.submission: result for result in store.results()}
    assert found["a"].pretraining[0] == PretrainingData("Ours \x01 “é”", ("Freesound",), "animals")
    assert (found["a"].family, found["a"].licence, found["a"].domains) == (
        *("AVES", "CC-BY-4.0"),
        ("animals", "general audio"),
    )
    assert [(found[name].family, found[name].licence, found[name].domains) for name in "bc"] == [("", "", ())] * 2
    assert [found[name].remote_code for name in "abc"] == [True, False, False]
    assert [found[name].pretraining for name in "bc"] == [(), ()]


def test_a_family_or_licence_that_is_no_word_or_a_book_does_not_break_the_filters() -> None:
    wrong = Result.of(
        make_record(about={"family": 3, "licence": ["MIT"], "pretraining": [{"data": "x", "domain": {}}]})
    )
    assert (wrong.family, wrong.licence, wrong.domains) == ("", "", ())
    long = Result.of(make_record(about={"family": "a\n b" * 10**6, "licence": " MIT  or\nBSD "}))
    assert long.family.startswith("a b") and len(long.family) == 200
    assert long.licence == "MIT or BSD"


def test_a_row_is_marked_when_code_of_the_checkpoint_made_one_of_its_results() -> None:
    results = (remote(auxiliary("a")), auxiliary("b"), remote(auxiliary("c"), False))
    assert {row.submission: row.remote_code for row in board_of(*results).rows} == {"a": True, "b": False, "c": False}


def test_the_csv_says_what_overlaps_and_whose_code_ran() -> None:
    text = to_csv(board_of(remote(auxiliary("a", 0.9, about=FSD50K)), auxiliary("b", about={})))
    first, second = csv.DictReader(io.StringIO(text))
    assert first["esc50.overlap"] == "pretrained on FSD50K, which like esc50 is drawn from Freesound"
    assert (first["remote_code"], second["remote_code"], second["esc50.overlap"]) == ("True", "False", "")


def test_to_have_heard_nothing_is_something_else_than_to_say_nothing() -> None:
    """A filter on "not stated" would find the honest ones."""
    floor, silent = (Result.of(make_record("a", about=about)) for about in ({"pretraining": []}, {}))
    assert (floor.domains, silent.domains) == (("none",), ())
    assert overlap(floor.pretraining, "esc50", ("ESC-50", "Freesound")) == ()
