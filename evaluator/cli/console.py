"""How the command line speaks: tables and JSON on stdout, progress and complaints on stderr."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasks.errors import UserError

if TYPE_CHECKING:
    from evaluator.evaluate import Report

METRIC_NAMES = {"accuracy": "accuracy", "map": "mAP"}
"""Metrics as readers know them; mAP is the macro mean over classes, as in BEANS."""

_SECONDS_BETWEEN_LINES = 30.0
# Where nobody watches, a table is better too wide than folded into pieces.
_LOG_WIDTH = 200


def complain(sentence: str) -> None:
    """One sentence on stderr."""
    print(f"Error: {sentence}", file=sys.stderr)


def warn(sentence: str) -> None:
    """One sentence on stderr about something that did not stop the work."""
    print(f"Warning: {sentence}", file=sys.stderr)


def print_json(value: object, *, indent: int | None = 2) -> None:
    """A value on stdout, for scripts."""
    print(json.dumps(value, indent=indent, ensure_ascii=False, default=_plain), flush=True)


def _plain(value: object) -> object:
    from pydantic import BaseModel

    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[str] = ()) -> None:
    """A table on stdout, as wide as it needs to be where nobody watches."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
    for row in rows:
        # Names come from files of other people: shown as they are, never read as markup.
        table.add_row(*(Text(cell) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=_LOG_WIDTH)
    console.print(table)


def split_list(value: str | None) -> list[str]:
    """The parts of a comma-separated option, empty parts left out."""
    return [part.strip() for part in value.split(",") if part.strip()] if value else []


def split_numbers(option: str, value: str | None) -> tuple[float, ...]:
    """A comma-separated list of positive numbers.

    Raises:
        UserError: a part is no positive number.
    """
    numbers = []
    for part in split_list(value):
        try:
            number = float(part)
        except ValueError:
            number = 0.0
        if not 0 < number < float("inf"):
            raise UserError(
                f"{option} {value}: {part!r} is not a positive number; write for example {option} 1e-5,1e-4."
            )
        numbers.append(number)
    return tuple(numbers)


@contextmanager
def progress() -> Iterator["Report"]:
    """A progress bar with the remaining time on a terminal; elsewhere a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        current = bars.add_task("", total=None)
        shown = ""

        def report(what: str, done: float, total: float) -> None:
            nonlocal shown
            if what != shown:
                shown = what
                bars.reset(current, total=total or None, description=what)
            bars.update(current, completed=done, total=total or None)

        yield report


class _Lines:
    """Progress for a log: a line when the work changes, and one every half minute."""

    def __init__(self) -> None:
        self.shown = ""
        self.began = self.printed = 0.0

    def __call__(self, what: str, done: float, total: float) -> None:
        now = time.monotonic()
        if what != self.shown:
            self.shown, self.began, self.printed = what, now, now
            print(what, file=sys.stderr, flush=True)
        elif now - self.printed > _SECONDS_BETWEEN_LINES and done:
            self.printed = now
            left = (now - self.began) * (total - done) / done
            print(f"{what}: {done / total:.0%}, {left:.0f} s left", file=sys.stderr, flush=True)
