import os
from pathlib import Path

import pytest

from tasks.prepare import prepare


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with both built-in tasks, shared by the workers of a parallel run, as prepare allows."""
    base = tmp_path_factory.getbasetemp()
    data = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "prepared"
    prepare("mini-calls", data)
    prepare("mini-soundscape", data)
    return data
