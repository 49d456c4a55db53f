"""Checks that the passes have not changed the backbone."""

from collections.abc import Iterator, Sequence

import torch

from evaluator.backbone import ready
from evaluator.checks.check import Check, Verdict
from evaluator.checks.sounds import ladder
from evaluator.checks.subject import Subject


def frozen(subject: Subject) -> Verdict:
    """Check after all other passes: no gradients, no training mode, and unchanged weights and buffers."""
    backbone = subject.model.backbone
    stray = next(_strays(backbone), None)
    if stray is not None:
        return "fail", (
            f"{stray} holds a torch module that is not registered in the backbone, so that it is neither frozen, nor"
            " moved to the device, nor in the fingerprint: make the backbone a torch.nn.Module, and a list of modules a"
            " torch.nn.ModuleList."
        )
    if not isinstance(backbone, torch.nn.Module):
        return "note", "the backbone is no torch module: there are no weights to watch"
    wrong = []
    learning = [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]
    if learning:
        wrong.append(f"{_some(learning)} requires a gradient after encode: do not set requires_grad.")
    training = [name or type(backbone).__name__ for name, module in backbone.named_modules() if module.training]
    if training:
        wrong.append(f"{_some(training)} is in training mode: call no train() in encode, and let eval() work.")
    # ``ready`` took this fingerprint before the first pass.
    if ready(backbone, subject.extractor.device).weights_sha256 != subject.model.weights_sha256:
        changed = _changed_by_a_pass(subject, backbone)
        wrong.append(
            f"encode changes {_some(changed) if changed else 'weights or buffers'}: keep running statistics, counters"
            " and weights as they were loaded."
        )
    if wrong:
        return "fail", " ".join(wrong)
    return "pass", "no gradient, no training mode, weights and buffers as they were loaded"


def _strays(backbone: object) -> Iterator[str]:
    """Yield attributes with torch modules that ``modules()`` of the backbone does not list."""
    known = set(backbone.modules()) if isinstance(backbone, torch.nn.Module) else set()
    for holder in (backbone, *(known - {backbone})):
        for name, value in getattr(holder, "__dict__", {}).items():
            parts = value.values() if isinstance(value, dict) else value
            for part in parts if isinstance(value, dict | list | tuple) else (value,):
                if isinstance(part, torch.nn.Module) and part not in known:
                    yield f"{type(holder).__name__}.{name}"


def _changed_by_a_pass(subject: Subject, backbone: torch.nn.Module) -> list[str]:
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    subject.encode(ladder(subject.rate, subject.model.min_samples, True)[:1])
    return [name for name, tensor in backbone.state_dict().items() if not torch.equal(tensor, before[name])]


def _some(names: Sequence[str]) -> str:
    return names[0] + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")


CHECK = Check(
    "`encode` requires gradients, is in training mode, or changes weights or running statistics; or a network is not"
    " part of the module",
    frozen,
    order=100,
)
