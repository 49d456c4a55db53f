"""A result as a model that somebody can use."""
