"""The whole sweep (layers x learning rates x epochs) against one probe after another, and against one forward pass.

    python3 -m benchmarks.sweep --track ta,twa --json sweep.json

Features are synthetic, so that only arithmetic is measured. Early stopping is off: all ways train the same epochs. The
three ways take turns within one run, so that a slow moment of the machine affects all of them.
"""

import argparse
import json
import math
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from benchmarks.alone import train_alone
from benchmarks.report import count, facts, table
from benchmarks.synthetic import SyntheticTask
from evaluator.backbone import Backbone, ready
from evaluator.backbones import huggingface
from evaluator.probes.automatic import stack_of
from evaluator.probes.fit import fit
from evaluator.probes.heads import HEADS
from leaderboard.records.protocol import Protocol

_SEED = 0
_SAMPLE_RATE = 16_000
# HuBERT's convolutions make one frame per 320 samples and need 400 samples for the first.
_HOP, _RECEPTIVE_FIELD = 320, 400
# Seconds of audio per forward pass, as in the batches of the suite's extraction.
_BATCH_SECONDS = {"cpu": 16.0, "cuda": 320.0}
# Rounding may change the prediction of an item near a decision boundary. A real disagreement is far larger.
_TOLERANCE = 0.02
# Above this rate training is chaotic: a difference in the last digit doubles every few steps. The curves of a probe
# trained together with others and alone then diverge, in double precision too, but later.
_STEADY_RATE = 1.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Setup:
    """The probes and the data of a benchmark.

    Attributes:
        train, valid: number of clips of the two splits.
        classes: number of classes.
        layers: number of layers.
        width: channels per layer.
        rates: number of learning rates, evenly spaced over the logarithm of the search's range.
        rates_at_once: number of rates that are trained together.
        epochs: exact number of passes over the train split.
        seconds: length of every clip.
        alone: number of probes that are trained one by one, evenly spread over layers and rates.
        forward_clips: number of clips that the backbone encodes.
        repetitions: number of measurements of each way.
    """

    train: int
    valid: int
    classes: int
    layers: int
    width: int
    rates: int
    rates_at_once: int
    epochs: int
    seconds: float
    alone: int
    forward_clips: int
    repetitions: int

    @property
    def samples(self) -> int:
        """Samples of one clip."""
        return round(self.seconds * _SAMPLE_RATE)

    @property
    def protocol(self) -> Protocol:
        """The rules."""
        return Protocol(epochs=self.epochs)

    @property
    def learning_rates(self) -> Tensor:
        """(rates,) in float64."""
        low, high = math.log10(self.protocol.lr_low), math.log10(self.protocol.lr_high)
        return 10 ** torch.linspace(low, high, self.rates, dtype=torch.float64)

    @property
    def sampled(self) -> list[tuple[int, int]]:
        """(layer, rate) indices of the probes that are trained one by one."""
        flat = torch.linspace(0, self.layers * self.rates - 1, self.alone).round().int().tolist()
        return [divmod(position, self.rates) for position in flat]

    def task(self, track: str, device: torch.device) -> SyntheticTask:
        """Make the features for a track."""
        frames = (self.samples - _RECEPTIVE_FIELD) // _HOP + 1
        return SyntheticTask(
            train=self.train,
            valid=self.valid,
            classes=self.classes,
            layers=self.layers,
            width=self.width,
            frames=frames if HEADS.get(track).reads_frames else None,
            device=device,
        )


@dataclass(frozen=True)
class Comparison:
    """Seconds of the three ways for the whole sweep, one entry per repetition, and ratios of their medians.

    Attributes:
        steady_difference: largest difference in validation accuracy between the same probe trained with others and
            alone, over sampled rates up to 1.
        largest_difference: the same, over all sampled rates.
    """

    track: str
    batched_seconds: list[float]
    one_by_one_seconds: list[float]
    forward_seconds: list[float]
    batched_over_one_by_one: float
    batched_over_forward: float
    steady_difference: float
    largest_difference: float


