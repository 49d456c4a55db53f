"""The significance of a ranking: intervals of ranks, tie groups, and the comparison of two submissions.

Pure arithmetic on scores and their resamples (see `leaderboard.ranking.bootstrap`). Resample r of a task contains the
same recordings for every submission, so that a recording which is hard for all of them does not change a difference.
Tasks are resampled independently. The same input gives the same output, in any order.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TAILS = (0.025, 0.975)
# Numbers are rounded to this many digits before a comparison: the means of (0.1, 0.2) and (0.15, 0.15) are then equal.
DIGITS = 12

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The score of one submission on one task.

    Attributes:
        test: its score on the test split, in 0..1.
        resampled: (resamples,) its score in each resample.
        recordings: number of recordings of the test split. With a single recording all resamples are equal and show
            no uncertainty.
        drawn_from: sha256 of the items and of the settings of the resampling. Only scores with equal ``drawn_from`` can
            be compared.
    """

    test: float
    resampled: Values
    recordings: int
    drawn_from: str


@dataclass(frozen=True, slots=True, eq=False)
class Combined:
    """One submission on all tasks of a ranking. It takes a hundredth of the memory of its `Scored`.

    Attributes:
        tests: by task, its score.
        recordings: by task, as in `Scored`.
        drawn_from: by task, as in `Scored`.
        mean: its mean over the tasks, on the test split and in each resample.
    """

    tests: Mapping[str, float]
    recordings: Mapping[str, int]
    drawn_from: Mapping[str, str]
    mean: "_Mean"

    @classmethod
    def of(cls, scores: Mapping[str, Scored], tasks: Sequence[str]) -> "Combined":
        """Combine a submission's scores by task. It must have a score for each of ``tasks``."""
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
        """Whether the interval excludes 0."""
        return not self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True)
class TaskDifference(Difference):
    """`Difference` on one task; ``p_corrected`` is p after Holm's correction over all tasks of the comparison."""

    task: str
    p_corrected: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two submissions on the tasks that both have, sorted by name, and the difference of their means over those tasks.

    ``mean`` is None if they have no common task.
    """

    tasks: tuple[TaskDifference, ...]
    mean: Difference | None


@dataclass(frozen=True, slots=True)
class Standing:
    """One submission in a ranking.

    Attributes:
        submission: its name.
        rank: rank by mean; 1 is best, and equal means have equal ranks.
        mean: unweighted mean over the tasks.
        low, high: 95 % interval of the mean.
        rank_low, rank_high: 95 % interval of the rank.
        borda: number of submissions that it beats, summed over tasks; a tie counts half.
        mean_rank: mean over tasks of its rank on the task; submissions that tie get the average of their ranks.
        group: tie group, 1 is best; members of a group do not differ significantly from its first member.
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
    """The ranking by mean over the tasks, best first; equal means are sorted by name.

    In each resample the submissions are ranked by their means. The 2.5th and 97.5th percentile of a submission's ranks
    (the smallest rank that this share of the resamples does not exceed) are the interval of its rank. If the rank is
    outside, the interval is extended to it.

    The best submission starts a tie group. The next submissions join it, in order, until the mean of one differs
    significantly from the mean of the group's first member: the interval of the paired difference excludes 0. That one
    starts the next group. Submissions are compared with the first member and not with their neighbour: a chain of small
    differences would otherwise tie very different submissions.

    If the test split of a task is a single recording, no difference is significant: all submissions share one group,
    and every rank interval covers the whole ranking.

    The split hash holds ids and labels but not which recording an item is from, so submissions of one split may still
    have drawn other resamples. Submissions that were measured on other items of a task than most are left out; of two
    sets of items with equally many submissions, the one with the smaller ``drawn_from`` counts.

    Args:
        scores: by submission, all with the same tasks: the core tasks for the main board.
    """
    most_used = _most_used([score.drawn_from for score in scores.values()])
    names = sorted(name for name, score in scores.items() if score.drawn_from == most_used)
    if not names:
        return []
    from scipy.stats import rankdata

    table = np.array([list(scores[name].tests.values()) for name in names])
    mean_of = {name: scores[name].mean for name in names}
    task_ranks = rankdata(-table.round(DIGITS), method="average", axis=0)
    rank_low, rank_high = _rank_intervals([mean_of[name] for name in names])
    # One call for all submissions: a thousand separate calls take three times as long.
    lows, highs = np.quantile([mean_of[name].resampled for name in names], TAILS, axis=1)

    order = sorted(range(len(names)), key=lambda index: (-round(mean_of[names[index]].test, DIGITS), names[index]))
    standings: list[Standing] = []
    opener = names[order[0]]
    for position, index in enumerate(order):
        name, mean = names[index], mean_of[names[index]]
        rank, group = position + 1, standings[-1].group if standings else 1
        if standings and round(mean.test, DIGITS) == round(standings[-1].mean, DIGITS):
            rank = standings[-1].rank
        if _difference(mean_of[opener], mean).told_apart:
            opener, group = name, group + 1
        standings.append(
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
    return standings


def compare(first: Mapping[str, Scored], second: Mapping[str, Scored]) -> Comparison:
    """Compare two submissions, paired by resample.

    The p-value is twice the smaller of two shares: of the resamples with a difference of at most 0, and of those with
    a difference of at least 0. One is added to the counts so that p is never 0; with 1000 resamples it is at least
    0.002. Tasks on which the two were measured on different items are omitted. On a task with a single test recording
    the interval is -1..1 and p is 1.

    Args:
        first: scores of the first submission, by task.
        second: scores of the second submission, by task.
    """
    tasks = [task for task in sorted(first) if task in second and first[task].drawn_from == second[task].drawn_from]
    if not tasks:
        return Comparison((), None)
    differences = [_difference(_Mean.of(first, [task]), _Mean.of(second, [task])) for task in tasks]
    corrected = holm([each.p for each in differences])
    return Comparison(
        tasks=tuple(
            TaskDifference(each.difference, each.low, each.high, each.p, task=task, p_corrected=p)
            for task, each, p in zip(tasks, differences, corrected, strict=True)
        ),
        mean=_difference(_Mean.of(first, tasks), _Mean.of(second, tasks)),
    )


def _most_used(drawn_from: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """By task, the most frequent ``drawn_from``; if two are equally frequent, the smaller one."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for tasks in drawn_from:
        for task, digest in tasks.items():
            counts[task][digest] += 1
    return {task: min(count, key=lambda digest: (-count[digest], digest)) for task, count in counts.items()}


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction. The probability of any false difference below 0.05 is at most 5 %."""
    corrected = [0.0] * len(p)
    largest = 0.0
    for step, index in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
        largest = max(largest, min(1.0, (len(p) - step) * p[index]))
        corrected[index] = largest
    return corrected


@dataclass(frozen=True, slots=True, eq=False)
class _Mean:
    """The unweighted mean over some tasks. ``settled`` is false if one of them has a single recording."""

    test: float
    resampled: Values
    settled: bool

    @classmethod
    def of(cls, scores: Mapping[str, Scored], tasks: Sequence[str]) -> "_Mean":
        chosen = [scores[task] for task in tasks]
        return cls(
            test=math.fsum(score.test for score in chosen) / len(chosen),
            resampled=np.mean([score.resampled for score in chosen], axis=0),
            settled=all(score.recordings > 1 for score in chosen),
        )


def _rank_intervals(means: Sequence[_Mean]) -> tuple[Values, Values]:
    """Per submission (submissions,), the percentiles of its ranks in the resamples.

    If one of the means is not settled, every interval is the whole ranking.
    """
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
