"""How much memory `beans tasks verify` and `beans submit` take on sounds and tasks of unusual size.

    python3 -m benchmarks.bounds --json bounds.json

Each case runs the command in a fresh process, with its own home. The peak is that of the process and its children,
without what the libraries take after a task of eight short clips. The weights of these backbones are small.
"""

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import facts, table

# What a command may take beyond the libraries and the model. `docs/performance.md` states it.
BOUND = 2 * 2**30
_ROOT = Path(__file__).parents[1]
_STATISTICS = "submissions/statistics.toml"
_HUBERT = "submissions/random-hubert-small.toml"
# Runs the command line and prints the peak resident memory of the process and of its children, in KiB.
_MEASURED = """
import resource, sys
from evaluator.cli import main
try:
    main()
finally:
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"peak {peak}", file=sys.stderr)
"""


@dataclass(frozen=True)
class Case:
    """A task that ``write`` puts into a directory, and the command to run on it.

    Attributes:
        write: writes the task and returns its file.
        submission: to submit, or None to verify the task.
        refused: whether the command must refuse the task.
    """

    write: Callable[[Path], Path]
    submission: str | None = _STATISTICS
    refused: bool = False


@dataclass(frozen=True)
class Found:
    """Peak resident bytes of one case, and its seconds."""

    case: str
    peak: int
    seconds: float


def _tone(rate: int, seconds: int, frequency: float) -> np.ndarray:
    return 0.2 * np.sin(2 * np.pi * frequency * np.arange(rate * seconds) / rate)


def _sparse(path: Path, rate: int, seconds: int, channels: int = 1) -> None:
    """A second of a tone every ten minutes, and silence between them: a long recording in a small file."""
    import soundfile

    silence = np.zeros((rate, channels))
    tone = np.repeat(_tone(rate, 1, 440)[:, None], channels, 1)
    with soundfile.SoundFile(path, "w", rate, channels, "PCM_16", format="FLAC") as file:
        for second in range(seconds):
            file.write(silence if second % 600 else tone)


