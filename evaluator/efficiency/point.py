"""Measure one point of a profile: a forward pass over noise of one length, in a process that does nothing else."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from evaluator.backbone import Backbone, ready
from evaluator.efficiency import operations
from evaluator.efficiency.attention import Forced, forced, implementation
from evaluator.efficiency.memory import gauge

# Part of the id of every profile: raise it when the measurement changes.
VERSION = 1
# Number of passes. There are fewer if they take longer than this many seconds together.
_WARM_UP, _WARM_UP_SECONDS = 3, 10.0
_TIMED, _TIMED_SECONDS, _TIMED_AT_LEAST = 10, 30.0, 3


@dataclass(frozen=True)
class Measurement:
    """The cost of one forward pass.

    Attributes:
        weights_bytes: memory of the backbone before anything runs.
        peak_bytes: on a GPU the peak of the memory that torch's allocator gave to tensors; on a CPU the weights and the
            growth of resident memory. It includes weights, input and outputs. None if it cannot be measured.
        reserved_bytes: the peak of the memory that torch's allocator took from the GPU; None on a CPU.
        latency_seconds: median time of a pass over the batch.
        latency_p90_seconds: 90th percentile of the same times.
        runs: number of timed passes.
        multiply_adds: multiply-adds of one pass; None if they were not counted.
        counted: how they were counted.
        attention: the implementation, and the fused kernels that ran.
    """

    weights_bytes: int
    peak_bytes: int | None
    reserved_bytes: int | None
    latency_seconds: float
    latency_p90_seconds: float
    runs: int
    multiply_adds: int | None
    counted: str
    attention: str


@torch.inference_mode()
def measure_point(
    load: Callable[[], Backbone],
    seconds: float,
    *,
    device: str,
    precision: str = "fp32",
    batch: int = 1,
    attention: Forced | None = None,
    count: bool = True,
) -> Measurement:
    """Load a backbone and run it on noise.

    Args:
        load: makes the backbone on the CPU.
        seconds: length of every clip of the batch.
        device: "cuda" or "cpu".
        precision: "fp32", or "bf16" for autocast.
        batch: clips per pass.
        attention: the kernel that torch's scaled_dot_product_attention must use; None lets torch choose.
        count: also count multiply-adds, in one more pass.
    """
    place = torch.device(device)
    memory = gauge(place)
    model = ready(load(), place)
    memory.loaded(model.backbone)
    samples = max(round(seconds * model.backbone.sample_rate), model.min_samples)
    noise = 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(0)).to(place)
    lengths = torch.full((batch,), samples, device=place)

    def run() -> float:
        start = time.perf_counter()
        model.backbone.encode(noise, lengths)
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        return time.perf_counter() - start

    with torch.autocast(place.type, torch.bfloat16, enabled=precision == "bf16"), forced(attention):
        _repeat(run, _WARM_UP, _WARM_UP_SECONDS, 1)
        memory.begin()
        run()
        peak = memory.end()
        times = _repeat(run, _TIMED, _TIMED_SECONDS, _TIMED_AT_LEAST)
        counts = operations.count(model.backbone, run) if count else None
    kernels = counts.kernels if counts else ""
    ways = implementation(model.backbone, place)
    return Measurement(
        weights_bytes=peak.weights,
        peak_bytes=peak.allocated,
        reserved_bytes=peak.reserved,
        latency_seconds=statistics.median(times),
        latency_p90_seconds=statistics.quantiles(times, n=10, method="inclusive")[-1],
        runs=len(times),
        multiply_adds=counts.multiply_adds if counts else None,
        counted=counts.counted if counts else "",
        attention=f"{ways}: {kernels}" if kernels else ways,
    )


def _repeat(run: Callable[[], float], most: int, seconds: float, least: int) -> list[float]:
    """The times of at most ``most`` passes. It stops after ``seconds``, but runs at least ``least`` passes."""
    times: list[float] = []
    while len(times) < most and (len(times) < least or sum(times) < seconds):
        times.append(run())
    return times
