"""The BEANS data sets as their authors publish them: one module per task, which declares an ``ORIGIN``."""

from tasks.prepare.source import Origin
from tasks.support.registry import Registry

ORIGINS = Registry("origin", Origin, attribute="ORIGIN", package="tasks.prepare.origins")


def origin(task: str) -> Origin:
    """Return the origin of a task of the catalogue."""
    return ORIGINS.get(task)
