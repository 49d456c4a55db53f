"""Benchmarks of the suite. Each module with a ``main`` is one command, run from the root of the checkout."""
