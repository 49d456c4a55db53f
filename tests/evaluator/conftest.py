"""The command line, and one small task or checkpoint of each kind."""

from pathlib import Path

import pytest
from builders import save_checkpoint, write_clips_task, write_submission, write_windows_task


@pytest.fixture
def clips_task(tmp_path: Path) -> Path:
    """A classification task: 4 tones in noise of unequal length and rate, 60 clips. Returns the task file."""
    return write_clips_task(tmp_path / "clips")


@pytest.fixture
def windows_task(tmp_path: Path) -> Path:
    """A detection task: two overlapping kinds of tone in 12-s recordings. Returns the task file."""
    return write_windows_task(tmp_path / "windows")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {kind: save_checkpoint(root / kind, kind) for kind in ("group", "layer")}


@pytest.fixture
def statistics(tmp_path: Path) -> Path:
    """A submission file for the floor at 16 kHz."""
    return write_submission(tmp_path / "statistics.toml", 'loader = "statistics"\nsample_rate = 16000\nbands = 24')
