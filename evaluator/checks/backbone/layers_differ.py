"""Searches for equal layers."""

from itertools import combinations

from evaluator.checks.check import Check, Verdict
from evaluator.checks.sounds import ladder
from evaluator.checks.subject import Subject, same_means


def layers_differ(subject: Subject) -> Verdict:
    """Check that no two layers have equal features."""
    encoded = [subject.alone(sound) for sound in ladder(subject.rate, subject.model.min_samples, True)]
    same = [
        (one, other)
        for block in subject.extractor.blocks
        for one, other in combinations(block.layers, 2)
        if all(same_means(layers[one], layers[other]) for layers in encoded)
    ]
    if same:
        one, other = same[0]
        more = f" (and {len(same) - 1} more pairs)" if len(same) > 1 else ""
        return "fail", (
            f"The outputs of {subject.layer(one)} and {subject.layer(other)} are the same{more}: return every layer's"
            " own output. A tensor that is changed in place after it was appended to a list appears there twice."
        )
    return "pass", "no two layers are the same"


CHECK = Check(
    "two layers are the same",
    layers_differ,
    order=60,
)