def compare(setup: Setup, track: str, device: torch.device) -> Comparison:
    """Measure the three ways in turns, and compare probes trained together and alone."""
    backbone = ready(huggingface.load(weights="random", architecture="hubert"), device).backbone
    # A first small run without timing starts the threads and chooses the kernels.
    small = replace(setup, train=64, valid=64, epochs=1, alone=1, forward_clips=2)
    _measure(small, track, small.task(track, device), backbone)
    task = setup.task(track, device)
    rounds = [_measure(setup, track, task, backbone) for _ in range(setup.repetitions)]
    batched, one_by_one, forward = ([seconds[way] for seconds, _ in rounds] for way in range(3))
    difference = rounds[-1][1]
    steady = [probe for probe, (_, rate) in enumerate(setup.sampled) if setup.learning_rates[rate] <= _STEADY_RATE]
    return Comparison(
        track=track,
        batched_seconds=batched,
        one_by_one_seconds=one_by_one,
        forward_seconds=forward,
        batched_over_one_by_one=statistics.median(batched) / statistics.median(one_by_one),
        batched_over_forward=statistics.median(batched) / statistics.median(forward),
        steady_difference=float(difference[steady].max()) if steady else 0.0,
        largest_difference=float(difference.max()),
    )


def _measure(
    setup: Setup, track: str, task: SyntheticTask, backbone: Backbone
) -> tuple[tuple[float, float, float], Tensor]:
    """One turn: seconds of the three ways, scaled to the whole sweep, and (alone,) differences of the scores."""
    batched, scores = _timed(partial(_batched, setup, track, task), task.device)
    together = torch.stack([scores[layer, rate] for layer, rate in setup.sampled])
    one_by_one, singles = _one_by_one(setup, track, task)
    forward = _forward(setup, backbone, task.device)
    seconds = (
        batched,
        one_by_one * setup.layers * setup.rates / setup.alone,
        forward * (setup.train + setup.valid) / setup.forward_clips,
    )
    return seconds, (together - singles).abs()


def _batched(setup: Setup, track: str, task: SyntheticTask) -> Tensor:
    """Train all probes as the suite does, and return (layers, rates) validation accuracies."""
    stack = stack_of(HEADS.get(track), setup.width, setup.classes, task.device)
    fits = [
        fit(
            stack,
            task.stacked("train"),
            task.stacked("valid"),
            metric="accuracy",
            rates=rates.tolist(),
            seeds=(_SEED,),
            protocol=setup.protocol,
        )
        for rates in torch.split(setup.learning_rates, setup.rates_at_once)
    ]
    return torch.cat([found.valid[-1, :, 0] for found in fits], dim=1)


def _one_by_one(setup: Setup, track: str, task: SyntheticTask) -> tuple[float, Tensor]:
    """Seconds for the sampled probes, and their (alone,) validation accuracies."""
    seconds, scores = 0.0, []
    for layer, rate in setup.sampled:
        run = partial(
            train_alone,
            track,
            # Not timed: the one-by-one way gets its layer in single precision on the device at no cost.
            task.single("train", layer),
            task.single("valid", layer),
            classes=setup.classes,
            layer=layer,
            seed=_SEED,
            lr=float(setup.learning_rates[rate]),
            protocol=setup.protocol,
        )
        spent, score = _timed(run, task.device)
        seconds += spent
        scores.append(score)
    return seconds, torch.stack(scores)


@torch.inference_mode()
def _forward(setup: Setup, backbone: Backbone, device: torch.device) -> float:
    """Seconds of a forward pass over ``forward_clips`` clips of noise in the device's memory."""
    batch = max(1, int(_BATCH_SECONDS[device.type] / setup.seconds))
    noise = torch.randn(setup.forward_clips, setup.samples, generator=torch.Generator().manual_seed(_SEED)).to(device)

    def run() -> None:
        for clips in torch.split(noise, batch):
            backbone.encode(clips, torch.full((len(clips),), setup.samples, device=device))

    return _timed(run, device)[0]


