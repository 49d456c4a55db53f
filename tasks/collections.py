"""Which collections the sounds of well-known data sets come from."""

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path

from tasks.task import catalogue_names, load_task


@cache
def drawn_from() -> dict[str, tuple[str, ...]]:
    """The collections of each data set: those of `collections.toml`, of the catalogue, and of the benchmarks in it.

    The first collection of a task is its own data set, which is drawn from the others. A benchmark is drawn from the
    data sets of its tasks.
    """
    text = resources.files("tasks").joinpath("collections.toml").read_text(encoding="utf-8")
    found: dict[str, tuple[str, ...]] = {
        name: tuple(drawn) for name, drawn in tomllib.loads(text)["drawn_from"].items()
    }
    for task in (load_task(name, data=Path()) for name in catalogue_names()):
        own, *sources = task.facts.collections
        if sources:
            found[own] = tuple(sources)
        if task.benchmark:
            found[task.benchmark] = (*found.get(task.benchmark, ()), own)
    return found
