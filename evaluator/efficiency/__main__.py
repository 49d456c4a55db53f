"""The fresh process that `evaluator.efficiency.fresh.ask` starts. It reads one question and writes one answer, as JSON.

The questions: ``{"cost": SUBMISSION, "precision": ...}``, ``{"describe": SUBJECT, "device": ..., "precision": ...}``,
``{"where": DEVICE}``, and ``{"measure": SUBJECT, ...}`` with the other arguments of `measure_point`. A subject is
``{"submission": FILE}``, or ``{"loader": ..., "arguments": {...}, "layers": ...}``, which needs only torch.
"""

import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evaluator.backbone import Backbone, Layer, ready
from evaluator.backbones import LOADERS
from evaluator.efficiency import attention, measure, memory, point
from evaluator.features.forward import is_out_of_memory
from tasks.support.errors import UserError


class LastLayer(torch.nn.Module):
    """A model that returns only its last layer, as in use after training. The suite itself reads all layers."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.model = encoder.model
        self.sample_rate: int = encoder.sample_rate
        self.min_samples: int = encoder.min_samples
        self.layers: list[Layer] = encoder.layers[-1:]

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Encode (batch, samples) to one layer of (batch, frames, width)."""
        last = self.model(waveforms)[0]
        return [last], torch.full_like(lengths, last.shape[1])


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Answer one question; see the module for the kinds of questions."""
    question = dict(question)
    if "cost" in question:
        return asdict(measure(_load({"submission": question["cost"]}), precision=question["precision"]))
    if "describe" in question:
        return describe(question["describe"], question["device"], question["precision"])
    if "where" in question:
        return where(torch.device(question["where"]))
    subject = question.pop("measure")
    return asdict(point.measure_point(_load(subject), **question))


def describe(subject: dict[str, Any], device: str, precision: str) -> dict[str, Any]:
    """The fields of a profile that describe model and device. The model is loaded on the CPU and not run."""
    from evaluator.results.environment import describe as environment

    place = torch.device(device)
    free = memory.available(place)
    model = ready(_load(subject)())
    return {
        "weights_sha256": model.weights_sha256,
        "parameters": model.parameters,
        "sample_rate": model.backbone.sample_rate,
        "attention": attention.implementation(model.backbone, place),
        "available_bytes": free,
        "versions": {"profile": point.VERSION, "backbone": dict(model.versions)},
        "options": json.dumps(dict(model.options), sort_keys=True, default=str),
        "environment": environment(place, precision).model_dump(mode="json"),
    }


def where(device: torch.device) -> dict[str, Any]:
    """Name of the device, its available memory, and the versions of the packages that memory depends on."""
    facts = {"available_bytes": memory.available(device), "versions": versions()}
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device), **facts}
    from evaluator.results.environment import device_name

    return {"device": device_name(device), **facts}


def versions() -> dict[str, str]:
    """Versions of the installed packages that run the models."""
    installed = {}
    for name in ("torch", "torchaudio", "transformers", "mamba_ssm", "causal_conv1d", "triton"):
        with contextlib.suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed


def _load(subject: dict[str, Any]) -> Callable[[], Backbone]:
    if "submission" in subject:
        from evaluator.submission import Submission

        return Submission.read(Path(subject["submission"])).load

    def load() -> Backbone:
        encoder = LOADERS.get(subject["loader"])(**subject["arguments"])
        return LastLayer(encoder) if subject["layers"] == "last" else encoder

    return load


def main() -> None:
    """Print the answer to the question in the first argument, or the error and its cause."""
    try:
        reply: dict[str, Any] = {"answer": answer(json.loads(sys.argv[1]))}
    except UserError as error:
        reply = {"error": str(error), "cause": "user"}
    except Exception as error:
        text = " ".join((str(error).strip() or type(error).__name__).split())
        if is_out_of_memory(error):
            reply = {"error": text, "cause": "out of memory"}
        else:
            reply = {"error": f"{type(error).__name__}: {text}", "cause": "failed"}
    print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
