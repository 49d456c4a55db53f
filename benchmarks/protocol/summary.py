"""What is written down of the evidence: a small JSON, and the tables that are made from it."""

from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.protocol.candidates import FIRST, WINNER, Candidate
from benchmarks.protocol.judge import Evidence, Found, agreement, layer_gaps, scores, spread, verdict
from benchmarks.report import table

_HEADER = ("candidate", "score", "change", "moved", "gap", "worst", "deviation", "optimism", "tau", "cost")
_COLUMNS = ("score", "change", "moved", "gap", "worst", "spread", "optimism", "tau", "cost")
_LEGEND = """\
score: mean test metric of the chosen layers. change, moved: vectors multiplied by 0.001, 0.1, 10 and 1000; the largest
change of a layer's test metric, and the share of files and factors where another layer was chosen. gap, worst: test
metric minus that of converged logistic regression; mean and lowest over layers, each a mean over splits. deviation: of
a layer's test metric over seeds. optimism: validation minus test of the chosen probe. tau: agreement of the ranking of
encoders between splits. cost: processor time of a search relative to beans-probe/1."""

Content = dict[str, Any]


def content(evidence: Evidence, candidates: list[Candidate]) -> Content:
    """Everything worth keeping, rounded to four digits."""
    first, second = (evidence.found[candidate.name] for candidate in (FIRST, WINNER))
    gaps = {candidate.name: layer_gaps(candidate.name, evidence) for candidate in candidates}
    rankings = [scores(found) for found in (first, second)]
    written: Content = _rounded(
        {
            "candidates": [
                {"rules": asdict(candidate), **asdict(verdict(candidate.name, evidence))} for candidate in candidates
            ],
            "gaps": {name: {" ".join(at): own.tolist() for at, own in files.items()} for name, files in gaps.items()},
            "encoders": [
                {
                    "task": key.task,
                    "encoder": key.encoder,
                    "layers": list(evidence.layers[key.task, key.encoder]),
                    "reference": evidence.reference[key].tolist(),
                    **{
                        candidate.name: _described(
                            evidence.found[candidate.name][key],
                            evidence.layers[key.task, key.encoder],
                            gaps[candidate.name][key.task, key.encoder],
                        )
                        for candidate in (FIRST, WINNER)
                    },
                }
                for key in second
                if key.repetition == 0
            ],
            "agreement": {
                task: agreement(rankings[0][task, repetition], ranking)
                for (task, repetition), ranking in rankings[1].items()
                if repetition == 0
            },
            "multiplied": evidence.multiplied,
            "timed": {"file": evidence.timed, "seconds": evidence.seconds},
        }
    )
    return written


def tables(written: Content) -> str:
    """The tables, for a terminal or a document."""
    rows = [
        [
            candidate["rules"]["name"],
            *("" if candidate[name] is None else _cell(name, candidate[name]) for name in _COLUMNS),
        ]
        for candidate in written["candidates"]
    ]
    names = (FIRST.name, WINNER.name)
    header = [
        "task",
        "encoder",
        *(f"{what} {number}" for what in ("score", "layer", "deviation", "gap") for number in (1, 2)),
    ]
    encoders = [
        [
            own["task"],
            own["encoder"],
            *(f"{own[name]['score']:.3f}" for name in names),
            *(f"{own[name]['layer']}" for name in names),
            *(f"{own[name]['deviation']:.3f}" for name in names),
            *(f"{own[name]['gap']:+.3f}" for name in names),
        ]
        for own in written["encoders"]
    ]
    taus = ", ".join(f"{task} {'none' if tau is None else f'{tau:.2f}'}" for task, tau in written["agreement"].items())
    return "\n\n".join(
        (
            table(_HEADER, rows),
            _LEGEND,
            table(header, encoders),
            f"Agreement of the rankings of encoders (tau): {taus}.",
        )
    )


def _described(found: Found, layers: Any, gaps: Any) -> Content:
    """One protocol on one file."""
    return {
        "score": found.score,
        "layer": layers[found.layer],
        "deviation": float(spread(found).mean()),
        "gap": float(gaps.mean()),
        "curve": found.curve.tolist(),
        "rates": [choice.probe.rate for choice in found.chosen],
        "epochs": [choice.epoch for choice in found.chosen],
    }


def _cell(name: str, value: float) -> str:
    if name == "moved":
        return f"{value:.0%}"
    if name in ("tau", "cost"):
        return f"{value:.2f}"
    return f"{value:+.3f}" if name in ("gap", "worst", "optimism") else f"{value:.3f}"


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(own) for own in value]
    if isinstance(value, float | np.floating):
        # Rates and penalties are small, so they keep four digits, not four decimals.
        return float(f"{value:.4g}")
    return value