def _clips(directory: Path, rate: int = 16_000, labels: int = 2, long: tuple[int, int] | None = None) -> Path:
    """Short clips of each label in each split, and one clip of ``long`` seconds and channels in train."""
    import soundfile

    rows = [("id", "path", "label", "split")]
    # Many labels share some files, which are named by other ids: only the number of labels matters.
    for number in range(min(labels, 16)):
        soundfile.write(directory / f"{number}.wav", _tone(rate, 1, 200 + 50 * number), rate, subtype="PCM_16")
    for split in ("train", "train", "valid", "test"):
        rows += [(f"{split}{len(rows) + label}", f"{label % 16}.wav", f"l{label}", split) for label in range(labels)]
    if long is not None:
        seconds, channels = long
        _sparse(directory / "long.flac", rate, seconds, channels)
        rows.append(("long", "long.flac", "l0", "train"))
    with (directory / "clips.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return _task(directory, 'kind = "classification"\nclips = "clips.csv"\n')


def _recording(directory: Path, hours: int, rate: int, length: float, shift: float) -> Path:
    """One recording for the three splits, each a third of it; its manifest says that a third has ``length`` seconds."""
    _sparse(directory / "night.flac", rate, hours * 3600)
    for place, split in enumerate(("train", "valid", "test")):
        annotations = [{"st": 0.0, "ed": 1.0, "label": "a"}, {"st": 600.0, "ed": 601.0, "label": "b"}]
        entry = {"id": split, "path": "night.flac", "offset": place * hours * 1200, "length": length}
        (directory / f"{split}.jsonl").write_text(json.dumps({**entry, "annotations": annotations}) + "\n")
    lists = "".join(f'{split} = "{split}.jsonl"\n' for split in ("train", "valid", "test"))
    return _task(directory, f'kind = "detection"\nwindow_width = 10.0\nwindow_shift = {shift}\n{lists}')


def _task(directory: Path, keys: str) -> Path:
    file = directory / "bounds.toml"
    file.write_text(f'name = "bounds"\n{keys}')
    return file


# A new kind of case is one entry here.
CASES: dict[str, Case] = {
    **{
        f"clips at {rate:,} Hz": Case(lambda directory, rate=rate: _clips(directory, rate))  # type: ignore[misc]
        for rate in (4_000, 11_127, 22_257, 96_001, 500_000)
    },
    "a clip of an hour at 48,000 Hz": Case(lambda directory: _clips(directory, 48_000, long=(3600, 1))),
    "a clip of an hour at 48,000 Hz, 8 channels": Case(lambda directory: _clips(directory, 48_000, long=(3600, 8))),
    "a clip of an hour at 384,000 Hz": Case(lambda directory: _clips(directory, 384_000, long=(3600, 1))),
    "a clip of an hour at 48,000 Hz, HuBERT": Case(
        lambda directory: _clips(directory, 48_000, long=(3600, 1)), submission=_HUBERT
    ),
    "verify a clip of an hour at 48,000 Hz": Case(
        lambda directory: _clips(directory, 48_000, long=(3600, 1)), submission=None
    ),
    "verify a recording of 6 hours at 48,000 Hz": Case(
        lambda directory: _recording(directory, 6, 48_000, 7200.0, 10.0), submission=None
    ),
    "verify a recording of 24 hours at 48,000 Hz": Case(
        lambda directory: _recording(directory, 24, 48_000, 28_800.0, 10.0), submission=None
    ),
    "windows of a recording of 2 hours at 48,000 Hz": Case(
        lambda directory: _recording(directory, 2, 48_000, 2400.0, 10.0)
    ),
}
_BASE = Case(_clips)


def measure(name: str, case: Case) -> Found:
    """Run one case in a fresh process and a fresh home.

    Raises:
        RuntimeError: the command ended otherwise than expected.
    """
    with tempfile.TemporaryDirectory() as directory:
        audio = Path(directory) / "task"
        audio.mkdir()
        task = case.write(audio)
        arguments = (
            ["tasks", "verify", str(task)]
            if case.submission is None
            else ["submit", case.submission, "--tasks", str(task), "--trials", "2", "--seeds", "1", "--device", "cpu"]
        )
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "BEANS_HOME": str(Path(directory) / "home"), "PYTHONPATH": path}
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=_ROOT,
            env=environment,
        )
        seconds = time.perf_counter() - start
    if done.returncode != (2 if case.refused else 0):
        raise RuntimeError(f"{name}: exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    peak = next(line for line in reversed(done.stderr.splitlines()) if line.startswith("peak "))
    return Found(name, 1024 * int(peak.split()[1]), seconds)


def main() -> int:
    """Run from the command line. Return 1 if a case takes more memory than the bound, or fails."""
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.bounds", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--case", metavar="TEXT", action="append", help="only cases whose name contains this")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the numbers here")
    arguments = parser.parse_args()
    chosen = {
        name: case
        for name, case in CASES.items()
        if arguments.case is None or any(part in name for part in arguments.case)
    }
    base = measure("eight short clips", _BASE)
    found, failed = [], []
    for name, case in chosen.items():
        try:
            found.append(measure(name, case))
        except RuntimeError as error:
            failed.append(str(error))
    rows = [
        [one.case, f"{one.peak / 2**30:.2f}", f"{max(0, one.peak - base.peak) / 2**30:.2f}", f"{one.seconds:.0f}"]
        for one in (base, *found)
    ]
    print(table(["case", "peak (GiB)", "beyond the libraries (GiB)", "s"], rows))
    if arguments.json:
        machine = facts(torch.device("cpu"), shlex.join(["python3", "-m", "benchmarks.bounds", *sys.argv[1:]]))
        content = {"machine": machine, "bound": BOUND, "found": [asdict(one) for one in (base, *found)]}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")
    beyond = [one.case for one in found if one.peak - base.peak > BOUND]
    if beyond:
        print(f"More than {BOUND / 2**30:g} GiB: {'; '.join(beyond)}.", file=sys.stderr)
    for problem in failed:
        print(problem, file=sys.stderr)
    return 1 if beyond or failed else 0


if __name__ == "__main__":
    sys.exit(main())
