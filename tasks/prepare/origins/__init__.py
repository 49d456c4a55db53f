"""The data sets of BEANS where their authors publish them; one file a data set, each with an ``ORIGIN``."""

import importlib
from typing import cast

from tasks.prepare.source import Origin

MODULES = {
    "bats": "bats",
    "cbi": "cbi",
    "dcase": "dcase",
    "dogs": "dogs",
    "enabirds": "enabirds",
    "esc50": "esc50",
    "hainan-gibbons": "hainan_gibbons",
    "hiceas": "hiceas",
    "humbugdb": "humbugdb",
    "rfcx": "rfcx",
    "speech-commands": "speech_commands",
    "watkins": "watkins",
}


def origin(task: str) -> Origin:
    """The origin of a BEANS task."""
    return cast(Origin, importlib.import_module(f"tasks.prepare.origins.{MODULES[task]}").ORIGIN)
