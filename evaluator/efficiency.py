"""What a backbone costs: peak GPU memory and time of a forward pass, measured in a fresh process."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from evaluator.backbones import Backbone, ready

CLIP_SECONDS = 10.0
_WARM_UP = 3
_TIMED = 10
_TIMEOUT_SECONDS = 900


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
    device = torch.device("cuda")
    before = torch.cuda.memory_allocated(device)
    model = ready(load(), device)
    weights = torch.cuda.memory_allocated(device) - before
    samples = int(clip_seconds * model.backbone.sample_rate)
    noise = torch.randn(1, samples, generator=torch.Generator().manual_seed(0)).to(device) * 0.1
    lengths = torch.tensor([samples], device=device)
    times = []
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
        for _ in range(_WARM_UP):
            model.backbone.encode(noise, lengths)
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        for _ in range(_TIMED):
            start = time.perf_counter()
            model.backbone.encode(noise, lengths)
            torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated(device) - before
    return Cost(torch.cuda.get_device_name(device), peak, weights, statistics.median(times))


def measure_in_fresh_process(submission: Path, precision: str) -> Cost:
    """``measure`` for a submission file, where nothing else has touched the GPU's allocator.

    Raises:
        RuntimeError: the measurement failed; the message is its last line.
    """
    command = [sys.executable, "-m", "evaluator.efficiency", str(submission), precision]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no answer within {_TIMEOUT_SECONDS} s") from error
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1])
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print the cost of a submission file as JSON; the file and the precision are the two arguments."""
    from evaluator.submission import Submission

    submission, precision = Submission.read(Path(sys.argv[1])), sys.argv[2]
    print(json.dumps(asdict(measure(submission.load, precision=precision))))


if __name__ == "__main__":
    main()
