"""The evaluation: backbone, features, probes, search, record; the command line; and the Python interface.

Each name of ``__all__`` is imported at its first use, so that importing this package is fast.
``evaluator.evaluate`` is always the function. Import other names of the module ``evaluator.evaluate`` with
``from evaluator.evaluate import NAME``.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from tasks.support.threads import prepare_threads

if TYPE_CHECKING:
    from evaluator.api.embedding import Part, embed, embed_parts
    from evaluator.api.evaluation import evaluate, load_submission
    from evaluator.submission import Submission
    from leaderboard.records.protocol import Protocol
    from tasks.support.errors import UserError

__all__ = ["Part", "Protocol", "Submission", "UserError", "embed", "embed_parts", "evaluate", "load_submission"]

_MODULES = {
    "Part": "evaluator.api.embedding",
    "Protocol": "leaderboard.records.protocol",
    "Submission": "evaluator.submission",
    "UserError": "tasks.support.errors",
    "embed": "evaluator.api.embedding",
    "embed_parts": "evaluator.api.embedding",
    "evaluate": "evaluator.api.evaluation",
    "load_submission": "evaluator.api.evaluation",
}


class _Package(ModuleType):
    """This package, in which a module never replaces a function of the same name."""

    def __setattr__(self, name: str, value: object) -> None:
        # Python sets this attribute after it has imported the module `evaluator.evaluate`.
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    prepare_threads()
    value: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
