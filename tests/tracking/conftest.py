"""A real MLflow server and a plain SQLite database, and a client that reads back what was sent."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_server import Server, Store
from ports import free_port


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), free_port(), empty_database)
    server.start()
    yield server
    server.stop()


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
    return f"beans-probe/2+test={request.node.name}"
