"""Loaders: one module or folder per family of encoders. Each declares a ``LOADER``.

An installed package adds a loader by an entry point of the group ``beans.loaders``. Listing the loaders imports every
module of this folder. These modules therefore import torch and the libraries of their models inside functions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, NamedTuple

from tasks.support.registry import Registry

if TYPE_CHECKING:
    from evaluator.backbone import Backbone


class Package(NamedTuple):
    """An extra package that a loader needs: its name, what needs it, and how to install it."""

    name: str
    use: str
    install: str


def _no_questions(keys: Mapping[str, object]) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Description of a loader. Calling it loads a backbone.

    Attributes:
        name: the value of a submission's key ``loader``.
        help: which encoders it loads, in one line.
        version: part of the key of every feature. Raise it with any change that alters what the encoders return.
        load: takes the loader's keys of ``[submission]`` as keywords and returns a `Backbone` on the CPU. Its signature
            defines the keys and their types. An optional parameter ``base`` receives the directory of the submission.
        template: the loader's keys as TOML, one per line, each with an example and a comment:
            ``bands = 64  # number of mel bands``. `beans submissions new` uses it to write files and ask questions.
        pretrained: keys that the weights need; not required if the key ``weights`` is "random".
        questions: called with the keys given so far; their paths start at the working directory. It returns further
            required keys, each with a reason or "". It raises UserError for keys that exclude each other.
        files: keys that may name a file or directory beside the submission.
        code: keys that name ``module:function`` of a Python module, which may be in the submission's directory.
        counted: every backbone is a torch module, so the suite can count its parameters.
        trained: the backbones have weights from pretraining, unless the key ``weights`` is "random".
        needs_audio: the backbones encode audio; otherwise they read embeddings that were computed elsewhere.
        packages: extra packages that have to be installed.

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
        """Load a backbone and store the loader's name and version in it."""
        backbone = self.load(**arguments)
        # The version is part of every feature's key, and the module of the encoder's class may belong to no loader.
        backbone.loaded_by = self.name, self.version  # type: ignore[attr-defined]
        return backbone

    def missing(self, keys: Mapping[str, object]) -> dict[str, str]:
        """Keys that a submission needs in addition to ``keys``, in the format of `questions`.

        Raises:
            UserError: keys that exclude each other.
        """
        parameters = signature(self.load).parameters.values()
        needed = [key.name for key in parameters if key.default is key.empty and key.name != "base"]
        if keys.get("weights") != "random":
            needed += self.pretrained
        reasons = {**dict.fromkeys(needed, ""), **self.questions(keys)}
        return {key: reason for key, reason in reasons.items() if key not in keys}


LOADERS = Registry(
    "loader", Loader, attribute="LOADER", package=__name__, group="beans.loaders",
    name=lambda loader: loader.name, helpers=("support",),
)  # fmt: skip
