"""Watkins Marine Mammal Sound Database, "best of" cuts: ``annotations.csv`` beside one folder a species."""

from pathlib import Path

from tasks.prepare.entries import Entry
from tasks.prepare.source import Origin, Remote
from tasks.prepare.splits import clips, read_table, stratified


def read(root: Path) -> list[Entry]:
    """The clips, split at random.

    Raises:
        UserError: the table or audio it names is missing, or not what is expected.
    """
    table, rows = read_table(root, "annotations.csv", ("path", "species"))
    # It has two clips, too few for three splits.
    rows = rows[rows["species"] != "Weddell_Seal"]
    files = [table.parent / str(path) for path in rows["path"]]
    return clips("watkins", table, files, rows["species"], *stratified(table, rows["species"]))


ORIGIN = Origin((Remote("https://storage.googleapis.com/ml-bioacoustics-datasets/watkins.zip", "watkins.zip"),), read)
