"""The rules that are compared, as data. All but a few differ from the draft of the standard in one thing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from leaderboard.records.protocol import PAPERS, Protocol

STANDARD, OLD = Protocol(), Protocol.standard(PAPERS)
POINTS = STANDARD.trials
# The search of the first version of the protocol. Its other rules were those of the papers.
_OLD_RATES = (1e-5, 1e-1)
# Of the rates that were tried with a searched penalty, this one came nearest to logistic regression.
_FIXED_RATE = 3.0
_SEARCHED_DECAYS = (1e-8, 1e-1)

Scale = Literal["unscaled", "standardised", "standardised over root", "principal axes over root"]
Counts = Literal["last", "best", "smooth", "average"]
Choice = Literal["metric", "loss", "metric, then loss", "nearly metric, then loss"]
# Validation metrics that differ by no more are equal for "nearly metric".
NEARLY = 0.02


@dataclass(frozen=True)
class Probe:
    """How one probe is trained, whatever it reads.

    Attributes:
        rate: learning rate at the first step.
        decay: L2 penalty of Adam, or weight decay of AdamW.
        optimiser: "adam" adds the penalty to the gradient, "adamw" shrinks the weights.
        schedule: "cosine" falls to zero at the last step, "constant" does not fall.
        start: initial values: "uniform" as in the suite, or "zero".
        averaged: whether a moving average of the weights is the probe.
    """

    rate: float
    decay: float
    optimiser: Literal["adam", "adamw"] = "adam"
    schedule: Literal["cosine", "constant"] = "cosine"
    start: Literal["uniform", "zero"] = "uniform"
    averaged: bool = False


@dataclass(frozen=True)
class Candidate:
    """A set of rules. The defaults are those of the standard.

    Attributes:
        name: for tables.
        scale: of the vectors: as they are; mean 0 and variance 1 per dimension; variance 1 / width; or the last,
            rotated to the principal axes of train.
        optimiser, schedule, start: as in `Probe`.
        decay, decay_power: the penalty at a rate is ``decay / rate ** decay_power``.
        decays: range of a searched penalty, a second dimension of the search; None for the penalty above.
        rates: range of the search; twice the same number for a fixed rate.
        grid: rates instead of a search.
        counts: which weights are the probe: those after the last epoch; after the epoch with the best validation
            metric; with the best mean over five epochs; or a moving average.
        patience: an epoch can only be the best if no earlier gap between improvements is longer. 0 for no limit.
        choice: what decides between rates, and between layers: the validation metric, where ties go to the lower rate;
            the validation loss; or the metric, where ties in a layer go to the lower loss. With "nearly", all rates
            within `NEARLY` of a layer's best tie. Ties between layers go to the lower layer.
    """

    name: str
    scale: Scale = "standardised over root"
    optimiser: Literal["adam", "adamw"] = "adam"
    decay: float = STANDARD.weight_decay
    decay_power: int = STANDARD.decay_power
    decays: tuple[float, float] | None = None
    rates: tuple[float, float] = STANDARD.rate_range
    grid: tuple[float, ...] = ()
    schedule: Literal["cosine", "constant"] = "cosine"
    counts: Counts = "last"
    patience: int = 0
    start: Literal["uniform", "zero"] = "uniform"
    choice: Choice = "metric, then loss"

    @property
    def every_epoch(self) -> bool:
        """Whether validation scores of all epochs are needed."""
        return self.counts in ("best", "smooth")

    def probes(self, repetition: int) -> list[Probe]:
        """The points of the search, or of the grid. They stand in for the suite's search, half of which adapts.

        Repetition 0 has the middles of equal parts of the logarithm. Others are shifted within the parts. Two
        dimensions have Sobol points.
        """
        decays = np.full(POINTS, math.nan)
        if self.grid:
            rates = np.array(self.grid)
        elif self.decays and self.rates[0] < self.rates[1]:
            from scipy.stats import qmc

            points = qmc.Sobol(2, seed=repetition).random(POINTS)
            rates, decays = (_between(span, points[:, axis]) for axis, span in enumerate((self.rates, self.decays)))
        else:
            shift = np.random.default_rng(repetition).random() if repetition else 0.5
            shares = (np.arange(POINTS) + shift) / POINTS
            rates = _between(self.rates, shares)
            decays = _between(self.decays, shares) if self.decays else decays
        return [
            Probe(
                rate=float(rate),
                decay=float(decay) if self.decays else self.decay / float(rate) ** self.decay_power,
                optimiser=self.optimiser,
                schedule=self.schedule,
                start=self.start,
                averaged=self.counts == "average",
            )
            for rate, decay in zip(rates, decays[: len(rates)], strict=True)
        ]


def _between(span: tuple[float, float], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers between two others, evenly on the logarithm."""
    low, high = np.log(span)
    return np.asarray(np.exp(low + (high - low) * shares))


