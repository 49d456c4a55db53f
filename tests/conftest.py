"""No test reads or writes the home of whoever runs it."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# A suite that was started in the background has Ctrl-C ignored, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Nothing here may wait for a hub that is not there, or tell MLflow's makers; libraries read both when first imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "beans-home"
    monkeypatch.setenv("BEANS_HOME", str(home))
    # Streamlit's AppTest leaves the page's script there, which a process of multiprocessing's would run.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    for name in ("BEANS_DATABASE_URL", "MLFLOW_TRACKING_URI", "OPTUNA_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, made once: making them takes longer than all that a test does with them."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments(max_results=1)
    return path


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with both built-in tasks, shared by the workers of a parallel run, as prepare allows."""
    from tasks.prepare import prepare

    base = tmp_path_factory.getbasetemp()
    data = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "prepared"
    prepare("mini-calls", data)
    prepare("mini-soundscape", data)
    return data


@pytest.fixture
def beans(
    own_home: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: exit code, stdout, stderr.

    The first command that may send something to MLflow finds its tables made, as all but the first in a home do.
    """
    from evaluator.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        database = own_home / "mlflow.db"
        if arguments[:1] in (("submit",), ("profile",)) and not database.exists():
            database.parent.mkdir(exist_ok=True)
            shutil.copy(request.getfixturevalue("empty_database"), database)
        monkeypatch.setattr(sys, "argv", ["beans", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        output = capfd.readouterr()
        return code, output.out, output.err

    return run
