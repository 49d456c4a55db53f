"""A real PostgreSQL, thrown away after the tests, beside SQLite files."""

from collections.abc import Iterator
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
