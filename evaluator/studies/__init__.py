"""Studies: each answers one question of the papers with one command. One module per study declares a ``STUDY``.

An installed package adds a study by an entry point of the group ``beans.studies``. This module must import only the
standard library, because machines with few packages also import it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.support.registry import Registry


@dataclass(frozen=True)
class Outcome:
    """The result of a study: sentences for the reader, the first about the claim, and the files that it wrote."""

    verdict: Sequence[str]
    files: Sequence[Path]


@dataclass(frozen=True)
class Study:
    """One study. Its module imports heavy libraries inside functions, because a list of studies imports every module.

    Attributes:
        help: one line for the help.
        claim: the sentence that the study examines.
        run: answers the question. It receives a directory for its files and a function that reports progress, both by
            position. Its keyword parameters are the options of ``beans study NAME``, each with a default and annotated
            ``Annotated[TYPE, "help text"]``. Users write a ``tuple[float, ...]`` or ``tuple[str, ...]`` with commas.
        about: further text for the help.
        example: a command line for the help.
    """

    help: str
    claim: str
    run: Callable[..., Outcome]
    about: str = ""
    example: str = ""


STUDIES = Registry("study", Study, attribute="STUDY", package="evaluator.studies", group="beans.studies")
