"""Real processes that start at once: forked from one that has imported what the command line needs, and nothing more.

Importing torch, transformers and MLflow takes seconds. A process that is there to be killed, or to meet another one,
need not do that itself.
"""

import multiprocessing
import os
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "evaluator.evaluate",
        "evaluator.cli.submit",
        "transformers.models.hubert.modeling_hubert",
        "mlflow.store.tracking.sqlalchemy_store",
        "matplotlib.figure",
        "sklearn.metrics",
        "optuna",
        "tasks.prepare",
    ]
)


class QuickProcess:
    """``function(*arguments)`` in a process of its own, which keeps what it writes in ``directory``."""

    def __init__(
        self, directory: Path, function: Callable[..., object], *arguments: object, environment: Mapping[str, str]
    ) -> None:
        self._written = [directory / f"{uuid.uuid4().hex}.{stream}" for stream in ("out", "err")]
        settings = {**os.environ, **environment}
        self._process: Any = _CONTEXT.Process(target=_run, args=(self._written, settings, function, arguments))
        self._process.start()

    def end(self, timeout: float = 200) -> tuple[int, str, str]:
        """Wait for it: the exit code (negative: the signal that killed it), stdout and stderr."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
        output, errors = (file.read_text() if file.exists() else "" for file in self._written)
        assert code is not None, f"still running after {timeout:g} s: {errors}"
        return code, output, errors


def _run(
    written: list[Path], settings: dict[str, str], function: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    for stream, file in zip((sys.stdout, sys.stderr), written, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), stream.fileno())
    os.environ.clear()
    os.environ.update(settings)
    function(*arguments)
