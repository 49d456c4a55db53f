"""A real PostgreSQL, thrown away after the tests, beside SQLite files."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgres_server import Server, binaries


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    """Where PostgreSQL's programs lie."""
    place = binaries()
    if place is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed")
    return place


@pytest.fixture(scope="session")
def postgres_server(postgres_programs: Path) -> Iterator[Server]:
    """A running server that all tests share."""
    server = Server(postgres_programs)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres(postgres_server: Server) -> str:
    """Address of the shared server, up to the name of the database."""
    return postgres_server.address


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'beans.db'}"
    server: Server = request.getfixturevalue("postgres_server")
    return server.database()


@pytest.fixture
def beans(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: exit code, stdout, stderr."""
    from evaluator.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
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
