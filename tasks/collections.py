"""The collections from which well-known data sets draw their sounds."""

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path

from tasks.task import catalogue_names, load_task


@cache
def drawn_from() -> dict[str, tuple[str, ...]]:
    """Return the source collections of each data set in `collections.toml` and the catalogue, and of each benchmark.

    The first collection of a task is its own data set; the others are the sources of that data set. The sources of a
    benchmark are the data sets of its tasks.
    """
    text = resources.files("tasks").joinpath("collections.toml").read_text(encoding="utf-8")
    drawn: dict[str, tuple[str, ...]] = {
        name: tuple(sources) for name, sources in tomllib.loads(text)["drawn_from"].items()
    }
    for task in (load_task(name, data=Path()) for name in catalogue_names()):
        own, *sources = task.facts.collections
        if sources:
            drawn[own] = tuple(sources)
        if task.benchmark:
            drawn[task.benchmark] = (*drawn.get(task.benchmark, ()), own)
    return drawn
