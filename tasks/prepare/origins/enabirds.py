"""Dawn chorus of Eastern North American birds (Chronister et al. 2021)."""

from dataclasses import replace
from pathlib import Path

from tasks.prepare.chunks import Span, cut, few, find_audio, read_table, split_by_position
from tasks.prepare.entries import Entry, index_by_name, label_text, unique
from tasks.prepare.source import Origin, Remote
from tasks.support.errors import UserError

RATE = 32_000
BUCKET = "https://storage.googleapis.com/ml-bioacoustics-datasets"


def read(root: Path) -> list[Entry]:
    """Read the 60-s chunks of every recording.

    Raises:
        UserError: no recordings, a recording without annotations, or a file that differs from the expected data.
    """
    files = find_audio(root, "Recording_?/*.wav")
    if not files:
        raise UserError(f"{root} has no folders Recording_1, Recording_2, ... with wav files: extract the audio there.")
    # The annotations are a separate archive, which may be extracted into another folder than the audio.
    tables = index_by_name(root, ".txt")
    missing = [file.name for file in files if _table_name(file) not in tables]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(files)} recordings below {root} have no NAME.Table.1.selections.txt "
            f"({few(missing)}): extract the annotations there as well."
        )
    entries: list[Entry] = []
    for file in files:
        chunks = cut("enabirds", file, RATE, _annotations(tables[_table_name(file)]))
        for index, chunk in enumerate(chunks):
            split, low = split_by_position(index, len(chunks))
            entries.append(replace(chunk, split=split, low=low))
    return unique(entries)


def _table_name(file: Path) -> str:
    return f"{file.stem}.Table.1.selections"


def _annotations(file: Path) -> list[Span]:
    start, end = "Begin Time (s)", "End Time (s)"
    table = read_table(file, (start, end), ("Species",), separator="\t")
    return [
        (st, ed, label_text(species))
        for st, ed, species in zip(table[start], table[end], table["Species"], strict=True)
    ]


ORIGIN = Origin(
    (
        Remote(f"{BUCKET}/enabirds_wav.zip", "enabirds_wav.zip"),
        Remote(f"{BUCKET}/enabirds_annotation.zip", "enabirds_annotation.zip"),
    ),
    read,
    RATE,
)
