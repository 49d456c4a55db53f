"""Disturb `beans submit` at random moments, and compare its numbers with those of a run that nothing disturbs.

    python3 -m benchmarks.disturbances --kills 100 --disks 20 --processes 4

Three parts: SIGKILL at random moments, again and again on one home until a run ends; several processes at once on one
home; a file system that is full, which is enlarged step by step (only as root, on Linux). Each must end with the same
numbers and with each result once, in the records, in the database and in MLflow.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.report import count, table
from leaderboard.database.store import Store
from leaderboard.records.files import read_record, record_paths
from tasks.support.home import Home

# What a record states beside its numbers: when and where it was made.
_PLACE = {"created", "seconds", "environment"}
_FIRST_DISK, _WHOLE_DISK = 60_000, 400_000_000


@dataclass
class Outcome:
    """One part: how often it was disturbed, how many runs ended, and what was wrong in the end."""

    name: str
    disturbed: int = 0
    ended: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """The command that is disturbed, with everything below one folder."""

    submission: Path
    tasks: str
    options: Sequence[str]
    data: Path

    def start(self, home: Path) -> subprocess.Popen[bytes]:
        """Start the command on a home. The prepared tasks are shared."""
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "data").exists():
            (home / "data").symlink_to(self.data)
        command = [sys.executable, "-m", "evaluator", "submit", str(self.submission), "--tasks", self.tasks]
        return subprocess.Popen(
            [*command, *self.options],
            env={**os.environ, "BEANS_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def end(self, home: Path) -> tuple[int, str]:
        """Run to the end: exit code and messages."""
        process = self.start(home)
        _, errors = process.communicate()
        return process.returncode, errors.decode(errors="replace")


def main() -> int:
    """Run from the command line. The exit code is 1 if anything was wrong."""
    description = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.disturbances", description=description)
    parser.add_argument("--kills", type=count, default=100, metavar="N", help="SIGKILLs, all homes together (100)")
    parser.add_argument("--disks", type=count, default=20, metavar="N", help="full disks (20)")
    parser.add_argument("--processes", type=count, default=4, metavar="N", help="processes on one home (4)")
    parser.add_argument("--submission", type=Path, default=Path("submissions/statistics.toml"), metavar="FILE")
    parser.add_argument("--tasks", default="mini-calls,mini-soundscape", help="prepared tasks of the home")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (0)")
    arguments = parser.parse_args()
    options = ("--track", "ta,twa", "--trials", "8", "--seeds", "2")
    run = Run(arguments.submission, arguments.tasks, options, Home.from_environment().data.resolve())
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        start = time.perf_counter()
        code, errors = run.end(root / "undisturbed")
        if code:
            print(errors, file=sys.stderr)
            return 1
        seconds = time.perf_counter() - start
        expected = _state(root / "undisturbed")
        outcomes = [
            _killed(run, root, expected, seconds, arguments.kills, moments),
            _together(run, root, expected, arguments.processes),
            _full(run, root, expected, arguments.disks),
        ]
    print(
        table(
            ("disturbance", "times", "runs that ended", "wrong"),
            [[own.name, str(own.disturbed), str(own.ended), str(len(own.wrong))] for own in outcomes],
        )
    )
    for outcome in outcomes:
        for sentence in outcome.wrong:
            print(f"{outcome.name}: {sentence}")
    return int(any(outcome.wrong for outcome in outcomes))


def _state(home: Path) -> dict[str, object]:
    """All numbers of the records, and what the database and MLflow hold."""
    state: dict[str, object] = {
        path.name: json.dumps(read_record(path).model_dump(mode="json", exclude=_PLACE), sort_keys=True)
        for path in record_paths(home / "records")
    }
    at = Home.at(home)
    results = Store(at.database_url).results()
    state["rows"] = sorted((result.task, result.track, result.run is not None) for result in results)
    state["runs"] = _runs(at)
    return state


def _runs(home: Home) -> list[str]:
    """The name of every run in MLflow that is not deleted."""
    from mlflow import MlflowClient

    client = MlflowClient(home.tracking_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return sorted(str(run.data.tags.get("beans.record", run.info.run_name)) for run in client.search_runs(experiments))


def _compare(home: Path, expected: dict[str, object], outcome: Outcome) -> None:
    found = _state(home)
    outcome.wrong += [
        f"{name} differs" for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)
    ]


def _killed(
    run: Run, root: Path, expected: dict[str, object], seconds: float, kills: int, moments: random.Random
) -> Outcome:
    """Kill until a run ends by itself, then compare and begin with an empty home, until there were enough kills."""
    outcome = Outcome("SIGKILL")
    while outcome.disturbed < kills:
        home = root / f"killed-{outcome.ended}"
        while True:
            process = run.start(home)
            try:
                # The first half of a run loads libraries and audio: a later moment is as likely as an early one.
                _, errors = process.communicate(timeout=moments.uniform(0.1, 1.1) * seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                outcome.disturbed += 1
                _progress(outcome, kills)
                if outcome.disturbed < kills:
                    continue
                code, text = run.end(home)
                errors = text.encode()
                process.returncode = code
            if process.returncode:
                outcome.wrong.append(f"exit code {process.returncode}: {errors.decode(errors='replace')[-300:]}")
            break
        outcome.ended += 1
        _compare(home, expected, outcome)
        shutil.rmtree(home)
    return outcome


def _together(run: Run, root: Path, expected: dict[str, object], processes: int) -> Outcome:
    """Start all at once on one home."""
    outcome = Outcome("processes at once", disturbed=processes)
    home = root / "together"
    started = [run.start(home) for _ in range(processes)]
    for process in started:
        _, errors = process.communicate()
        outcome.ended += process.returncode == 0
        if process.returncode:
            outcome.wrong.append(f"exit code {process.returncode}: {errors.decode(errors='replace')[-300:]}")
    _compare(home, expected, outcome)
    return outcome


def _full(run: Run, root: Path, expected: dict[str, object], disks: int) -> Outcome:
    """Enlarge the disk of a home step by step; each run but the last must end with one sentence on the full disk."""
    outcome = Outcome("full disk")
    home = root / "disk"
    home.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_FIRST_DISK}", "none", home], check=False).returncode:
        outcome.wrong.append("no file system of its own can be mounted here")
        return outcome
    try:
        used = sum(path.stat().st_size for path in (root / "undisturbed").rglob("*") if path.is_file())
        for step in range(disks):
            size = round(_FIRST_DISK + (used - _FIRST_DISK) * step / disks)
            subprocess.run(["mount", "-o", f"remount,size={size}", home], check=True)
            code, errors = run.end(home)
            outcome.disturbed += code != 0
            if code not in (0, 2) or "Traceback" in errors:
                outcome.wrong.append(f"with {size} bytes exit code {code}: {errors[-300:]}")
            _progress(outcome, disks)
        subprocess.run(["mount", "-o", f"remount,size={_WHOLE_DISK}", home], check=True)
        code, errors = run.end(home)
        outcome.ended += code == 0
        if code:
            outcome.wrong.append(f"with room again exit code {code}: {errors[-300:]}")
        _compare(home, expected, outcome)
    finally:
        subprocess.run(["umount", "--lazy", home], check=False)
    return outcome


def _progress(outcome: Outcome, total: int) -> None:
    print(f"{outcome.name}: {outcome.disturbed} of {total}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
