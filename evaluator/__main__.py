"""``python -m evaluator``: the same as the command ``beans``."""

from evaluator.cli import main

main()
