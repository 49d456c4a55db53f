"""The charts of the pages. The meaning of a line never depends on its colour alone."""

from leaderboard.web.charts.classes import class_bars, confusions
from leaderboard.web.charts.costs import cost_chart
from leaderboard.web.charts.layers import SHADED, layer_curve, layer_curves, layer_outline
from leaderboard.web.charts.rates import rate_curve

__all__ = [
    "SHADED",
    "class_bars",
    "confusions",
    "cost_chart",
    "layer_curve",
    "layer_curves",
    "layer_outline",
    "rate_curve",
]
