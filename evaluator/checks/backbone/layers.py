"""Checks that layers, widths and hops are as declared."""

from collections.abc import Sequence

from evaluator.checks.check import Check, Verdict
from evaluator.checks.hops import constant_hop, frames
from evaluator.checks.sounds import ladder
from evaluator.checks.subject import Subject


def layers(subject: Subject) -> Verdict:
    """Check the hops and describe the layers. ``Extractor.of`` has compared number and widths with the declaration."""
    sounds = ladder(subject.rate, subject.model.min_samples, subject.short)
    for sound in sounds:
        subject.alone(sound)
    described, bent = [], []
    for block, samples, counts in frames(subject, sounds):
        hop = constant_hop(samples, counts)
        if hop is None:
            pairs = zip(counts, samples, strict=True)
            listed = ", ".join(f"{count} for {length / subject.rate:.2f} s" for count, length in pairs)
            bent.append(f"The frames of {subject.layer(block.layers[0])} keep no constant hop ({listed}):")
            continue
        width = f"{_span(block.layers)} of {block.width} channels"
        # The counts give the hop to about one per cent.
        hopping = f"a frame about every {float(f'{1000 * hop / subject.rate:.2g}'):g} ms" if hop else ""
        described.append(f"{width}, {hopping or f'frames per clip: {counts[0]}'}")
    if bent:
        return "fail", f"{bent[0]} return frame counts that follow from a clip's length and the layer's stride."
    return "pass", f"as declared: {'; '.join(described)}"


def _span(indices: Sequence[int]) -> str:
    if len(indices) == 1:
        return f"layer {indices[0]}"
    if list(indices) == list(range(indices[0], indices[-1] + 1)):
        return f"layers {indices[0]} to {indices[-1]}"
    return f"layers {', '.join(map(str, indices))}"


CHECK = Check(
    "number of layers or widths are not as declared, or frame counts do not follow from a clip's length",
    layers,
    order=10,
    in_short_form=True,
)
