"""Egyptian fruit bats, the 10,000 vocalisations that BEANS takes: ``annotations.csv`` and ``audio/``."""

from pathlib import Path

from tasks.prepare.entries import Entry
from tasks.prepare.source import Origin, Remote
from tasks.prepare.splits import clips, read_table, stratified


def read(root: Path) -> list[Entry]:
    """Read the clips, split at random. The label is the calling bat.

    Raises:
        UserError: the table or its audio is missing, or differs from the expected data.
    """
    table, rows = read_table(root, "annotations.csv", ("File Name", "Emitter"))
    files = [table.parent / "audio" / str(name) for name in rows["File Name"]]
    return clips("bats", table, files, rows["Emitter"], *stratified(table, rows["Emitter"]))


ORIGIN = Origin(
    (
        Remote(
            "https://storage.googleapis.com/ml-bioacoustics-datasets/egyptian_fruit_bats.zip", "egyptian_fruit_bats.zip"
        ),
    ),
    read,
)