def _timed(run: Callable[[], Result], device: torch.device) -> tuple[float, Result]:
    _wait(device)
    start = time.perf_counter()
    result = run()
    _wait(device)
    return time.perf_counter() - start, result


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe(setup: Setup, found: Sequence[Comparison]) -> str:
    """The table, and how its numbers were measured."""
    header = ["track", "batched (s)", "one by one (s)", "forward (s)"]
    header += ["batched / one by one", "batched / forward", "difference"]
    rows = [
        [
            entry.track,
            *(
                f"{statistics.median(seconds):.2f}"
                for seconds in (entry.batched_seconds, entry.one_by_one_seconds, entry.forward_seconds)
            ),
            f"{entry.batched_over_one_by_one:.4f}",
            f"{entry.batched_over_forward:.4f}",
            f"{entry.steady_difference:.4f} ({entry.largest_difference:.4f})",
        ]
        for entry in found
    ]
    return f"""{table(header, rows)}

{setup.layers} layers x {setup.rates} rates x {setup.epochs} epochs, width {setup.width}, {setup.classes} classes; \
{setup.train} train and {setup.valid} valid clips of {setup.seconds:g} s; median of {setup.repetitions} repetitions.
batched: all layers and {setup.rates_at_once} rates at once, as the search asks for them.
one by one: measured on {setup.alone} of {setup.layers * setup.rates} probes and scaled up.
forward: one pass of a random HuBERT-base, on {setup.forward_clips} of {setup.train + setup.valid} clips and scaled.
difference: the largest in validation accuracy, between the same probe trained with the others and alone;
first for learning rates up to {_STEADY_RATE:g}, then for all, of which the highest may make training chaotic."""


def main() -> int:
    """Run from the command line. Return 1 if probes trained together and alone disagree."""
    arguments = _parse()
    name = arguments.device if arguments.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    setup = Setup(**{field.name: getattr(arguments, field.name) for field in fields(Setup)})
    found = [compare(setup, track, device) for track in arguments.track]
    print(describe(setup, found))
    if arguments.json:
        machine = facts(device, shlex.join(["python3", "-m", "benchmarks.sweep", *sys.argv[1:]]))
        content = {"machine": machine, "setup": asdict(setup), "tracks": [asdict(entry) for entry in found]}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")
    # With few items, a single item may exceed the tolerance.
    allowed = max(_TOLERANCE, 1.5 / setup.valid)
    apart = [entry.track for entry in found if entry.steady_difference > allowed]
    if apart:
        print(f"Probes trained together and alone disagree on {', '.join(apart)}.", file=sys.stderr)
    return 1 if apart else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.sweep", description=(__doc__ or "").split("\n")[0])
    add = partial(parser.add_argument, metavar="N")
    parser.add_argument("--track", type=_tracks, default=["ta"], help="separated by commas (ta)")
    add("--train", type=count, default=512, help="clips of the train split (512)")
    add("--valid", type=count, default=128, help="clips of the validation split (128)")
    add("--classes", type=count, default=32, help="classes (32)")
    add("--layers", type=count, default=13, help="layers (13)")
    add("--width", type=count, default=768, help="channels of a layer (768)")
    add("--rates", type=count, default=16, help="learning rates (16)")
    add("--rates-at-once", type=count, default=8, help="rates trained together (8, as the search asks for them)")
    add("--epochs", type=count, default=100, help="epochs (100)")
    add("--seconds", type=float, default=3.0, help="length of every clip in seconds (3)")
    add("--alone", type=count, default=6, help="probes trained one by one, of all (6)")
    add("--forward-clips", type=count, default=40, help="clips the backbone hears, of all (40)")
    add("--repetitions", type=count, default=3, help="how often all is measured (3)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the numbers here")
    return parser.parse_args()


def _tracks(value: str) -> list[str]:
    tracks = value.split(",")
    if unknown := set(tracks) - set(HEADS.names()):
        known = ", ".join(HEADS.names())
        raise argparse.ArgumentTypeError(f"unknown track {', '.join(sorted(unknown))}: choose from {known}")
    return tracks


if __name__ == "__main__":
    sys.exit(main())
