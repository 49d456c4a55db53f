"""The whole extraction, from audio files to features on disk, against the bare forward passes over the same clips.

    python3 -m benchmarks.extraction --json extraction.json

The files are synthesised: WAV and FLAC at 44.1 kHz, of unequal lengths. `bare` is the backbone on the decoded clips
in memory, in the batches of the extraction, without pooling and without a store. The ways take turns within one run,
so that a slow moment of the machine affects all of them.
"""

import argparse
import csv
import json
import math
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.models import MODELS
from benchmarks.report import count, facts, table
from evaluator.backbone import Backbone, ready
from evaluator.backbones import huggingface
from evaluator.features.clips import Shard, ahead, decode_clips, plan, waveforms
from evaluator.features.extraction import Extractor
from evaluator.features.shards import described, store
from evaluator.features.store import FeatureStore
from evaluator.probes.heads import needs_frames
from tasks.manifest import read_manifest
from tasks.support.threads import usable_cores
from tasks.task import Manifest, load_task

_SEED = 0
_NATIVE_RATE = 44_100
_TRACKS = {"ta": ("ta",), "ta+twa": ("ta", "twa")}
# Largest allowed ratio of the whole extraction to the bare forward passes.
_LIMIT = 1.15
# Encoders that are so many times faster than real time: small ones on a GPU, in half precision.
_ENCODERS = (2_000, 10_000)
_ROUNDS = 3
_SMALL = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}


def _small() -> Backbone:
    return huggingface.load(weights="random", architecture="hubert", config=_SMALL)


ALL_MODELS: dict[str, Callable[[], Backbone]] = {**MODELS, "hubert-small": _small}


@dataclass(frozen=True)
class Setup:
    """The model and the clips of a benchmark.

    Attributes:
        model: a name in ``ALL_MODELS``.
        clips: number of files, half of them WAV and half FLAC.
        shortest, longest: range of the lengths in seconds; the lengths are evenly spaced.
        alike: number of files per length.
        repetitions: number of measurements of each way.
    """

    model: str
    clips: int
    shortest: float
    longest: float
    alike: int
    repetitions: int


@dataclass(frozen=True)
class Times:
    """Wall and processor seconds of one way, one entry per repetition, and the medians' ratio to the bare passes."""

    wall: list[float]
    processor: list[float]
    wall_ratio: float
    processor_ratio: float


@dataclass(frozen=True)
class Found:
    """The measurements.

    Attributes:
        audio_seconds: total length of the clips.
        passes: number of forward passes per way.
        ways: times of ``bare``, ``ta`` and ``ta+twa``.
        phases: by tracks, processor seconds of each part, measured separately.
        decoded_per_core: seconds of audio that a second of one core decodes and resamples.
        decoded: by number of threads, seconds of audio that they decode and resample in a second.
        cores_hidden: how many cores decode for an encoder that is so many times faster than real time.
    """

    audio_seconds: float
    passes: int
    ways: dict[str, Times]
    phases: dict[str, dict[str, float]]
    decoded_per_core: float
    decoded: dict[int, float]
    cores_hidden: dict[int, int]


