"""Checks of what the features are: a verdict, and one sentence with what was found and what to do about it."""

from collections.abc import Sequence
from itertools import combinations

import torch

from evaluator.checks.sounds import changing, ladder, variety
from evaluator.checks.subject import FRAMES_APART, HALF_MIN, Features, Subject, Verdict
from tasks.support.errors import UserError

_SAME = 1e-5


def finite(subject: Subject, short: bool) -> Verdict:
    """Silence, and a square wave at full scale, beside ordinary sounds."""
    wrong = []
    sounds = variety(subject.rate, subject.model.min_samples, short)
    for sound in sounds:
        try:
            subject.alone(sound)
        except UserError as error:
            wrong.append(str(error))
    if wrong:
        return "fail", (
            f"{' '.join(wrong)} Recordings hold silence and clipping: put a floor under what encode divides by or takes"
            " the logarithm of."
        )
    return "pass", "no NaN or infinity for " + ", ".join(sound.name for sound in sounds)


def sounds_differ(subject: Subject) -> Verdict:
    """No two different sounds have one row, and no row is one value over and over."""
    names = [sound.name for sound in variety(subject.rate, subject.model.min_samples, False)]
    heard = {name: subject.heard[name] for name in names if name in subject.heard}
    if len(heard) < 2:
        return "note", "not compared, because fewer than two of the sounds could be encoded"
    for (one, first), (other, second) in combinations(heard.items(), 2):
        same = [index for index, pair in enumerate(zip(first, second, strict=True)) if _equal_means(*pair)]
        if same:
            return "fail", (
                f"{one} and {other} have the same features in {_listed(subject, same)}:"
                " return what the layer computes from the waveform."
            )
    name, layers = next(iter(heard.items()))
    flat = [index for index, layer in enumerate(layers) if len(layer.means) > 1 and _is_flat(layer)]
    if flat:
        return "fail", (
            f"Every channel has the same value for {name} in {_listed(subject, flat)}:"
            " the layer is dead; check its weights and the scale of its input."
        )
    return "pass", f"{len(heard)} different sounds have different features in every layer, and no row is constant"


def layers_differ(subject: Subject) -> Verdict:
    """No layer is listed twice."""
    heard = [subject.alone(sound) for sound in ladder(subject.rate, subject.model.min_samples, True)]
    same = [
        (one, other)
        for block in subject.extractor.blocks
        for one, other in combinations(block.layers, 2)
        if all(_equal_means(layers[one], layers[other]) for layers in heard)
    ]
    if same:
        one, other = same[0]
        more = f" (and {len(same) - 1} more pairs)" if len(same) > 1 else ""
        return "fail", (
            f"The outputs of {subject.layer(one)} and {subject.layer(other)} are the same{more}: return every layer's"
            " own output; a list that a tensor is appended to before it is changed in place holds it twice."
        )
    return "pass", "no two layers are the same"


def frames_change(subject: Subject) -> Verdict:
    """Frames follow a sound that changes in at least one layer; a layer may repeat a token that sums up the clip."""
    sound = changing(subject.rate, subject.model.min_samples)
    rows = {
        index: layer.frames.float()
        for index, layer in enumerate(subject.alone(sound))
        if layer.frames is not None and layer.count > 1
    }
    if not rows:
        return "note", "no layer has several frames to compare: where there is one frame, it is the mean over frames"
    still = [
        index
        for index, frames in rows.items()
        if float((frames - frames[:1]).abs().max()) <= FRAMES_APART * float(frames.abs().mean())
    ]
    if not still:
        return "pass", "frames change with the sound"
    if len(still) < len(rows):
        return (
            "note",
            f"frames are the same over time in {_listed(subject, still)}: they are their mean there",
        )
    return "fail", (
        f"No layer's frames change over time for {sound.name}: return frames as they are before they are averaged,"
        " or one frame where there is only one."
    )


def half_precision(subject: Subject) -> Verdict:
    """Tracks that read frames get them in half precision."""
    if subject.too_large is not None:
        return "note", subject.too_large
    largest = 0.0
    for heard in subject.heard.values():
        for index, layer in enumerate(heard):
            if layer.frames is None:
                continue
            largest = max(largest, float(layer.frames.abs().max()))
            scale = float(layer.means.abs().mean())
            if 0 < scale < HALF_MIN and float(layer.frames.abs().max()) < HALF_MIN:
                return "note", (
                    f"values of {subject.layer(index)} are so small ({scale:.1g}) that half precision, in which frames"
                    " are kept, blurs them: scale the layer"
                )
    limit = torch.finfo(torch.float16).max
    return "pass", f"the largest value is {largest:.3g}, and half precision holds up to {limit:.0f}"


def _equal_means(one: Features, other: Features) -> bool:
    return float((one.means - other.means).abs().max()) <= _SAME * float(one.means.abs().mean())


def _is_flat(layer: Features) -> bool:
    return float((layer.means - layer.means[0]).abs().max()) <= _SAME * float(layer.means.abs().mean())


def _listed(subject: Subject, indices: Sequence[int]) -> str:
    return subject.layer(indices[0]) + (f" and {len(indices) - 1} more" if len(indices) > 1 else "")
