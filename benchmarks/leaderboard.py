"""How long a reader waits for the board: a thousand submissions, the real server, a real browser.

    python3 -m benchmarks.leaderboard --json board.json

The command fails if the first page takes longer than its goal. It makes records (see `benchmarks.board_records`) in a
temporary directory; `--home` keeps the directory and uses it again.
"""

import argparse
import json
import os
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from benchmarks.board_records import TRACKS, fill
from benchmarks.report import count, facts, table
from leaderboard.database.standings import read_standings
from leaderboard.database.store import Store
from leaderboard.web.serve import leaderboard_command
from tasks.support.home import Home

GOAL_SECONDS = 2.0
WHOLE = "first page, the whole table"
FIRST_ROW = "first page, its first row"
SORTED = "sorted by name, the whole table"
SUBMISSION = "the page of a submission"
FRESH = "first page of a fresh server"
_TIMEOUT = 120_000
_START_SECONDS = 60
# Chromium has no sandbox as root in a container. It must not load anything from the network.
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
]
# The table is in a shadow root, which document selectors do not reach.
_TABLE = """
const within = (root) => {
  for (const node of root.querySelectorAll("*")) {
    if (node.localName === "table") return node;
    const found = node.shadowRoot && within(node.shadowRoot);
    if (found) return found;
  }
  return null;
};
"""
_COMPLETE = (
    "([rows, first, last]) => {"
    + _TABLE
    + """
  const found = within(document);
  const body = found && found.tBodies[0];
  if (!body || body.rows.length !== rows) return false;
  const says = (row, name) => row.cells[1].textContent.includes(name) && row.cells.length > 2
    && row.cells[row.cells.length - 1].textContent !== "";
  return says(body.rows[0], first) && says(body.rows[rows - 1], last);
}"""
)
_FIRST_ROW = (
    "(first) => {"
    + _TABLE
    + """
  const found = within(document);
  const row = found && found.tBodies[0] && found.tBodies[0].rows[0];
  return Boolean(row && row.cells[1].textContent.includes(first) && row.getBoundingClientRect().height);
}"""
)


@dataclass(frozen=True)
class Measured:
    """Seconds of every repetition of one action of a reader; ``goal`` is None without a goal."""

    what: str
    seconds: tuple[float, ...]
    goal: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def missed(self) -> bool:
        return self.goal is not None and self.median > self.goal


