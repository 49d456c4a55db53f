"""Find the files that a model's code opens, so that no file changes its outputs without being part of the key.

Python reports every file that Python code opens. A library that opens a file in its own compiled code is not seen.
"""

import importlib.util
import os
import site
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tasks.support.errors import UserError

# Directories of the operating system.
_SYSTEM = ("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sys", "/usr")
_MADE = os.O_CREAT | os.O_TRUNC | os.O_WRONLY

_watch = threading.local()


@dataclass(frozen=True)
class Named:
    """The files that a model may open, because its key contains a hash of each.

    Attributes:
        base: the directory of the submission file.
        paths: files, and directories with all files in them, as real paths.
    """

    base: Path
    paths: frozenset[Path]

    def refuse_others(self, opened: Iterable[Path], when: str) -> None:
        """Raise a UserError if the model opened another file.

        Args:
            opened: the files that it opened.
            when: "loading" or "encode".
        """
        others = [path for path in dict.fromkeys(opened) if not self._is_named(path)]
        if others:
            more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
            written = os.path.relpath(others[0], self.base) if others[0].is_relative_to(self.base) else str(others[0])
            raise UserError(
                f"The model's {when} opens {others[0]}{more}, whose content is not part of the model's key, so that"
                f' another content would keep the old score: write files = ["{written}"] in [submission].'
            )

    def _is_named(self, path: Path) -> bool:
        return any(path.is_relative_to(named) for named in self.paths) or is_installed(path, self.base)


@contextmanager
def opened() -> Iterator[list[Path]]:
    """Collect the files that this thread opens for reading while the block runs, as real paths.

    The list is filled at the end of the block. Files that the block itself writes are left out.
    """
    _install()
    outer, events = getattr(_watch, "events", None), list[tuple[Any, ...]]()
    found: list[Path] = []
    _watch.events = events
    try:
        yield found
    finally:
        _watch.events = outer
        if outer is not None:
            outer.extend(events)
        made: set[Path] = set()
        for path, _, flags in events:
            file = _file(path)
            if isinstance(flags, int) and flags & _MADE:
                made.update({file} if file else ())
            elif file is not None and file not in made:
                found.append(file)


def is_installed(path: Path, base: Path) -> bool:
    """Whether a file belongs to the system, to Python, to an installed package or to the suite.

    Args:
        path: a real path.
        base: the directory of the submission; what contains it, such as /usr, is no reason.
    """
    return any(path.is_relative_to(root) and not base.is_relative_to(root) for root in _roots())


@cache
def _roots() -> tuple[Path, ...]:
    suite = Path(__file__).parents[2]
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    python = [*(sysconfig.get_path(kind) for kind in kinds), *site.getsitepackages(), site.getusersitepackages()]
    packages = [suite / name for name in ("evaluator", "leaderboard", "tasks")]
    every: list[str | Path] = [*_SYSTEM, sys.prefix, sys.exec_prefix, sys.base_prefix, *python, *packages]
    return tuple(dict.fromkeys(Path(path).resolve() for path in every))


def _file(path: Any) -> Path | None:
    """The real path of an existing file; for compiled Python, that of its source. None for anything else."""
    if not isinstance(path, str | bytes | os.PathLike):
        return None
    file = Path(os.fsdecode(path))
    with suppress(OSError, ValueError, NotImplementedError):
        if file.parent.name == "__pycache__":
            if file.suffix != ".pyc":
                return None
            file = Path(importlib.util.source_from_cache(str(file)))
        return file.resolve() if file.is_file() else None
    return None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        events = getattr(_watch, "events", None)
        # Warnings and tracebacks read lines of source with `tokenize`; they are no files of the model.
        if events is not None and sys._getframe(1).f_globals.get("__name__") != "tokenize":
            events.append(arguments)


@cache
def _install() -> None:
    """Add the hook once. Python cannot remove it."""
    sys.addaudithook(_hook)
