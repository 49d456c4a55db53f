"""Calls of Hainan gibbons in recordings of eight hours (Dufourq et al. 2021)."""

from dataclasses import replace
from pathlib import Path

from tasks.prepare.chunks import Span, cut, few, find_audio, read_table
from tasks.prepare.entries import Entry, index_by_name, label_text, unique
from tasks.prepare.source import Origin, Remote
from tasks.support.errors import UserError
from tasks.task import Split

RATE = 9_600
ZENODO = "https://zenodo.org/records/3991714/files"
# Splits of the sorted recordings.
SPLITS: tuple[Split, ...] = ("train",) * 6 + ("valid",) * 3 + ("test",) * 4
# BEANS keeps every third minute.
KEPT_EVERY = 3


def read(root: Path) -> list[Entry]:
    """Read every third 60-s chunk of the recordings in ``Train``. The chunks of the first recording are low.

    Raises:
        UserError: not exactly thirteen recordings, a recording without labels, or a file that differs from the
            expected data.
    """
    files = find_audio(root, "Train/*.wav")
    if len(files) != len(SPLITS):
        raise UserError(
            f"{root} has {len(files)} recordings Train/*.wav and not {len(SPLITS)}, by whose order BEANS splits: "
            "extract the whole of Train.zip of Zenodo 3991714 into a folder Train, and nothing else."
        )
    tables = index_by_name(root, ".data")
    missing = [file.name for file in files if f"g_{file.stem}" not in tables]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(files)} recordings below {root} have no labels g_NAME.data ({few(missing)}): "
            "extract Train_Labels.zip there as well."
        )
    entries: list[Entry] = []
    for number, (file, split) in enumerate(zip(files, SPLITS, strict=True)):
        chunks = cut("hainan-gibbons", file, RATE, _annotations(tables[f"g_{file.stem}"]))
        entries += [replace(chunk, split=split, low=number == 0) for chunk in chunks[::KEPT_EVERY]]
    return unique(entries)


def _annotations(file: Path) -> list[Span]:
    table = read_table(file, ("Start", "End"), ("Type",))
    return [
        (st, ed, label_text(kind)) for st, ed, kind in zip(table["Start"], table["End"], table["Type"], strict=True)
    ]


ORIGIN = Origin(
    (Remote(f"{ZENODO}/Train.zip", "Train.zip"), Remote(f"{ZENODO}/Train_Labels.zip", "Train_Labels.zip")), read, RATE
)
