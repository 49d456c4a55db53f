"""Heads (tracks): one module or folder each, which declares its ``HEAD``. Installed packages add more.

A package adds a head by an entry point of the group ``beans.heads`` that names an `evaluator.probes.head.Head`. Listing
the heads imports every module of this folder. These modules therefore import torch inside functions.
"""

from collections.abc import Iterable

from evaluator.probes.head import Head
from tasks.support.registry import Registry, load_declared

HEADS = Registry(
    "track", Head, attribute="HEAD", package=__name__, group="beans.heads", name=lambda head: head.name
)  # fmt: skip


def load(source: str) -> Head:
    """The head that "MODULE:NAME" declares, for a process in which its package need not be installed."""
    return load_declared(source, Head)


def needs_frames(tracks: Iterable[str]) -> bool:
    """Whether any of these tracks reads frames."""
    return any(HEADS.get(track).reads_frames for track in tracks)
