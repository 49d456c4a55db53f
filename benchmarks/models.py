"""One model of a published size on the GPU, in its own process: the cost of a clip, or the difference to the CPU.

    python3 -m benchmarks.models cost wavlm-large
    python3 -m benchmarks.models profile wavlm-large
    python3 -m benchmarks.models difference wavlm-large
    python3 -m benchmarks.models study --out docs/measurements

Weights are random, since memory, time and rounding do not depend on the training. The output is one JSON object.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from evaluator.backbone import Backbone, ready
from evaluator.backbones import LOADERS
from evaluator.efficiency import CLIP_SECONDS, measure
from evaluator.efficiency.curve import walk
from evaluator.features.clips import Clip
from evaluator.features.cuts import Cut
from evaluator.features.extraction import Extractor
from evaluator.studies.vram import measure as study
from evaluator.studies.vram.report import verdict, write_report
from tasks.sound import Header
from tasks.support.errors import UserError

PROFILE_SECONDS = (1.0, 5.0, 10.0, 30.0, 60.0)
_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}


_SUBJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        name: ("huggingface", {"weights": "random", "architecture": architecture, "config": config})
        for name, architecture, config in (
            ("hubert-base", "hubert", {}),
            ("hubert-large", "hubert", {**_LARGE, "conv_bias": True}),
            ("wavlm-large", "wavlm", _LARGE),
        )
    },
    "aves": ("torchaudio", {"weights": "random", "config": study.AVES}),
    "biomamba": ("biomamba", {"weights": "random"}),
}

MODELS: dict[str, Callable[[], Backbone]] = {
    name: partial(LOADERS.get(kind), **arguments) for name, (kind, arguments) in _SUBJECTS.items()
}
"""Functions that make each model, on the CPU."""


def cost(name: str) -> dict[str, Any]:
    """Peak memory in bytes and median seconds of one clip, batch 1, on the GPU."""
    return asdict(measure(MODELS[name]))


def profile(name: str) -> dict[str, Any]:
    """Memory, time and multiply-adds over clip length, one fresh process per length, measured as by `beans profile`."""
    kind, arguments = _SUBJECTS[name]
    subject = {"loader": kind, "arguments": arguments, "layers": "all"}
    question = {"measure": subject, "device": "cuda", "precision": "fp32", "batch": 1}
    return {"points": list(walk(question, PROFILE_SECONDS, known={}, timeout=study.TIMEOUT))}


def vram(out: Path) -> dict[str, Any]:
    """Run the study of BioMamba's and AVES's memory. It writes to ``out`` and skips points that are already there."""
    path = out / "vram.json"

    def report(what: str, done: float, total: float, unit: str = "") -> None:
        print(f"{what} ({done:g} of {total:g})", file=sys.stderr, flush=True)

    try:
        found = study.run(path, kind="cuda", report=report)
    except UserError:
        # The stored points are of another GPU or of other versions. Replace them, as gpu.json is replaced too.
        found = study.run(path, kind="cuda", again=True, report=report)
    files = [path, *write_report(found, path)]
    failed = [
        f"{line.way.label}, {point['seconds']:g} s: {point['detail']}"
        for line in found.lines
        for point in line.points
        if point["outcome"] == "failed"
    ]
    return {"verdict": verdict(found), "failed": failed, "files": [file.name for file in files]}


def difference(name: str, gpu: str = "cuda") -> dict[str, float]:
    """Largest difference between the features of one clip on the CPU and on the GPU, over all layers.

    It is relative to the root mean square of the layer's features on the CPU. ``pooled`` compares the output of the
    suite's extraction, with the extraction's own settings. ``frames`` and ``frames_tf32`` compare single frames,
    without and with the rounding of convolutions to TensorFloat-32, which is torch's default on a GPU that has it.
    """
    samples = int(CLIP_SECONDS * 16_000)
    noise = 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(0))
    pooled, frames = {}, {}
    for setting, device in (("cpu", "cpu"), ("gpu", gpu)):
        pooled[setting] = _pooled(name, noise, torch.device(device))
    for setting, device, rounded in (("cpu", "cpu", False), ("exact", gpu, False), ("rounded", gpu, True)):
        frames[setting] = _frames(name, noise, torch.device(device), rounded)
    return {
        "pooled": relative(pooled["cpu"], pooled["gpu"]),
        "frames": relative(frames["cpu"], frames["exact"]),
        "frames_tf32": relative(frames["cpu"], frames["rounded"]),
    }


def relative(expected: list[Tensor], found: list[Tensor]) -> float:
    """Largest difference in units of each layer's root mean square."""
    return max(
        float((ours - theirs).abs().max() / ours.square().mean().sqrt())
        for ours, theirs in zip(expected, found, strict=True)
    )


def _pooled(name: str, sound: Tensor, device: torch.device) -> list[Tensor]:
    extractor = Extractor.of(ready(MODELS[name](), device), device)
    samples = len(sound)
    item: Any = SimpleNamespace(path=Path("noise.wav"), id="noise")
    clip = Clip(0, item, Header(extractor.model.backbone.sample_rate, samples), Cut(0, samples, samples), samples)
    encoded = extractor.encode([clip], [sound], frames=False)
    return [layer for block in encoded.pooled for layer in block]


@torch.inference_mode()
def _frames(name: str, sound: Tensor, device: torch.device, rounded: bool) -> list[Tensor]:
    backbone = ready(MODELS[name](), device).backbone
    # Set after `ready`, which turns the rounding off.
    torch.backends.cudnn.allow_tf32 = rounded
    layers, _ = backbone.encode(sound[None].to(device), torch.tensor([len(sound)], device=device))
    return [layer[0].cpu() for layer in layers]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.models", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=["cost", "profile", "difference", "study"])
    parser.add_argument("model", choices=sorted(MODELS), nargs="?", help="all but study need one")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where study writes")
    arguments = parser.parse_args()
    if (arguments.what == "study") != (arguments.model is None):
        parser.error("study takes no model, the others take one")
    if not torch.cuda.is_available():
        sys.exit("benchmarks.models needs a CUDA device, and torch sees none here.")
    if arguments.what == "study":
        print(json.dumps(vram(arguments.out)))
    else:
        asked = {"cost": cost, "profile": profile, "difference": difference}[arguments.what]
        print(json.dumps(asked(arguments.model)))


if __name__ == "__main__":
    main()
