"""Reads the table of a classification data set and divides its clips among the splits as BEANS does."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.prepare.entries import ClipEntry, Entry, Sound, ids_of, label_text, unique
from tasks.support.errors import UserError
from tasks.task import Split

if TYPE_CHECKING:
    import pandas as pd

# The missing values of pandas 1.4, with which BEANS was made. Later versions add "None", which may be a name.
_MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null"),
)


def read_table(root: Path, name: str, columns: Sequence[str], gaps: Sequence[str] = ()) -> tuple[Path, "pd.DataFrame"]:
    """Read the table of a data set from any folder below ``root``. The order of the rows is kept.

    Args:
        root: holds the extracted files.
        name: the name of the table's file.
        columns: required columns, with a value in every row.
        gaps: required columns whose values may be missing.

    Returns:
        The file and the table.

    Raises:
        UserError: no table or several tables match, or the table cannot be read or lacks a column or a value.
    """
    files = [file for file in sorted(root.rglob(name)) if "__MACOSX" not in file.parts and file.is_file()]
    if not files:
        raise UserError(f"There is no {name} in {root}: point --source at the folder that holds the extracted files.")
    tables = {file: _read_csv(file) for file in files}
    fitting = [file for file in files if {*columns, *gaps} <= set(tables[file].columns)]
    if not fitting:
        absent = next(column for column in (*columns, *gaps) if column not in tables[files[0]].columns)
        raise UserError(
            f"{files[0]} has no column {absent!r} but {', '.join(map(repr, tables[files[0]].columns))}: "
            "it is not the table of this data set; point --source at the folder that holds the extracted files."
        )
    if len(fitting) > 1:
        raise UserError(
            f"Both {fitting[0]} and {fitting[1]} may be meant: point --source at the folder of one of them."
        )
    table = tables[fitting[0]]
    for column in columns:
        if table[column].isna().any():
            line = int(table[column].isna().to_numpy().argmax()) + 2
            raise UserError(f"{fitting[0]}, line {line}: {column!r} is missing; download the data set again.")
    return fitting[0], table


def stratified(table: Path, labels: "pd.Series") -> tuple[list[Split], list[bool]]:
    """Divide rows 60 / 20 / 20 at random, stratified by label, as BEANS does.

    Args:
        table: the file of the rows, for messages.
        labels: (rows,), in the table's order and type. Both influence the draw.

    Returns:
        (rows,) split of each row, and (rows,) whether the few-label variant of the train split keeps it.

    Raises:
        UserError: a label has too few rows.
    """
    import numpy as np
    from sklearn.model_selection import train_test_split

    values = labels.to_numpy()
    rows = np.arange(len(values))
    try:
        train, rest = train_test_split(rows, test_size=0.4, random_state=42, stratify=values)
        valid, test = train_test_split(rest, test_size=0.5, random_state=42, stratify=values[rest])
        # The train rows are in the order of the draw, not in the order of the table.
        low, _ = train_test_split(train, test_size=0.8, random_state=42, stratify=values[train])
    except ValueError as error:
        raise UserError(f"{table} cannot be divided as BEANS does ({error}): download the data set again.") from error
    splits: dict[int, Split] = {int(row): "train" for row in train}
    splits.update((int(row), "valid") for row in valid)
    splits.update((int(row), "test") for row in test)
    kept = {int(row) for row in low}
    return [splits[row] for row in range(len(values))], [row in kept for row in range(len(values))]


def clips(
    task: str,
    table: Path | str,
    files: Sequence[Path],
    labels: Iterable[object],
    splits: Iterable[Split],
    low: Iterable[bool] | None = None,
) -> list[Entry]:
    """Return the clips that the rows of a table describe.

    Args:
        task: name of the task.
        table: the file of the rows, for messages.
        files: (rows,) audio of each row.
        labels: (rows,) text or numbers.
        splits: (rows,).
        low: (rows,) whether the few-label variant keeps the row, or None if there is no such variant.

    Raises:
        UserError: an audio file is missing.
    """
    # Several rows may name one file.
    named = dict.fromkeys(files)
    missing = [str(file) for file in named if not file.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of the {len(named)} audio files that {table} names are missing, such as "
            f"{', '.join(missing[:3])}: extract all of the data set's archives, or download them again."
        )
    entries, ids = [], ids_of(task)
    for file, label, split, is_low in zip(files, labels, splits, low or [False] * len(files), strict=True):
        text = label_text(label)
        name = ids.item(file, text)
        entries.append(ClipEntry(name, split, text, Sound(file), ids.recording_of(name), is_low))
    # If rows are equal in everything else, other copies do not show which of them the few-label variant keeps.
    return unique(sorted(entries, key=lambda entry: not entry.low))


def _read_csv(file: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        return pd.read_csv(file, keep_default_na=False, na_values=list(_MISSING))
    except (OSError, ValueError) as error:  # pandas' own errors and wrong encodings are ValueErrors
        reason = " ".join(str(error).split())  # some end in a line break
        raise UserError(f"{file} cannot be read as CSV ({reason}): download the data set again.") from error
