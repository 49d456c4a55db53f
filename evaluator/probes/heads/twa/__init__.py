"""Track ``twa``: scores s_t = w.x_t + b, softmax over valid frames, weighted sum, linear layer."""

from typing import TYPE_CHECKING

from evaluator.probes.head import Head

if TYPE_CHECKING:
    import torch

    from evaluator.probes.heads.twa.attention import TimesWeighted, TimeWeighted

# Part of the id of every record: raise it with any change of the logits, the gradients or the initial parameters.
VERSION = 1


def make(width: int, classes: int) -> "TimeWeighted":
    """Make one head."""
    from evaluator.probes.heads.twa.attention import TimeWeighted

    return TimeWeighted(width, classes)


def stack(head: Head, width: int, classes: int, device: "torch.device") -> "TimesWeighted":
    """Make a stack of heads."""
    from evaluator.probes.heads.twa.attention import TimesWeighted

    return TimesWeighted(head, width, classes, device)


HEAD = Head(
    name="twa",
    help="learned weights over frames, then a linear layer",
    needs="frames",
    version=VERSION,
    make=make,
    stacked=stack,
    # At the rate of the linear layer, the softmax over frames soon picks single frames, and training becomes chaotic.
    shares={"attention": 0.03, "attention_bias": 0.03},
)
