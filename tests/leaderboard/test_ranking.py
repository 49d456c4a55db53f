"""Who is ranked with whom; a mistake here puts the wrong model first."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from factory import make_record
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboard.ranking.boards import NOT_RUN, OTHER_DATA, OTHER_WEIGHTS, Board, boards, current
from leaderboard.ranking.columns import sort_rows
from leaderboard.records.result import Result
from tasks.task import Task

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def result(submission: str, task: str = "bats", test: float = 0.5, **more: Any) -> Result:
    return Result.of(
        make_record(submission, task, test=test, group=more.pop("group", "core"), n_layers=3, best_layer=1, **more)
    )


def only(results: list[Result], **more: Any) -> Board:
    (board,) = boards(results, **more)
    return board


def ranks(board: Board) -> list[tuple[str, int | None]]:
    return [(row.submission, row.rank) for row in board.rows]


def task(name: str, group: str = "core") -> Task:
    return Task.model_validate({"name": name, "kind": "classification", "group": group, "clips": "clips.csv"})


def test_higher_mean_is_ranked_first() -> None:
    board = only([result("a", test=0.3), result("b", test=0.6), result("c", test=0.4)])
    assert ranks(board) == [("b", 1), ("c", 2), ("a", 3)]


def test_mean_weighs_every_task_alike() -> None:
    board = only([result("a", "bats", 0.2), result("a", "watkins", 0.6), result("a", "dogs", 0.7)])
    assert board.rows[0].mean == pytest.approx(0.5)


def test_equal_means_share_a_rank_and_the_next_one_is_skipped() -> None:
    """0.1 + 0.2 and 0.15 + 0.15 differ in the last bit; a rank must not hang on it."""
    scores = {"b": (0.1, 0.2), "a": (0.15, 0.15), "z": (0.0, 0.1)}
    board = only(
        [result(name, of, test) for name, pair in scores.items() for of, test in zip(("x", "y"), pair, strict=True)]
    )
    assert ranks(board) == [("a", 1), ("b", 1), ("z", 3)]


def test_limited_results_are_never_ranked_nor_mixed_with_full_ones() -> None:
    """A quick look at 20 clips that scores 1.0 must not win, nor replace the full result of the same model."""
    board = only([result("a", test=0.5), result("a", test=1.0, limit=20), result("b", test=0.4)])
    assert [(row.submission, row.rank, row.limit, row.mean) for row in board.rows] == [
        ("a", 1, None, 0.5),
        ("b", 2, None, 0.4),
        ("a", None, 20, 1.0),
    ]


def test_limited_result_does_not_fill_a_gap_of_the_full_row() -> None:
    board = only([result("a", "bats"), result("a", "watkins", limit=20), result("b", "bats"), result("b", "watkins")])
    full = next(row for row in board.rows if row.submission == "a" and row.limit is None)
    assert (full.rank, full.coverage) == (None, "1/2 tasks")


def test_boards_with_fewer_departures_come_first() -> None:
    """A reader takes the first board for the one closest to the standard; a number may hold a plus sign."""
    names = ["beans-probe/2", "beans-probe/2+grid=1e+06", "beans-probe/2+batch_size=8+epochs=3"]
    found = boards([result("a", protocol=name) for name in reversed(names)])
    assert [board.protocol for board in found] == names


def test_the_standard_comes_before_the_papers_and_those_before_earlier_versions() -> None:
    """Whoever opens the page after an update must not see the results of the old rules first."""
    names = ["beans-probe/2", "beans-probe/papers", "beans-probe/1", "beans-probe/2+trials=4"]
    found = boards([result("a", protocol=name) for name in reversed(names)])
    assert [board.protocol for board in found] == names


def test_different_protocols_are_different_boards() -> None:
    found = boards([result("a"), result("b", protocol="beans-probe/2+trials=4"), result("c", protocol="beans-probe/3")])
    assert [(board.protocol, ranks(board)) for board in found] == [
        ("beans-probe/2", [("a", 1)]),
        ("beans-probe/3", [("c", 1)]),
        ("beans-probe/2+trials=4", [("b", 1)]),
    ]


def test_tracks_and_groups_are_different_boards_with_the_ranking_track_and_core_first() -> None:
    tracks = [result("a", task="m", group="own"), result("a", track="twa"), result("a")]
    found = boards([*tracks, result("a", task="n", group="builtin")])
    assert [(board.track, board.group) for board in found] == [
        ("ta", "core"),
        ("ta", "builtin"),
        ("ta", "own"),
        ("twa", "core"),
    ]


def test_missing_task_takes_the_rank_and_the_mean_and_says_so() -> None:
    """The best on one easy task must not lead those that ran all."""
    board = only([result("easy", "bats", 0.99), result("all", "bats", 0.5), result("all", "watkins", 0.5)])
    all_row, easy = board.rows
    assert (all_row.submission, all_row.rank) == ("all", 1)
    assert (easy.rank, easy.mean, easy.coverage, easy.cells[1].reason) == (None, None, "1/2 tasks", NOT_RUN)


def test_catalogue_fixes_the_columns_even_if_nobody_ran_them() -> None:
    """Nine of ten core tasks must not be ranked as if they were all."""
    board = only([result("a", "bats")], catalogue=[task("bats"), task("watkins")])
    assert [column.task for column in board.columns] == ["bats", "watkins"]
    assert (board.rows[0].rank, board.rows[0].coverage) == (None, "1/2 tasks")


def test_a_record_cannot_add_a_task_to_a_group_of_the_catalogue() -> None:
    """Else one invented "core" task would take everybody's rank."""
    core, own = boards([result("a", "bats"), result("b", "invented")], catalogue=[task("bats")])
    assert (core.group, ranks(core)) == ("core", [("a", 1)])
    assert (own.group, ranks(own)) == ("own", [("b", 1)])


