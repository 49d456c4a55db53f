"""The built-in tasks, which are made of synthetic calls."""

from tasks.prepare.source import Generated, Source
from tasks.task import Task


def _has(task: Task) -> bool:
    # Imports numpy, which a help text need not wait for.
    from tasks.prepare.synthetic import SOURCES

    return task.name in SOURCES


def _generated(task: Task) -> Generated:
    from tasks.prepare.synthetic import SOURCES

    return SOURCES[task.name]


SOURCE = Source(help="generated on this machine", needs="nothing", has=_has, generated=_generated)
