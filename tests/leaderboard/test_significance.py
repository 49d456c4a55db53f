"""What the board says of certainty: a mistake here calls noise a win, or hides a real one."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factory import make_record
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from leaderboard.ranking.bootstrap import BLOCK, resampled
from leaderboard.ranking.resamples import RESAMPLES, resample, resamples_path, scored
from leaderboard.ranking.significance import Combined, Scored, Standing, compare, holm, rank_combined
from leaderboard.records.files import record_path
from leaderboard.records.predictions import PredictedScores, write_predictions
from leaderboard.records.stored import StoredRecord
from tasks.support.errors import UserError

RESAMPLED = 300


def ranking_of(scores: Mapping[str, Mapping[str, Scored]], tasks: Sequence[str]) -> list[Standing]:
    """The ranking of submissions that all have ``tasks``, from their scores by task, as the board makes it."""
    return rank_combined({name: Combined.of(found, tasks) for name, found in scores.items()})


def literal_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """BEANS' rule, written out: the mean of the precision at each positive, 0 without positives."""
    hits, precisions = 0, []
    for rank, item in enumerate(sorted(range(len(scores)), key=lambda i: -scores[i]), start=1):
        if targets[item]:
            hits += 1
            precisions.append(hits / rank)
    return sum(precisions) / len(precisions) if precisions else 0.0


def literal_score(metric: str, scores: np.ndarray, targets: np.ndarray) -> float:
    if metric == "accuracy":
        return float(np.mean([accuracy_score(targets, seed.argmax(-1)) for seed in scores]))
    columns = range(targets.shape[1])
    return float(np.mean([[literal_average_precision(seed[:, c], targets[:, c]) for c in columns] for seed in scores]))


def brute_force(metric: str, test: PredictedScores, resamples: int, seed: int) -> np.ndarray:
    """Every resample as a list of items, scored as if it were the test split."""
    names = sorted(set(test.recordings))
    members = [[i for i, name in enumerate(test.recordings) if name == wanted] for wanted in names]
    draws, values = np.random.default_rng(seed), []
    for _ in range(resamples):
        drawn = draws.integers(len(names), size=len(names)).tolist()
        # In the order of items, copies in a row: it decides among equal scores.
        items = sorted(item for group in drawn for item in members[group])
        values.append(literal_score(metric, test.scores[:, items], test.targets[items]))
    return np.array(values)


