"""docker-compose.yml read as Compose reads it, and its services run on this machine without containers."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$\{([A-Z_]+):\?[^}]*\}")
START_SECONDS = 120
# What Docker waits between the two signals.
STOP_SECONDS = 10
# Where the compose file has a service listen.
PORTS = {"postgres": "5432", "mlflow": "5000", "leaderboard": "8501"}


def read() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return content


def example() -> dict[str, str]:
    """The variables of .env.example with the values it gives them."""
    lines = (line.strip() for line in (ROOT / ".env.example").read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """``value`` with every ``${NAME:?...}`` replaced; a variable that is empty or unset stops Compose, and this."""
    if isinstance(value, dict):
        return {key: interpolated(one, variables) for key, one in value.items()}
    if isinstance(value, list):
        return [interpolated(one, variables) for one in value]
    if not isinstance(value, str):
        return value
    return VARIABLE.sub(lambda found: variables[found[1]] or sys.exit(f"{found[1]} is empty"), value)


def postgres_programs() -> Path | None:
    """Where initdb lies; Debian keeps it off the path."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((place for place in reversed(places) if (place / "initdb").exists()), None)


@dataclass
class Machine:
    """This machine in place of the containers: a port for each service, a directory for each place in a container."""

    services: dict[str, Any]
    ports: dict[str, int]
    root: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def place(self, inside: str) -> Path:
        """The directory here that stands for the volume mounted at ``inside``."""
        path = self.root / "volumes" / self._mounts()[inside]
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _mounts(self) -> dict[str, str]:
        """What lies at which place inside: a volume's name, or a file of the repository."""
        mounts = [volume.split(":") for service in self.services.values() for volume in service.get("volumes", ())]
        return {inside: outside.strip("./").replace("/", "_") for outside, inside, *_ in mounts}

    def here(self, text: str) -> str:
        """An argument or value with ports, hosts and places as they are on this machine."""
        for service, port in PORTS.items():
            actual = f"127.0.0.1:{self.ports[service]}"
            text = text.replace(f"@{service}:{port}", f"@{actual}").replace(f"127.0.0.1:{port}", actual)
            text = re.sub(rf"(?<![a-z.-]){service}:{port}\b", actual, text)
            text = str(self.ports[service]) if text == port else text
        for inside in sorted(self._mounts(), key=len, reverse=True):
            if text == inside or text.startswith(f"{inside}/"):
                text = str(self.place(inside)) + text.removeprefix(inside)
        return "127.0.0.1" if text == "0.0.0.0" else text

    def environment(self, service: str) -> dict[str, str]:
        """All that a container of the service would see, and nothing of whoever runs the tests."""
        image = dict(re.findall(r"\b([A-Z_]+)=(/\S+)", (ROOT / "Dockerfile").read_text()))
        given = {**image, **self.services[service].get("environment", {})}
        programs = os.pathsep.join([str(Path(sys.executable).parent), *os.environ["PATH"].split(os.pathsep)])
        home = self.root / "user"
        home.mkdir(exist_ok=True)
        offline = {"HF_HUB_OFFLINE": "1"}
        return {
            "PATH": programs,
            "HOME": str(home),
            **offline,
            **{key: self.here(value) for key, value in given.items()},
        }

    def command(self, service: str, *arguments: str) -> list[str]:
        """What a container of the service would run, given ``arguments`` in place of its command if there are any."""
        entry = self.services[service].get("entrypoint", [])
        return [self.here(word) for word in (*entry, *(arguments or self.services[service]["command"]))]

    def run(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in a container of the service."""
        words = [self.here(word) for word in command]
        workplace = self.root / "work"
        workplace.mkdir(exist_ok=True)
        return subprocess.run(
            words, env=self.environment(service), cwd=workplace, capture_output=True, text=True, check=False
        )

    def start(self, service: str) -> None:
        log = (self.root / f"{service}.log").open("wb")
        self.running[service] = subprocess.Popen(
            self.command(service),
            env=self.environment(service),
            cwd=self.root,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def is_healthy(self, service: str) -> bool:
        """Whether the service's own health check says so."""
        kind, *words = self.services[service]["healthcheck"]["test"]
        assert kind == "CMD"
        return self.run(service, *words).returncode == 0

    def listens(self, service: str) -> bool:
        """Whether anything answers at the service's port."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.ports[service])) == 0

    def wait(self, service: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        # The health check is a program of its own, which takes time from the service that is starting.
        while not (self.listens(service) and self.is_healthy(service)):
            if self.running[service].poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{service} did not start:\n{(self.root / f'{service}.log').read_text()}")
            time.sleep(0.3)

    def stop(self) -> dict[str, int]:
        """As `docker compose stop` does: SIGTERM, and after a while SIGKILL. Exit codes."""
        for process in self.running.values():
            process.terminate()
        codes = {}
        for service, process in self.running.items():
            try:
                codes[service] = process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                codes[service] = process.wait()
        self.running.clear()
        return codes
