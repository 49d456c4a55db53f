"""Birds and frogs in one-minute soundscapes of Rainforest Connection (LeBien et al. 2020)."""

from pathlib import Path

from tasks.prepare.chunks import Span, few, find_audio, read_table, sound_header
from tasks.prepare.entries import Entry, RecordingEntry, Sound, ids_of, index_by_name, label_text, unique
from tasks.prepare.source import Origin
from tasks.sound import resampled_length
from tasks.support.errors import UserError
from tasks.task import Split

RATE = 48_000
COMPETITION = "rfcx-species-audio-detection"
# With fewer recordings, a split would be empty.
LEAST = 5


def read(root: Path) -> list[Entry]:
    """Read all recordings of ``train``, including those without annotations.

    Only the true positives are used: ``train_fp.csv`` lists absent calls, and the labels of ``test`` are not public.

    Raises:
        UserError: too few recordings, a missing annotated recording, or a file that differs from the expected data.
    """
    files = {file.stem: file for file in find_audio(root, "train/*.flac")}
    tables = index_by_name(root, ".csv")
    if len(files) < LEAST or "train_tp" not in tables:
        raise UserError(
            f"{root} lacks train_tp.csv or the recordings train/*.flac ({len(files)} found): "
            f"extract the whole archive of the Kaggle competition {COMPETITION} there."
        )
    annotations = _annotations(tables["train_tp"])
    missing = [name for name in annotations if name not in files]
    if missing:
        raise UserError(
            f"{len(missing)} recordings of {tables['train_tp']} are not in the folder train below {root} "
            f"({few(missing)}): extract the competition's archive again."
        )
    splits, low = _split(list(files))
    entries: list[Entry] = []
    ids = ids_of("rfcx")
    for name, file in files.items():
        header = sound_header(file)
        length = resampled_length(header.frames, header.sample_rate, RATE) / RATE
        entries.append(
            RecordingEntry(
                id=ids.item(file),
                split=splits[name],
                length=length,
                annotations=tuple(annotations.get(name, ())),
                sound=Sound(file),
                recording=ids.recording_of(name),
                low=name in low,
            )
        )
    return unique(entries)


def _annotations(file: Path) -> dict[str, list[Span]]:
    table = read_table(file, ("t_min", "t_max"), ("recording_id", "species_id"))
    annotations: dict[str, list[Span]] = {}
    rows = zip(table["recording_id"], table["t_min"], table["t_max"], table["species_id"], strict=True)
    for name, st, ed, species in rows:
        annotations.setdefault(str(name), []).append((st, ed, label_text(species)))
    return annotations


def _split(names: list[str]) -> tuple[dict[str, Split], set[str]]:
    """Return the split of each recording, and the low ones. ``names`` are in the order of the file names."""
    from sklearn.model_selection import train_test_split

    train, rest = train_test_split(names, test_size=0.4, random_state=42, shuffle=True)
    valid, test = train_test_split(rest, test_size=0.5, random_state=42, shuffle=True)
    low, _ = train_test_split(train, test_size=0.66, random_state=42, shuffle=True)
    parts: tuple[tuple[Split, list[str]], ...] = (("train", train), ("valid", valid), ("test", test))
    return {name: split for split, part in parts for name in part}, set(low)


ORIGIN = Origin((), read, RATE, kaggle=COMPETITION)
