"""From the table of a classification data set to its clips, divided among the splits as BEANS divides them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.prepare.entries import Clip, Entry, Sound, ids_of, label_text, unique
from tasks.support.errors import UserError
from tasks.task import Split

if TYPE_CHECKING:
    import pandas as pd

# What the pandas that BEANS was made with (1.4) reads as a missing value. Later ones add "None", which may be a name.
_MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null"),
)


def read_table(root: Path, name: str, columns: Sequence[str], gaps: Sequence[str] = ()) -> tuple[Path, "pd.DataFrame"]:
    """The table of a data set, from any folder below ``root``, in its own order of rows.

    Args:
        root: holds the extracted files.
        name: of the table's file.
        columns: that it must have, with a value in every row.
        gaps: columns that it must have too, but whose values may be missing.

    Raises:
        UserError: no such table, several, or one that cannot be read or has not what is asked for.
    """
    found = [file for file in sorted(root.rglob(name)) if "__MACOSX" not in file.parts and file.is_file()]
    if not found:
        raise UserError(f"There is no {name} in {root}: point --source at the folder that holds the extracted files.")
    tables = {file: _read_csv(file) for file in found}
    fitting = [file for file in found if {*columns, *gaps} <= set(tables[file].columns)]
    if not fitting:
        absent = next(column for column in (*columns, *gaps) if column not in tables[found[0]].columns)
        raise UserError(
            f"{found[0]} has no column {absent!r} but {', '.join(map(repr, tables[found[0]].columns))}: "
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
    """Divide rows 60 / 20 / 20 at random, every label alike, as BEANS does.

    Args:
        table: where the rows come from, for messages.
        labels: (rows,), in the table's own order and type: both decide what is drawn.

    Returns:
        (rows,) split of each row, and (rows,) whether the few-label variant of the train split keeps it.

    Raises:
        UserError: too few rows of a label.
    """
    import numpy as np
    from sklearn.model_selection import train_test_split

    values = labels.to_numpy()
    rows = np.arange(len(values))
    try:
        train, rest = train_test_split(rows, test_size=0.4, random_state=42, stratify=values)
        valid, test = train_test_split(rest, test_size=0.5, random_state=42, stratify=values[rest])
        # From the train rows in the order in which they were drawn, which is not the table's.
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
    """The clips that the rows of a table describe.

    Args:
        task: name of the task.
        table: where the rows come from, for messages.
        files: (rows,) audio of each row.
        labels: (rows,) of text or numbers.
        splits: (rows,).
        low: (rows,) whether the few-label variant keeps it, or None where there is no such variant.

    Raises:
        UserError: audio is missing.
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
        entries.append(Clip(name, split, text, Sound(file), ids.recording_of(name), is_low))
    # Where rows differ in nothing else, the other copies do not show which of them the few-label variant keeps.
    return unique(sorted(entries, key=lambda entry: not entry.low))


def _read_csv(file: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        return pd.read_csv(file, keep_default_na=False, na_values=list(_MISSING))
    except (OSError, ValueError) as error:  # pandas' own errors and wrong encodings are ValueErrors
        reason = " ".join(str(error).split())  # some end in a line break
        raise UserError(f"{file} cannot be read as CSV ({reason}): download the data set again.") from error
