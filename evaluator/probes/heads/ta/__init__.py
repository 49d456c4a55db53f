"""Track ``ta``: a linear layer on the mean over frames, which the feature store has already taken."""

from evaluator.probes.head import Head, late

# Part of the id of every record: raise it with any change of the logits, the gradients or the initial parameters.
VERSION = 1

HEAD = Head(
    name="ta",
    help="mean over frames, then a linear layer",
    needs="vectors",
    version=VERSION,
    make=late("evaluator.probes.heads.ta.linear:TimeAverage"),
    stacked=late("evaluator.probes.heads.ta.linear:TimeAverages"),
)