WINNER = Candidate("beans-probe/2")
# The first choice. It showed that training is chaotic at high rates, and the standard came from it.
DRAFT = replace(WINNER, name="draft: L2 1e-5 / rate^2, rates 0.03-10", decay=1e-5, rates=(0.03, 10.0))
FIRST = Candidate(
    "beans-probe/1",
    scale="unscaled",
    decay=OLD.weight_decay,
    decay_power=0,
    rates=_OLD_RATES,
    schedule="constant",
    counts="best",
    patience=OLD.patience,
    choice="metric",
)


def _adamw(decay: float) -> Candidate:
    return replace(DRAFT, name=f"AdamW {decay:g}", optimiser="adamw", decay=decay, decay_power=0)


CANDIDATES: Sequence[Candidate] = (
    WINNER,
    DRAFT,
    FIRST,
    replace(FIRST, name="beans-probe/1, standardised", scale="standardised"),
    replace(FIRST, name="papers", grid=OLD.grid),
    replace(_adamw(1e-2), name="AdamW 0.01, rates 0.0001-1", rates=(1e-4, 1.0)),
    # Normalisation.
    replace(DRAFT, name="unscaled", scale="unscaled"),
    replace(DRAFT, name="standardised, not over root", scale="standardised"),
    replace(WINNER, name="beans-probe/2, principal axes", scale="principal axes over root"),
    # Optimiser and penalty.
    replace(DRAFT, name="Adam, L2 0.001", decay=1e-3, decay_power=0),
    _adamw(1e-4),
    _adamw(1e-2),
    _adamw(1e-1),
    replace(DRAFT, name="rate and L2 searched", decays=_SEARCHED_DECAYS),
    replace(DRAFT, name=f"L2 searched, rate {_FIXED_RATE:g}", decays=_SEARCHED_DECAYS, rates=(_FIXED_RATE,) * 2),
    replace(DRAFT, name="L2 1e-6 / rate^2", decay=1e-6),
    replace(DRAFT, name="L2 1e-4 / rate^2", decay=1e-4),
    replace(DRAFT, name="L2 1e-5 / rate", decay_power=1),
    # Schedule, and the weights that count.
    replace(DRAFT, name="constant, best epoch", schedule="constant", counts="best"),
    replace(DRAFT, name="constant, best of smoothed", schedule="constant", counts="smooth"),
    replace(DRAFT, name="constant, averaged weights", schedule="constant", counts="average"),
    replace(DRAFT, name="cosine, best epoch", counts="best"),
    # Initial values.
    replace(DRAFT, name="start at zero", start="zero"),
    # Range of rates.
    replace(DRAFT, name="rates 0.001-1", rates=(1e-3, 1.0)),
    replace(DRAFT, name="rates 0.01-1", rates=(1e-2, 1.0)),
    replace(DRAFT, name="rates 0.01-3", rates=(1e-2, 3.0)),
    replace(DRAFT, name="rates 0.1-100", rates=(0.1, 100.0)),
    # Choice.
    replace(DRAFT, name="choice by metric", choice="metric"),
    replace(DRAFT, name="choice by loss", choice="loss"),
    replace(DRAFT, name="choice by loss, metric within 0.02", choice="nearly metric, then loss"),
)
# These, which come close, meet every factor on every file. Others do so on a few files only.
CLOSE = tuple(
    candidate
    for candidate in CANDIDATES
    if candidate in (WINNER, DRAFT) or candidate.name.startswith(("choice", "AdamW 0.01, rates", "rates 0.0"))
)
