"""No test reads or writes the home of whoever runs it."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "beans-home"
    monkeypatch.setenv("BEANS_HOME", str(home))
    for name in ("BEANS_DATABASE_URL", "MLFLOW_TRACKING_URI", "OPTUNA_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    # Nothing here may wait for a hub that is not there.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return home
