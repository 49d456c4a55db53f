"""How many cores this process may use, and how the threads of numerical libraries wait for each other."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# Turns of a waiting loop before a thread sleeps: see `benchmarks/neighbours.py`.
_TURNS = "1000"
_GROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Return how many cores this process may use: those of its affinity mask, and no more than its quota.

    A quota is that of a Linux control group, which `docker --cpus` and Slurm set. A part of a core counts as one.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        # Only Linux has affinity masks.
        cores = os.cpu_count() or 1
    return min([cores, *(math.ceil(quota) for quota in _quotas())])


def prepare_threads() -> None:
    """Choose how numerical libraries use threads. It must run before torch is loaded; child processes inherit it.

    A waiting thread keeps its core busy by default, and beside other busy processes that core is missing: let it soon
    sleep. Libraries see the affinity mask, but not the quota: without a limit they start too many threads, which the
    kernel then stops all together. A setting of the user is kept.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = _TURNS
    if list(_quotas()):
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))


def _quotas() -> Iterator[float]:
    """The quota, in cores, of each control group that this process is in. Versions 1 and 2 have different files."""
    for folder in _folders():
        try:
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if quota != "max" and int(quota) > 0:
                yield int(quota) / int(period)
        except (OSError, ValueError):
            # A group without a quota has no such files.
            continue


def _folders() -> Iterator[Path]:
    """The folders of the control groups of this process, from the innermost to the mount."""
    try:
        lines = _GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = _MOUNT / controllers
        relative = PurePosixPath(group.lstrip("/"))
        for part in (relative, *relative.parents):
            yield mount / part
