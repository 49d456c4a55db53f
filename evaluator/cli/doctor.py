"""``beans doctor``: versions, devices, paths, and what is missing."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from evaluator.cli.console import print_json, print_table
from tasks.home import Home

EXAMPLE = "Example: beans doctor --json"


def doctor(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Check the installation: versions, devices, addresses, free disk, and what is missing."""
    checks = [*_packages(), *_devices(), *_state()]
    if as_json:
        print_json([{"check": name, "found": found, "ok": ok} for name, found, ok in checks])
    else:
        print_table(
            "Doctor", ["check", "found", ""], [[name, found, "ok" if ok else "missing"] for name, found, ok in checks]
        )
    if not all(ok for _, _, ok in checks):
        raise typer.Exit(2)


Check = tuple[str, str, bool]


def _packages() -> list[Check]:
    names = (
        "torch", "torchaudio", "transformers", "optuna", "mlflow", "streamlit", "sqlalchemy", "alembic", "soundfile",
        "safetensors", "scikit-learn", "pydantic",
    )  # fmt: skip
    checks: list[Check] = [("python", platform.python_version(), True)]
    for name in names:
        try:
            checks.append((name, version(name), True))
        except PackageNotFoundError:
            checks.append((name, "not installed: run `make install`", False))
    return checks


def _devices() -> list[Check]:
    import torch

    from evaluator.environment import device_name

    checks: list[Check] = [("cpu", f"{device_name(torch.device('cpu'))}, {torch.get_num_threads()} threads", True)]
    if torch.cuda.is_available():
        return [*checks, ("cuda", f"{device_name(torch.device('cuda'))}, CUDA {torch.version.cuda}", True)]
    return [*checks, ("cuda", "none: evaluation runs on the CPU, and GPU memory is not measured", True)]


def _state() -> list[Check]:
    from sqlalchemy.engine import make_url

    from tasks.prepare import is_prepared
    from tasks.task import catalogue_names, load_task

    home = Home.from_environment()
    parent = next(folder for folder in (home.root, *home.root.parents) if folder.exists())
    prepared = [name for name in catalogue_names() if is_prepared(load_task(name, data=home.data))]
    records = len(list(home.records.glob("*.json"))) if home.records.is_dir() else 0
    return [
        ("home (BEANS_HOME)", f"{home.root}, {shutil.disk_usage(parent).free / 2**30:.1f} GiB free", _usable(parent)),
        ("leaderboard (BEANS_DATABASE_URL)", make_url(home.database_url).render_as_string(), True),
        ("MLflow (MLFLOW_TRACKING_URI)", make_url(home.tracking_uri).render_as_string(), True),
        ("Optuna (OPTUNA_STORAGE)", make_url(home.optuna_storage).render_as_string(), True),
        ("prepared tasks", ", ".join(prepared) or "none: run `beans tasks prepare mini-calls`", True),
        ("records", str(records), True),
    ]


def _usable(parent: Path) -> bool:
    """Whether results can be written below the nearest path that exists."""
    return parent.is_dir() and os.access(parent, os.W_OK)
