"""How far a ranking can be trusted: intervals of ranks, ties, and which of two submissions is better on what.

Pure arithmetic on scores and their resamples (see `leaderboard.ranking.bootstrap`). Resample r of a task holds the same
recordings for every submission, so what is hard for all of them cancels in a difference; tasks are resampled
independently. The same input gives the same output, in whatever order it comes.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TAILS = (0.025, 0.975)
# Numbers that differ only by rounding, as the means of (0.1, 0.2) and (0.15, 0.15), are the same number.
DIGITS = 12

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """One submission on one task.

    Attributes:
        test: its score on the test split, in 0..1.
        resampled: (resamples,) its score in each resample.
        recordings: how many recordings the test split has. Resamples of a single one are all alike and show nothing
            of what another would have given.
        drawn_from: sha256 of the items and of how they were resampled; scores can be compared where it is equal.
    """

    test: float
    resampled: Values
    recordings: int
    drawn_from: str


@dataclass(frozen=True, slots=True, eq=False)
class Combined:
    """One submission on all tasks of a ranking, in a hundredth of the memory that its `Scored` take.

    Attributes:
        tests: by task, its score.
        recordings: by task, as in `Scored`.
        drawn_from: by task, as in `Scored`.
        mean: its mean over the tasks, and that in each resample.
    """

    tests: Mapping[str, float]
    recordings: Mapping[str, int]
    drawn_from: Mapping[str, str]
    mean: "_Mean"

    @classmethod
    def of(cls, scores: Mapping[str, Scored], tasks: Sequence[str]) -> "Combined":
        """From a submission's scores by task, of which it has all of ``tasks``."""
        tasks = sorted(set(tasks))
        return cls(
            tests={task: scores[task].test for task in tasks},
            recordings={task: scores[task].recordings for task in tasks},
            drawn_from={task: scores[task].drawn_from for task in tasks},
            mean=_Mean.of(scores, tasks),
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """First minus second, its 95 % interval, and the two-sided p-value of "both are equally good"."""

    difference: float
    low: float
    high: float
    p: float

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves out 0."""
        return not self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True)
class TaskDifference(Difference):
    """`Difference` on one task; ``p_corrected`` is p after Holm's correction over all tasks of the comparison."""

    task: str
    p_corrected: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two submissions on every task that both have, by name, and the means over those tasks (None without any)."""

    tasks: tuple[TaskDifference, ...]
    mean: Difference | None


@dataclass(frozen=True, slots=True)
class Standing:
    """One submission in a ranking.

    Attributes:
        submission: its name.
        rank: by mean; 1 is best, equal means share it.
        mean: unweighted mean over the tasks.
        low, high: 95 % interval of the mean.
        rank_low, rank_high: 95 % interval of the rank.
        borda: summed over tasks, how many submissions it beats; a tie counts half.
        mean_rank: mean over tasks of its rank there; submissions that tie get the average of the ranks they cover.
        group: 1 is best; members of a group cannot be told apart from its first one.
    """

    submission: str
    rank: int
    mean: float
    low: float
    high: float
    rank_low: int
    rank_high: int
    borda: float
    mean_rank: float
    group: int


def rank_combined(scores: Mapping[str, Combined]) -> list[Standing]:
    """The ranking by mean over the tasks, best first, equal means by name.

    In each resample the submissions are ranked by their means in it. The 2.5th and 97.5th percentile of a submission's
    ranks (the smallest rank that this share of the resamples does not exceed) bound its rank; the interval is widened
    to its rank where that lies outside.

    A tie group is opened by its best member and takes the submissions below it, one after the other, up to the first
    whose mean can be told apart from the opener's: the interval of the paired difference leaves out 0. Each is compared
    with the opener and not with its neighbour, since a chain of small steps would tie the first with the last however
    far apart they are.

    Where a task's test split is a single recording, nothing can be told apart: all share one group, and every rank
    interval spans the ranking.

    The split hash holds ids and labels but not which recording an item is from, so submissions of one split may still
    have drawn other resamples. Submissions that were measured on other items of a task than most are left out; of two
    sets of items with equally many submissions, the one with the smaller ``drawn_from`` counts.

    Args:
        scores: by name, submissions that all have the same tasks: the core tasks for the main board.
    """
    kept = _most_used([one.drawn_from for one in scores.values()])
    names = sorted(name for name, one in scores.items() if one.drawn_from == kept)
    if not names:
        return []
    from scipy.stats import rankdata

    table = np.array([list(scores[name].tests.values()) for name in names])
    mean_of = {name: scores[name].mean for name in names}
    task_ranks = rankdata(-table.round(DIGITS), method="average", axis=0)
    rank_low, rank_high = _rank_intervals([mean_of[name] for name in names])
    # Of all at once: a call for each of a thousand takes three times as long.
    lows, highs = np.quantile([mean_of[name].resampled for name in names], TAILS, axis=1)

    order = sorted(range(len(names)), key=lambda index: (-round(mean_of[names[index]].test, DIGITS), names[index]))
    found: list[Standing] = []
    opener = names[order[0]]
    for position, index in enumerate(order):
        name, mean = names[index], mean_of[names[index]]
        rank, group = position + 1, found[-1].group if found else 1
        if found and round(mean.test, DIGITS) == round(found[-1].mean, DIGITS):
            rank = found[-1].rank
        if _difference(mean_of[opener], mean).told_apart:
            opener, group = name, group + 1
        found.append(
            Standing(
                submission=name,
                rank=rank,
                mean=mean.test,
                low=float(lows[index]),
                high=float(highs[index]),
                rank_low=min(rank, int(rank_low[index])),
                rank_high=max(rank, int(rank_high[index])),
                borda=float((len(names) - task_ranks[index]).sum()),
                mean_rank=float(task_ranks[index].mean()),
                group=group,
            )
        )
    return found


def compare(first: Mapping[str, Scored], second: Mapping[str, Scored]) -> Comparison:
    """Two submissions, paired resample by resample.

    The p-value is twice the smaller share of resamples in which the difference is at most, or at least, 0, with one
    added to both counts so that it is never 0: with 1000 resamples it is 0.002 or more. Tasks on which the two were
    measured on other items are left out; on a task with a single test recording the interval is all of -1..1 and p 1.

    Args:
        first: by task.
        second: by task.
    """
    tasks = [task for task in sorted(first) if task in second and first[task].drawn_from == second[task].drawn_from]
    if not tasks:
        return Comparison((), None)
    found = [_difference(_Mean.of(first, [task]), _Mean.of(second, [task])) for task in tasks]
    corrected = holm([one.p for one in found])
    return Comparison(
        tasks=tuple(
            TaskDifference(one.difference, one.low, one.high, one.p, task=task, p_corrected=p)
            for task, one, p in zip(tasks, found, corrected, strict=True)
        ),
        mean=_difference(_Mean.of(first, tasks), _Mean.of(second, tasks)),
    )


def _most_used(drawn_from: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """By task, what most submissions were drawn from; of equally many, the smaller one."""
    users: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for tasks in drawn_from:
        for task, one in tasks.items():
            users[task][one] += 1
    return {task: min(found, key=lambda key: (-found[key], key)) for task, found in users.items()}


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: calling a difference real where this is below 0.05 errs anywhere in 5 % of cases."""
    corrected = [0.0] * len(p)
    largest = 0.0
    for step, index in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
        largest = max(largest, min(1.0, (len(p) - step) * p[index]))
        corrected[index] = largest
    return corrected


@dataclass(frozen=True, slots=True, eq=False)
class _Mean:
    """The unweighted mean of some tasks; ``settled`` unless one of them has a single recording."""

    test: float
    resampled: Values
    settled: bool

    @classmethod
    def of(cls, scores: Mapping[str, Scored], tasks: Sequence[str]) -> "_Mean":
        chosen = [scores[task] for task in tasks]
        return cls(
            test=math.fsum(one.test for one in chosen) / len(chosen),
            resampled=np.mean([one.resampled for one in chosen], axis=0),
            settled=all(one.recordings > 1 for one in chosen),
        )


def _rank_intervals(means: Sequence[_Mean]) -> tuple[Values, Values]:
    """(submissions,) the percentiles of the ranks in the resamples; the whole ranking where resamples show nothing."""
    from scipy.stats import rankdata

    if not all(mean.settled for mean in means):
        return np.ones(len(means)), np.full(len(means), float(len(means)))
    resampled = np.stack([mean.resampled for mean in means])
    ranks = rankdata(-resampled.round(DIGITS), method="min", axis=0)
    low, high = np.quantile(ranks, TAILS, axis=1, method="inverted_cdf")
    return low, high


def _difference(first: _Mean, second: _Mean) -> Difference:
    difference = round(first.test - second.test, DIGITS)
    if not (first.settled and second.settled):
        return Difference(difference, -1.0, 1.0, 1.0)
    paired = (first.resampled - second.resampled).round(DIGITS)
    low, high = np.quantile(paired, TAILS)
    smaller = min(int((paired <= 0).sum()), int((paired >= 0).sum()))
    return Difference(difference, float(low), float(high), min(1.0, 2 * (1 + smaller) / (1 + len(paired))))
