"""Track ``ta``: a linear layer on the mean over frames, which the feature store has already taken."""

from typing import TYPE_CHECKING

from evaluator.probes.head import Head

if TYPE_CHECKING:
    import torch

    from evaluator.probes.heads.ta.linear import TimeAverage, TimeAverages

# Part of the id of every record: raise it with any change of the logits, the gradients or the initial parameters.
VERSION = 1


def make(width: int, classes: int) -> "TimeAverage":
    """Make one head."""
    from evaluator.probes.heads.ta.linear import TimeAverage

    return TimeAverage(width, classes)


def stack(head: Head, width: int, classes: int, device: "torch.device") -> "TimeAverages":
    """Make a stack of heads."""
    from evaluator.probes.heads.ta.linear import TimeAverages

    return TimeAverages(head, width, classes, device)


HEAD = Head(
    name="ta",
    help="mean over frames, then a linear layer",
    needs="vectors",
    version=VERSION,
    make=make,
    stacked=stack,
)
