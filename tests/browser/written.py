"""What the files of `settled_home` say, by plain rules: the pages are compared with it."""

import json

import numpy as np
from safetensors.numpy import load_file
from scipy.stats import rankdata

from tasks.support.home import Home

TASKS = ["clicks", "songs"]
RECORD = "{name}.{task}.ta.????????????????.json"


def scores(home: Home) -> dict[str, dict[str, float]]:
    """By name and task, the test score that is written in the file."""
    found: dict[str, dict[str, float]] = {}
    for path in home.records.glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(record["submission"]["name"], {})[record["task"]["name"]] = record["test"]
    return found


def means(home: Home) -> dict[str, float]:
    return {name: float(np.mean([of[task] for task in TASKS])) for name, of in scores(home).items()}


def by_mean(home: Home) -> list[str]:
    found = means(home)
    return sorted(found, key=lambda name: -found[name])


def rank_ranges(home: Home) -> dict[str, tuple[int, int]]:
    """Every resample is ranked by itself; the 25th smallest and the 25th largest of the 1000 ranks are the range."""
    names = by_mean(home)
    drawn = np.array([[resampled(home, name, task) for task in TASKS] for name in names]).mean(axis=1)
    ranks = np.sort(rankdata(-drawn.round(12), method="min", axis=0).astype(int), axis=1)
    return {
        name: (min(low, rank), max(high, rank))
        for rank, (name, low, high) in enumerate(zip(names, ranks[:, 24], ranks[:, 974], strict=True), start=1)
    }


def resampled(home: Home, name: str, task: str) -> np.ndarray:
    record = next(home.records.glob(RECORD.format(name=name, task=task)))
    return load_file(record.with_suffix(".resamples.safetensors"))["resampled"]


def resampled_difference(home: Home, task: str) -> np.ndarray:
    """Large minus small in each resample, of one task or of the mean over both."""
    chosen = TASKS if task == "Mean" else [task]
    return np.mean([resampled(home, "large", one) - resampled(home, "small", one) for one in chosen], axis=0)


def signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−") if round(value, 3) else "0.000"
