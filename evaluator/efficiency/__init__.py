"""The cost of a forward pass: peak memory, time, parameters and multiply-adds, in one fresh process per point.

All modules here except `cost` and `profiling` need only torch, so that they run on a bare GPU machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from evaluator.backbone import Backbone
from evaluator.efficiency.fresh import NoAnswerError, ask
from evaluator.efficiency.point import measure_point

CLIP_SECONDS = 10.0
_TIMEOUT_SECONDS = 900.0


@dataclass(frozen=True)
class Cost:
    """Cost of one clip at batch 1 on a CUDA device: peak allocated bytes, bytes of the weights in it, and seconds."""

    device: str
    vram_bytes: int
    weights_bytes: int
    seconds: float


def measure(load: Callable[[], Backbone], clip_seconds: float = CLIP_SECONDS, precision: str = "fp32") -> Cost:
    """Load a backbone onto the GPU and run it on noise. Call this in a process that has not used the GPU before.

    Args:
        load: makes the backbone on the CPU.
        clip_seconds: length of the clip in seconds.
        precision: "fp32", or "bf16" for autocast.
    """
    point = measure_point(load, clip_seconds, device="cuda", precision=precision, count=False)
    assert point.peak_bytes is not None
    return Cost(torch.cuda.get_device_name(), point.peak_bytes, point.weights_bytes, point.latency_seconds)


def measure_in_fresh_process(submission: Path, precision: str) -> Cost:
    """``measure`` for a submission file, in a fresh process, where nothing else has used the GPU's allocator.

    Raises:
        RuntimeError: the measurement failed; the message gives the reason.
    """
    try:
        return Cost(**ask({"cost": str(submission), "precision": precision}, _TIMEOUT_SECONDS))
    except NoAnswerError as error:
        raise RuntimeError(str(error)) from error
