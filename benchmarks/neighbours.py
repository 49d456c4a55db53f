"""How long a search takes beside busy processes, for every way in which threads can wait for each other.

    python3 -m benchmarks.neighbours --json neighbours.json

Each measurement is a fresh process, because the settings count only before torch is loaded. All settings take turns,
so that a slow moment of the machine affects all of them.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.report import count, facts, table
from benchmarks.synthetic import SyntheticTask
from evaluator.probes.automatic import stack_of
from evaluator.probes.fit import fit
from evaluator.probes.heads import HEADS
from leaderboard.records.protocol import Protocol
from tasks.support.threads import prepare_threads, usable_cores

# The shape of a base-sized encoder on a small task, with the rates that the search trains at once.
_LAYERS, _WIDTH, _RATES, _CLASSES, _TRAIN, _VALID = 13, 768, 8, 10, 640, 160
_NEIGHBOURS = (0, 1, 2, 4)
_VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
SUITE = "suite"


def settings() -> dict[str, dict[str, str]]:
    """The environment variables of each setting."""
    before = dict(os.environ)
    try:
        for name in _VARIABLES:
            os.environ.pop(name, None)
        prepare_threads()
        suite = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    finally:
        os.environ.clear()
        os.environ.update(before)
    return {
        SUITE: suite,
        "libraries' default": {},
        "10,000 turns": {"GOMP_SPINCOUNT": "10000"},
        "never spin": {"OMP_WAIT_POLICY": "PASSIVE"},
        "one thread": {"OMP_NUM_THREADS": "1"},
    }


@dataclass(frozen=True)
class Found:
    """Seconds of a search, a median.

    Attributes:
        setting: name of the setting.
        neighbours: number of busy processes beside it.
        seconds: of the search.
        over_best: the same over the best setting with as many neighbours.
        over_fair: the same over the fair share: the seconds of one thread alone, divided by the cores that each process
            gets when all get as many. Without neighbours this is perfect use of all cores.
    """

    setting: str
    neighbours: int
    seconds: float
    over_best: float
    over_fair: float


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks.neighbours", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--epochs", type=count, default=40, metavar="N", help="passes over the train split (40)")
    parser.add_argument("--repetitions", type=count, default=3, metavar="N", help="measurements of each setting (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    parser.add_argument("--search", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.search:
        print(_search(arguments.epochs))
        return 0
    found = measure(arguments.epochs, arguments.repetitions)
    print(_text(found))
    if arguments.json:
        command = shlex.join(["python3", "-m", "benchmarks.neighbours", *sys.argv[1:]])
        written = {"machine": facts(torch.device("cpu"), command), "found": [asdict(own) for own in found]}
        arguments.json.write_text(json.dumps(written, indent=1) + "\n")
    return 0


def measure(epochs: int, repetitions: int, neighbours: Sequence[int] = _NEIGHBOURS) -> list[Found]:
    """Measure every setting beside every number of neighbours."""
    found = []
    one_core = 0.0
    for number in neighbours:
        seconds: dict[str, list[float]] = {name: [] for name in settings()}
        with _busy(number):
            for _ in range(repetitions):
                for name, variables in settings().items():
                    seconds[name].append(_in_fresh_process(epochs, variables))
        medians = {name: statistics.median(own) for name, own in seconds.items()}
        one_core = one_core or medians["one thread"]
        fair = one_core * (number + 1) / usable_cores()
        best = min(medians.values())
        found += [Found(name, number, own, own / best, own / fair) for name, own in medians.items()]
    return found


@contextmanager
def _busy(number: int) -> Iterator[None]:
    """Keep a number of processes busy, each with one thread that never waits."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def _in_fresh_process(epochs: int, variables: dict[str, str]) -> float:
    clean = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
    command = [sys.executable, "-m", "benchmarks.neighbours", "--search", "--epochs", str(epochs)]
    done = subprocess.run(command, env=clean | variables, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _search(epochs: int) -> float:
    """Seconds that the probes of all layers and rates take, without the features and without the first epoch."""
    task = SyntheticTask(
        train=_TRAIN,
        valid=_VALID,
        classes=_CLASSES,
        layers=_LAYERS,
        width=_WIDTH,
        frames=None,
        device=torch.device("cpu"),
    )
    start = 0.0
    finished = 0

    def on_epoch() -> None:
        nonlocal start, finished
        finished += 1
        if finished == 1:
            start = time.perf_counter()

    fit(
        stack_of(HEADS.get("ta"), _WIDTH, _CLASSES, task.device),
        task.stacked("train"),
        task.stacked("valid"),
        metric="accuracy",
        rates=torch.logspace(-2, 0, _RATES).tolist(),
        seeds=(0,),
        protocol=Protocol(epochs=epochs + 1),
        on_epoch=on_epoch,
    )
    return time.perf_counter() - start


def _text(found: Sequence[Found]) -> str:
    rows = [
        [own.setting, str(own.neighbours), f"{own.seconds:.2f} s", f"{own.over_best:.2f}", f"{own.over_fair:.2f}"]
        for own in found
    ]
    return table(("threads", "busy neighbours", "search", "over the best", "over the fair share"), rows)


if __name__ == "__main__":
    sys.exit(main())
