"""Checks that different sounds have different features."""

from itertools import combinations

from evaluator.checks.check import Check, Verdict
from evaluator.checks.sounds import variety
from evaluator.checks.subject import SAME, LayerFeatures, Subject, same_means


def sounds_differ(subject: Subject) -> Verdict:
    """Check that different sounds have different rows, and that no row is constant."""
    names = [sound.name for sound in variety(subject.rate, subject.model.min_samples, False)]
    encoded = {name: subject.encoded[name] for name in names if name in subject.encoded}
    if len(encoded) < 2:
        return "note", "not compared, because fewer than two of the sounds could be encoded"
    for (one, first), (other, second) in combinations(encoded.items(), 2):
        same = [index for index, pair in enumerate(zip(first, second, strict=True)) if same_means(*pair)]
        if same:
            return "fail", (
                f"{one} and {other} have the same features in {subject.listed(same)}:"
                " return what the layer computes from the waveform."
            )
    name, layers = next(iter(encoded.items()))
    flat = [index for index, layer in enumerate(layers) if len(layer.means) > 1 and _is_flat(layer)]
    if flat:
        return "fail", (
            f"Every channel has the same value for {name} in {subject.listed(flat)}:"
            " the layer is dead; check its weights and the scale of its input."
        )
    return "pass", f"{len(encoded)} different sounds have different features in every layer, and no row is constant"


def _is_flat(layer: LayerFeatures) -> bool:
    return float((layer.means - layer.means[0]).abs().max()) <= SAME * float(layer.means.abs().mean())


CHECK = Check(
    "different sounds have the same features in a layer, or all channels have one value",
    sounds_differ,
    order=50,
)
