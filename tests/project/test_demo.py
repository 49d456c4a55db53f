"""`make demo` runs on every machine: it leaves out the pretrained encoders whose packages cannot be installed."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTROLS = ["submissions/statistics.toml", "submissions/random-hubert-small.toml"]


def executable(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("missing", "submitted", "quick"),
    [
        ([], ["submissions/crepe-tiny.toml", "submissions/resemblyzer.toml"], "submissions/crepe-tiny.toml"),
        (["crepe"], ["submissions/resemblyzer.toml"], "submissions/resemblyzer.toml"),
        (["crepe", "resemblyzer"], [], "submissions/random-hubert-small.toml"),
    ],
)
def test_the_demo_goes_on_without_a_package_that_cannot_be_had(
    tmp_path: Path, missing: list[str], submitted: list[str], quick: str
) -> None:
    """A stand-in for pip refuses some packages, as without a network; one for `beans` writes down how it was called."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "submissions").mkdir()
    for file in [*(ROOT / "submissions").glob("requirements-*.txt"), ROOT / "pyproject.toml", ROOT / "constraints.txt"]:
        copy = tmp_path / file.relative_to(ROOT)
        shutil.copy(file, copy)
        os.utime(copy, (time.time() - 60,) * 2)
    refused = "".join(f"*requirements-{name}.txt) exit 1;; " for name in missing)
    executable(tmp_path / ".venv/bin/python", f'case "$*" in {refused}esac')
    executable(tmp_path / ".venv/bin/beans", f'echo "$@" >> {tmp_path}/calls')
    (tmp_path / ".venv/.installed").touch()
    done = subprocess.run(["make", "demo"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if "left out" in line]
    assert said == [
        f"{name} is left out, because pip cannot install submissions/requirements-{name}.txt." for name in missing
    ]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [
        "tasks prepare mini-calls mini-soundscape",
        " ".join(["submit", *CONTROLS, *submitted, "--tasks mini-calls,mini-soundscape"]),
        f"submit {quick} --tasks mini-calls --track twa --limit 100",
        "leaderboard show --in-words",
    ]
    for path in [*CONTROLS, *submitted, quick]:
        assert (ROOT / path).is_file(), path
