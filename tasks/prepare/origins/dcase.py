"""DCASE 2021 task 5, development set: calls of birds and mammals in long recordings."""

from dataclasses import replace
from pathlib import Path

from tasks.prepare.chunks import Span, cut, few, find_audio, read_table, split_by_position
from tasks.prepare.entries import Entry, unique
from tasks.prepare.source import Origin, Remote
from tasks.support.errors import UserError

RATE = 16_000
FOLDER = "Development_Set"
# Classes with too few calls for three splits.
DROPPED = ("AGGM", "SOCM")


def read(root: Path) -> list[Entry]:
    """Read the 60-s chunks of every recording of the development set.

    Raises:
        UserError: no recordings, a recording without annotations, or a file that differs from the expected data.
    """
    files = [file for file in find_audio(root, "*.wav") if FOLDER in file.parts]
    if not files:
        raise UserError(f"{root} has no folder {FOLDER} with wav files: extract {FOLDER}.zip of Zenodo 5412896 there.")
    missing = [file.name for file in files if not file.with_suffix(".csv").is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(files)} recordings below {root} have no annotations, NAME.csv beside NAME.wav "
            f"({few(missing)}): extract {FOLDER}.zip again."
        )
    entries: list[Entry] = []
    for file in files:
        chunks = cut("dcase", file, RATE, _annotations(file.with_suffix(".csv")))
        for index, chunk in enumerate(chunks):
            split, low = split_by_position(index, len(chunks))
            entries.append(replace(chunk, split=split, low=low))
    return unique(entries)


def _annotations(file: Path) -> list[Span]:
    """Read one annotation for each POS value of a row. UNK and NEG give no annotation."""
    table = read_table(file, ("Starttime", "Endtime"))
    classes = [name for name in table.columns[3:] if name not in DROPPED]
    return [
        (st, ed, name)
        for st, ed, *values in zip(
            table["Starttime"], table["Endtime"], *(table[name] for name in classes), strict=True
        )
        for name, value in zip(classes, values, strict=True)
        if value == "POS"
    ]


ORIGIN = Origin(
    (Remote("https://zenodo.org/records/5412896/files/Development_Set.zip", "Development_Set.zip"),), read, RATE
)
