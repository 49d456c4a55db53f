"""Loaders: one module or folder for each family of encoders, which says all that others need to know of it.

A loader is a module with a `Loader` called ``LOADER``. Every such module in this package is found, and so is one in
another package that names it as an entry point of the group ``beans.loaders``.
"""

import importlib
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from typing import TYPE_CHECKING, NamedTuple

from tasks.support.errors import UserError

if TYPE_CHECKING:
    from evaluator.backbone import Backbone

GROUP = "beans.loaders"
"""The group of entry points by which other packages add loaders."""


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
        hears: the backbones encode audio; otherwise they look up what was computed elsewhere.
        packages: what has to be installed beside the suite.
        package: the installed package that adds it, as ``NAME==VERSION``; empty where it is the suite's own. The
            registry sets it.

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
    hears: bool = True
    packages: Sequence[Package] = ()
    package: str = ""

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


def loaders() -> dict[str, Loader | UserError]:
    """Every loader by name, in alphabetical order; where one of another package cannot be used, why not."""
    found: dict[str, Loader | UserError] = {}
    for name in names():
        try:
            found[name] = loader(name)
        except UserError as error:
            found[name] = error
    return found


def names() -> list[str]:
    """The names of all loaders, in alphabetical order. No other package is imported for them."""
    return sorted({*_own(), *_installed(tuple(sys.path))})


def loader(name: str) -> Loader:
    """The loader of that name.

    Raises:
        UserError: there is none, two packages declare one, or the package that declares it cannot be used.
    """
    own, others = _own().get(name), _installed(tuple(sys.path)).get(name, ())
    if own is None and not others:
        raise UserError(f"There is no loader {name!r}: choose one of {', '.join(names())}.")
    if len(others) + (own is not None) > 1:
        places = [*(["this suite"] if own else []), *(f"the package {_package(point)}" for point in others)]
        raise UserError(f"Loader {name!r} is declared twice, by {' and by '.join(places)}: uninstall one of them.")
    return own or _imported(others[0])


@cache
def _own() -> dict[str, Loader]:
    """The loaders of this package by name."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    found = [module.LOADER for module in modules if hasattr(module, "LOADER")]
    return {one.name: one for one in found}


@cache
def _installed(path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """The entry points of other packages by name, for one value of ``sys.path``."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=GROUP):
        # One package may be found in two places.
        if all(point.value != other.value for other in found.get(point.name, ())):
            found[point.name] = (*found.get(point.name, ()), point)
    return found


def _imported(point: EntryPoint) -> Loader:
    """The loader that another package declares."""
    where = f"Loader {point.name!r} of the package {_package(point)} cannot be used: {point.value}"
    remedy = "update or uninstall the package"
    try:
        declared = getattr(point.load(), "LOADER", None)
    # Anything may be raised while another package's module runs.
    except Exception as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if isinstance(error, ImportError):
            remedy = "install what is missing, or uninstall the package"
        raise UserError(f"{where} fails with {text}; {remedy}.") from error
    if not isinstance(declared, Loader):
        raise UserError(f"{where} is no module with a Loader called LOADER; {remedy}.")
    if declared.name != point.name:
        raise UserError(f"{where} calls it {declared.name!r}; {remedy}.")
    return replace(declared, package=_package(point))


def _package(point: EntryPoint) -> str:
    """The package that an entry point belongs to, as NAME==VERSION."""
    return f"{point.dist.name}=={point.dist.version}" if point.dist else point.value