def write_task(directory: Path, setup: Setup) -> Manifest:
    """Write a classification task of noise bursts, in WAV and FLAC files."""
    import soundfile

    generator = np.random.default_rng(_SEED)
    lengths = np.linspace(setup.shortest, setup.longest, -(-setup.clips // setup.alike)).repeat(setup.alike)
    rows = []
    for number, seconds in enumerate(lengths[: setup.clips]):
        name = f"clip-{number}.{'flac' if number % 2 else 'wav'}"
        sound = 0.1 * generator.standard_normal(int(seconds * _NATIVE_RATE))
        soundfile.write(directory / name, sound, _NATIVE_RATE, subtype="PCM_16")
        split = ("train", "train", "valid", "test")[number % 4]
        rows.append((name, f"class-{number // 4 % 2}", split))
    with (directory / "clips.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    (directory / "bursts.toml").write_text('name = "bursts"\nkind = "classification"\nclips = "clips.csv"\n')
    return read_manifest(load_task(str(directory / "bursts.toml"), data=directory))


def measure(setup: Setup, device: torch.device, directory: Path) -> Found:
    """Measure all ways in turns, then the parts of the extraction one after another."""
    manifest = write_task(directory, setup)
    extractor = Extractor.of(ready(ALL_MODELS[setup.model](), device), device)
    model = extractor.model
    rate = model.backbone.sample_rate
    shards = [
        shard for items in manifest.items.values() for shard in plan(manifest.task, items, rate, model.min_samples)
    ]
    batches = _in_memory(extractor, shards)
    ways = {"bare": partial(_bare, model.backbone, batches, device)} | {
        name: partial(_whole, extractor, manifest, tracks, directory / "features") for name, tracks in _TRACKS.items()
    }
    # A first run without timing starts the threads and chooses the kernels.
    _bare(model.backbone, batches[:1] + batches[-1:], device)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(setup.repetitions):
        for name, run in ways.items():
            times[name].append(_timed(run, device))
            shutil.rmtree(directory / "features", ignore_errors=True)
    audio_seconds = sum(clip.samples for shard in shards for clip in shard.clips) / rate
    per_core, by_threads = _decoding(shards, rate, audio_seconds)
    medians = {name: [statistics.median(part) for part in zip(*rounds, strict=True)] for name, rounds in times.items()}
    return Found(
        audio_seconds=audio_seconds,
        passes=len(batches),
        ways={
            name: Times(
                wall=[wall for wall, _ in rounds],
                processor=[processor for _, processor in rounds],
                wall_ratio=medians[name][0] / medians["bare"][0],
                processor_ratio=medians[name][1] / medians["bare"][1],
            )
            for name, rounds in times.items()
        },
        phases={
            name: _phases(extractor, manifest, shards, frames=name != "ta", bare=medians["bare"][1], root=directory)
            for name in _TRACKS
        },
        decoded_per_core=per_core,
        decoded=by_threads,
        cores_hidden={speed: math.ceil(speed / per_core) for speed in _ENCODERS},
    )


def _decoding(shards: Sequence[Shard], rate: int, audio_seconds: float) -> tuple[float, dict[int, float]]:
    """Seconds of audio per second: of one core, by its processor time; and of 1, 2, 4, ... threads, by the clock."""

    def decode(workers: int) -> None:
        for _ in ahead(shards, rate, workers):
            pass

    cpu = torch.device("cpu")
    # Several times, because the clips of a benchmark are decoded in less than a second.
    alone = min(_timed(partial(decode, 1), cpu)[1] for _ in range(_ROUNDS))
    numbers = sorted({*(2**power for power in range(10) if 2**power < usable_cores()), usable_cores()})
    clock = {workers: min(_timed(partial(decode, workers), cpu)[0] for _ in range(_ROUNDS)) for workers in numbers}
    return audio_seconds / alone, {workers: audio_seconds / seconds for workers, seconds in clock.items()}


def _in_memory(extractor: Extractor, shards: Sequence[Shard]) -> list[tuple[Tensor, Tensor]]:
    """The extraction's batches: (batch, samples) waveforms and (batch,) lengths, on the device."""
    rate = extractor.model.backbone.sample_rate
    found = []
    for shard in shards:
        sounds = waveforms(shard, rate)
        for batch in extractor.batches(shard.clips):
            inputs = torch.nn.utils.rnn.pad_sequence([sounds[position] for position in batch], batch_first=True)
            lengths = torch.tensor([shard.clips[position].samples for position in batch])
            found.append((inputs.to(extractor.device), lengths.to(extractor.device)))
    return found


@torch.inference_mode()
def _bare(backbone: Backbone, batches: Sequence[tuple[Tensor, Tensor]], device: torch.device) -> None:
    for inputs, lengths in batches:
        backbone.encode(inputs, lengths)


def _whole(extractor: Extractor, manifest: Manifest, tracks: Sequence[str], root: Path) -> None:
    FeatureStore(root).extract(extractor, manifest, frames=needs_frames(tracks))


def _phases(
    extractor: Extractor, manifest: Manifest, shards: Sequence[Shard], *, frames: bool, bare: float, root: Path
) -> dict[str, float]:
    """Processor seconds of each part. Other work on the machine changes them less than wall time."""
    model, device = extractor.model, extractor.device
    rate = model.backbone.sample_rate
    seconds = dict.fromkeys(("plan", "decode", "pool", "store"), 0.0)
    for items in manifest.items.values():
        seconds["plan"] += _timed(partial(plan, manifest.task, items, rate, model.min_samples), device)[1]
    directory = root / "phases"
    for shard in shards:
        start = time.process_time()
        clips = decode_clips(shard, rate)
        decoded = time.process_time()
        encoded = extractor.encode(shard.clips, [one.waveform for one in clips], frames=frames)
        computed = time.process_time()
        store(directory, shard, encoded, described(clips))
        seconds["decode"] += decoded - start
        seconds["pool"] += computed - decoded
        seconds["store"] += time.process_time() - computed
    shutil.rmtree(directory)
    seconds["pool"] -= bare
    return seconds


def _timed(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Run and return wall seconds, and processor seconds of all threads."""
    _wait(device)
    wall, processor = time.perf_counter(), time.process_time()
    run()
    _wait(device)
    return time.perf_counter() - wall, time.process_time() - processor


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe(setup: Setup, found: Found) -> str:
    """The tables, and how their numbers were measured."""
    ways = [
        [
            name,
            f"{statistics.median(times.wall):.2f}",
            f"{statistics.median(times.processor):.2f}",
            f"{times.wall_ratio:.3f}",
            f"{times.processor_ratio:.3f}",
        ]
        for name, times in found.ways.items()
    ]
    hidden = found.cores_hidden.items()
    phases = [[name, *(f"{seconds:.2f}" for seconds in parts.values())] for name, parts in found.phases.items()]
    return f"""{table(["way", "wall (s)", "processor (s)", "wall / bare", "processor / bare"], ways)}

{table(["tracks", *(f"{name} (s)" for name in next(iter(found.phases.values())))], phases)}

{setup.model} with random weights; {setup.clips} files of {setup.shortest:g} to {setup.longest:g} s at \
{_NATIVE_RATE / 1000:g} kHz, {found.audio_seconds:.0f} s of audio in {found.passes} passes; \
median of {setup.repetitions} repetitions.
bare: the passes alone, over decoded clips in memory. ta, ta+twa: files in, features on disk, into an empty store.
processor: of all threads; it counts what runs beside the passes in full.
Below: processor seconds of the parts, each by itself; pool is what encoding takes beyond the bare passes.
Decoding: {found.decoded_per_core:.0f} s of audio per second and core; \
{", ".join(f"{speed:.0f} with {workers} threads" for workers, speed in found.decoded.items())}. \
{", ".join(f"{cores} cores hide behind an encoder at {speed:,} times real time" for speed, cores in hidden)}."""


def main() -> int:
    """Run from the command line. Return 1 if the whole takes more than 1.15 times the bare passes."""
    arguments = _parse()
    name = arguments.device if arguments.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    setup = Setup(**{field.name: getattr(arguments, field.name) for field in fields(Setup)})
    with tempfile.TemporaryDirectory() as directory:
        found = measure(setup, device, Path(directory))
    print(describe(setup, found))
    if arguments.json:
        machine = facts(device, shlex.join(["python3", "-m", "benchmarks.extraction", *sys.argv[1:]]))
        content = {"machine": machine, "setup": asdict(setup), **asdict(found)}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")
    slow = [name for name, times in found.ways.items() if times.wall_ratio > _LIMIT]
    if slow:
        print(f"More than {_LIMIT} times the bare passes: {', '.join(slow)}.", file=sys.stderr)
    return 1 if slow else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks.extraction", description=(__doc__ or "").split("\n")[0]
    )
    add = partial(parser.add_argument, metavar="N")
    parser.add_argument("--model", choices=sorted(ALL_MODELS), default="hubert-base", help="backbone (hubert-base)")
    add("--clips", type=count, default=40, help="files (40)")
    add("--shortest", type=float, default=1.0, help="seconds of the shortest (1)")
    add("--longest", type=float, default=10.0, help="seconds of the longest (10)")
    add("--alike", type=count, default=2, help="files of each length (2)")
    add("--repetitions", type=count, default=3, help="how often all is measured (3)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the numbers here")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
