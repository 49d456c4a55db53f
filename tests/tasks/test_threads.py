"""Threads must fit the cores that a process may use, and waiting ones must leave them to the thread they wait for."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tasks.support import threads
from tasks.support.threads import usable_cores

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
TORCH = "from evaluator import Protocol; import torch; print(torch.get_num_threads())"
SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@pytest.mark.parametrize("code", [COMMAND, PYTHON], ids=["command", "python"])
@pytest.mark.parametrize(
    ("own", "expected"),
    [({}, "1000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None"), ({"GOMP_SPINCOUNT": "7"}, "7")],
)
def test_waiting_threads_soon_sleep_unless_the_user_says_otherwise(
    code: str, own: dict[str, str], expected: str
) -> None:
    """Beside busy processes a search took 25 times as long when they did not soon sleep."""
    assert printed(code, own) == f"policy {expected}"


def test_threads_follow_the_affinity_mask() -> None:
    """Under `taskset` or Slurm more threads than cores only wait for each other."""
    code = f"import os; os.sched_setaffinity(0, [{min(os.sched_getaffinity(0))}]); {TORCH}"
    code += "; from tasks.support.threads import usable_cores; print(usable_cores())"
    assert printed(code, {}) == "1"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
@pytest.mark.parametrize(("own", "expected"), [({}, "1"), ({"OMP_NUM_THREADS": "2"}, "2")], ids=["suite", "user"])
def test_threads_follow_the_quota_of_a_control_group(half_a_core: Path, own: dict[str, str], expected: str) -> None:
    """With `docker --cpus 0.5` two threads are both stopped by the kernel, and each waits for the other."""
    join = f"open({str(half_a_core / 'cgroup.procs')!r}, 'w').write('0');"
    assert printed(join + TORCH, own) == expected


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/a/b\n", {"a/cpu.max": "250000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/a\n", {"a/cpu.max": "max 100000"}, 8),
        ("0::/../outside\n", {"cpu.max": "100000 100000"}, 1),
        ("4:cpu,cpuacct:/job\n1:memory:/job\n", {"cpu,cpuacct/job/cpu.cfs": "400000 100000"}, 4),
        ("4:cpuset:/job\n3:cpu:/gone\n", {"cpu/cpu.cfs": "-1 100000", "cpuset/job/cpu.cfs": "100000 100000"}, 8),
        ("0::/a\n", {"a/cpu.max": "nonsense"}, 8),
        (None, {}, 8),
    ],
    ids=["parent", "none", "namespace", "version 1", "no quota", "damaged", "not Linux"],
)
def test_quotas_are_found_in_both_versions(
    groups: str | None, files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quota that is not found makes as many threads as the machine has cores."""
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.name == "cpu.cfs":
            for part, value in zip(("quota", "period"), text.split(), strict=True):
                file.with_name(f"cpu.cfs_{part}_us").write_text(value)
        else:
            file.write_text(text)
    if groups is not None:
        (tmp_path / "cgroup").write_text(groups)
    monkeypatch.setattr(threads, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(threads, "_MOUNT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    assert usable_cores() == cores


@pytest.fixture
def half_a_core() -> Iterator[Path]:
    """A control group of its own with a quota of half a core."""
    for parent, write in (
        (Path("/sys/fs/cgroup/cpu"), {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"}),
        (Path("/sys/fs/cgroup"), {"cpu.max": "50000 100000"}),
    ):
        group = parent / f"beans-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            for name, value in write.items():
                (group / name).write_text(value)
        except OSError:
            group.rmdir()
            continue
        yield group
        with suppress(OSError):
            group.rmdir()
        return
    pytest.skip("control groups cannot be made here")


def printed(code: str, own: dict[str, str]) -> str:
    """The last line that Python code prints, without this process' settings of threads."""
    clean = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**clean, **own}
    )
    assert done.stdout, done.stderr
    return done.stdout.splitlines()[-1]
