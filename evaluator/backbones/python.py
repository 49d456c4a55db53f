"""A user's own model: any function that returns a Backbone."""

import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from evaluator.backbones import Loader
from evaluator.backbones.support.keys import Seed
from evaluator.guard.contained import place
from tasks.support.errors import UserError

if TYPE_CHECKING:
    from evaluator.backbone import Backbone

# Part of the key of every feature: raise it with any change that alters what this loader's models return.
VERSION = 1


def load(target: str, base: Path = Path(), seed: Seed = 0, files: list[str] | None = None) -> "Backbone":
    """Call ``module:function`` and return its backbone.

    Args:
        target: ``module:function``; the module is ``MODULE.py`` beside the submission file, or any importable module.
        base: the directory of the submission file.
        seed: set before the call, so that random weights are the same every time.
        files: files and directories that the model reads (relative to the submission file). Their content is part of
            the key of every feature.

    Raises:
        UserError: the target cannot be found, fails, does not return a backbone, or opens a file that is not named.
    """
    from evaluator.backbones.support.contents import hash_files, sources
    from evaluator.guard.opened import Named, opened

    module_name, _, function_name = target.partition(":")
    if not function_name or not all(module_name.split(".")):
        raise UserError(f"target {target!r}: write module:function, or module:Class.")
    hashes = hash_files(files or (), base)
    with opened() as read:
        module = _import(module_name, base, target)
        backbone = _call(module, module_name, function_name, target, seed)
    code = sources(module, base)
    named = Named(base.resolve(), frozenset([*((base / name).resolve() for name in hashes), *code.values()]))
    if not _has_state(backbone):
        named.refuse_others(read, "loading")
    try:
        backbone.options = _options(backbone, module, function_name, code, seed, hashes)  # type: ignore[attr-defined]
        backbone.named_files = named  # type: ignore[attr-defined]
    except (AttributeError, TypeError) as error:
        raise UserError(
            f"target {target!r} returned a {type(backbone).__name__} that takes no attribute `options` ({error}):"
            " remove __slots__ and properties of that name."
        ) from error
    return backbone


def _call(module: ModuleType, module_name: str, function_name: str, target: str, seed: int) -> "Backbone":
    import random

    import numpy as np
    import torch

    function = getattr(module, function_name, None)
    if not callable(function):
        raise UserError(f"target {target!r}: write module:function; {module_name} has no function {function_name!r}.")
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        backbone = function()
        missing = [name for name in ("sample_rate", "layers", "encode") if not hasattr(backbone, name)]
    except Exception as error:
        text = " ".join(str(error).split())
        raise UserError(f"target {target!r} failed with {type(error).__name__}: {text} ({place(error)}).") from error
    if missing:
        raise UserError(f"target {target!r} returned a {type(backbone).__name__} without {', '.join(missing)}.")
    return backbone  # type: ignore[no-any-return]


def _has_state(backbone: "Backbone") -> bool:
    """Whether the model has a state dict, which the suite hashes."""
    import torch

    return isinstance(backbone, torch.nn.Module) and bool(backbone.state_dict())


def _options(
    backbone: "Backbone",
    module: ModuleType,
    function_name: str,
    code: dict[str, Path],
    seed: int,
    files: dict[str, str],
) -> dict[str, object]:
    """All that identifies the model beside its state dict: after a change of it, no old features may be used."""
    from evaluator.backbones.support.contents import hash_arrays, hash_file

    own = getattr(backbone, "options", {})
    try:
        json.dumps(own)
        options: dict[str, object] = {**own}
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"The model's options cannot be written as JSON ({error}): give a dict of numbers, text, lists and dicts,"
            " and a hash in place of an array."
        ) from error
    hashes = {name: hash_file(path) for name, path in code.items()}
    options |= {"function": function_name, "code": hashes.pop(module.__name__, ""), "seed": seed}
    arrays = hash_arrays(backbone, code)
    further: dict[str, object] = {"modules": hashes, "files": files, "arrays": arrays}
    return options | {name: value for name, value in further.items() if value}


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
        except Exception as error:
            raise _not_imported(target, name, error) from error
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
        raise _not_imported(target, beside, error) from error
    return module


def _not_imported(target: str, what: object, error: Exception) -> UserError:
    text = " ".join(str(error).split())
    # A SyntaxError states its place itself.
    where = "" if isinstance(error, SyntaxError) else f" ({place(error)})"
    return UserError(f"target {target!r}: importing {what} failed: {type(error).__name__}: {text}{where}.")


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
files = ["weights.npy"]  # files that the model reads, unless it is a torch.nn.Module
""",
    files=("files",),
    code=("target",),
    counted=False,
)
