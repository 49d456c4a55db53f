"""Checks whether half precision can hold the values of frames."""

import torch

from evaluator.checks.check import Check, Verdict
from evaluator.checks.subject import HALF_MIN, Subject


def half_precision(subject: Subject) -> Verdict:
    """Note values that half precision cannot hold. Frames are stored in half precision."""
    if subject.too_large is not None:
        return "note", subject.too_large
    largest = 0.0
    for encoded in subject.encoded.values():
        for index, layer in enumerate(encoded):
            if layer.frames is None:
                continue
            largest = max(largest, float(layer.frames.abs().max()))
            scale = float(layer.means.abs().mean())
            if 0 < scale < HALF_MIN and float(layer.frames.abs().max()) < HALF_MIN:
                return "note", (
                    f"values of {subject.layer(index)} are so small ({scale:.1g}) that half precision, in which frames"
                    " are stored, loses digits: scale the layer"
                )
    limit = torch.finfo(torch.float16).max
    return "pass", f"the largest value is {largest:.3g}, and half precision holds up to {limit:.0f}"


CHECK = Check(
    "never: notes values that frames in half precision (tracks that read frames) cannot hold",
    half_precision,
    order=90,
)
