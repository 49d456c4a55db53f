"""ESC-50, environmental sounds: ``meta/esc50.csv`` and ``audio/``."""

from pathlib import Path

from tasks.prepare.entries import Entry
from tasks.prepare.source import Origin, Remote
from tasks.prepare.splits import clips, read_table
from tasks.support.errors import UserError
from tasks.task import Split

_FOLDS: dict[int, Split] = {1: "train", 2: "train", 3: "train", 4: "valid", 5: "test"}


def read(root: Path) -> list[Entry]:
    """Read the clips, split by the folds of the authors. The label is the number of the class.

    Raises:
        UserError: the table or its audio is missing, or differs from the expected data.
    """
    table, rows = read_table(root, "esc50.csv", ("filename", "fold", "target"))
    unknown = rows[~rows["fold"].isin(list(_FOLDS))]
    if len(unknown):
        raise UserError(f"{table}: fold {unknown['fold'].iloc[0]} is none of 1 to 5; download the data set again.")
    files = [table.parent.parent / "audio" / str(name) for name in rows["filename"]]
    splits = (_FOLDS[fold] for fold in rows["fold"])
    return clips("esc50", table, files, rows["target"], splits, low=[fold == 1 for fold in rows["fold"]])


ORIGIN = Origin((Remote("https://github.com/karolpiczak/ESC-50/archive/refs/heads/master.zip", "esc50.zip"),), read)
