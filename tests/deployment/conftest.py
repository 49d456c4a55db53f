"""The services of docker-compose.yml, started for real: PostgreSQL, MLflow, the leaderboard."""

import os
import pwd
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from compose import PORTS, Machine, example, interpolated, postgres_programs, read
from ports import free_port


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    secrets = {name: f"{name.lower().replace('_', '')}7f3a" for name, value in example().items() if not value}
    services = interpolated(read(), {**example(), **secrets})["services"]
    return Machine(services, {service: free_port() for service in PORTS}, tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="session")
def database(machine: Machine) -> Iterator[list[bool]]:
    """PostgreSQL, set up as its image sets it up. Yields whether it was healthy: while set up, and when it listened."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed")
    # PostgreSQL refuses to run as root, and wants a short path for its socket.
    user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid} if os.getuid() == 0 else {}
    root = Path(tempfile.mkdtemp(prefix="beans-compose-"))
    environment = machine.environment("postgres")
    password = root / "password"
    password.write_text(environment["POSTGRES_PASSWORD"])
    script = root / "databases.sql"
    shutil.copy(Path(__file__).parents[2] / "docker" / "databases.sql", script)
    if user:
        for path in (root, password, script):
            shutil.chown(path, user="nobody", group=user["group"])
    port = str(machine.ports["postgres"])

    def call(program: str, *arguments: str, log: bool = False) -> None:
        done = subprocess.run(
            [programs / program, *arguments],
            cwd=root,
            env=environment,
            stdout=subprocess.DEVNULL if log else subprocess.PIPE,
            stderr=subprocess.DEVNULL if log else subprocess.STDOUT,
            extra_groups=[] if user else None,
            check=False,
            **user,
        )
        assert done.returncode == 0, f"{program}: {(done.stdout or b'').decode()}"

    def start(addresses: str) -> None:
        options = f"-p {port} -k {root} -c listen_addresses='{addresses}' -c fsync=off"
        call("pg_ctl", "-D", "data", "-o", options, "-l", "log", "-w", "start", log=True)

    try:
        rules = shlex.split(environment["POSTGRES_INITDB_ARGS"])
        call("initdb", "-D", "data", "--username=postgres", f"--pwfile={password}", "--no-sync", *rules)
        # What the image's entry point does on an empty volume: scripts run on a server that listens on a socket only.
        start("")
        healthy = [machine.is_healthy("postgres")]
        options = ("-v", "ON_ERROR_STOP=1", "--no-psqlrc", "--no-password", "--dbname", "postgres")
        call("psql", *options, "--username", "postgres", "--host", str(root), "--port", port, "-f", str(script))
        call("pg_ctl", "-D", "data", "-m", "fast", "-w", "stop")
        start("127.0.0.1")
        yield [*healthy, machine.is_healthy("postgres")]
    finally:
        if (root / "data" / "postmaster.pid").exists():
            call("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def services(machine: Machine, database: list[bool]) -> Iterator[Machine]:
    """Everything running and healthy."""
    names = ("mlflow", "leaderboard")
    try:
        for name in names:
            assert not machine.is_healthy(name), f"the health check of {name} says yes to nothing"
            machine.start(name)
        for name in names:
            machine.wait(name)
        yield machine
    finally:
        machine.stop()
