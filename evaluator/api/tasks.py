"""Reads the items of a task for an evaluation."""

from collections.abc import Sequence
from pathlib import Path

from tasks.manifest import read_manifest
from tasks.prepare import why_not_prepared
from tasks.subsets import limit as limit_items
from tasks.support.errors import UserError
from tasks.task import Manifest, load_task


class NotPreparedError(UserError):
    """A task exists but is not prepared.

    Attributes:
        task: the name of the task.
        reason: why, and what to do.
    """

    def __init__(self, task: str, reason: str) -> None:
        super().__init__(f"Task {task}: {reason}")
        self.task = task
        self.reason = reason


def read_task(name_or_path: str, data: Path, data_dir: Path | None = None, limit: int | None = None) -> Manifest:
    """Read the items of a task.

    Args:
        name_or_path: the name of a task, or the path of a task file (``.toml``).
        data: the home's data directory.
        data_dir: the start of relative paths in a task file, instead of its own directory.
        limit: maximum number of items per split.

    Raises:
        NotPreparedError: the task is not prepared.
        UserError: there is no such task, or its files have a mistake.
    """
    task = load_task(name_or_path, data=data, data_dir=data_dir)
    reason = why_not_prepared(task)
    if reason is not None:
        raise NotPreparedError(task.name, reason)
    manifest = read_manifest(task)
    return manifest if limit is None else limit_items(manifest, limit)


def require_different_names(manifests: Sequence[Manifest]) -> None:
    """Check that the tasks have different names.

    Raises:
        UserError: two tasks have one name.
    """
    names = [manifest.task.name for manifest in manifests]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"Two tasks are called {name!r}: give them different names, results are known by theirs.")
