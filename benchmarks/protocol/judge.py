"""Judge the candidates: choose on validation as each of them says, read the test split, and measure what matters."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from benchmarks.protocol.candidates import CLOSE, FIRST, NEARLY, WINNER, Candidate, Probe
from benchmarks.protocol.training import EPOCHS, Curves, train
from benchmarks.protocol.vectors import Vectors
from evaluator.probes.logistic import logistic_regression
from tasks.support.progress import Report
from tasks.task import SPLITS

FACTORS = (0.001, 0.1, 10.0, 1000.0)
# Files on which every candidate meets all factors.
_MULTIPLIED = 2
# The mean of a smoothed curve reaches two epochs to either side.
_REACH = 2
# Epochs and rounds of the measurement of costs; the fastest round counts.
_TIMED_EPOCHS, _ROUNDS = 20, 2


@dataclass(frozen=True)
class Chosen:
    """What a candidate chose for one layer, and its scores on validation."""

    probe: Probe
    epoch: int
    valid: float
    loss: float


@dataclass(frozen=True)
class Found:
    """One candidate on one file in one repetition.

    Attributes:
        chosen: per layer.
        layer: position of the chosen one.
        tests: (L, S) test metric of every layer's choice, with every seed.
    """

    chosen: Sequence[Chosen]
    layer: int
    tests: NDArray[np.float64]

    @property
    def score(self) -> float:
        """The test metric of the chosen layer, a mean over seeds."""
        return float(self.tests[self.layer].mean())

    @property
    def curve(self) -> NDArray[np.float64]:
        """(L,) test metric of every layer, means over seeds."""
        return np.asarray(self.tests.mean(1))

    @property
    def optimism(self) -> float:
        """How far validation promised more than test gave."""
        return self.chosen[self.layer].valid - self.score


@dataclass(frozen=True)
class Key:
    """A file and a repetition."""

    task: str
    encoder: str
    repetition: int


@dataclass
class Evidence:
    """All that is measured.

    Attributes:
        found: per candidate and key.
        reference: per key, (L,) test metric of logistic regression.
        layers: per task and encoder, the numbers of the layers.
        change: per candidate, the largest change of a layer's test metric by each factor on each file.
        moved: per candidate, whether the chosen layer changed, likewise.
        multiplied: the curves of both protocols per factor, on the files that all candidates met.
        seconds: per candidate, of processor time for the search on one file.
        timed: that file.
    """

    found: dict[str, dict[Key, Found]] = field(default_factory=dict)
    reference: dict[Key, NDArray[np.float64]] = field(default_factory=dict)
    layers: dict[tuple[str, str], Sequence[int]] = field(default_factory=dict)
    change: dict[str, list[float]] = field(default_factory=dict)
    moved: dict[str, list[bool]] = field(default_factory=dict)
    multiplied: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    timed: str = ""


class Bench:
    """One file in one repetition. All candidates that read the same vectors are trained together."""

    def __init__(self, vectors: Vectors, repetition: int, seeds: int) -> None:
        self._vectors = vectors
        self._repetition = repetition
        self._seeds = [10 * repetition + seed for seed in range(seeds)]

    def find(self, candidates: Sequence[Candidate]) -> dict[str, Found]:
        """Search, choose, and train the choice of every layer with every seed."""
        found = {}
        for scale in dict.fromkeys(candidate.scale for candidate in candidates):
            vectors = self._vectors.scaled(scale)
            together = [candidate for candidate in candidates if candidate.scale == scale]
            choices = self._choices(vectors, together)
            for every in (True, False):
                alike = [candidate for candidate in together if candidate.every_epoch == every]
                tests = self._tests(vectors, [choices[candidate.name][0] for candidate in alike])
                for candidate, test in zip(alike, tests, strict=True):
                    found[candidate.name] = Found(*choices[candidate.name], test)
        return found

    def _choices(self, vectors: Vectors, candidates: Sequence[Candidate]) -> dict[str, tuple[list[Chosen], int]]:
        """What every candidate chooses. A probe that several of them try is trained once."""
        tried = {candidate.name: candidate.probes(self._repetition) for candidate in candidates}
        followed = {probe: None for own in candidates if own.every_epoch for probe in tried[own.name]}
        others = {probe: None for own in candidates for probe in tried[own.name] if probe not in followed}
        searches = [
            (list(probes), search(vectors, list(probes), self._seeds[0], every, EPOCHS))
            for probes, every in ((followed, True), (others, False))
            if probes
        ]
        choices = {}
        for candidate in candidates:
            own = tried[candidate.name]
            probes, curves = next(one for one in searches if own[0] in one[0])
            choices[candidate.name] = choose(candidate, own, curves.of([probes.index(probe) for probe in own]))
        return choices

    def _tests(self, vectors: Vectors, choices: Sequence[Sequence[Chosen]]) -> list[NDArray[np.float64]]:
        """Per candidate, (L, S) test metric of the choices."""
        if not choices:
            return []
        looks = sorted({choice.epoch for chosen in choices for choice in chosen})
        probes = [[chosen[layer].probe for chosen in choices] for layer in range(len(vectors.layers))]
        curves = train(vectors, probes, self._seeds, looks=looks, splits=("test",))
        return [
            np.stack([curves.test[looks.index(own.epoch), layer, :, place].numpy() for layer, own in enumerate(chosen)])
            for place, chosen in enumerate(choices)
        ]


def search(vectors: Vectors, probes: Sequence[Probe], seed: int, every_epoch: bool, epochs: int) -> Curves:
    """Train all probes on all layers, and score them on validation."""
    looks = range(1, epochs + 1) if every_epoch else (epochs,)
    return train(vectors, [probes] * len(vectors.layers), [seed], looks=looks, splits=("valid",))


def choose(candidate: Candidate, probes: Sequence[Probe], curves: Curves) -> tuple[list[Chosen], int]:
    """The choice of each layer, and the position of the chosen layer."""
    start = 0 if candidate.every_epoch else len(curves.looks) - 1
    # (epochs, L, K)
    valid, losses = (scores[start:, :, 0].numpy() for scores in (curves.valid, curves.loss))
    judged = _smooth(valid) if candidate.counts == "smooth" else valid
    if candidate.patience:
        judged = _until_stopped(judged, candidate.patience)
    epochs = curves.looks[start:]

    def rank(layer: int, epoch: int, place: int) -> tuple[float, ...]:
        """The smallest is the best."""
        gain, cost = -float(judged[epoch, layer, place]), float(losses[epoch, layer, place])
        first = {"metric": (gain,), "loss": (cost,)}.get(candidate.choice, (gain, cost))
        return (*first, epoch, probes[place].rate)

    chosen, ranks = [], []
    for layer in range(valid.shape[1]):
        places = [(epoch, place) for epoch in range(len(epochs)) for place in range(len(probes))]
        if candidate.choice == "nearly metric, then loss":
            best = judged[:, layer].max()
            near = [at for at in places if judged[at[0], layer, at[1]] >= best - NEARLY]
            places = [min(near, key=lambda at, layer=layer: losses[at[0], layer, at[1]])]  # type: ignore[misc]
        epoch, place = min(places, key=lambda at, layer=layer: rank(layer, *at))  # type: ignore[misc]
        ranks.append(rank(layer, epoch, place)[0])
        value, cost = (float(scores[epoch, layer, place]) for scores in (valid, losses))
        chosen.append(Chosen(probes[place], epochs[epoch], value, cost))
    return chosen, ranks.index(min(ranks))


def _smooth(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over five epochs; the ends are repeated."""
    padded = np.pad(curves, ((_REACH, _REACH), (0, 0), (0, 0)), mode="edge")
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, 2 * _REACH + 1, axis=0).mean(-1))


