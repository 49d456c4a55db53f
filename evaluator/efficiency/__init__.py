"""What a backbone costs: peak memory, time, parameters and multiply-adds of a forward pass, in a fresh process a point.

Everything here but `cost` and `profiling` needs torch alone, for machines with a GPU and little else.
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
    """Cost of one clip at batch 1 on a CUDA device: bytes of peak allocated memory, of which weights; seconds."""

    device: str
    vram_bytes: int
    weights_bytes: int
    seconds: float


def measure(load: Callable[[], Backbone], clip_seconds: float = CLIP_SECONDS, precision: str = "fp32") -> Cost:
    """Load a backbone onto the GPU and run it on noise. Call it in a process that has done nothing else on the GPU.

    Args:
        load: makes the backbone on the CPU.
        clip_seconds: length of the clip in seconds.
        precision: "fp32", or "bf16" for autocast.
    """
    point = measure_point(load, clip_seconds, device="cuda", precision=precision, count=False)
    assert point.peak_bytes is not None
    return Cost(torch.cuda.get_device_name(), point.peak_bytes, point.weights_bytes, point.latency_seconds)


def measure_in_fresh_process(submission: Path, precision: str) -> Cost:
    """``measure`` for a submission file, where nothing else has touched the GPU's allocator.

    Raises:
        RuntimeError: the measurement failed; the message says how.
    """
    try:
        return Cost(**ask({"cost": str(submission), "precision": precision}, _TIMEOUT_SECONDS))
    except NoAnswerError as error:
        raise RuntimeError(str(error)) from error
