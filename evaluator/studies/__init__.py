"""Studies: questions of the papers that one command answers again; one module per study, which declares a ``STUDY``.

An installed package adds one by an entry point of the group ``beans.studies``. Machines with a GPU and little else
import this module, so it needs no more than Python.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.support.registry import Registry


@dataclass(frozen=True)
class Outcome:
    """What a study found: sentences for the reader, the first one about the claim, and the files that it wrote."""

    verdict: Sequence[str]
    files: Sequence[Path]


@dataclass(frozen=True)
class Study:
    """One study. Its module imports heavy libraries inside functions: a list of studies imports every module.

    Attributes:
        help: one line.
        claim: the sentence that the study examines.
        run: answers the question. It gets a directory for its files and a function to report progress to, both by
            position. Its keyword parameters are the options of ``beans study NAME``, each with a default and annotated
            ``Annotated[TYPE, "help text"]``. A ``tuple[float, ...]`` or ``tuple[str, ...]`` is written with commas.
        about: what else the help says.
        example: a command line for the help.
    """

    help: str
    claim: str
    run: Callable[..., Outcome]
    about: str = ""
    example: str = ""


STUDIES = Registry("study", Study, attribute="STUDY", package="evaluator.studies", group="beans.studies")
