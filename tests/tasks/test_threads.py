"""Threads that wait must not take a core from the process that they wait for."""

import os
import subprocess
import sys

import pytest

COMMAND = (
    "import atexit, os, sys\n"
    "atexit.register(lambda: print('policy', os.environ.get('GOMP_SPINCOUNT')))\n"
    "sys.argv = ['beans', '--help']\n"
    "from evaluator.cli import main\n"
    "main()\n"
)
PYTHON = (
    "import os, sys\n"
    "from evaluator import Protocol\n"
    "assert 'torch' not in sys.modules\n"
    "print('policy', os.environ.get('GOMP_SPINCOUNT'))\n"
)


@pytest.mark.parametrize("code", [COMMAND, PYTHON], ids=["command", "python"])
@pytest.mark.parametrize(
    ("own", "expected"),
    [({}, "1000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None"), ({"GOMP_SPINCOUNT": "7"}, "7")],
)
def test_waiting_threads_soon_sleep_unless_the_user_says_otherwise(
    code: str, own: dict[str, str], expected: str
) -> None:
    """Beside busy processes a search took 25 times as long when they did not soon sleep."""
    clean = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**clean, **own}
    )
    assert done.stdout.splitlines()[-1] == f"policy {expected}", done.stderr
