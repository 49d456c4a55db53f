"""Output of the command line: tables and JSON on stdout, progress and errors on stderr.

Names and descriptions come from files of other people. All that is printed is therefore free of control characters.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

from tasks.support.errors import UserError
from tasks.support.progress import Report
from tasks.support.text import printable

_SECONDS_BETWEEN_LINES = 30.0
# Width of tables that are not printed to a terminal, so that cells are not folded.
_LOG_WIDTH = 200


def complain(sentence: str) -> None:
    """Print an error on stderr."""
    print(printable(f"Error: {sentence}"), file=sys.stderr)


def warn(sentence: str) -> None:
    """Print a warning on stderr. The work continues."""
    print(printable(f"Warning: {sentence}"), file=sys.stderr)


def say(sentence: str) -> None:
    """Print a sentence on stdout."""
    print(printable(sentence), flush=True)


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Print a value as JSON on stdout, for scripts."""
    # JSON escapes the characters below the space itself. `printable` escapes the others as JSON does.
    print(printable(json.dumps(value, indent=indent, ensure_ascii=False, default=_plain)), flush=True)


def _plain(value: object) -> object:
    from pydantic import BaseModel

    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[str] = ()) -> None:
    """Print a table on stdout. It is wide if stdout is not a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(printable(title)), title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
    for row in rows:
        # Cells are printed literally and never parsed as markup.
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=_LOG_WIDTH)
    console.print(table)


def counted(count: int, what: str) -> str:
    """Return a number with its noun: "1 record", "2 records"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def split_list(value: str | None) -> list[str]:
    """Return the parts of a comma-separated option, without empty parts."""
    return [part.strip() for part in value.split(",") if part.strip()] if value else []


def split_numbers(option: str, value: str | None, example: str, kind: Any = None) -> tuple[Any, ...]:
    """Return the numbers of a comma-separated option.

    Args:
        option: the option's name, for messages.
        value: the option's value.
        example: a valid value, for messages.
        kind: pydantic's type of each number, with its bounds; by default a finite float above 0.

    Raises:
        UserError: a part is not a number of this type, or the option is given without a number.
    """
    from pydantic import Field

    from evaluator.submission import convert

    if value is not None and not split_list(value):
        raise UserError(f"{option} names no number: write for example {option} {example}, or leave the option out.")
    number = kind or Annotated[float, Field(gt=0, allow_inf_nan=False)]
    try:
        return tuple(convert(number, part) for part in split_list(value))
    except UserError as error:
        raise UserError(f"{option}: {error}; write for example {option} {example}.") from error


@contextmanager
def progress() -> Iterator[Report]:
    """Show a progress bar with the remaining time on a terminal; without a terminal, print a line at intervals."""
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
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        current = bars.add_task("", total=None, amount="")
        pace = _Pace()

        def report(what: str, done: float, total: float, unit: str = "") -> None:
            if what != pace.what:
                bars.reset(current, total=total or None, description=printable(what))
            amount = pace.amount(what, done, total, unit)
            bars.update(current, completed=done, total=total or None, amount=amount)

        yield report


class _Pace:
    """The speed of the current step."""

    def __init__(self) -> None:
        self.what = ""
        self.began = self.first = 0.0

    def amount(self, what: str, done: float, total: float, unit: str) -> str:
        """Return the number of finished bytes, of all bytes, and of bytes per second; "" for other units."""
        if what != self.what:
            # The bytes of an earlier run do not count for the speed.
            self.what, self.began, self.first = what, time.monotonic(), done
        if unit != "B":
            return ""
        speed = (done - self.first) / max(time.monotonic() - self.began, 1e-3)
        return f"{_size(done)} of {_size(total)}, {_size(speed)}/s"


def _size(count: float) -> str:
    """Return a number of bytes with a unit, such as "1.2 MB"."""
    from rich.filesize import decimal

    return decimal(int(count))


class _Lines:
    """Progress for a log: one line per step, and one line every half minute."""

    def __init__(self) -> None:
        self.pace = _Pace()
        self.printed = 0.0

    def __call__(self, what: str, done: float, total: float, unit: str = "") -> None:
        fresh = what != self.pace.what
        amount = self.pace.amount(what, done, total, unit)
        now, first, began = time.monotonic(), self.pace.first, self.pace.began
        if fresh:
            self.printed = now
            print(printable(what), file=sys.stderr, flush=True)
        elif now - self.printed > _SECONDS_BETWEEN_LINES and done > first:
            self.printed = now
            left = (now - began) * (total - done) / (done - first)
            line = f"{what}: {done / total:.0%}{amount and f', {amount}'}, {left:.0f} s left"
            print(printable(line), file=sys.stderr, flush=True)
