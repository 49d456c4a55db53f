"""Retake the pictures in docs/images from a running leaderboard.

beans leaderboard serve &
python docs/screenshots.py http://localhost:8501 wavlm-large hubert-base
"""

import argparse
import os
import shutil
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, sync_playwright

CHART = "[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def shoot(browser: Browser, url: str, ready: str, target: Path, *, dark: bool = False, width: int = 1360) -> None:
    """Save the whole page once ``ready`` (a CSS selector) is there and nothing is being drawn any more."""
    page = browser.new_page(
        viewport={"width": width, "height": 900}, device_scale_factor=1.5, color_scheme="dark" if dark else "light"
    )
    page.goto(url)
    page.wait_for_selector(ready, timeout=60_000)
    page.wait_for_selector('[data-test-script-state="notRunning"]')
    page.wait_for_timeout(1500)
    # The page scrolls inside a container, so the window is made as tall as its content.
    height = page.evaluate(
        "document.querySelector('[data-testid=stMainBlockContainer]').getBoundingClientRect().height"
    )
    page.set_viewport_size({"width": width, "height": int(height) + 10})
    page.wait_for_timeout(800)
    target.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=target)
    page.close()


def main() -> None:
    """Take the board, the page of the first submission, and the comparison if there are several."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="of the leaderboard, such as http://localhost:8501")
    parser.add_argument("submission", nargs="+", help="the first one's page is shown; all are compared")
    parser.add_argument("--query", default="", help="of the board and the comparison, such as track=twa&group=own")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--width", type=int, default=1360, help="in CSS pixels")
    arguments = parser.parse_args()
    address = arguments.address.rstrip("/")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        look = {"dark": arguments.dark, "width": arguments.width}
        shoot(browser, f"{address}/?{arguments.query}", "table", arguments.out / "board.png", **look)
        page = f"{address}/submission?name={quote(arguments.submission[0], safe='')}"
        shoot(browser, page, CHART, arguments.out / "submission.png", **look)
        if len(arguments.submission) > 1:
            chosen = "&".join(f"with={quote(name, safe='')}" for name in arguments.submission)
            page = f"{address}/compare?{arguments.query}&{chosen}"
            shoot(browser, page, CHART, arguments.out / "compare.png", **look)
        browser.close()


if __name__ == "__main__":
    main()
