"""Minke whales in towed-array recordings of NOAA's HICEAS survey. BEANS publishes the splits and annotations."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from tasks.prepare.chunks import few
from tasks.prepare.entries import Entry, RecordingEntry, Sound, ids_of, index_by_name, label_text, unique
from tasks.prepare.source import Origin, Remote
from tasks.support.errors import UserError
from tasks.task import SPLITS, explain

Time = Annotated[float, Field(allow_inf_nan=False)]


class _Span(BaseModel):
    st: Time
    ed: Time
    label: int | float | str


class _Line(BaseModel):
    path: Annotated[str, Field(min_length=1)]
    length: Annotated[Time, Field(gt=0)]
    annotations: list[_Span]


def read(root: Path) -> list[Entry]:
    """Read the recordings of the three JSON lines files. Their audio files may be in any folder.

    Raises:
        UserError: files or audio are missing, or a line differs from the expected data.
    """
    folders = sorted(
        file.parent
        for file in root.rglob("train.jsonl")
        if all((file.parent / f"{split}.jsonl").is_file() for split in SPLITS)
    )
    if len(folders) != 1:
        problem = "has no folder" if not folders else f"has {len(folders)} folders ({few([str(f) for f in folders])})"
        raise UserError(
            f"{root} {problem} with train.jsonl, valid.jsonl and test.jsonl: "
            "name the folder that hiceas_1-20_minke-detection.zip was extracted into."
        )
    low_file = folders[0] / "train-low.jsonl"
    low = {line.path for line in _lines(low_file)} if low_file.is_file() else set()
    audio = index_by_name(root, ".wav")
    entries: list[Entry] = []
    missing: list[str] = []
    ids = ids_of("hiceas")
    for split in SPLITS:
        for line in _lines(folders[0] / f"{split}.jsonl"):
            name = ids.item(line.path)
            if name not in audio:
                missing.append(Path(line.path).name)
                continue
            spans = tuple((span.st, span.ed, label_text(span.label)) for span in line.annotations)
            recording, is_low = ids.recording_of(name), split == "train" and line.path in low
            entries.append(RecordingEntry(name, split, line.length, spans, Sound(audio[name]), recording, is_low))
    if missing:
        raise UserError(
            f"{len(missing)} of {len(missing) + len(entries)} recordings named in {folders[0]} are not below {root} "
            f"({few(missing)}): extract hiceas_1-20_minke-detection.zip again."
        )
    return unique(entries)


def _lines(file: Path) -> list[_Line]:
    lines = []
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as UTF-8 text ({error}): extract the archive again.") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            lines.append(_Line.model_validate_json(line))
        except ValidationError as error:
            raise UserError(
                f"{file}, line {number}: {explain(error)}; this is not what BEANS ships: extract the archive again."
            ) from error
    return lines


ORIGIN = Origin(
    (
        Remote(
            "https://storage.googleapis.com/ml-bioacoustics-datasets/hiceas_1-20_minke-detection.zip",
            "hiceas_1-20_minke-detection.zip",
            "0b596ecabd9dda254c2c2c72545592f0",
        ),
    ),
    read,
)
