"""Compares two passes of one clip."""

from evaluator.checks.check import Check, Verdict
from evaluator.checks.sounds import ladder
from evaluator.checks.subject import FRAMES_APART, Subject, apart, percent

_REPEATABLE_ON_CUDA = 1e-6


def deterministic(subject: Subject) -> Verdict:
    """Compare two passes of one clip."""
    sound = ladder(subject.rate, subject.model.min_samples, subject.short)[0]
    pairs = zip(subject.alone(sound), subject.encode([sound])[0], strict=True)
    differences = [apart(one, other) for one, other in pairs]
    size, index = max((max(difference), index) for index, difference in enumerate(differences))
    subject.steady = size == 0
    if subject.steady:
        return "pass", "two passes of a clip are equal to the bit"
    if subject.extractor.device.type == "cuda":
        # CUDA kernels sum in varying order, and rounding to half precision enlarges a difference in the last bit.
        subject.steady = all(means <= _REPEATABLE_ON_CUDA and frames <= FRAMES_APART for means, frames in differences)
        if subject.steady:
            return "pass", f"two passes of a clip are equal to {_REPEATABLE_ON_CUDA:g} of each layer's scale"
    return "fail", (
        f"Two passes of one clip differ by {percent(size)} in {subject.layer(index)}: turn off what draws random"
        " numbers in encode (dropout, noise, masking), and change nothing in encode that the next pass reads."
    )


CHECK = Check(
    "two passes of one clip differ: dropout, noise, or a state that one pass changes and the next one reads",
    deterministic,
    order=20,
    in_short_form=True,
)
