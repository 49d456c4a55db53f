"""Track ``twa``: scores s_t = w.x_t + b, softmax over valid frames, weighted sum, linear layer."""

from evaluator.probes.head import Head, late

# Part of the id of every record: raise it with any change of the logits, the gradients or the initial parameters.
VERSION = 1

HEAD = Head(
    name="twa",
    help="learned weights over frames, then a linear layer",
    needs="frames",
    version=VERSION,
    make=late("evaluator.probes.heads.twa.attention:TimeWeighted"),
    stacked=late("evaluator.probes.heads.twa.attention:TimesWeighted"),
    # At the rate of the linear layer, the softmax over frames soon picks single frames, and training becomes chaotic.
    shares={"attention": 0.03, "attention_bias": 0.03},
)
