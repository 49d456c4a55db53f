"""The fresh process that `evaluator.efficiency.fresh.ask` starts: one question as JSON, one answer as JSON.

The questions: ``{"cost": SUBMISSION, "precision": ...}``, ``{"describe": SUBJECT, "device": ..., "precision": ...}``,
``{"where": DEVICE}``, and ``{"measure": SUBJECT, ...}`` with the other arguments of `measure_point`. A subject is
``{"submission": FILE}``, or ``{"loader": ..., "arguments": {...}, "layers": ...}``, which needs no more than torch.
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
from evaluator.backbones import loader
from evaluator.efficiency import attention, measure, memory, point
from evaluator.features.extraction import is_out_of_memory
from tasks.support.errors import UserError


class LastLayer(torch.nn.Module):
    """A model that keeps its last layer alone, as in use after training, where the suite keeps all."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.model = encoder.model
        self.sample_rate: int = encoder.sample_rate
        self.min_samples: int = encoder.min_samples
        self.layers: list[Layer] = encoder.layers[-1:]

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """(batch, samples) to one (batch, frames, width)."""
        last = self.model(waveforms)[0]
        return [last], torch.full_like(lengths, last.shape[1])


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked."""
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
    """What a profile says of a model and a device beside its points. The model is only loaded on the CPU."""
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
        "versions": {"profile": point.VERSION, **model.versions},
        "options": json.dumps(dict(model.options), sort_keys=True, default=str),
        "environment": environment(place, precision).model_dump(mode="json"),
    }


def where(device: torch.device) -> dict[str, Any]:
    """The device in words, what can be taken there, and the versions that memory depends on."""
    said = {"available_bytes": memory.available(device), "versions": versions()}
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device), **said}
    from evaluator.results.environment import device_name

    return {"device": device_name(device), **said}


def versions() -> dict[str, str]:
    """Versions of the packages that run the models, those that are installed."""
    found = {}
    for name in ("torch", "torchaudio", "transformers", "mamba_ssm", "causal_conv1d", "triton"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _load(subject: dict[str, Any]) -> Callable[[], Backbone]:
    if "submission" in subject:
        from evaluator.submission import Submission

        return Submission.read(Path(subject["submission"])).load

    def load() -> Backbone:
        encoder = loader(subject["loader"])(**subject["arguments"])
        return LastLayer(encoder) if subject["layers"] == "last" else encoder

    return load


def main() -> None:
    """Print the answer to the question in the first argument, or the error and its cause."""
    try:
        said: dict[str, Any] = {"answer": answer(json.loads(sys.argv[1]))}
    except UserError as error:
        said = {"error": str(error), "cause": "user"}
    except Exception as error:
        text = " ".join((str(error).strip() or type(error).__name__).split())
        if is_out_of_memory(error):
            said = {"error": text, "cause": "out of memory"}
        else:
            said = {"error": f"{type(error).__name__}: {text}", "cause": "failed"}
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
