"""The source ``huggingface``: the copy of a data set on Hugging Face, one parquet row per item with its audio."""

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from tasks.prepare.entries import ClipEntry, Entry, Sound, unique
from tasks.prepare.rows import Row, entry, in_low
from tasks.prepare.source import Items, Request, Source
from tasks.support.errors import UserError
from tasks.task import SPLITS, Task

if TYPE_CHECKING:
    from tasks.sound import Content

_SPLIT_NAMES = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
    "train_low": "train_low",
    "train-low": "train_low",
}
_FILE = re.compile(rf"({'|'.join(sorted(_SPLIT_NAMES, key=len, reverse=True))})(-.*)?\.parquet")
_CONNECT_SECONDS = 10.0
_NAME = "huggingface"


class Hub(BaseModel):
    """The table ``[prepare.huggingface]`` of a task file: ``repository`` is the data set's name on the hub.

    BirdSet's documentation names those of five BEANS tasks; the others follow the pattern.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    repository: str


def read(task: Task, source: Path | None) -> list[Entry]:
    """Read the items of a task. Labels and names are read now; each item's audio is read when it is needed.

    `datasets` copies the rows to its own cache (``HF_HOME``), from which audio can be read in any order. The cache
    needs as much space as the parquet files.

    Args:
        task: its file has a table ``[prepare.huggingface]``.
        source: a directory with parquet files (``train-*.parquet`` and so on, at any depth), or None for the hub.

    Raises:
        UserError: no such data set, no network, a full disk, or rows that differ from those of BEANS.
    """
    where = str(source) if source else _repository(task)
    splits = _load_directory(source) if source else _load_hub(task)
    for split in SPLITS:
        if split not in splits:
            raise UserError(f"{where} has no {split} split but {', '.join(sorted(splits))}: {_way_out(source)}.")
    rows = {split: list(_rows(task, table, where)) for split, table in splits.items()}
    low = in_low(task, (row for row, _ in rows["train"]), (row for row, _ in rows.get("train_low", [])))
    entries = unique(
        entry(task, split, row, Sound(sound), split == "train" and low[number], f"{where}, {split} row {number}")
        for split in SPLITS
        for number, (row, sound) in enumerate(rows[split])
    )
    _check_labels(task, entries, where)
    return entries


def _repository(task: Task) -> str:
    assert task.prepare is not None  # ensured by SOURCE.has
    return task.prepare.table(_NAME, Hub).repository


def _way_out(source: Path | None) -> str:
    if source:
        return "download the data set's parquet files again, or prepare with another --from"
    return "give the directory of its parquet files with --source, or prepare with another --from"


# --- loading ---


def _load_directory(source: Path) -> dict[str, Any]:
    """Load the splits of a directory of parquet files, as `datasets` objects."""
    files: dict[str, list[str]] = {}
    for path in sorted(source.rglob("*.parquet")):
        if match := _FILE.fullmatch(path.name):
            files.setdefault(_SPLIT_NAMES[match[1]], []).append(str(path))
    if not files:
        raise UserError(
            f"There are no parquet files called train-*, valid-* and test-* below {source}: --source must point at a "
            "directory with the data set's parquet files, as they are on Hugging Face."
        )
    return _load(str(source), source, "parquet", data_files=files)


def _load_hub(task: Task) -> dict[str, Any]:
    import datasets
    import requests

    name = _repository(task)
    # Without a network `datasets` repeats its requests for minutes before it fails.
    if not datasets.config.HF_HUB_OFFLINE:
        try:
            requests.head(datasets.config.HF_ENDPOINT, timeout=_CONNECT_SECONDS)
        except requests.RequestException as error:
            raise UserError(
                f"{name} cannot be fetched: {datasets.config.HF_ENDPOINT} does not answer ({type(error).__name__}); "
                f"check the network (HF_HUB_OFFLINE=1 takes what was fetched before), {_way_out(None)}."
            ) from error
    return _load(name, None, name)


def _load(what: str, source: Path | None, *args: Any, **options: Any) -> dict[str, Any]:
    import datasets

    try:
        splits = datasets.load_dataset(*args, **options)
    # The libraries that `datasets` uses raise their own exceptions for network, disk and broken files.
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"The disk of {datasets.config.HF_DATASETS_CACHE} is full, where `datasets` keeps {what}: free some "
                "space, or set HF_HOME to a directory on another disk."
            ) from error
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0].rstrip(".")
        raise UserError(f"{what} cannot be loaded ({reason}): {_way_out(source)}.") from error
    return {_SPLIT_NAMES[name]: table for name, table in splits.items() if name in _SPLIT_NAMES}


# --- rows ---


# The column is excluded from comparison and repr, because both would read it.
@dataclass(frozen=True, eq=False, slots=True)
class _Embedded:
    """Reads the audio file of one row when it is called."""

    name: str
    column: Any = field(repr=False)
    index: int

    def __call__(self) -> "Content":
        from tasks.sound import Content

        return Content(self.name, self.column[self.index].as_py())


def _rows(task: Task, table: Any, where: str) -> Iterator[tuple[Row, "_Embedded"]]:
    """Yield each row in the form of BEANS' lists, and the reader of its audio."""
    keys = ("label",) if task.kind == "classification" else ("length", "annotations")
    for key in ("path", *keys):
        if key not in table.column_names:
            raise UserError(
                f"{where} has no column {key!r} but {', '.join(table.column_names)}: it is not what BEANS' "
                f"{task.name} looks like on Hugging Face; prepare with another --from."
            )
    names, audio = _audio(table, where)
    # Only these columns, because reading a whole row also reads its audio.
    columns = [table.select_columns(key)[:][key] for key in keys]
    classes = _class_names(table.features[keys[-1]])
    for index, (name, *values) in enumerate(zip(names, *columns, strict=True)):
        row = {"path": name, **dict(zip(keys, values, strict=True))}
        if task.kind == "detection":
            row["annotations"] = _as_list(row["annotations"])
        if classes:
            for labelled in row.get("annotations", [row]):
                labelled["label"] = None if labelled["label"] is None else classes[labelled["label"]]
        yield row, _Embedded(f"{name} of {where}", audio, index)