def _until_stopped(curves: NDArray[np.float64], patience: int) -> NDArray[np.float64]:
    """The curves, with -1 once there were that many epochs without improvement."""
    best, stale = np.full(curves.shape[1:], -1.0), np.zeros(curves.shape[1:], dtype=int)
    kept = np.full_like(curves, -1.0)
    for epoch, values in enumerate(curves):
        going = stale < patience
        kept[epoch] = np.where(going, values, -1.0)
        improved = going & (values > best)
        best = np.where(improved, values, best)
        stale = np.where(improved, 0, stale + 1)
    return kept


def compare(
    files: Sequence[Vectors], candidates: Sequence[Candidate], *, splits: int, seeds: int, report: Report
) -> Evidence:
    """Train all candidates on all files, and measure.

    Args:
        files: the vectors.
        candidates: among them the standard and the first protocol.
        splits: repetitions. The first has the task's own split. Others have a random split by recording, other seeds
            and other points of the search, and only for tasks with enough recordings.
        seeds: with which the choices of the first repetition are trained; others have one.
        report: receives the progress.
    """
    evidence = Evidence()
    few = _few(files)
    _measure_cost(few[-1], candidates, evidence)
    jobs = list(_jobs(files, candidates, splits, seeds, few, evidence))
    total, done = sum(work for work, _ in jobs), 0.0
    for work, job in jobs:
        report("comparing", done, total)
        job()
        done += work
    report("comparing", total, total)
    return evidence


