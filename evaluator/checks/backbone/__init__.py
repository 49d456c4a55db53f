"""The checks of a backbone: one module per check, which declares a ``CHECK``. The file's name is the check's name."""

from evaluator.checks.check import Check
from tasks.support.registry import Registry

CHECKS = Registry("check", Check, attribute="CHECK", package="evaluator.checks.backbone")