def measure(home: Home, browser: Browser, repetitions: int) -> list[Measured]:
    """Time the waits of a reader of the board of ``home``, each in a new tab, after one round that does not count."""
    (board,) = [one for one in read_standings(Store(home.database_url)) if (one.track, one.group) == ("ta", "core")]
    by_mean = [row.submission for row in board.rows]
    by_name = sorted(by_mean, key=str.casefold)
    name = by_mean[len(by_mean) // 2]
    seconds: dict[str, list[float]] = {}

    def note(what: str, start: float) -> None:
        seconds.setdefault(what, []).append(time.perf_counter() - start)

    with _served(home) as address:
        # The very first reader waits while the server reads the database and the files.
        with _page(browser) as page:
            start = time.perf_counter()
            page.goto(address, wait_until="commit")
            _complete(page, by_mean)
            note(FRESH, start)
        context = browser.new_context()
        for number in range(repetitions + 1):
            with _page(context) as page:
                start = time.perf_counter()
                page.goto(address, wait_until="commit")
                page.wait_for_function(_FIRST_ROW, arg=by_mean[0], timeout=_TIMEOUT)
                note(FIRST_ROW, start)
                _complete(page, by_mean)
                note(WHOLE, start)
                button = page.locator("thead button", has_text="Submission")
                start = time.perf_counter()
                button.click()
                _complete(page, by_name)
                note(SORTED, start)
            with _page(context) as page:
                start = time.perf_counter()
                page.goto(f"{address}/submission?name={name}", wait_until="commit")
                page.get_by_role("heading", name=name, exact=True).wait_for(timeout=_TIMEOUT)
                page.locator("canvas, svg.marks").first.wait_for(timeout=_TIMEOUT)
                note(SUBMISSION, start)
            if number == 0:
                # The first visit fills the browser's cache and imports the server's modules.
                seconds = {FRESH: seconds[FRESH]}
        context.close()
    return [Measured(what, tuple(laps), GOAL_SECONDS if what == WHOLE else None) for what, laps in seconds.items()]


def _complete(page: Page, names: Sequence[str]) -> None:
    """Wait until the table has one row per name, and the first and the last row hold their data."""
    page.wait_for_function(_COMPLETE, arg=[len(names), names[0], names[-1]], timeout=_TIMEOUT)


@contextmanager
def _page(context: Browser | BrowserContext) -> Iterator[Page]:
    page = context.new_page()
    yield page
    page.close()


@contextmanager
def _served(home: Home) -> Iterator[str]:
    """Start a server on ``home``, yield its address, and stop it afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "BEANS_HOME": str(home.root), "BEANS_DATABASE_URL": home.database_url}
    server = subprocess.Popen(leaderboard_command("127.0.0.1", port), env=environment, stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/_stcore/health", server)
        yield address
    finally:
        server.terminate()
        server.wait(20)


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"The board did not start within {_START_SECONDS} s.")


def describe(found: Sequence[Measured], submissions: int, records: int, database: str) -> str:
    """The table, and the size of the board."""
    rows = [
        [
            one.what,
            f"{one.median:.2f}",
            ", ".join(f"{seconds:.2f}" for seconds in one.seconds),
            "" if one.goal is None else f"{one.goal:g}",
        ]
        for one in found
    ]
    return f"""{table(["what a reader waits for", "median (s)", "all (s)", "goal (s)"], rows)}

{submissions} submissions x {records // (submissions * len(TRACKS))} tasks x {len(TRACKS)} tracks: {records} records \
on {database}."""


def chromium() -> str | None:
    """Path of the browser; None without one."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def main() -> int:
    """Run from the command line. Return 1 if a goal is missed."""
    arguments = _parse()
    program = chromium()
    if program is None:
        sys.exit("There is no browser: install chromium, or set CHROMIUM to its path.")
    with tempfile.TemporaryDirectory(prefix="beans-board-") as scratch:
        home = Home.at(arguments.home or Path(scratch) / "home")
        if arguments.database:
            home = replace(home, database_url=arguments.database)
        if home.records.is_dir():
            store = Store(home.database_url)
            records = len(store.results()) or store.rebuild(home.records)
        else:
            records = fill(home, arguments.submissions, report=partial(print, file=sys.stderr, flush=True))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_ARGUMENTS)
            found = measure(home, browser, arguments.repetitions)
            browser.close()
        submissions = len({result.submission for result in Store(home.database_url).results()})
    database = "PostgreSQL" if home.database_url.startswith("postgres") else "SQLite"
    print(describe(found, submissions, records, database))
    if arguments.json:
        machine = facts(torch.device("cpu"), shlex.join(["python3", "-m", "benchmarks.leaderboard", *sys.argv[1:]]))
        content = {
            "machine": machine,
            "database": database,
            "submissions": submissions,
            "records": records,
            "measured": [{**asdict(one), "median": one.median} for one in found],
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")
    missed = [one for one in found if one.missed]
    for one in missed:
        print(f"{one.what}: {one.median:.2f} s, and the goal is {one.goal:g} s.", file=sys.stderr)
    return 1 if missed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 -m benchmarks.leaderboard", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--submissions", type=count, default=1000, metavar="N", help="submissions (1000)")
    parser.add_argument("--repetitions", type=count, default=5, metavar="N", help="how often all is measured (5)")
    parser.add_argument("--database", metavar="URL", help="an empty PostgreSQL database instead of an SQLite file")
    parser.add_argument("--home", type=Path, metavar="PATH", help="keep the records here, or use those that are here")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the numbers here")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