def _few(files: Sequence[Vectors]) -> list[Vectors]:
    """The smallest files of different encoders."""
    smallest: dict[str, Vectors] = {}
    for own in sorted(files, key=lambda own: own.values):
        smallest.setdefault(own.encoder, own)
    return list(smallest.values())[:_MULTIPLIED]


def _jobs(
    files: Sequence[Vectors],
    candidates: Sequence[Candidate],
    splits: int,
    seeds: int,
    few: Sequence[Vectors],
    evidence: Evidence,
) -> "Iterator[tuple[float, _Job]]":
    """What is to do, with a measure of the work."""
    close = [candidate for candidate in candidates if candidate in CLOSE]
    for own in files:
        evidence.layers[own.task, own.encoder] = own.numbers
        for repetition in range(splits if own.can_be_split else 1):
            count = seeds if repetition == 0 else 1
            yield own.values * (len(candidates) + 5 * count), _Job(own, candidates, repetition, count, None, evidence)
        for factor in FACTORS:
            tried = candidates if own in few else close
            yield own.values * len(tried), _Job(own, tried, 0, 1, factor, evidence)


@dataclass(frozen=True, eq=False)
class _Job:
    """All candidates on one file, in one repetition or multiplied by one factor."""

    vectors: Vectors
    candidates: Sequence[Candidate]
    repetition: int
    seeds: int
    factor: float | None
    evidence: Evidence

    def __call__(self) -> None:
        key = Key(self.vectors.task, self.vectors.encoder, self.repetition)
        if self.factor is not None:
            self._multiply(key, self.factor)
            return
        own = self.vectors.split_again(self.repetition) if self.repetition else self.vectors
        self.evidence.reference[key] = np.array(_reference(own))
        for name, found in Bench(own, self.repetition, self.seeds).find(self.candidates).items():
            self.evidence.found.setdefault(name, {})[key] = found

    def _multiply(self, key: Key, factor: float) -> None:
        """Compare with the same search on the vectors as they are, both with the first seed."""
        found = Bench(self.vectors.times(factor), 0, 1).find(self.candidates)
        for name, after in found.items():
            before = self.evidence.found[name][key]
            change = np.abs(after.tests[:, 0] - before.tests[:, 0]).max()
            self.evidence.change.setdefault(name, []).append(float(change))
            self.evidence.moved.setdefault(name, []).append(after.layer != before.layer)
            if FIRST.name in found and name in (FIRST.name, WINNER.name):
                curves = self.evidence.multiplied.setdefault(f"{name}, {self.vectors.name}", {})
                curves[f"{factor:g}"] = after.tests[:, 0].tolist()


def _reference(vectors: Vectors) -> list[float]:
    """Per layer, the test metric of logistic regression on standardised vectors."""
    own = vectors.scaled("standardised")
    return [
        logistic_regression(own.metric, *((layer[split], own.targets[split]) for split in SPLITS)).test
        for layer in own.layers
    ]