def _audio(table: Any, where: str) -> tuple[list[str], Any]:
    """Return the names of the audio files, and the audio column, which is not loaded into memory."""
    from datasets import Audio

    try:
        column = table.select_columns("path").cast_column("path", Audio(decode=False)).flatten().data
    # pyarrow raises one of these if a column cannot be read as audio.
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UserError(f"The column 'path' of {where} is not audio: prepare with another --from.") from error
    names = column.column("path.path").to_pylist()
    if None in names:
        raise UserError(
            f"Row {names.index(None)} of {where} does not name its audio file, and without names the items cannot be "
            "distinguished: prepare with another --from."
        )
    audio = column.column("path.bytes")
    if audio.null_count:
        raise UserError(
            f"{audio.null_count} of the rows of {where} name an audio file but do not hold it: "
            "prepare with another --from."
        )
    return names, audio


def _class_names(feature: Any) -> list[str] | None:
    """Return the class names of a column of integers, or None. For annotations, return those of their labels."""
    while not isinstance(feature, dict) and hasattr(feature, "feature"):
        feature = feature.feature
    if isinstance(feature, dict):
        return _class_names(feature.get("label"))
    return getattr(feature, "names", None)


def _as_list(annotations: Any) -> Any:
    """Return annotations as a list. Older versions of `datasets` store them as one object of three lists."""
    if isinstance(annotations, dict):
        return [dict(zip(annotations, values, strict=True)) for values in zip(*annotations.values(), strict=True)]
    return [] if annotations is None else annotations


def _check_labels(task: Task, entries: list[Entry], where: str) -> None:
    """Check that every label belongs to the task. A copy may have numbered its labels in another order."""
    for item in entries:
        for label in [item.label] if isinstance(item, ClipEntry) else [label for *_, label in item.annotations]:
            if task.labels and label not in task.labels and task.unknown_label is None:
                raise UserError(
                    f"{where} labels {item.id} with {label!r}, which {task.name} does not have: it is not the data "
                    "that BEANS has; prepare with another --from."
                )


def _items(request: Request) -> Items:
    request.say(
        f"{request.task.name}: the library datasets keeps a second copy of the audio in its cache (HF_HOME); delete it"
        " there when the task is prepared."
    )
    return Items(read(request.task, request.directory), request.directory or Path())


SOURCE = Source(
    title="Hugging Face",
    help="read from Hugging Face",
    needs="a network, or --source: a directory with the data set's parquet files",
    has=lambda task: task.prepare is not None and task.prepare.has(_NAME),
    read=_items,
)
