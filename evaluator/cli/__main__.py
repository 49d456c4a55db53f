"""``python -m evaluator.cli``: the same as the command ``beans``."""

from evaluator.cli import main

main()
