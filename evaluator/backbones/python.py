"""A user's own model: any function that returns a Backbone."""

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from evaluator.backbones import Loader
from evaluator.backbones.support.keys import Seed
from tasks.support.errors import UserError

if TYPE_CHECKING:
    from evaluator.backbone import Backbone

# Part of the key of every feature: raise it with any change that alters what this loader's models return.
VERSION = 1


def load(target: str, base: Path = Path(), seed: Seed = 0) -> "Backbone":
    """Call ``module:function`` and return its backbone.

    Args:
        target: ``module:function``; the module is ``MODULE.py`` beside the submission file, or any importable module.
        base: the directory of the submission file.
        seed: set before the call, so that random weights are the same every time.

    Raises:
        UserError: the target cannot be found, fails, or does not return a backbone.
    """
    import torch

    module_name, _, function_name = target.partition(":")
    if not function_name or not all(module_name.split(".")):
        raise UserError(f"target {target!r}: write module:function, or module:Class.")
    module = _import(module_name, base, target)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UserError(f"target {target!r}: write module:function; {module_name} has no function {function_name!r}.")
    torch.manual_seed(seed)
    try:
        backbone = function()
    except Exception as error:
        text = " ".join(str(error).split())
        raise UserError(f"target {target!r} failed with {type(error).__name__}: {text}") from error
    missing = [name for name in ("sample_rate", "layers", "encode") if not hasattr(backbone, name)]
    if missing:
        raise UserError(f"target {target!r} returned a {type(backbone).__name__} without {', '.join(missing)}.")
    source = inspect.getsourcefile(module)
    code = hashlib.sha256(Path(source).read_bytes()).hexdigest() if source else ""
    # The code is part of the key: after an edit of encode, stored features of the old code must not be used.
    backbone.options = {**getattr(backbone, "options", {}), "function": function_name, "code": code, "seed": seed}
    return backbone  # type: ignore[no-any-return]


def _import(name: str, base: Path, target: str) -> ModuleType:
    file = Path(*name.split(".")).with_suffix(".py")
    beside = base / file
    if not beside.is_file():
        try:
            return importlib.import_module(name)
        except ImportError as error:
            raise UserError(
                f"target {target!r}: {beside} does not exist and {name!r} cannot be imported"
                + (f"; {file.resolve()} does exist: put it beside the submission file." if file.is_file() else ".")
            ) from error
    # Two users' files may have the same name, so the module is loaded by its path.
    spec = importlib.util.spec_from_file_location(f"beans_user_{name.replace('.', '_')}", beside)
    if spec is None or spec.loader is None:
        raise UserError(f"target {target!r}: {beside} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"target {target!r}: {beside} needs {_to_install(error, beside)}.") from error
    except Exception as error:
        raise UserError(f"target {target!r}: importing {beside} failed: {type(error).__name__}: {error}") from error
    return module


def _to_install(error: ModuleNotFoundError, module: Path) -> str:
    """Name what is missing, and the command that installs it if ``requirements-MODULE.txt`` is beside ``MODULE.py``."""
    requirements = module.with_name(f"requirements-{module.stem}.txt")
    if not requirements.is_file():
        return f"{error.name}, which is not installed: install the package that has it"
    return (
        f"{error.name}, which is not installed: run"
        f" `python -m pip install --no-deps --require-hashes --requirement {os.path.relpath(requirements)}`"
    )


LOADER = Loader(
    name="python",
    help="your own model, in a dozen lines of torch",
    version=VERSION,
    load=load,
    template="""
target = "mine:Mine"  # module:function, or module:Class, of a module beside the submission file
seed = 0  # of random weights
""",
    code=("target",),
    counted=False,
)
