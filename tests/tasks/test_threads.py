"""Threads that wait must not take a core from the process that they wait for."""

import os
import subprocess
import sys

import pytest

COMMAND = (
    "import atexit, os, sys\n"
    "atexit.register(lambda: print('policy', os.environ.get('OMP_WAIT_POLICY')))\n"
    "sys.argv = ['beans', '--help']\n"
    "from evaluator.cli import main\n"
    "main()\n"
)
PYTHON = (
    "import os, sys\n"
    "from evaluator import Protocol\n"
    "assert 'torch' not in sys.modules\n"
    "print('policy', os.environ.get('OMP_WAIT_POLICY'))\n"
)


@pytest.mark.parametrize("code", [COMMAND, PYTHON], ids=["command", "python"])
@pytest.mark.parametrize(
    ("own", "expected"),
    [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"), ({"GOMP_SPINCOUNT": "1000"}, "None")],
)
def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(
    code: str, own: dict[str, str], expected: str
) -> None:
    """Beside one busy process a search took more than fifty times as long when they did not sleep."""
    clean = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**clean, **own}
    )
    assert done.stdout.splitlines()[-1] == f"policy {expected}", done.stderr
