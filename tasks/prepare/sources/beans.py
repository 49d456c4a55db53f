"""The source ``beans``: a finished BEANS checkout with its CSV files or JSON lines, and their audio."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tasks.prepare.entries import Entry, Sound, unique
from tasks.prepare.rows import Row, entry, in_low
from tasks.prepare.source import Items, Request, Source
from tasks.support.errors import UserError
from tasks.task import SPLITS, Task

_NAME = "beans"


class Checkout(BaseModel):
    """The table ``[prepare.beans]`` of a task file.

    Attributes:
        folder: the task's folder below BEANS' data directory.
        lists: the file name of a split's list, with ``{}`` for the split.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str
    lists: str


def read(task: Task, root: Path) -> list[Entry]:
    """Read the items of a task from the result of BEANS' own preparation.

    Args:
        task: its file has a table ``[prepare.beans]``.
        root: the BEANS checkout, its ``data`` directory, or the task's folder in it.

    Raises:
        UserError: a list or its audio is missing, or a line is wrong.
    """
    folder = _folder(task, root)
    lists = {split: _rows(task, _list(task, folder, split)) for split in SPLITS}
    low_list = _list(task, folder, "train-low")
    low_rows = _rows(task, low_list) if low_list.is_file() else []
    low = in_low(task, (row for _, row in lists["train"]), (row for _, row in low_rows))
    files = {split: [_audio(task, folder, row["path"], where) for where, row in lists[split]] for split in SPLITS}
    # Several rows may name one file.
    named = dict.fromkeys(file for split in SPLITS for file in files[split])
    missing = [str(file) for file in named if not file.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of the audio files that the lists in {folder} name are missing, such as "
            f"{', '.join(missing[:3])}: finish BEANS' preparation of this task, or prepare with another --from."
        )
    entries = (
        entry(task, split, row, Sound(file), split == "train" and low[number], where)
        for split in SPLITS
        for number, ((where, row), file) in enumerate(zip(lists[split], files[split], strict=True))
    )
    return unique(entries)


# --- the checkout's files ---


def _table(task: Task) -> Checkout:
    assert task.prepare is not None  # ensured by SOURCE.has
    return task.prepare.table(_NAME, Checkout)


def _list(task: Task, folder: Path, split: str) -> Path:
    return folder / _table(task).lists.format(split)


def _folder(task: Task, root: Path) -> Path:
    """Return the task's folder, which holds the lists of all three splits."""
    name = _table(task).folder
    candidates = (root / "data" / name, root / name, root)
    folder = next((path for path in candidates if any(_list(task, path, split).is_file() for split in SPLITS)), None)
    missing = [file for split in SPLITS if not (file := _list(task, folder or candidates[0], split)).is_file()]
    if missing:
        raise UserError(
            f"{missing[0]} does not exist: --source must point at a BEANS checkout (or its data directory) in which "
            f"BEANS' own preparation of {task.name} has finished."
        )
    assert folder is not None  # without a folder, all lists were missing above
    return folder


def _audio(task: Task, folder: Path, path: str, where: str) -> Path:
    # Paths are relative to the checkout, of which the user may have only the task's folder.
    start = f"data/{_table(task).folder}/"
    if not path.startswith(start):
        raise UserError(f"{where}: {path} is not below {start}: these are not BEANS' files of {task.name}.")
    return folder / path.removeprefix(start)


def _rows(task: Task, file: Path) -> list[tuple[str, Row]]:
    """Read the rows and their places. Every row has the keys of its task kind, and a path that is text."""
    try:
        rows = _csv(file) if task.kind == "classification" else _json_lines(file)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as UTF-8 text ({error}): copy it again.") from error
    for where, row in rows:
        if not isinstance(row["path"], str) or not row["path"]:
            raise UserError(f"{where}: path {row['path']!r} is not the name of a file.")
    return rows


def _csv(file: Path) -> list[tuple[str, Row]]:
    import pandas as pd

    try:
        # "nan" may be a label.
        frame = pd.read_csv(file, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(f"{file} is not a CSV file ({error}): let BEANS prepare the task again.") from error
    for column in ("path", "label"):
        if column not in frame:
            raise UserError(
                f"{file} has no column {column!r} but {', '.join(map(str, frame))}: let BEANS prepare the task again."
            )
    pairs = zip(frame["path"].tolist(), frame["label"].tolist(), strict=True)
    return [
        (f"{file}, line {number}", {"path": path, "label": label})
        for number, (path, label) in enumerate(pairs, start=2)
    ]


def _json_lines(file: Path) -> list[tuple[str, Row]]:
    rows: list[tuple[str, Row]] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{where}: not valid JSON ({error}): let BEANS prepare the task again.") from error
        if not isinstance(row, dict) or not {"path", "length", "annotations"} <= set(row):
            raise UserError(f"{where}: not an object of path, length and annotations, as BEANS writes it.")
        rows.append((where, row))
    return rows


def _items(request: Request) -> Items:
    assert request.directory is not None  # ensured by SOURCE.needs_directory
    return Items(read(request.task, request.directory), request.directory.resolve())


SOURCE = Source(
    title="BEANS checkout",
    help="read from a finished BEANS checkout",
    needs="--source: the directory of a finished BEANS checkout",
    needs_directory=True,
    has=lambda task: task.prepare is not None and task.prepare.has(_NAME),
    read=_items,
)
