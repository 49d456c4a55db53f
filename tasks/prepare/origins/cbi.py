"""Cornell Birdcall Identification, a Kaggle competition: ``train.csv`` and ``train_audio/CODE/XC1.mp3``."""

import random
from collections.abc import Iterable
from pathlib import Path

from tasks.prepare.entries import Entry
from tasks.prepare.source import Origin
from tasks.prepare.splits import clips, read_table
from tasks.task import Split


def split_recordists(recordists: Iterable[str]) -> dict[str, Split]:
    """Return the split of each recordist: 60 / 20 / 20 %, shuffled from the order of their first appearance."""
    names = list(dict.fromkeys(recordists))
    random.Random(42).shuffle(names)
    train, valid = int(0.6 * len(names)), int(0.8 * len(names))
    return {name: "train" if i < train else "valid" if i < valid else "test" for i, name in enumerate(names)}


def read(root: Path) -> list[Entry]:
    """Read the clips, split by recordist. There is no few-label variant.

    Raises:
        UserError: the table or its audio is missing, or differs from the expected data.
    """
    table, rows = read_table(root, "train.csv", ("ebird_code", "filename"), gaps=("recordist",))
    # As in BEANS, recordings without a recordist belong to one additional recordist.
    recordists = [str(name) for name in rows["recordist"].fillna("")]
    splits = split_recordists(recordists)
    audio = table.parent / "train_audio"
    files = [audio / str(code) / str(name) for code, name in zip(rows["ebird_code"], rows["filename"], strict=True)]
    return clips("cbi", table, files, rows["ebird_code"], (splits[name] for name in recordists))


ORIGIN = Origin((), read, rate=44100, kaggle="birdsong-recognition")
