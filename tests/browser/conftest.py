"""A live server on records made for the tests, and a real headless browser."""

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "leaderboard"))

from ports import free_port
from postgres_server import Server, binaries
from sample import records, with_predictions

from leaderboard.record import Tracking
from leaderboard.serve import leaderboard_command
from leaderboard.standings import compute
from leaderboard.store import Store
from tasks.home import Home
from tasks.progress import silent

RUN = Tracking(uri="https://user:secret@mlflow.example.org", experiment_id="3", run_id="abc123")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Start a board on a database address, in a home that may be given; returns where it listens."""
    children: list[subprocess.Popen[bytes]] = []

    def begin(database_url: str, home: Path | None = None) -> str:
        port = free_port()
        home = home or tmp_path_factory.mktemp("home")
        environment = {**os.environ, "BEANS_HOME": str(home), "BEANS_DATABASE_URL": database_url}
        command = leaderboard_command("127.0.0.1", port)
        children.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).close()
                return address
            except OSError:
                time.sleep(0.2)
        raise AssertionError("the board did not start within a minute")

    yield begin
    for child in children:
        child.terminate()
        child.wait(20)


@pytest.fixture(scope="session")
def board(start: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a board with `records`."""
    url = f"sqlite:///{tmp_path_factory.mktemp('board') / 'beans.db'}"
    store = Store(url)
    for record in records():
        store.publish(record, RUN if record.submission.name == "aves" else None)
    return start(url)


@pytest.fixture(scope="session")
def settled_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with `with_predictions`, their resamples computed."""
    home = Home.at(tmp_path_factory.mktemp("settled"))
    home.records.mkdir()
    store = Store(home.database_url)
    for path in with_predictions(home.records):
        store.publish_file(path)
    assert compute(home.records, silent) == []
    return home


@pytest.fixture(scope="session")
def settled(start: Callable[..., str], settled_home: Home) -> str:
    """Address of the board of `settled_home`."""
    return start(settled_home.database_url, settled_home.root)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A real PostgreSQL of the tests' own."""
    place = binaries()
    if place is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed")
    server = Server(place)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no browser: install chromium or set CHROMIUM to its path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page; the test fails if the app asks any other host, opens a dialog or shows a traceback."""
    context = browser.new_context(viewport={"width": 1360, "height": 1000}, accept_downloads=True)
    page = context.new_page()
    strangers: list[str] = []
    dialogs: list[str] = []
    page.on("request", lambda request: _note(request.url, strangers))
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    yield page
    assert page.locator('[data-testid="stException"]').count() == 0
    context.close()
    assert strangers == [], "the board asked other hosts"
    assert dialogs == [], "markup of a record was run"


def _note(url: str, strangers: list[str]) -> None:
    parts = urlsplit(url)
    if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1":
        strangers.append(url)
