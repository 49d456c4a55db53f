"""The suite from Python: what `from evaluator import ...` offers to notebooks."""
