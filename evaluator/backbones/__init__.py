"""Loaders: one module or folder for each family of encoders.

A loader is a module with ``load(**arguments)``. It takes the keys of a submission's ``[submission]`` table and returns
a `Backbone`.
"""

import importlib
from collections.abc import Callable
from typing import cast

from evaluator.backbone import Backbone

LOADERS = ("biomamba", "espnet", "features", "huggingface", "python", "statistics", "torchaudio")
# Loaders whose module has another name.
_MODULES = {"features": "embeddings"}


def loader(name: str) -> Callable[..., Backbone]:
    """The ``load`` function of the module called ``name``, which is one of ``LOADERS``."""
    module = importlib.import_module(f"evaluator.backbones.{_MODULES.get(name, name)}")
    return cast(Callable[..., Backbone], module.load)
