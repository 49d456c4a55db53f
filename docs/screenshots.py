"""Take the pictures in docs/images again, from the results of a home such as that of `make demo`.

make demo
for name in statistics random-hubert-small crepe-tiny resemblyzer; do
    beans profile submissions/$name.toml --device cpu --seconds 1,5,10,30
done
python docs/screenshots.py resemblyzer

Each page has three pictures: light, dark, and light at the width of a phone (NAME.png, NAME-dark.png, NAME-phone.png).
"""

import argparse
import io
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Browser, FloatRect, Page, sync_playwright

from leaderboard.database.standings import read_standings
from leaderboard.database.store import Store
from leaderboard.web.serve import leaderboard_command
from tasks.support.home import Home

TABLE, CHART = "tbody tr", "[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg"
HEADING, INFO = "[data-testid=stHeading]", "[data-testid=stAlert]"
RESULT, PROVENANCE = "h3:has-text('· ta')", "h3:has-text('Provenance')"
# Start and end of a picture that shows a part of a page: the long page of a backbone gives two pictures.
PARTS: dict[str, tuple[str | None, str]] = {"backbone": (None, RESULT), "result": (RESULT, PROVENANCE)}
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Look:
    """One kind of picture of a page: sizes in CSS pixels, and ``scale``, picture pixels per CSS pixel."""

    ending: str
    width: int
    tallest: int
    scale: float
    dark: bool = False


LOOKS = [
    Look("", width=1360, tallest=3000, scale=1),
    Look("-dark", width=1360, tallest=3000, scale=1, dark=True),
    Look("-phone", width=390, tallest=1500, scale=2),
]


def pages(home: Home, submission: str | None) -> dict[str, tuple[str, str]]:
    """By name of the picture: the page's address relative to the board, and a CSS selector to wait for."""
    boards = read_standings(Store(home.database_url))
    if not boards:
        raise SystemExit(f"No results in {home.root}: run make demo first, or set BEANS_HOME.")
    names = [row.submission for row in boards[0].rows if row.limit is None]
    shown = submission or names[0]
    row = next((row for row in boards[0].rows if row.submission == shown), None)
    if row is None:
        raise SystemExit(f"{shown} is not on the first board: choose one of {', '.join(names)}.")
    compared = urlencode([("with", name) for name in names[:5]])
    return {
        "board": (f"?{compared}", TABLE),
        "backbone": (f"submission?{urlencode({'name': shown})}", CHART),
        "result": (f"submission?{urlencode({'name': shown})}", RESULT),
        "compare": (f"compare?{compared}", CHART),
        "task": (f"task?{urlencode({'name': boards[0].columns[0].task})}", CHART),
        "efficiency": ("efficiency", CHART),
        "submit": ("submit", HEADING),
        "about": ("about", HEADING),
    }


@contextmanager
def board(home: Home) -> Iterator[str]:
    """Serve a board of ``home`` and yield its address. The board has links as if MLflow ran beside it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = {"BEANS_HOME": str(home.root), "BEANS_DATABASE_URL": home.database_url, "BEANS_MLFLOW_PORT": "5000"}
    command = leaderboard_command("127.0.0.1", port)
    server = subprocess.Popen(command, env={**os.environ, **places}, stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/_stcore/health", server)
        yield address
    finally:
        server.terminate()
        server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("The board did not start: its messages are above.")


def shoot(browser: Browser, url: str, ready: str, look: Look, part: tuple[str | None, str] | None) -> bytes:
    """Take a page, or a part of it, as PNG, once ``ready`` is on the page and the page is fully drawn."""
    page = browser.new_page(
        viewport={"width": look.width, "height": 900},
        device_scale_factor=look.scale,
        color_scheme="dark" if look.dark else "light",
    )
    page.goto(url)
    page.wait_for_selector(ready, timeout=60_000)
    page.wait_for_selector('[data-test-script-state="notRunning"]', timeout=60_000)
    page.wait_for_timeout(2000)
    # The page scrolls inside a container, so the window becomes as tall as the content. This redraws the charts.
    height = int(_box(page, "[data-testid=stMainBlockContainer]")["height"]) + 10
    page.set_viewport_size({"width": look.width, "height": height})
    page.wait_for_timeout(2000)
    first, last = part or (None, None)
    top = 0 if first is None else int(_box(page, first)["y"]) - 10
    bottom = height if last is None else int(_box(page, last)["y"])
    tall = min(bottom - top, look.tallest)
    taken = page.screenshot(clip={"x": 0, "y": top, "width": look.width, "height": tall})
    page.close()
    return taken


def _box(page: Page, selector: str) -> FloatRect:
    """Position and size of an element, in CSS pixels."""
    box = page.locator(selector).bounding_box()
    assert box is not None, f"{selector} is not on the page"
    return box


def save(png: bytes, target: Path) -> None:
    """Save the picture with 256 colours: a third of the size without a visible difference."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(target, optimize=True)


def main() -> None:
    """Take every page of the home's board, and the page of an empty board."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submission", nargs="?", help="whose page is taken (default: the first of the board)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="take only these pages, such as board task")
    arguments = parser.parse_args()
    home = Home.from_environment()
    wanted = pages(home, arguments.submission)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as nothing, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        for of, chosen in ((home, wanted), (Home.at(Path(nothing)), {"empty": ("", INFO)})):
            names = [name for name in chosen if not arguments.only or name in arguments.only]
            if not names:
                continue
            with board(of) as address:
                for name in names:
                    path, ready = chosen[name]
                    for look in LOOKS:
                        taken = shoot(browser, f"{address}/{path}", ready, look, PARTS.get(name))
                        save(taken, arguments.out / f"{name}{look.ending}.png")
        browser.close()


if __name__ == "__main__":
    main()
