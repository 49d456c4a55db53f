"""A real MLflow server, and a client that reads back what was sent."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient

START_SECONDS = 60


@dataclass
class Server:
    """``mlflow server`` in a process group of its own, on a copy of ``database`` where it is given."""

    root: Path
    port: int
    database: Path | None = None
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        log = (self.root / "server.log").open("wb")
        if self.database is not None:
            shutil.copy(self.database, self.root / "server.db")
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