def predictions(
    metric: str, generator: np.random.Generator, *, items: int = 40, classes: int = 3, tied: bool = False
) -> PredictedScores:
    shape = (2, items, classes)
    scores = generator.integers(0, 3, shape) if tied else generator.standard_normal(shape)
    many = (generator.random((items, classes)) < 0.2).astype(np.uint8)
    return PredictedScores(
        ids=[f"i{number:03}" for number in range(items)],
        recordings=[f"r{number}" for number in generator.integers(0, max(1, items // 4), items)],
        scores=scores.astype(np.float32),
        targets=generator.integers(0, classes, items) if metric == "accuracy" else many,
    )


def made(test: float, values: Any, recordings: int = 20, drawn_from: str = "same items") -> Scored:
    return Scored(test, np.asarray(values, dtype=np.float64), recordings, drawn_from)


@given(
    st.sampled_from(["accuracy", "map"]), st.integers(1, 30), st.integers(1, 4), st.booleans(), st.integers(0, 10_000)
)
@settings(max_examples=60, deadline=None)
def test_every_resample_scores_what_its_items_score(
    metric: str, items: int, classes: int, tied: bool, seed: int
) -> None:
    """Equal scores, a single recording and classes without positives included."""
    test = predictions(metric, np.random.default_rng(seed), items=items, classes=classes, tied=tied)
    ours = resampled(metric, test.scores, test.targets, test.recordings, resamples=12, seed=seed)
    assert ours == pytest.approx(brute_force(metric, test, 12, seed), abs=1e-12)


@pytest.mark.parametrize("metric", ["accuracy", "map"])
def test_more_resamples_than_fit_a_block_are_drawn_as_one_sequence(metric: str) -> None:
    test = predictions(metric, np.random.default_rng(0), items=12)
    ours = resampled(metric, test.scores, test.targets, test.recordings, resamples=BLOCK + 30, seed=1)
    assert ours == pytest.approx(brute_force(metric, test, BLOCK + 30, 1), abs=1e-12)


def board(
    generator: np.random.Generator, skills: dict[str, float], *, clips: int = 40, resamples: int = RESAMPLED
) -> dict[str, dict[str, Scored]]:
    """Ten tasks, half of each metric. What is hard is hard for all; how well a submission hears is its skill."""
    scores: dict[str, dict[str, Scored]] = {name: {} for name in skills}
    for number in range(10):
        metric = "accuracy" if number < 5 else "map"
        recordings = [f"r{item // 2}" for item in range(clips)]
        classes = generator.integers(0, 3, clips)
        answers = np.eye(3, dtype=np.float32)[classes]
        hard = np.repeat(generator.standard_normal((clips // 2, 1)), 2, axis=0)
        targets = classes if metric == "accuracy" else answers.astype(np.uint8)
        for name, skill in skills.items():
            noise = generator.standard_normal((2, clips, 3)) * 0.5 + generator.standard_normal((clips, 3)) * 0.7
            logits = (answers * (skill - hard) + noise).astype(np.float32)
            values = resampled(metric, logits, targets, recordings, resamples=resamples, seed=number)
            scores[name][f"t{number}"] = Scored(literal_score(metric, logits, targets), values, clips // 2, "same")
    return scores


def test_two_equal_backbones_are_tied_and_a_better_one_is_first() -> None:
    """Of two equal ones, some run is always ahead by chance; the board must say so nine times in ten."""
    generator = np.random.default_rng(5)
    repetitions, tied, first = 50, 0, 0
    for _ in range(repetitions):
        ranking = ranking_of(
            board(generator, {"equal": 0.8, "equally": 0.8, "better": 1.6}), [f"t{number}" for number in range(10)]
        )
        group = {one.submission: one.group for one in ranking}
        tied += group["equal"] == group["equally"]
        first += ranking[0].submission == "better" and group["better"] not in (group["equal"], group["equally"])
    assert tied >= 0.9 * repetitions
    assert first == repetitions


def test_ties_of_equal_backbones_are_no_matter_of_wide_intervals() -> None:
    """A rule that tied everything would pass the test above: a difference of one in twenty answers must be seen."""
    generator = np.random.default_rng(6)
    recordings = [f"r{item}" for item in range(400)]
    targets = np.zeros(400, dtype=np.int64)
    names, scores = ("weak", "strong"), {}
    hard = generator.random(400)
    for name, share in zip(names, (0.70, 0.75), strict=True):
        right = (hard < share)[None]
        logits = np.stack([right, ~right], axis=-1).astype(np.float32)
        values = resampled("accuracy", logits, targets, recordings, resamples=1000, seed=0)
        scores[name] = {"t": made(float(right.mean()), values)}
    ranking = ranking_of(scores, ["t"])
    assert [(one.submission, one.group) for one in ranking] == [("strong", 1), ("weak", 2)]
    # Unpaired, the two intervals overlap: only what both heard alike tells them apart.
    assert ranking[0].low < ranking[1].high


def literal_ranking(values: dict[str, list[np.ndarray]], tests: dict[str, list[float]]) -> dict[str, Standing]:
    """The ranking's rules over (tasks, resamples) scores, with loops and nothing shared."""
    names, tasks = sorted(tests), len(next(iter(tests.values())))
    resamples = len(next(iter(values.values()))[0])
    mean = {name: sum(tests[name]) / tasks for name in names}
    drawn = {name: [sum(values[name][t][r] for t in range(tasks)) / tasks for r in range(resamples)] for name in names}
    close = 1e-12

    def percentile(numbers: list[float], share: float) -> float:
        return float(np.percentile(numbers, 100 * share))

    order = sorted(names, key=lambda name: -mean[name])
    group, opener, groups = 1, order[0], {}
    for name in order:
        gaps = [a - b for a, b in zip(drawn[opener], drawn[name], strict=True)]
        if percentile(gaps, 0.025) > close or percentile(gaps, 0.975) < -close:
            group, opener = group + 1, name
        groups[name] = group

    found = {}
    for name in names:
        ranks = sorted(1 + sum(drawn[other][r] > drawn[name][r] + close for other in names) for r in range(resamples))
        rank = 1 + sum(mean[other] > mean[name] + close for other in names)
        low, high = (
            next(k for k in ranks if sum(one <= k for one in ranks) >= share * resamples) for share in (0.025, 0.975)
        )
        borda, task_ranks = 0.0, []
        for t in range(tasks):
            others = [tests[other][t] - tests[name][t] for other in names if other != name]
            beaten, even = sum(gap < -close for gap in others), sum(abs(gap) <= close for gap in others)
            borda += beaten + even / 2
            task_ranks.append(1 + (len(others) - beaten - even) + even / 2)
        found[name] = Standing(
            submission=name,
            rank=rank,
            mean=mean[name],
            low=percentile(drawn[name], 0.025),
            high=percentile(drawn[name], 0.975),
            rank_low=min(rank, low),
            rank_high=max(rank, high),
            borda=borda,
            mean_rank=sum(task_ranks) / tasks,
            group=groups[name],
        )
    return found


def test_the_ranking_is_what_an_independent_bootstrap_gives() -> None:
    """From predictions to ranks: resamples built item by item, ranked and compared by loops."""
    generator = np.random.default_rng(7)
    names, metrics = ["a", "b", "c", "d", "e"], ["accuracy", "map", "accuracy"]
    scores: dict[str, dict[str, Scored]] = {name: {} for name in names}
    values: dict[str, list[np.ndarray]] = {name: [] for name in names}
    tests: dict[str, list[float]] = {name: [] for name in names}
    for number, metric in enumerate(metrics):
        test = predictions(metric, generator)
        one_hot = np.eye(3)[test.targets] if metric == "accuracy" else test.targets
        for skill, name in enumerate(names):
            # The last two are equal to the last bit.
            if name != "e":
                noise = generator.standard_normal(test.scores.shape)
                logits = (one_hot * (1.2 + 0.4 * skill) + noise).astype(np.float32)
            own = replace(test, scores=logits)
            tests[name].append(literal_score(metric, own.scores, own.targets))
            values[name].append(brute_force(metric, own, 120, number))
            ours = resampled(metric, own.scores, own.targets, own.recordings, resamples=120, seed=number)
            scores[name][f"t{number}"] = made(tests[name][-1], ours)
    ranking = ranking_of(scores, ["t0", "t1", "t2"])
    expected = literal_ranking(values, tests)
    assert len({one.group for one in ranking}) > 1, "an example in which nothing is told apart tests nothing"
    assert any(one.rank_low < one.rank_high for one in ranking)
    assert {one.submission for one in ranking} == set(names)
    for one in ranking:
        for field in Standing.__slots__:
            wanted = getattr(expected[one.submission], field)
            wanted = wanted if isinstance(wanted, str) else pytest.approx(wanted, abs=1e-9)
            assert getattr(one, field) == wanted, (one.submission, field)

    pair = compare(scores["a"], scores["d"])
    gaps = [np.array(values["a"][t]) - np.array(values["d"][t]) for t in range(3)]
    for found, gap, t in zip(pair.tasks, gaps, range(3), strict=True):
        assert found.difference == pytest.approx(tests["a"][t] - tests["d"][t])
        assert (found.low, found.high) == pytest.approx(tuple(np.percentile(gap, [2.5, 97.5])), abs=1e-9)
        tail = min(sum(gap <= 1e-12), sum(gap >= -1e-12))
        assert found.p == pytest.approx(min(1, 2 * (tail + 1) / 121))
    assert pair.mean is not None
    assert (pair.mean.low, pair.mean.high) == pytest.approx(tuple(np.percentile(sum(gaps) / 3, [2.5, 97.5])), abs=1e-9)


def test_the_order_of_the_input_changes_nothing() -> None:
    scores = board(np.random.default_rng(8), {"a": 0.8, "b": 0.8, "c": 1.0}, resamples=100)
    tasks = [f"t{number}" for number in range(10)]
    expected = ranking_of(scores, tasks)
    for names in itertools.permutations(scores):
        turned = {name: dict(reversed(scores[name].items())) for name in names}
        assert ranking_of(turned, tasks[::-1]) == expected
    assert compare(scores["a"], scores["b"]) == compare(dict(reversed(scores["a"].items())), scores["b"])


def test_comparing_the_other_way_round_only_turns_the_sign() -> None:
    scores = board(np.random.default_rng(9), {"a": 0.8, "b": 1.0}, resamples=100)
    there, back = compare(scores["a"], scores["b"]), compare(scores["b"], scores["a"])
    for one, other in zip(there.tasks, back.tasks, strict=True):
        assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))
        assert (one.p, one.p_corrected) == (other.p, other.p_corrected)


def test_a_tie_group_is_held_against_its_best_member() -> None:
    """Small steps, each too small to be seen, must not tie the first with the last."""
    noise = np.random.default_rng(10).standard_normal((4, 2000)) * 0.01
    scores = {name: {"t": made(0.5 - 0.02 * step, 0.5 - 0.02 * step + noise[step])} for step, name in enumerate("abcd")}
    assert not compare(scores["a"], scores["b"]).tasks[0].told_apart
    assert not compare(scores["b"], scores["c"]).tasks[0].told_apart
    assert compare(scores["a"], scores["c"]).tasks[0].told_apart
    assert [(one.submission, one.group) for one in ranking_of(scores, ["t"])] == [
        ("a", 1),
        ("b", 1),
        ("c", 2),
        ("d", 2),
    ]


def test_holm_by_hand() -> None:
    """Holm 1979: 0.01 x 4, 0.02 x 3, then 0.03 x 2 and 0.04 x 1 held up by the one before, capped at 1."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.005, 0.7]) == pytest.approx([1, 0.015, 1])
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_p_values_are_corrected_over_the_tasks_of_the_comparison() -> None:
    """Of 1000 resamples, 9 and 24 on the other side: p = 20/1001 and 50/1001, times 2 and 1."""
    first = {"x": made(0.6, [0.6] * 1000), "y": made(0.6, [0.6] * 1000)}
    second = {"x": made(0.5, [0.5] * 991 + [0.7] * 9), "y": made(0.5, [0.5] * 976 + [0.7] * 24)}
    found = compare(first, second).tasks
    assert [one.p for one in found] == pytest.approx([20 / 1001, 50 / 1001])
    assert [one.p_corrected for one in found] == pytest.approx([40 / 1001, 50 / 1001])


def test_rank_intervals_by_hand() -> None:
    """b is ahead in 1 of 40 resamples: 2.5 % of its ranks are 1, and 97.5 % of a's."""
    scores = {"a": {"t": made(0.6, [0.6] * 40)}, "b": {"t": made(0.5, [0.7] + [0.5] * 39)}}
    assert [(one.rank_low, one.rank_high) for one in ranking_of(scores, ["t"])] == [(1, 1), (1, 2)]


def test_a_rank_lies_in_its_interval() -> None:
    """Resamples may all say otherwise, since average precision is biased under resampling; "1st (2 to 2)" is absurd."""
    scores = {"a": {"t": made(0.6, [0.4] * 40)}, "b": {"t": made(0.5, [0.5] * 40)}}
    found = [(one.submission, one.rank, one.rank_low, one.rank_high) for one in ranking_of(scores, ["t"])]
    assert found == [("a", 1, 1, 2), ("b", 2, 1, 2)]


def test_borda_and_mean_rank_by_hand() -> None:
    tests = {"a": (0.9, 0.5), "b": (0.7, 0.5), "c": (0.2, 0.4)}
    scores = {
        name: {f"t{number}": made(test, [test] * 10) for number, test in enumerate(pair)}
        for name, pair in tests.items()
    }
    found = {one.submission: (one.borda, one.mean_rank) for one in ranking_of(scores, ["t0", "t1"])}
    assert found == {"a": (2 + 1.5, 1.25), "b": (1 + 1.5, 1.75), "c": (0, 3)}


def test_auxiliary_tasks_do_not_count() -> None:
    core = {"a": made(0.6, [0.6] * 10), "b": made(0.5, [0.5] * 10)}
    auxiliary = {"a": made(0.0, [0.0] * 10), "b": made(1.0, [1.0] * 10)}
    scores = {name: {"bats": core[name], "esc50": auxiliary[name]} for name in core}
    assert ranking_of(scores, ["bats"]) == ranking_of({name: {"bats": core[name]} for name in core}, ["bats"])
    assert [one.mean for one in ranking_of(scores, ["bats"])] == [0.6, 0.5]


def test_scores_on_other_items_are_never_compared() -> None:
    """Their resamples hold other recordings: a paired difference of them means nothing."""
    common = made(0.5, [0.5] * 10)
    other = made(0.9, [0.9] * 10, drawn_from="other items")
    scores = {"a": {"t": common}, "b": {"t": common}, "c": {"t": other}}
    assert [one.submission for one in ranking_of(scores, ["t"])] == ["a", "b"]
    assert compare(scores["a"], scores["c"]).tasks == ()
    assert compare(scores["a"], scores["c"]).mean is None


def test_one_submission_is_first_for_certain() -> None:
    (alone,) = ranking_of({"a": {"t": made(0.5, np.linspace(0.4, 0.6, 100))}}, ["t"])
    assert (alone.rank, alone.rank_low, alone.rank_high, alone.group) == (1, 1, 1, 1)
    assert (alone.borda, alone.mean_rank) == (0, 1)
    assert ranking_of({}, ["t"]) == []


def test_identical_predictions_share_everything_but_the_name() -> None:
    scores = board(np.random.default_rng(11), {"a": 1.0, "z": 0.2}, resamples=100)
    scores["b"] = scores["a"]
    first, second, last = ranking_of(scores, [f"t{number}" for number in range(10)])
    assert (first.submission, second.submission) == ("a", "b")
    assert replace(first, submission="b") == second
    assert (first.rank, second.rank, last.rank) == (1, 1, 3)
    same = compare(scores["a"], scores["b"])
    assert all((one.difference, one.low, one.high, one.p, one.p_corrected) == (0, 0, 0, 1, 1) for one in same.tasks)


def test_a_single_recording_tells_nothing_apart() -> None:
    """All its resamples are the recording itself: their spread of zero is not certainty."""
    scores = {
        "a": {"x": made(0.9, [0.9] * 100, recordings=1), "y": made(0.8, [0.8] * 100)},
        "b": {"x": made(0.1, [0.1] * 100, recordings=1), "y": made(0.7, [0.7] * 100)},
    }
    ranking = ranking_of(scores, ["x", "y"])
    assert [(one.submission, one.rank, one.rank_low, one.rank_high, one.group) for one in ranking] == [
        ("a", 1, 1, 2, 1),
        ("b", 2, 1, 2, 1),
    ]
    by_task = {one.task: one for one in compare(scores["a"], scores["b"]).tasks}
    assert (by_task["x"].low, by_task["x"].high, by_task["x"].p) == (-1, 1, 1)
    assert by_task["y"].told_apart


def test_the_order_of_items_and_the_company_change_no_resample() -> None:
    """Another machine may list the same items otherwise; the resamples must still hold the same recordings."""
    test = predictions("map", np.random.default_rng(12))
    turned = PredictedScores(test.ids[::-1], test.recordings[::-1], test.scores[:, ::-1], test.targets[::-1])
    one, other = resample("bats", "map", 0.5, test), resample("bats", "map", 0.5, turned)
    assert one.drawn_from == other.drawn_from
    assert one.resampled == pytest.approx(other.resampled, abs=1e-12)


def test_tasks_are_resampled_independently() -> None:
    """With one seed for all, tasks of as many recordings would rise and fall together, and means look less certain."""
    test = predictions("accuracy", np.random.default_rng(13), items=200)
    one, other = resample("bats", "accuracy", 0.5, test), resample("dogs", "accuracy", 0.5, test)
    assert abs(np.corrcoef(one.resampled, other.resampled)[0, 1]) < 0.15


def test_what_was_asked_and_of_whom_decides_what_can_be_compared() -> None:
    test = predictions("accuracy", np.random.default_rng(14))
    drawn_from = resample("bats", "accuracy", 0.5, test).drawn_from
    assert resample("bats", "accuracy", 0.9, replace(test, scores=-test.scores)).drawn_from == drawn_from
    for changed in (
        replace(test, ids=["other", *test.ids[1:]]),
        replace(test, recordings=["other", *test.recordings[1:]]),
        replace(test, targets=(test.targets + 1) % 3),
    ):
        assert resample("bats", "accuracy", 0.5, changed).drawn_from != drawn_from


def test_resamples_are_made_once_and_again_when_the_predictions_are_others(tmp_path: Path) -> None:
    test = predictions("accuracy", np.random.default_rng(15))
    record = make_record(task="bats")
    record = record.model_copy(update={"predictions": write_predictions(tmp_path, record.stem, test)})
    found = scored(StoredRecord(record, record_path(tmp_path, record)))
    assert found.resampled.shape == (RESAMPLES,)
    assert found.resampled.tolist() == resample("bats", "accuracy", record.test, test).resampled.tolist()

    (tmp_path / record.predictions.file).rename(tmp_path / "away")
    kept = scored(StoredRecord(record, record_path(tmp_path, record)))
    assert (kept.resampled.tolist(), kept.recordings) == (found.resampled.tolist(), found.recordings)
    assert (kept.drawn_from, kept.test) == (found.drawn_from, record.test)

    changed = write_predictions(tmp_path, record.stem, replace(test, scores=-test.scores))
    again = scored(StoredRecord(record.model_copy(update={"predictions": changed}), record_path(tmp_path, record)))
    assert again.resampled.tolist() != found.resampled.tolist()

    with pytest.raises(UserError, match="is not the file its record was made with"):
        scored(StoredRecord(record, record_path(tmp_path, record)))


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}      ", b"nonsense of some length"])
def test_a_broken_file_of_resamples_is_made_again(tmp_path: Path, content: bytes) -> None:
    test = predictions("map", np.random.default_rng(16))
    record = make_record(task="rfcx", metric="map")
    record = record.model_copy(update={"predictions": write_predictions(tmp_path, record.stem, test)})
    found = scored(StoredRecord(record, record_path(tmp_path, record)))
    resamples_path(tmp_path, record).write_bytes(content)
    assert scored(StoredRecord(record, record_path(tmp_path, record))).resampled.tolist() == found.resampled.tolist()
    assert resamples_path(tmp_path, record).read_bytes() != content


def test_resamples_that_cannot_be_kept_are_still_shown(tmp_path: Path) -> None:
    """A board may be served from a directory it may only read."""
    test = predictions("accuracy", np.random.default_rng(17))
    record = make_record(task="bats")
    record = record.model_copy(update={"predictions": write_predictions(tmp_path, record.stem, test)})
    # A directory of that name takes no file, for root as for anybody.
    resamples_path(tmp_path, record).mkdir()
    assert scored(StoredRecord(record, record_path(tmp_path, record))).resampled.shape == (RESAMPLES,)
