"""The sources of data sets: one module per choice of ``--from``, which declares a ``SOURCE``.

An installed package adds a source by an entry point of the group ``beans.sources``.
"""

from tasks.prepare.source import Source
from tasks.support.registry import Registry

SOURCES = Registry("task source", Source, attribute="SOURCE", package="tasks.prepare.sources", group="beans.sources")
