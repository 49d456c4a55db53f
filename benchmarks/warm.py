"""How soon a second run on the same audio trains its first probe.

    python3 -m benchmarks.warm --json warm.json

The features of a detection task of noise are extracted once, by a model that takes no time and has the layers of a
base-sized encoder. Then fresh processes do the work of a second `beans submit` before it trains probes of track `ta`:
read the manifest, find that all features are stored, check those of the train and validation splits against their
checksums, and load them.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from benchmarks.report import count, facts, table
from evaluator.backbone import Layer, ready
from evaluator.features.extraction import Extractor
from evaluator.features.store import Features, FeatureStore
from tasks.manifest import read_manifest
from tasks.task import load_task

_LAYERS, _WIDTH, _RATE = 13, 768, 8000
_RECORDING, _WINDOW, _SHIFT = 120, 2, 1  # seconds
# Splits of ten successive recordings: seven for train, two for valid, one for test.
_SPLITS = ("train", "valid", "test", *["train"] * 6, "valid")
_FRAMES = 4
# Seconds until the first probe of a task.
_GOAL = 2.0
_CPU = torch.device("cpu")


class Encoder(torch.nn.Module):
    """A backbone that returns parts of the waveform, louder from layer to layer."""

    sample_rate, min_samples = _RATE, _WINDOW * _RATE
    layers = tuple(Layer(f"layer {number}", _WIDTH) for number in range(_LAYERS))

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.linspace(1, 2, _LAYERS))

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """(batch, samples) to 13 of (batch, 4, 768)."""
        stretches = waveforms.view(len(waveforms), _FRAMES, -1)[..., :_WIDTH]
        return [stretches * gain for gain in self.gain], torch.full_like(lengths, _FRAMES)


@dataclass(frozen=True)
class Found:
    """The times of one process.

    Attributes:
        items: number of windows of all splits.
        known: seconds until the process knows that all features are stored.
        read: seconds to load the features of train and validation.
    """

    items: int
    known: float
    read: float


def prepare(folder: Path, windows: int) -> None:
    """Write a detection task of at least three recordings of noise, with about ``windows`` windows."""
    generator = np.random.default_rng(0)
    recordings = max(3, round(windows / (_RECORDING - _WINDOW + _SHIFT)))
    recorded: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for number in range(recordings):
        path = folder / f"{number}.wav"
        noise = 0.1 * generator.standard_normal(_RECORDING * _RATE, dtype=np.float32)
        soundfile.write(path, noise.clip(-1, 1), _RATE)
        split = _SPLITS[number % len(_SPLITS)]
        annotation = {"st": 3.0, "ed": 30.0, "label": "call"}
        entry = {"path": path.name, "length": float(_RECORDING), "annotations": [annotation]}
        recorded[split].append(json.dumps(entry))
    for split, lines in recorded.items():
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "noise.toml").write_text(
        f'name = "noise"\nkind = "detection"\nwindow_width = {_WINDOW}.0\nwindow_shift = {_SHIFT}.0\n'
        'train = "train.jsonl"\nvalid = "valid.jsonl"\ntest = "test.jsonl"\nlabels = ["call"]\n'
    )


def extract(folder: Path) -> Features:
    """Extract or find the features of the task, as `beans submit` does."""
    manifest = read_manifest(load_task(str(folder / "noise.toml"), data=folder))
    extractor = Extractor.of(ready(Encoder()), _CPU)
    return FeatureStore(folder / "features").extract(extractor, manifest, frames=False)


def measure(folder: Path) -> Found:
    """Measure one warm start. Call this in a fresh process."""
    start = time.perf_counter()
    features = extract(folder)
    known = time.perf_counter()
    for split in ("train", "valid"):
        features.samples(split, range(_LAYERS), _CPU, frames=False)
    items = sum(map(len, features.manifest.items.values()))
    return Found(items, known - start, time.perf_counter() - known)


def main() -> int:
    """Run from the command line. Return 1 if the first probe waits longer than the goal."""
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.warm", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--windows", type=count, default=30_000, metavar="N", help="about so many items (30000)")
    parser.add_argument("--repetitions", type=count, default=5, metavar="N", help="fresh processes (5)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the numbers here")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(asdict(measure(arguments.alone))))
        return 0
    found = []
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), arguments.windows)
        extract(Path(name))
        for _ in range(arguments.repetitions):
            command = [sys.executable, "-m", "benchmarks.warm", "--alone", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found.append(Found(**json.loads(done.stdout)))
    rows = [[f"{one.known:.2f}", f"{one.read:.2f}", f"{one.known + one.read:.2f}"] for one in found]
    print(table(["what is there (s)", "read (s)", "until the first probe (s)"], rows))
    median = statistics.median(one.known + one.read for one in found)
    print(f"\n{found[0].items:,} windows, {_LAYERS} layers of {_WIDTH}; median {median:.2f} s, goal {_GOAL:g} s.")
    if arguments.json:
        machine = facts(_CPU, shlex.join(["python3", "-m", "benchmarks.warm", *sys.argv[1:]]))
        content = {"machine": machine, "found": [asdict(one) for one in found]}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")
    if median > _GOAL:
        print("The first probe waits for longer than the goal.", file=sys.stderr)
    return 1 if median > _GOAL else 0


if __name__ == "__main__":
    sys.exit(main())
