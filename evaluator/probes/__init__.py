"""Heads, how they are trained and searched, and the metrics that score them."""
