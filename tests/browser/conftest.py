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
from playwright.sync_api import Browser, Dialog, Page, Request, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "leaderboard"))

from factory import make_record
from ports import free_port
from postgres_server import Server, binaries
from profile_factory import make_profile, measured, profiles_of_a_board
from sample import HOSTILE, costly, disclosed, records, with_predictions

from leaderboard.database.profiles import publish
from leaderboard.database.standings import compute
from leaderboard.database.store import Store
from leaderboard.records.record import Tracking
from leaderboard.records.stored import StoredRecord
from leaderboard.web.serve import leaderboard_command
from tasks.support.home import Home
from tasks.support.progress import silent

# On a busy machine a page takes several times as long as alone: a test fails when a page is wrong, not when it is late.
expect.set_options(timeout=60_000)
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
    # All are told before any is waited for.
    for child in children:
        child.terminate()
    for child in children:
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
def varied(start: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a board with `disclosed`, `costly`, and `profiles_of_a_board` with a hostile one and AVES's result."""
    url = f"sqlite:///{tmp_path_factory.mktemp('varied') / 'beans.db'}"
    store = Store(url)
    for record in (*disclosed(), make_record("aves")):
        store.publish(record)
    for record, run in costly():
        store.publish(record, run)
    hostile = make_profile(HOSTILE, (measured(10, 2**28),), id="5" * 16, device=HOSTILE, attention=HOSTILE)
    for profile in (*profiles_of_a_board(), hostile):
        publish(store, profile)
    return start(url)


@pytest.fixture(scope="session")
def settled_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with `with_predictions`, their resamples computed."""
    home = Home.at(tmp_path_factory.mktemp("settled"))
    home.records.mkdir()
    store = Store(home.database_url)
    for path in with_predictions(home.records):
        store.publish_stored(StoredRecord.read(path))
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


@pytest.fixture(scope="session")
def tab(browser: Browser) -> Iterator[Page]:
    """One tab for all tests: a tab that has run Streamlit's scripts runs them again in a third of the time."""
    context = browser.new_context(accept_downloads=True)
    yield context.new_page()
    context.close()


@pytest.fixture
def page(tab: Page) -> Iterator[Page]:
    """The tab as if it were new; the test fails if the app asks any other host, opens a dialog or shows a traceback."""
    tab.set_viewport_size({"width": 1360, "height": 1000})
    tab.emulate_media(color_scheme="light")
    strangers: list[str] = []
    dialogs: list[str] = []

    def asked(request: Request) -> None:
        _note(request.url, strangers)

    def opened(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    tab.on("request", asked)
    tab.on("dialog", opened)
    yield tab
    tracebacks = tab.locator('[data-testid="stException"]').count()
    if tab.url.startswith("http"):
        tab.evaluate("localStorage.clear(); sessionStorage.clear()")
    tab.goto("about:blank")
    tab.context.clear_cookies()
    tab.remove_listener("request", asked)
    tab.remove_listener("dialog", opened)
    assert tracebacks == 0
    assert strangers == [], "the board asked other hosts"
    assert dialogs == [], "markup of a record was run"


def _note(url: str, strangers: list[str]) -> None:
    parts = urlsplit(url)
    if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1":
        strangers.append(url)
