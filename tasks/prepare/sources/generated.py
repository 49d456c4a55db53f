"""The source ``generated``: built-in tasks of synthetic calls."""

from tasks.prepare.source import Generated, Source
from tasks.task import Task


def _has(task: Task) -> bool:
    # A late import: it imports numpy, which help texts do not need.
    from tasks.prepare.synthetic import SOURCES

    return task.name in SOURCES


def _generated(task: Task) -> Generated:
    from tasks.prepare.synthetic import SOURCES

    return SOURCES[task.name]


SOURCE = Source(help="generated on this machine", needs="nothing", has=_has, generated=_generated)
