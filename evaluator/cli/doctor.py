"""``beans doctor``: shows versions, devices, paths and missing parts."""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

from evaluator.cli.console import print_json, print_table
from tasks.support.errors import UserError
from tasks.support.home import Home

EXAMPLE = "Example: beans doctor --json"


def doctor(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Check the installation: versions, devices, addresses, free disk, and required and optional parts.

    The exit code is 2 if a required part is missing.
    """
    checks = [*_packages(), *_devices(), *_optional(), *_state()]
    if as_json:
        print_json([{**check._asdict(), "ok": check.status != "missing"} for check in checks])
    else:
        print_table("Doctor", ["check", "found", ""], checks)
    if any(check.status == "missing" for check in checks):
        raise typer.Exit(2)


class Check(NamedTuple):
    """One line of the report. ``status`` is "optional" for a missing part that is not required."""

    check: str
    found: str
    status: Literal["ok", "optional", "missing"] = "ok"


def _packages() -> list[Check]:
    names = (
        "torch", "torchaudio", "transformers", "optuna", "mlflow", "streamlit", "sqlalchemy", "alembic", "soundfile",
        "soxr", "safetensors", "scikit-learn", "pydantic",
    )  # fmt: skip
    checks: list[Check] = [Check("python", platform.python_version())]
    for name in names:
        try:
            checks.append(Check(name, version(name)))
        except PackageNotFoundError:
            checks.append(Check(name, "not installed: run `make install`", "missing"))
    return checks


def _devices() -> list[Check]:
    import torch

    from evaluator.results.environment import device_name

    checks: list[Check] = [Check("cpu", f"{device_name(torch.device('cpu'))}, {torch.get_num_threads()} threads")]
    if torch.cuda.is_available():
        return [*checks, Check("cuda", f"{device_name(torch.device('cuda'))}, CUDA {torch.version.cuda}")]
    return [*checks, Check("cuda", "none: evaluation runs on the CPU, and GPU memory is not measured", "optional")]


def _tasks_of_kaggle() -> str:
    from tasks.prepare.origins import ORIGINS
    from tasks.prepare.source import Origin

    names = [name for name, source in ORIGINS.each() if isinstance(source, Origin) and source.kaggle]
    return f"downloading the tasks {' and '.join(names)}"


# Packages that are not declared by loaders: name, use, and how to install it.
_EXTRAS: tuple[tuple[str, str | Callable[[], str], str], ...] = (
    ("kaggle", _tasks_of_kaggle, "`pip install 'beans-probe[kaggle]'`"),
)


def _optional() -> Iterator[Check]:
    """Yield the parts that only some commands and tests need, and the loaders of installed packages."""
    from evaluator.backbones import LOADERS

    extras: list[tuple[str, str | Callable[[], str], str]] = []
    for name, loader in LOADERS.each():
        if isinstance(loader, UserError):
            # Only submissions that name this loader cannot be used.
            yield Check(f"loader {name}", str(loader), "optional")
            continue
        added = LOADERS.distribution(name)
        if added is not None:
            yield Check(f"loader {name}", f"{added.name} {added.version}")
        extras += loader.packages
    for name, use, remedy in (*extras, *_EXTRAS):
        try:
            yield Check(name, version(name))
        except PackageNotFoundError:
            needed = use if isinstance(use, str) else use()
            yield Check(name, f"not installed; needed for {needed}: {remedy}", "optional")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    yield _program("Chromium (CHROMIUM)", chromium, "the tests of the pages: install it, or set CHROMIUM to its path")
    # Debian does not put the server's programs on the path.
    servers = [
        shutil.which("initdb"),
        *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)),
    ]
    server = next(filter(None, servers), None)
    yield _program("PostgreSQL server", server, "tests only; the board uses SQLite by default")


def _program(name: str, path: str | None, use: str) -> Check:
    return Check(name, path) if path else Check(name, f"not found; needed for {use}", "optional")


def _state() -> list[Check]:
    from sqlalchemy.engine import make_url

    from leaderboard.records.files import record_paths
    from tasks.prepare import is_prepared
    from tasks.task import catalogue_names, load_task

    home = Home.from_environment()
    parent = next(folder for folder in (home.root, *home.root.parents) if folder.exists())
    prepared = [name for name in catalogue_names() if is_prepared(load_task(name, data=home.data))]
    usable = parent.is_dir() and os.access(parent, os.W_OK)
    return [
        Check(
            "home (BEANS_HOME)",
            f"{home.root}, {shutil.disk_usage(parent).free / 2**30:.1f} GiB free",
            # The home is created below the nearest existing directory.
            "ok" if usable else "missing",
        ),
        Check("leaderboard (BEANS_DATABASE_URL)", make_url(home.database_url).render_as_string()),
        Check("MLflow (MLFLOW_TRACKING_URI)", make_url(home.tracking_uri).render_as_string()),
        Check("Optuna (OPTUNA_STORAGE)", make_url(home.optuna_storage).render_as_string()),
        Check("prepared tasks", ", ".join(prepared) or "none: run `beans tasks prepare mini-calls`"),
        Check("records", str(sum(1 for _ in record_paths(home.records)))),
    ]
