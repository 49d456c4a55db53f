"""Dog barks of Yin and McCowan: ``annotations.csv`` and ``audio/``, mostly AIFF."""

from pathlib import Path

from tasks.prepare.entries import Entry
from tasks.prepare.source import Origin, Remote
from tasks.prepare.splits import clips, read_table, stratified


def read(root: Path) -> list[Entry]:
    """Read the clips, split at random. The label is the barking dog.

    Raises:
        UserError: the table or its audio is missing, or differs from the expected data.
    """
    table, rows = read_table(root, "annotations.csv", ("filename", "name"))
    files = [table.parent / "audio" / str(name) for name in rows["filename"]]
    return clips("dogs", table, files, rows["name"], *stratified(table, rows["name"]))


ORIGIN = Origin(
    (Remote("https://storage.googleapis.com/ml-bioacoustics-datasets/dog_barks.zip", "dog_barks.zip"),),
    read,
    rate=44100,
)
