"""What a page or a terminal shows: the boards over everything that was published."""

from pathlib import Path

from leaderboard.ranking import Board, Result, boards
from tasks.task import Task, catalogue_names, load_task


def standings(results: list[Result]) -> list[Board]:
    """The boards over ``results``, their columns fixed by the suite's own catalogue of tasks."""
    return boards(results, catalogue())


def catalogue() -> list[Task]:
    """The suite's own tasks; their data need not be prepared."""
    return [load_task(name, data=Path()) for name in catalogue_names()]
