"""Loaders: one module or folder for each family of encoders, which declares a ``LOADER``.

An installed package adds one by an entry point of the group ``beans.loaders``. A list of loaders imports every module
of this folder, so they import torch and the libraries of their models inside functions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, NamedTuple

from tasks.support.registry import Registry

if TYPE_CHECKING:
    from evaluator.backbone import Backbone


class Package(NamedTuple):
    """A package that a loader needs beside those of the suite: its name, what needs it, and how it is installed."""

    name: str
    use: str
    install: str


def _no_questions(keys: Mapping[str, object]) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Loader:
    """What the suite needs to know of a loader. Calling it loads a backbone.

    Attributes:
        name: as a submission's key ``loader`` names it.
        help: which encoders it loads, in one line.
        version: part of the key of every feature. Raise it with any change that alters what the encoders return.
        load: takes the loader's keys of ``[submission]`` as keywords and returns a `Backbone` on the CPU. Its signature
            is the description of the keys. A parameter ``base``, if there is one, is the directory of the submission.
        template: the loader's keys as TOML, one per line, each with an example and a comment:
            ``bands = 64  # number of mel bands``. `beans submissions new` writes and asks from it.
        pretrained: keys without which there are no weights, unless the key ``weights`` is "random".
        questions: called with the keys given so far, in which paths start at the working directory. It returns further
            keys that must be given, each with why, or with "". It raises UserError for keys that exclude each other.
        files: keys that may name a file or directory beside the submission.
        code: keys that name ``module:function`` of a Python module, which may be beside the submission.
        counted: the suite can count the parameters of every backbone, because each is a torch module.
        trained: the backbones have weights from pretraining, unless the key ``weights`` is "random".
        needs_audio: the backbones encode audio; otherwise they look up what was computed elsewhere.
        packages: what has to be installed beside the suite.

    Raises:
        ValueError: it has no name, no help or no version.
    """

    name: str
    help: str
    version: int = 0
    load: Callable[..., "Backbone"]
    template: str = ""
    pretrained: Sequence[str] = ()
    questions: Callable[[Mapping[str, object]], Mapping[str, str]] = _no_questions
    files: Sequence[str] = ()
    code: Sequence[str] = ()
    counted: bool = True
    trained: bool = True
    needs_audio: bool = True
    packages: Sequence[Package] = ()

    def __post_init__(self) -> None:
        if not self.name or not self.help:
            raise ValueError("LOADER needs a name and a help text")
        if type(self.version) is not int or self.version < 1:
            raise ValueError("LOADER needs a version: write version=VERSION, a whole number from 1 on")

    def __call__(self, **arguments: object) -> "Backbone":
        """Load a backbone, and note in it which loader that was."""
        backbone = self.load(**arguments)
        # The encoder's class may be of a module that belongs to no loader, and the version is part of every key.
        backbone.loaded_by = self.name, self.version  # type: ignore[attr-defined]
        return backbone

    def missing(self, keys: Mapping[str, object]) -> dict[str, str]:
        """Keys that a submission needs beside ``keys``, as `questions` takes and returns them.

        Raises:
            UserError: keys that exclude each other.
        """
        parameters = signature(self.load).parameters.values()
        needed = [one.name for one in parameters if one.default is one.empty and one.name != "base"]
        if keys.get("weights") != "random":
            needed += self.pretrained
        reasons = {**dict.fromkeys(needed, ""), **self.questions(keys)}
        return {key: reason for key, reason in reasons.items() if key not in keys}


LOADERS = Registry(
    "loader", Loader, attribute="LOADER", package=__name__, group="beans.loaders",
    name=lambda loader: loader.name, helpers=("support",),
)  # fmt: skip
