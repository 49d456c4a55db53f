"""A real PostgreSQL, thrown away after the tests, beside SQLite files."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from ports import free_port


def binaries() -> Path | None:
    """Where initdb and pg_ctl lie; Debian keeps them off the path."""
    found = shutil.which("pg_ctl")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of a running server, up to the name of the database."""
    place = binaries()
    if place is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed")
    # PostgreSQL refuses to run as root. Unix sockets want a short path, so the directory is not pytest's.
    user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid} if os.getuid() == 0 else {}
    root = Path(tempfile.mkdtemp(prefix="beans-pg-"))
    if user:
        shutil.chown(root, user="nobody", group=user["group"])
    port = free_port()

    def call(*command: str) -> None:
        subprocess.run(
            command, check=True, cwd=root, stdout=subprocess.DEVNULL, extra_groups=[] if user else None, **user
        )

    data, options = str(root / "data"), f"-p {port} -k {root} -c listen_addresses=127.0.0.1 -c fsync=off"
    try:
        call(str(place / "initdb"), "-D", data, "-U", "beans", "-A", "trust", "--no-sync", "-E", "UTF8", "--no-locale")
        call(str(place / "pg_ctl"), "-D", data, "-o", options, "-l", str(root / "log"), "-w", "start")
        yield f"postgresql://beans@127.0.0.1:{port}"
    finally:
        if (root / "data" / "postmaster.pid").exists():
            call(str(place / "pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'beans.db'}"
    server = request.getfixturevalue("postgres")
    name = f"db_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server}/{name}"


_numbers = iter(range(10**6))
