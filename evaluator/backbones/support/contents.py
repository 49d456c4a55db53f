"""Hashes of what a user's model consists of beside its state dict: source files, named files, arrays."""

import ast
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from evaluator.backbones.support.paths import not_there
from evaluator.guard.opened import is_installed
from tasks.support.errors import UserError

_PLAIN = (str, bytes, int, float, complex, type(None))


def sources(module: ModuleType, base: Path) -> dict[str, Path]:
    """The source files of a module and of every module that it imports, by name, without installed ones.

    Imports inside functions count too, also those that have not run yet.

    Args:
        module: the module of the model.
        base: the directory of the submission.
    """
    found: dict[str, Path] = {}
    pending = [(module.__name__, _source(module.__spec__))]
    while pending:
        name, path = pending.pop()
        if name in found or path is None or (name != module.__name__ and is_installed(path, base)):
            continue
        found[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        pending.extend((imported, _source(_spec(imported))) for imported in _imports(path, package))
    return dict(sorted(found.items()))


def _imports(path: Path, package: str) -> set[str]:
    """The names of all modules that a source file imports, and of the packages that contain them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            with suppress(ImportError):
                start = resolve_name("." * node.level + (node.module or ""), package)
                names.update([start, *(f"{start}.{alias.name}" for alias in node.names)])
    return {name.rsplit(".", count)[0] for name in names for count in range(name.count(".") + 1)}


def _spec(name: str) -> ModuleSpec | None:
    """The specification of a module, without importing it. None if it is not found."""
    if name in sys.modules:
        return sys.modules[name].__spec__
    # For a submodule, find_spec imports the package.
    if "." in name and name.rpartition(".")[0] not in sys.modules:
        return None
    with suppress(ImportError, ValueError, AttributeError):
        return find_spec(name)
    return None


def _source(spec: ModuleSpec | None) -> Path | None:
    origin = None if spec is None or not spec.has_location else spec.origin
    return Path(origin).resolve() if origin and origin.endswith(".py") and Path(origin).is_file() else None


def hash_files(names: Sequence[str], base: Path) -> dict[str, str]:
    """The SHA-256 of each file, or of all files of a directory, by name.

    Args:
        names: paths, relative to the directory of the submission.
        base: that directory.

    Raises:
        UserError: a path does not exist, or a directory holds no file.
    """
    hashes = {}
    for name in names:
        path = base / name
        if path.is_file():
            hashes[name] = hash_file(path)
        elif path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
            if not inside:
                raise UserError(f"files: the directory {path} holds no file: name the files that the model reads.")
            lines = [f"{file.relative_to(path)} {hash_file(file)}" for file in inside]
            hashes[name] = hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
        else:
            raise UserError(not_there("files", name, base, "name the files that the model reads"))
    return hashes


def hash_file(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_arrays(backbone: object, modules: Mapping[str, Path]) -> str:
    """The SHA-256 of the arrays and tensors that the model holds outside its state dict; "" if there are none.

    They are attributes of the model and of its parts, also inside lists, tuples and dicts, and names of the modules of
    its code.

    Args:
        backbone: the model.
        modules: the modules of its code, as `sources` returns them.
    """
    known = backbone.state_dict(keep_vars=True).values() if isinstance(backbone, torch.nn.Module) else ()
    search = _Search({id(tensor) for tensor in known}, set(modules))
    digest, count = hashlib.sha256(), 0
    for holder in (backbone, *(sys.modules[name] for name in modules if name in sys.modules)):
        for where, values in search.arrays(vars(holder) if isinstance(holder, ModuleType) else holder, ""):
            count += 1
            digest.update(f"{where} {values.dtype} {values.shape} ".encode(errors="replace"))
            digest.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data if values.nbytes else b"")
    return digest.hexdigest() if count else ""


class _Search:
    """Finds arrays in objects, each object once.

    Args:
        known: ids of the tensors that another hash contains.
        own: names of the modules whose classes are searched.
    """

    def __init__(self, known: set[int], own: set[str]) -> None:
        self._seen, self._own = known, own
        # Keeps temporary objects, because a later object may get the id of one that is gone.
        self._kept: list[object] = []

    def arrays(self, value: object, where: str) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
        """Yield each array with the names that lead to it."""
        if isinstance(value, _PLAIN) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        self._kept.append(value)
        if isinstance(value, torch.Tensor):
            if value.layout is torch.strided and not value.is_meta:
                plain = value.detach().cpu().reshape(-1)
                yield f"{where} {value.dtype} {tuple(value.shape)}", plain.contiguous().view(torch.uint8).numpy()
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            yield where, value
        else:
            for name, inner in self._inside(value):
                yield from self.arrays(inner, f"{where}.{name}")

    def _inside(self, value: object) -> list[tuple[object, object]]:
        if isinstance(value, dict):
            return [(name, inner) for name, inner in value.items() if isinstance(name, str | int)]
        if isinstance(value, list | tuple):
            return list(enumerate(value))
        if isinstance(value, np.ndarray):
            return list(enumerate(value.ravel().tolist()))
        if isinstance(value, torch.nn.Module) or type(value).__module__ in self._own:
            return list(getattr(value, "__dict__", {}).items())
        return []
