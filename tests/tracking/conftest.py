"""A real MLflow server and a plain SQLite database, and a client that reads back what was sent."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mlflow import MlflowClient
from ports import free_port

START_SECONDS = 60


@dataclass
class Server:
    """``mlflow server`` in a process group of its own."""

    root: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        log = (self.root / "server.log").open("wb")
        options = {
            "--backend-store-uri": f"sqlite:///{self.root / 'server.db'}",
            "--artifacts-destination": str(self.root / "artifacts"),
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--workers": "1",
        }
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        arguments = [word for option in options.items() for word in option]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *arguments],
            stdout=log,
            stderr=log,
            env={**os.environ, **quiet},
            cwd=self.root,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"mlflow server did not start:\n{(self.root / 'server.log').read_text()}")
            time.sleep(0.2)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def stop(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()

    def _answers(self) -> bool:
        try:
            return urllib.request.urlopen(f"{self.uri}/health", timeout=2).status == 200
        except (urllib.error.URLError, OSError):
            return False


@dataclass(frozen=True)
class Store:
    """Somewhere to send records to."""

    uri: str
    artifacts: Path

    @property
    def client(self) -> MlflowClient:
        """To read back with what was sent."""
        return MlflowClient(tracking_uri=self.uri)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, made once: making them takes longer than all that a test does with them."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments(max_results=1)
    return path


@pytest.fixture
def sqlite_store(empty_database: Path, tmp_path: Path) -> Store:
    database = tmp_path / "home" / "mlflow.db"
    database.parent.mkdir()
    shutil.copy(empty_database, database)
    return Store(f"sqlite:///{database}", tmp_path / "home" / "mlartifacts")


@pytest.fixture
def server_store(server: Server, tmp_path: Path) -> Store:
    return Store(server.uri, tmp_path / "home" / "mlartifacts")


@pytest.fixture(params=["sqlite", "server"])
def store(request: pytest.FixtureRequest) -> Store:
    """Every test that takes this runs against a plain database and against a server."""
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return tmp_path / "home" / "records"


@pytest.fixture
def protocol(request: pytest.FixtureRequest) -> str:
    """An experiment of the test's own: the server is shared."""
    return f"beans-probe/1+test={request.node.name}"