def test_newer_result_supersedes_whichever_comes_first() -> None:
    old, new = result("a", test=0.9, created=DAY), result("a", test=0.4, created=DAY + timedelta(days=1))
    assert current([old, new]) == current([new, old]) == [new]


def test_results_of_other_data_are_not_comparable() -> None:
    """A task whose split changed is another task; its scores must not be averaged or ranked with the others."""
    board = only([result("a"), result("b"), result("c", test=0.9, split="changed", created=DAY + timedelta(days=9))])
    assert ranks(board) == [("a", 1), ("b", 1), ("c", None)]
    assert board.rows[2].cells[0].reason == OTHER_DATA


def test_one_row_never_mixes_two_sets_of_weights() -> None:
    """A model retrained under the same name must not borrow the scores of its predecessor."""
    late = DAY + timedelta(days=1)
    board = only([result("a", "bats", weights="v1"), result("a", "watkins", weights="v2", created=late)])
    assert [cell.reason for cell in board.rows[0].cells] == [OTHER_WEIGHTS, ""]
    assert board.rows[0].rank is None


def test_vram_comes_from_a_result_that_measured_it() -> None:
    late = DAY + timedelta(days=1)
    row = only([result("a", "bats", vram_bytes=5 << 20), result("a", "watkins", created=late)]).rows[0]
    assert (row.vram_bytes, row.device) == (5 << 20, "NVIDIA H200")


def test_unmeasured_vram_says_why() -> None:
    row = only([result("a")]).rows[0]
    assert row.vram_bytes is None
    assert "no CUDA device" in row.vram_reason


def test_no_results_give_no_boards() -> None:
    assert boards([]) == []


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("mean", ["b", "a", "part", "a"]),
        ("-mean", ["a", "b", "part", "a"]),
        ("submission", ["a", "b", "part", "a"]),
        ("-submission", ["part", "b", "a", "a"]),
        ("task:bats", ["part", "a", "b", "a"]),
        ("-task:bats", ["b", "a", "part", "a"]),
        ("task:watkins", ["b", "a", "part", "a"]),
        ("parameters", ["b", "part", "a", "a"]),
        ("vram", ["a", "b", "part", "a"]),
        ("task:nonsense", ["b", "a", "part", "a"]),
    ],
)
def test_sorting_keeps_empty_and_limited_rows_below(key: str, names: list[str]) -> None:
    board = only(
        [
            result("a", "bats", 0.5, parameters=300, vram_bytes=1 << 30),
            result("a", "watkins", 0.3, parameters=300, vram_bytes=1 << 30),
            result("b", "bats", 0.4, parameters=100),
            result("b", "watkins", 0.9, parameters=100),
            result("part", "bats", 0.6, parameters=200),
            result("a", "bats", 1.0, limit=10, parameters=300),
        ]
    )
    rows = sort_rows(board, key)
    assert [row.submission for row in rows] == names
    assert rows[-1].limit == 10


_results = st.builds(
    lambda name, of, test, track, limit, day, split, weights: Result.of(
        make_record(
            name,
            of,
            test=test,
            track=track,
            limit=limit,
            created=DAY + timedelta(days=day),
            split=split,
            weights=weights,
            n_layers=2,
            best_layer=1,
        )
    ),
    st.sampled_from("abcd"),
    st.sampled_from(["bats", "watkins"]),
    st.sampled_from([0.1, 0.15, 0.2, 0.7]),
    st.sampled_from(["ta", "twa"]),
    st.sampled_from([None, None, 5]),
    st.integers(0, 3),
    st.sampled_from([None, "other"]),
    st.sampled_from([None, "other"]),
)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.lists(_results, max_size=12, unique_by=lambda found: found.record_id))
def test_order_of_the_input_changes_nothing(data: st.DataObject, results: list[Result]) -> None:
    """The board may not depend on the order in which a database returns its rows."""
    expected = boards(results)
    shuffled = boards(data.draw(st.permutations(results)))
    assert shuffled == expected
    for board, other in zip(expected, shuffled, strict=True):
        for key in ("mean", "-mean", "submission", "task:bats", "vram", "-parameters"):
            assert sort_rows(board, key) == sort_rows(other, key)


@settings(max_examples=60, deadline=None)
@given(st.lists(_results, max_size=12, unique_by=lambda found: found.record_id))
def test_a_rank_counts_those_that_are_better(results: list[Result]) -> None:
    for board in boards(results):
        ranked = [row for row in board.rows if row.rank is not None]
        for row in ranked:
            assert row.limit is None
            assert row.covered == len(board.columns)
            assert row.mean is not None
            better = [other for other in ranked if other.mean is not None and other.mean > row.mean + 1e-9]
            assert row.rank == 1 + len(better)
        assert board.rows[: len(ranked)] == tuple(ranked)
