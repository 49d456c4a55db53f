"""Heads (tracks): one module each, which declares its ``HEAD``; installed packages add more.

Each module of this folder is a head. A package of somebody else adds one by an entry point of the group
``beans.heads`` that names an `evaluator.probes.head.Head`.
"""

import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.metadata import Distribution, entry_points

from evaluator.probes.head import Head
from tasks.support.errors import UserError

GROUP = "beans.heads"


@cache
def heads() -> Mapping[str, Head]:
    """Every head by name, those of this folder first.

    Raises:
        UserError: a package adds a head that cannot be used. It is named.
    """
    found: dict[str, Head] = {}
    for source, owner in _sources():
        try:
            head = load(source)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise UserError(
                f"The head {source} of the package {owner} cannot be used ({reason}): mend or uninstall the package."
            ) from error
        if head.name in found:
            raise UserError(
                f"Two heads are called {head.name}: {found[head.name].source} and {source} of the package {owner}."
                " Rename one of them, or uninstall its package."
            )
        found[head.name] = head
    return found


def load(source: str) -> Head:
    """The head that "MODULE:NAME" declares."""
    module, _, name = source.partition(":")
    head = getattr(import_module(module), name)
    if not isinstance(head, Head):
        raise TypeError("it is not an evaluator.probes.head.Head")
    return replace(head, source=source)


def distribution(head: Head) -> Distribution | None:
    """The installed package that adds a head, or None for those of this folder."""
    return next((entry.dist for entry in entry_points(group=GROUP) if entry.value == head.source), None)


def needs_frames(tracks: Iterable[str]) -> bool:
    """Whether any of these tracks reads frames."""
    return any(heads()[track].reads_frames for track in tracks)


def _sources() -> Iterator[tuple[str, str]]:
    """Where each head is declared, and the name of its package."""
    for module in pkgutil.iter_modules(__path__):
        yield f"{__name__}.{module.name}:HEAD", "beans-probe"
    for entry in sorted(entry_points(group=GROUP)):
        yield entry.value, entry.dist.name if entry.dist else "unknown"
