"""Watkins Marine Mammal Sound Database, "best of" cuts: ``annotations.csv`` and one folder per species."""

from pathlib import Path

from tasks.prepare.entries import Entry
from tasks.prepare.source import Origin, Remote
from tasks.prepare.splits import clips, read_table, stratified


def read(root: Path) -> list[Entry]:
    """Read the clips, split at random. The label is the species.

    Raises:
        UserError: the table or its audio is missing, or differs from the expected data.
    """
    table, rows = read_table(root, "annotations.csv", ("path", "species"))
    # This species has two clips, too few for three splits.
    rows = rows[rows["species"] != "Weddell_Seal"]
    files = [table.parent / str(path) for path in rows["path"]]
    return clips("watkins", table, files, rows["species"], *stratified(table, rows["species"]))


ORIGIN = Origin((Remote("https://storage.googleapis.com/ml-bioacoustics-datasets/watkins.zip", "watkins.zip"),), read)
