"""The cost of one 10-s clip, in the form of a record."""

import torch

from evaluator.efficiency import measure_in_fresh_process
from evaluator.results.environment import device_name
from evaluator.submission import Submission
from leaderboard.records.record import Efficiency


def cost(submission: Submission, device: torch.device, precision: str) -> Efficiency:
    """Memory and time of one 10-s clip, measured in a fresh process. Without a GPU, the reason why there are none."""
    name = device_name(device)
    if device.type != "cuda":
        return Efficiency(device=name, reason="no GPU: peak memory is measured on CUDA devices only")
    try:
        measured = measure_in_fresh_process(submission.path, precision)
    except RuntimeError as error:
        return Efficiency(device=name, reason=f"measurement failed: {error}")
    return Efficiency(
        device=measured.device,
        vram_bytes=measured.vram_bytes,
        weights_bytes=measured.weights_bytes,
        seconds=measured.seconds,
    )
