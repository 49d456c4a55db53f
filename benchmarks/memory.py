"""How much memory the search takes on the largest tasks, on synthetic features of their size.

    python3 -m benchmarks.memory --json memory.json

Each task runs in its own process, with a large model's 25 layers of 1024 channels and with 8 rates at once, as in the
search. A few epochs are enough, since memory does not grow with epochs.
"""

import argparse
import json
import resource
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import facts, table
from evaluator.features.extraction import Block
from evaluator.features.samples import Pooled
from evaluator.probes.trainer import Trainer
from leaderboard.records.protocol import Protocol
from tasks.task import Metric

_LAYERS, _WIDTH, _RATES = 25, 1024, 8
# Memory that a search may take on a CPU, without the memory of the libraries: the trainer's own budget, the features of
# one layer while they are gathered, and a small reserve.
_LIMIT = 5.5 * 2**30


@dataclass(frozen=True)
class Size:
    """Number of items of the splits that a search reads, and number of classes."""

    train: int
    valid: int
    classes: int
    metric: Metric


SIZES = {
    "rfcx": Size(31_196, 10_395, 24, "map"),
    "cbi": Size(14_207, 3_548, 264, "accuracy"),
    "speech-commands": Size(84_843, 9_981, 35, "accuracy"),
}
"""The largest tasks: by items of a detection task, by classes, by clips."""


@dataclass(frozen=True)
class Found:
    """Peak resident bytes before and during the search, and seconds per epoch of all layers and rates."""

    task: str
    before: int
    peak: int
    epoch_seconds: float


class _Synthetic:
    """The features of a task as the trainer reads them, drawn at random on each call."""

    def __init__(self, size: Size) -> None:
        self.blocks = (Block(tuple(range(_LAYERS)), _WIDTH, 50.0),)
        self.size = size
        self.streamed = None
        items = {"train": range(size.train), "valid": range(size.valid), "test": range(0)}
        self.manifest = SimpleNamespace(
            task=SimpleNamespace(metric=size.metric), items=items, labels=range(size.classes)
        )

    def samples(
        self,
        split: str,
        layers: Any,
        device: torch.device,
        *,
        frames: bool,
        standardise: bool = False,
        multiplier: float = 1.0,
    ) -> Pooled:
        """Return noise: the values of features do not change the memory."""
        count = len(self.manifest.items[split])
        features = torch.empty(count, len(layers), _WIDTH)
        for item in features:
            item.normal_()
        return Pooled(features.to(device), self._targets(count).to(device), layers)

    def _targets(self, count: int) -> Tensor:
        classes = torch.randint(self.size.classes, (count,))
        return classes if self.size.metric == "accuracy" else torch.nn.functional.one_hot(classes).float()


def measure(task: str, epochs: int, device: torch.device) -> Found:
    """Search once, for a few epochs. Call this in a fresh process."""
    features: Any = _Synthetic(SIZES[task])
    trainer = Trainer(features, "ta", device, Protocol(epochs=epochs))
    before = _peak(device)
    start = time.perf_counter()
    trainer.rates([10 ** -(number / 4) for number in range(_RATES)], lambda done, total: None)
    return Found(task, before, _peak(device), (time.perf_counter() - start) / epochs)


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Run from the command line. Return 1 if a search takes more memory than the limit."""
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.memory", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--task", choices=sorted(SIZES), action="append", help="one or more (all)")
    parser.add_argument("--epochs", type=int, default=1, metavar="N", help="epochs (1)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the numbers here")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if arguments.alone:
        print(json.dumps(asdict(measure(arguments.task[0], arguments.epochs, device))))
        return 0
    found = []
    for task in arguments.task or list(SIZES):
        command = [sys.executable, "-m", "benchmarks.memory", "--alone", "--task", task]
        command += ["--epochs", str(arguments.epochs), "--device", arguments.device]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"{task}: {done.stderr.strip().splitlines()[-1:] or done.returncode}", file=sys.stderr)
            return 1
        found.append(Found(**json.loads(done.stdout.splitlines()[-1])))
    rows = [
        [
            one.task,
            *(f"{number:,}" for number in (SIZES[one.task].train, SIZES[one.task].valid, SIZES[one.task].classes)),
            f"{one.before / 2**30:.1f}",
            f"{one.peak / 2**30:.1f}",
            f"{one.epoch_seconds:.0f}",
        ]
        for one in found
    ]
    header = ["task", "train", "validation", "classes", "before (GiB)", "peak (GiB)", "epoch (s)"]
    print(table(header, rows))
    print(f"\n{_LAYERS} layers x {_WIDTH} channels, {_RATES} rates at once, track ta.")
    if arguments.json:
        machine = facts(device, shlex.join(["python3", "-m", "benchmarks.memory", *sys.argv[1:]]))
        content = {"machine": machine, "found": [asdict(one) for one in found]}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")
    beyond = [one.task for one in found if one.peak - one.before > _LIMIT]
    if beyond:
        print(f"More than {_LIMIT / 2**30:g} GiB: {', '.join(beyond)}.", file=sys.stderr)
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