def _measure_cost(vectors: Vectors, candidates: Sequence[Candidate], evidence: Evidence) -> None:
    """Seconds of processor time of each search, in turns, so that a slow moment of the machine affects all."""
    evidence.timed = vectors.name
    for _ in range(_ROUNDS):
        for candidate in candidates:
            scaled = vectors.scaled(candidate.scale)
            start = time.process_time()
            search(scaled, candidate.probes(0), 0, candidate.every_epoch, _TIMED_EPOCHS)
            seconds = time.process_time() - start
            evidence.seconds[candidate.name] = min(seconds, evidence.seconds.get(candidate.name, seconds))


@dataclass(frozen=True)
class Verdict:
    """The columns of the table for one candidate.

    Attributes:
        score: mean test metric of the chosen layers.
        change: the largest change of a layer's test metric when all vectors are multiplied.
        moved: the share of files and factors where that changed the chosen layer.
        gap: mean distance of layers to logistic regression, each a mean over splits.
        worst: the lowest of these distances.
        spread: mean deviation over seeds of a layer's test metric.
        optimism: mean of validation minus test of the chosen probe.
        tau: mean agreement (Kendall) of the ranking of encoders between repetitions; None without repetitions.
        cost: processor time of a search relative to the first protocol.
    """

    score: float
    change: float
    moved: float
    gap: float
    worst: float
    spread: float
    optimism: float
    tau: float | None
    cost: float


def verdict(name: str, evidence: Evidence) -> Verdict:
    """Sum up what was measured of one candidate."""
    found = evidence.found[name]
    gaps = np.concatenate(list(layer_gaps(name, evidence).values()))
    taus = [tau for one, other in _pairs(found) if (tau := agreement(one, other)) is not None]
    return Verdict(
        score=float(np.mean([own.score for own in found.values()])),
        change=max(evidence.change[name]),
        moved=float(np.mean(evidence.moved[name])),
        gap=float(gaps.mean()),
        worst=float(gaps.min()),
        spread=float(np.mean(np.concatenate([spread(own) for own in found.values() if own.tests.shape[1] > 1]))),
        optimism=float(np.mean([own.optimism for own in found.values()])),
        tau=float(np.mean(taus)) if taus else None,
        cost=evidence.seconds[name] / evidence.seconds[FIRST.name],
    )


def spread(found: Found) -> NDArray[np.float64]:
    """(L,) deviation of the test metric over seeds."""
    return np.asarray(found.tests.std(1, ddof=1))


def layer_gaps(name: str, evidence: Evidence) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Per task and encoder, (L,) test metric minus that of logistic regression, means over splits."""
    gaps: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    for key, own in evidence.found[name].items():
        gaps.setdefault((key.task, key.encoder), []).append(own.curve - evidence.reference[key])
    return {at: np.mean(some, axis=0) for at, some in gaps.items()}


def agreement(one: Mapping[str, float], other: Mapping[str, float]) -> float | None:
    """Kendall's tau of two rankings of encoders; None for fewer than three, or without differences."""
    from scipy.stats import kendalltau

    names = sorted(set(one) & set(other))
    if len(names) < 3:
        return None
    tau = kendalltau([one[name] for name in names], [other[name] for name in names]).statistic
    return None if np.isnan(tau) else float(tau)


def scores(found: Mapping[Key, Found]) -> dict[tuple[str, int], dict[str, float]]:
    """Per task and repetition, the score of every encoder."""
    ranked: dict[tuple[str, int], dict[str, float]] = {}
    for key, own in found.items():
        ranked.setdefault((key.task, key.repetition), {})[key.encoder] = own.score
    return ranked


def _pairs(found: Mapping[Key, Found]) -> Iterator[tuple[dict[str, float], dict[str, float]]]:
    """The scores of one task in any two repetitions."""
    ranked = scores(found)
    for one, other in combinations(ranked, 2):
        if one[0] == other[0]:
            yield ranked[one], ranked[other]
