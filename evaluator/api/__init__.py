"""The Python interface of the suite, for notebooks. `evaluator` exports its functions."""
