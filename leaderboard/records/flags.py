"""The flags of a result, each with the sentence that readers see."""

from leaderboard.records.record import Reference, Selection

# A probe this far below converged logistic regression on test was not trained well.
UNDERTRAINED = 0.03
# Below this number of recordings, the standard error of an accuracy of 0.8 on validation is above 0.07.
FEW_RECORDINGS = 30

EDGES = {
    "lr-at-lower-edge": "The best learning rate is at the lower edge of the range; a lower rate may be better.",
    "lr-at-upper-edge": "The best learning rate is at the upper edge of the range; a higher rate may be better.",
}
DOUBTS = {
    "undertrained": (
        f"The probe scores more than {UNDERTRAINED:g} below logistic regression on the same layer, so it was not "
        "trained well."
    ),
    "few-validation-recordings": (
        f"Validation has fewer than {FEW_RECORDINGS} recordings, so another layer or learning rate may be as good as "
        "the chosen one."
    ),
}
FLAGS = {**EDGES, **DOUBTS}
"""The sentence of every flag that the suite sets."""


def doubts(test: float, reference: Reference | None, selection: Selection | None) -> list[str]:
    """The flags of a result whose probe was not trained well, or was chosen on few recordings.

    Args:
        test: the result on the test split.
        reference: logistic regression on the chosen layer; None in records of older versions.
        selection: how the probe was chosen; None in records of older versions.
    """
    undertrained = reference is not None and test < reference.test - UNDERTRAINED
    few = selection is not None and selection.recordings < FEW_RECORDINGS
    return [*(["undertrained"] if undertrained else []), *(["few-validation-recordings"] if few else [])]
