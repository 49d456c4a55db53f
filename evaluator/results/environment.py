"""The environment of a result: code version, packages, machine and device."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from leaderboard.records.record import Environment

PACKAGES = (
    "torch",
    "torchaudio",
    "transformers",
    "optuna",
    "mlflow",
    "numpy",
    "scikit-learn",
    "soundfile",
    "soxr",
    "safetensors",
)
DEVICES = ("auto", "cpu", "cuda")


def describe(device: torch.device, precision: str) -> Environment:
    """The environment of this process, for the record."""
    commit, dirty = git_state(Path(__file__).parent)
    return Environment(
        git_commit=commit,
        git_dirty=dirty,
        packages=package_versions(),
        python=platform.python_version(),
        platform=platform.platform(),
        device=device_name(device),
        driver=_driver() if device.type == "cuda" else None,
        precision=precision,
        threads=torch.get_num_threads(),
    )


def package_versions() -> dict[str, str]:
    """Versions of the packages that a result depends on. Packages that are not installed are omitted."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def pick_device(choice: str) -> torch.device:
    """The device for one of `DEVICES`. ``auto`` is CUDA if there is a GPU, else the CPU.

    Raises:
        UserError: the choice is unknown, or CUDA is requested and torch finds no device.
    """
    from tasks.support.errors import UserError

    if choice not in DEVICES:
        raise UserError(f"Device {choice!r} is unknown: choose from {', '.join(DEVICES)}.")
    if choice == "auto":
        choice = "cuda" if torch.cuda.is_available() else "cpu"
    if choice == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device on this machine; `beans doctor` shows what it sees.")
    return torch.device(choice)


def device_name(device: torch.device) -> str:
    """The GPU's name, or "cpu" with the processor's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({_processor()})"


def git_state(directory: Path) -> tuple[str | None, bool | None]:
    """Commit of the checkout that contains ``directory``, and whether files differ from it; None outside a checkout."""
    try:
        commit = _git(directory, "rev-parse", "HEAD")
        return commit, bool(_git(directory, "status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _git(directory: Path, *arguments: str) -> str:
    # An installed package may be inside another project's checkout: git must not search further up.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(directory.parent.parent)}
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None
